"""Files from strangers are data: whatever is in them ends in a sentence of ours or in a correct result.

The long version is ``python benchmarks/fuzz.py --count 10000``.
"""

import gzip
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr.codecs.numcodecs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_semigda.classes import of_model
from napari_semigda.engine.answers import report_from_json
from napari_semigda.engine.arrays import inside
from napari_semigda.engine.header import class_names, read_header
from napari_semigda.engine.types import EngineError
from napari_semigda.formats import open_source, source, unpacking
from napari_semigda.journal import Journal
from napari_semigda.store import ProjectStore
from napari_semigda.store.files import plain_name
from napari_semigda.store.index import NAME, read_index
from tests.conftest import REFUSED
from tests.formats.conftest import dicom_file, noise, refused

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz_targets
from fuzz import TARGETS, fuzz

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as Linux does it")
NEED_TORCH = ("model, weights", "weights of a backbone", "settings of a backbone")


@linux
def test_five_hundred_damaged_files():
    rows = fuzz(500, seed=7, readers=tuple(name for name in TARGETS if name not in NEED_TORCH))
    assert sum(row.inputs for row in rows) == 500
    assert [(row.reader, finding) for row in rows for finding in row.findings] == []
    assert sum(row.refused for row in rows) > 200  # most of it really is damage


@linux
def test_the_fuzzer_finds_what_is_wrong(tmp_path):
    """A reader that lets errors through, takes all memory and writes elsewhere is told of three times."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "benchmarks")!r})
from pathlib import Path
import fuzz, fuzz_targets

def careless(folder):
    text = (folder / "a.txt").read_bytes()
    if text != b"good":
        try:
            bytearray(2**31)
        except MemoryError as error:
            Path({str(tmp_path / "elsewhere")!r}).write_text("x")
            raise KeyError("x") from error

def flip(rng, path):
    path.write_bytes(b"bad")

build = lambda folder: (folder / "a.txt").write_bytes(b"good")
fuzz.TARGETS["careless"] = fuzz_targets.Target(build, "a.txt", (flip,), careless)
fuzz.tempfile.gettempdir = lambda: "/nowhere"
folder = Path({str(tmp_path)!r}) / "inputs"
folder.mkdir()
print(fuzz.Server(("careless",), folder).read(1)["findings"])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "KeyError: 'x'" in run.stdout and "outside its place" in run.stdout, run.stdout + run.stderr


# -- sizes are looked at before memory is taken


def pixels_of(path):
    return np.asarray(open_source(path).planes[0])


def test_a_tiff_of_a_few_bytes_that_speaks_of_a_million_rows(tmp_path):
    tags = [(256, 4, 10**6), (257, 4, 10**6), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, 10**6), (279, 4, 10)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert "too short for 1000000000000 bytes" in refused(open_source, tmp_path / "a.tif")


def png(path, side, data=b"", bits=8):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )
    return path


def test_a_picture_is_measured_by_its_file_not_by_a_fixed_number(tmp_path):
    assert "too short for 112500000 bytes" in refused(open_source, png(tmp_path / "lie.png", 30_000))
    side = 16_384  # 268 million pixels: more than the 179 million that Pillow lets through
    real = png(tmp_path / "real.png", side, bytes((side // 8 + 1) * side), bits=1)
    assert open_source(real).planes[0].shape == (side, side)
    assert Image.MAX_IMAGE_PIXELS is not None  # others in this process keep their own limit


def test_what_does_not_fit_into_memory_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_SMALL", 0)
    Image.fromarray(noise((300, 200))).save(tmp_path / "a.png")
    planes = open_source(tmp_path / "a.png").planes
    monkeypatch.setattr(source, "free_memory", lambda: 59_999)
    assert "does not fit into memory" in refused(np.asarray, planes[0])
    monkeypatch.setattr(source, "free_memory", lambda: 60_000)
    assert np.asarray(planes[0]).shape == (300, 200)


def test_volumes_that_claim_more_than_they_hold(tmp_path):
    import nibabel

    for name in ("a.nii", "a.nii.gz"):
        image = nibabel.Nifti1Image(noise((8, 8, 3), np.int16), np.eye(4))
        nibabel.save(image, tmp_path / name)
        image.header["dim"][1:4] = (30_000, 30_000, 30_000)
        with pytest.raises(EngineError, match="too short"):
            path = tmp_path / f"lie {name}"
            raw = image.header.binaryblock + bytes(4) + bytes(100)
            path.write_bytes(raw if name == "a.nii" else gzip.compress(raw))
            open_source(path)
    for frames, words in ((2**31 - 1, "is the most"), (2000, "too short"), (-1, "damaged")):
        path = dicom_file(tmp_path / "a.dcm", noise((9, 8)), NumberOfFrames=frames)
        assert words in refused(open_source, path)


class Pickled:
    """Runs something when it is read by those who believe it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["filters", "compressor"])
@pytest.mark.parametrize("codecs", [["pickle"], ["vlen-utf8", "pickle"]])
def test_a_zarr_cannot_run_code(tmp_path, where, codecs):
    fuzz_targets._zarr(2)(tmp_path)
    for described in tmp_path.rglob(".zarray"):
        content = json.loads(described.read_text()) | {"filters": None, "compressor": None}
        content[where] = [{"id": name} for name in codecs] if where == "filters" else {"id": codecs[-1]}
        dtype = "|O" if len(codecs) > 1 else "<u2"
        described.write_text(json.dumps(content | {"dtype": dtype, "fill_value": None}))
    for chunk in (path for path in tmp_path.rglob("*") if path.is_file() and path.name.isdecimal()):
        chunk.write_bytes(pickle.dumps(Pickled(tmp_path / "ran")))
    assert "a.zarr" in refused(pixels_of, tmp_path / "a.zarr")
    assert not (tmp_path / "ran").exists()
    assert pickle.loads(pickle.dumps(Pickled(tmp_path / "ran"))) is None and (tmp_path / "ran").exists()


def test_a_strip_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((9, 8)), compression="zlib", metadata=None)
    squeeze = zlib.compressobj(1)
    bomb = b"".join(squeeze.compress(bytes(2**20)) for _ in range(200)) + squeeze.flush()
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].tags[273], tif.pages[0].tags[279]
    struct.pack_into("<HII", data, count.offset + 2, 4, 1, len(bomb))
    struct.pack_into("<HII", data, offset.offset + 2, 4, 1, len(data))
    path.write_bytes(data + bomb)
    assert "unpacks to more than its pixels" in refused(pixels_of, path)
    big = noise((3000, 2000))  # an honest one that is looked into as well
    tifffile.imwrite(path, big, compression="zlib", rowsperstrip=3000, metadata=None)
    np.testing.assert_array_equal(pixels_of(path), big)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packing", ["Blosc", "Zstd", "LZ4", "GZip", "BZ2"])
def test_a_chunk_that_unpacks_to_gigabytes(tmp_path, monkeypatch, packing, version):
    pixels, codecs = noise((20, 30)), numcodecs if version == 2 else zarr.codecs.numcodecs
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    array = root.create_array(
        "0", shape=pixels.shape, chunks=(16, 16), dtype="uint8", compressors=[getattr(codecs, packing)()]
    )
    array[:] = pixels
    told = {"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "0"}]}]}
    root.attrs.update(told if version == 2 else {"ome": told})
    monkeypatch.setattr(unpacking, "HARMLESS", 2**22)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.zarr"), pixels)
    chunk = tmp_path / "a.zarr" / "0" / array.metadata.encode_chunk_key((1, 1))
    assert chunk.is_file()
    chunk.write_bytes(getattr(numcodecs, packing)().encode(np.zeros(2**23, np.uint8)))
    assert "more than its pixels" in refused(pixels_of, tmp_path / "a.zarr")


def test_descriptions_neither_grow_nor_lead_elsewhere(tmp_path):
    laughs = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><OME>&b;</OME>'
    tifffile.imwrite(tmp_path / "laughs.tif", noise((9, 8)), description=laughs, metadata=None)
    assert "words of its own" in refused(open_source, tmp_path / "laughs.tif")
    (tmp_path / "inner").mkdir()
    tifffile.imwrite(tmp_path / "secret.tif", noise((9, 8)))
    for name in ("../secret.tif", "..&#x2f;secret.tif", str(tmp_path / "secret.tif"), "..\\secret.tif"):
        pixels = '<Pixels DimensionOrder="XYZCT" SizeX="8" SizeY="9" SizeZ="1" SizeC="1" SizeT="1" Type="uint8">'
        data = f'<TiffData IFD="0"><UUID FileName="{name}">urn:uuid:2</UUID></TiffData>'
        told = f'<?xml version="1.0"?><OME UUID="urn:uuid:1"><Image>{pixels}{data}</Pixels></Image></OME>'
        path = tmp_path / "inner" / "a.ome.tif"
        tifffile.imwrite(path, noise((9, 8)), description=told, metadata=None)
        assert "speaks of a file elsewhere" in refused(open_source, path)


# -- our own files


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
often = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def with_value(content, at, value):
    """A copy of a JSON object in which place number `at`, counted through all of them, has another value."""
    content = json.loads(json.dumps(content))
    places, todo = [], [content]
    for each in todo:
        pairs = (
            list(each.items()) if isinstance(each, dict) else list(enumerate(each)) if isinstance(each, list) else []
        )
        places += [(each, key) for key, _ in pairs]
        todo += [inner for _, inner in pairs]
    holder, key = places[at % len(places)]
    holder[key] = value
    return content


@pytest.fixture(scope="module")
def good_project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    fuzz_targets._project(folder)
    return folder


@often
@given(at=st.integers(0, 1000), value=json_values)
def test_any_value_anywhere_in_a_project(good_project, tmp_path, at, value):
    content = json.loads((good_project / "semigda" / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps(with_value(content, at, value)))
    try:
        index, problem = read_index(tmp_path)
    except EngineError as error:
        assert "\n" not in str(error)
        return
    again = json.loads(json.dumps(index.to_json()))
    (tmp_path / NAME).write_text(json.dumps(again))
    assert not problem and read_index(tmp_path)[0].to_json() == index.to_json()


@often
@given(at=st.integers(0, 1000), value=json_values)
def test_any_value_anywhere_in_the_header_of_a_model(tmp_path, at, value):
    from safetensors.numpy import save_file

    path = tmp_path / "a.semigda"
    header = with_value(fuzz_targets._header(), at, value)
    save_file({"weights.a": np.zeros(3, np.float32)}, path, metadata={"semigda": json.dumps(header)})
    try:
        told = read_header(path)
    except EngineError as error:
        assert "a.semigda" in str(error) and "\n" not in str(error)
        return
    assert len(class_names(told)) == told["class_count"]
    assert all(0 < each.number < 256 and isinstance(each.name, str) for each in of_model(told))


def test_findings_that_are_damaged_are_found_before_a_training_that_goes_on_from_them(tmp_path):
    from safetensors.numpy import save_file

    header, path = fuzz_targets._header(), tmp_path / "a.semigda"
    header["training"]["findings"]["began_with"] = "many"
    save_file({"weights.a": np.zeros(3, np.float32)}, path, metadata={"semigda": json.dumps(header)})
    with pytest.raises(EngineError, match=r"a\.semigda is damaged \(the findings of a round are damaged\)"):
        read_header(path)


@often
@given(name=st.one_of(st.text(max_size=20), st.text("./\\ab:", max_size=12)))
def test_no_name_leads_out_of_its_folder(tmp_path, name):
    for place in (lambda: tmp_path / plain_name(name), lambda: inside(tmp_path, name)):
        try:
            path = place()
        except (ValueError, EngineError):
            continue
        assert Path(os.path.normpath(path)).is_relative_to(tmp_path)


def test_json_without_end(good_project, tmp_path):
    (tmp_path / NAME).write_text("[" * 200_000)
    with pytest.raises(EngineError, match="nested too deeply"):
        read_index(tmp_path)
    with pytest.raises(EngineError, match="cannot be understood"):
        report_from_json({"stage": "learning", "nobody": 1, "findings": [1]}, tmp_path)


def test_a_project_whose_folders_are_links_is_not_written_through(good_project, tmp_path):
    folder, outside = tmp_path / "study", tmp_path / "outside"
    shutil.copytree(good_project, folder)
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (folder / "semigda" / "opened-by.json").symlink_to(outside / "mine.txt")
    ProjectStore.open(folder).close()
    assert (outside / "mine.txt").read_text() == "mine"
    shutil.rmtree(folder / "semigda" / "masks")
    (folder / "semigda" / "masks").symlink_to(outside)
    assert "a link that leads out of the project" in refused(ProjectStore.open, folder)
    assert [path.name for path in outside.iterdir()] == ["mine.txt"]


def test_a_note_of_a_batch_that_measures_nonsense_is_none(tmp_path):
    (tmp_path / "m").write_bytes(b"a model")
    journal = Journal(tmp_path / "notes", tmp_path, tmp_path / "m", frozenset({"masks"}))
    found = journal.announce(tmp_path / "a.png", [noise((4, 4))])
    journal.add(tmp_path / "a.png", "", found, [], {"objects": [{"plane": 1}]})
    assert journal.note_of(tmp_path / "a.png")["objects"] == [{"plane": 1}]
    for wrong in ({"objects": [{"plain": 1}]}, {"objects": 3}, {"masks": [1]}, {"totals": [{"plane": [1]}]}):
        (tmp_path / "notes" / "a.json").write_text(json.dumps(wrong))
        assert journal.note_of(tmp_path / "a.png") == {}
        assert not journal.made(tmp_path / "a.png", [noise((4, 4))])


# -- the network


def test_a_child_that_reaches_for_the_network_fails_its_test(offline):
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError: pass"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    assert REFUSED.read_text() == "192.0.2.1\n" * len(REFUSED.read_text().splitlines())
    REFUSED.unlink()  # else this very test fails
    assert offline == []
