"""A batch on a real Dask cluster of two processes: the masks of one computer, and nothing twice when a worker dies."""

import csv
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.utils import get_mp_context
from PIL import Image

from napari_semigda import cli, cluster, cluster_worker
from napari_semigda.batch import prepared, run_batch
from napari_semigda.cluster import run_on_cluster
from napari_semigda.engine import blocks
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.types import BatchRequest, EngineError, Plane
from napari_semigda.formats import growing
from napari_semigda.images import find_images
from napari_semigda.journal import FOLDER, Journal
from tests.formats.test_omezarr import describe
from tests.test_package import loaded_after

LARGE = 2**15
SIZE = (1060, 40)  # three blocks, in two pieces
TOPS = range(0, SIZE[0], blocks.SIDE)


class Watch(WorkerPlugin):
    """In every worker, now and later: notes who writes what, takes small planes for large, and fails when told to."""

    name = "watch"

    def __init__(self, log, trouble=()):
        self.log, self.trouble = log, trouble

    def setup(self, worker):
        self.patch = pytest.MonkeyPatch()
        for module, name, value in (
            (blocks, "LARGE", LARGE),
            (cluster_worker, "PIECE", 2),
            (cluster_worker, "_ASK", 0),
        ):
            self.patch.setattr(module, name, value)
        put, add = growing.MaskPlane.__setitem__, Journal.add

        def watched_put(mask, key, block):
            if mask.shape == SIZE:  # not of a coarser level
                name = f"{Path(mask._array.store.root).parent.name} {key[0].start}"
                if self.is_due(name):
                    os.kill(os.getpid(), signal.SIGKILL)
                self.note(name)
            put(mask, key, block)

        def watched_add(journal, image, *rest):
            add(journal, image, *rest)
            self.note(image.name)
            if self.is_due(image.name):
                raise OSError(116, "Stale file handle")

        self.patch.setattr(growing.MaskPlane, "__setitem__", watched_put)
        self.patch.setattr(Journal, "add", watched_add)

    def teardown(self, worker):
        self.patch.undo()

    def note(self, what):
        with self.log.open("a") as file:
            file.write(f"{what}\n")

    def is_due(self, what):
        been = self.log.with_name(f"trouble at {what}")
        if what not in self.trouble or been.exists():
            return False
        been.touch()
        return True


@pytest.fixture(scope="module")
def address():
    how = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    with dask.config.set({"distributed.worker.multiprocessing-method": method}):
        # Torch takes longest; where processes can fork from one that has it, it is loaded once.
        get_mp_context().set_forkserver_preload(["distributed", "napari_semigda.engine.predict"])
        with LocalCluster(**how, silence_logs="CRITICAL") as local:
            yield local.scheduler_address


@pytest.fixture
def watch(address, tmp_path):
    """Puts a `Watch` on all workers; gives what it has noted when called."""
    with Client(address, set_as_default=False) as client:

        def begin(*trouble):
            client.register_plugin(Watch(tmp_path / "log", trouble))
            return lambda: (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []

        yield begin
        client.unregister_worker_plugin("watch")


def scene(seed, size):
    coarse = np.random.default_rng(seed).choice([20, 60, 180, 220], (size[0] // 20, size[1] // 20)).astype(np.uint8)
    return np.kron(coarse, np.ones((20, 20), np.uint8))


def draw_small(images):
    """A picture, a stack and another picture."""
    images.mkdir()
    Image.fromarray(scene(0, (60, 80))).save(images / "1.png")
    tifffile.imwrite(images / "2.tif", np.stack([scene(i, (60, 80)) for i in (1, 2)]), photometric="minisblack")
    Image.fromarray(scene(3, (60, 80))).save(images / "3.png")


@pytest.fixture
def folder(tmp_path):
    draw_small(tmp_path / "images")
    return tmp_path


@pytest.fixture(scope="module")
def large(tmp_path_factory, tiny_run):
    """Images of which the last two come in blocks, and their masks as one computer makes them."""
    import zarr

    folder = tmp_path_factory.mktemp("large")
    images = folder / "images"
    draw_small(images)
    tifffile.imwrite(images / "5.tif", scene(5, SIZE), tile=(256, 32), photometric="minisblack")
    group = zarr.open_group(images / "4.ome.zarr", mode="w")
    group.create_array("0", shape=SIZE, chunks=(512, 40), dtype="uint8")[...] = scene(4, SIZE)
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    describe(group, {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "LARGE", LARGE)
        return images, local(request_for(images, tiny_run[-1], folder / "here"))


def request_for(images, model, out, **changes):
    changes = {"keep_going": False, "resume": False, "device": "cpu"} | changes
    return BatchRequest(model, tuple(find_images([images])), out, **changes)


def command_for(images, model, out, address):
    paths = {"--model": model, "--images": images, "--out": out, "--scheduler": address, "--device": "cpu"}
    return ["predict", "--resume", *(str(each) for pair in paths.items() for each in pair)]


def contents(folder):
    """Every file of an output folder, but for the notes of a run that can be gone on with."""
    files = [path for path in folder.rglob("*") if path.is_file() and FOLDER not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def local(request):
    list(run_batch(request, Predictor(request.model, "cpu")))
    return contents(request.out)


EVERYTHING = sorted(
    ["1.png", "2.tif", "3.png", "4.ome.zarr", "5.tif"] + [f"{n}.unfinished {top}" for n in (4, 5) for top in TOPS]
)


def test_masks_are_those_of_one_computer_and_a_worker_that_is_killed_costs_nothing(
    large, tiny_run, address, watch, tmp_path
):
    images, here = large
    noted = watch("2.tif", "5.unfinished 512")  # a disk that fails once it was noted; a worker killed within a piece
    *_, last = reports = list(run_on_cluster(request_for(images, tiny_run[-1], tmp_path / "out"), address))
    assert len(list(tmp_path.glob("trouble at *"))) == 2
    assert (last.done, last.written, last.failures, last.fraction) == (5, 5, 0, 1)
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and len(set(fractions)) >= 3 + 2 * 2
    assert sorted(noted()) == EVERYTHING  # once each
    assert contents(tmp_path / "out") == here
    assert not list((tmp_path / "out").glob(".*"))


def test_interrupted_it_leaves_whole_files_and_goes_on_where_it_was(
    large, tiny_run, address, watch, tmp_path, capsys, request
):
    (images, here), out = large, tmp_path / "out"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    noted = watch()

    def interrupt():
        while not any("unfinished" in what for what in noted()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    command = command_for(images, tiny_run[-1], out, address)
    assert cli.run(command) == 130
    so_far = sorted(noted())
    assert len(so_far) < len(EVERYTHING) and "5.tif" not in so_far
    left = contents(out)
    assert left.items() <= here.items() and not {"5.tif", "4.ome.zarr/zarr.json"} <= left.keys()
    time.sleep(1)
    assert sorted(noted()) == so_far  # nobody goes on behind our back
    assert cli.run(command) == 0
    assert "Wrote the masks of" in capsys.readouterr().err
    assert sorted(noted()) == EVERYTHING
    assert contents(out) == here
    assert {path.suffix for path in (out / FOLDER).iterdir()} == {".json"}


def test_whatever_else_is_wanted_and_files_that_fail(folder, tiny_run, address, watch, capsys):
    model, images, out = tiny_run[-1], folder / "images", folder / "out"
    noted = watch()
    (images / "0.png").write_bytes(b"nothing")
    command = [*command_for(images, model, out, address), "--overlays", "--measurements", "--uncertainty"]
    command.append("--keep-going")
    assert cli.run(command) == 1
    told = capsys.readouterr().err
    assert told.count("Passed over: ") == 1 and "0.png cannot be read" in told and "Wrote the masks of 3 files" in told
    wanted = {"overlays": True, "measurements": True, "maps": ("uncertainty",), "keep_going": True}
    assert contents(out) == local(request_for(images, model, folder / "here", **wanted))
    with (out / "totals.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["1.png", "2.tif", "3.png"]
    Image.fromarray(scene(9, (60, 80))).save(images / "0.png")
    assert cli.run(command) == 0
    assert "Wrote the masks of 1 file into" in (told := capsys.readouterr().err) and "3 files finished before" in told
    assert sorted(noted()) == ["0.png", "1.png", "2.tif", "3.png"]


# -- refused before there is work in it


def test_nobody_answers(folder, tiny_run, monkeypatch):
    assert cluster._CONNECT + 2 <= 10
    monkeypatch.setattr(cluster, "_CONNECT", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        for each in (address, "nowhere", "ftp://127.0.0.1"):
            with pytest.raises(EngineError, match=f"No Dask scheduler answers at {each} .*check the address"):
                list(run_on_cluster(request_for(folder / "images", tiny_run[-1], folder / "out"), each))
    assert not (folder / "out").exists()


def test_nobody_works(folder, tiny_run, monkeypatch):
    monkeypatch.setattr(cluster, "_WORKERS", 0.2)
    how = {
        "n_workers": 0,
        "processes": False,
        "protocol": "tcp",
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
    }
    with LocalCluster(**how) as empty, pytest.raises(EngineError, match="has no workers: start some"):
        list(run_on_cluster(request_for(folder / "images", tiny_run[-1], folder / "out"), empty.scheduler_address))


def test_another_version(folder, tiny_run, address, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "0.0.1")
    with pytest.raises(EngineError, match=r"worker tcp://\S+ has napari-semigda \S+, but this computer 0\.0\.1"):
        list(run_on_cluster(request_for(folder / "images", tiny_run[-1], folder / "out"), address))
    assert not (folder / "out").exists()


def test_a_disk_that_workers_do_not_see(folder, tiny_run, address, monkeypatch):
    monkeypatch.setattr(cluster, "sign_of", lambda run: folder / "elsewhere")
    with pytest.raises(EngineError, match=f"does not see {folder / 'out'}: put images, model and output"):
        list(run_on_cluster(request_for(folder / "images", tiny_run[-1], folder / "out"), address))
    assert contents(folder / "out") == {}


@pytest.mark.parametrize("what", ["image", "other image", "model", "version", "output"])
def test_what_a_worker_that_comes_late_finds_wrong(folder, tiny_run, what):
    model, image = tiny_run[-1], folder / "images" / "1.png"
    request = request_for(folder / "images", model, folder / "out")
    with prepared(request, lambda plane: None) as journal, cluster._described(request, journal, None) as true:
        cluster_worker.check_here(run := true)
        if what == "image":
            image.rename(folder / "away.png")
        elif what == "other image":
            image.write_bytes(b"another")
        elif what == "model":
            run = replace(run, model_digest="another")
        elif what == "version":
            run = replace(run, version="0.0.1")
        else:
            run = replace(run, token="of another disk")
        named = {"image": image, "other image": image, "model": model, "version": "0.0.1", "output": request.out}[what]
        with pytest.raises(cluster_worker.EndsAllError, match=re.escape(str(named))):
            cluster_worker.check_here(run)


def test_without_distributed(folder, tiny_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EngineError, match=r'pip install "napari-semigda\[cluster\]"'):
        list(run_on_cluster(request_for(folder / "images", tiny_run[-1], folder / "out"), "tcp://127.0.0.1:1"))


def test_nothing_of_dask_is_loaded_unless_asked_for():
    loaded = loaded_after("import napari_semigda.cli, napari_semigda.cluster, napari_semigda.cluster_worker")
    assert not loaded & {"distributed", "dask", "torch"}


def test_a_full_disk_ends_the_run_and_other_trouble_only_the_file():
    for error, kind in ((OSError(28, "No space left"), cluster_worker.EndsAllError), (ValueError("odd"), EngineError)):
        with (
            pytest.raises(EngineError, match=r"1\.png could not be finished") as told,
            cluster_worker._told_of(Path("1.png")),
        ):
            raise error
        assert type(told.value) is kind


def test_pieces_hold_every_block_once_and_no_strip_is_mixed(tiny_run):
    predictor = Predictor(tiny_run[-1], "cpu")
    size = (9000, 40000)
    pieces = predictor.pieces(Plane("a.tif", np.broadcast_to(np.uint8(0), size)), 64)
    numbers = [number for piece in pieces for number in piece]
    assert sorted(numbers) == list(range(blocks.count_blocks(size)))
    assert len(pieces) > 20 and max(map(len, pieces)) <= 64
    across = -(-size[1] // blocks.SIDE)
    for piece in pieces:
        columns, rows = {n % across for n in piece}, {n // across for n in piece}
        assert len(columns) * len(rows) == len(piece)  # a rectangle
    small = predictor.pieces(Plane("a.tif", np.broadcast_to(np.uint8(0), (600, 60))), 1)
    assert small == [[0], [1]]
