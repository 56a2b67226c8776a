"""Every reader of files that may come from a stranger, with a good file to begin with: for `fuzz`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import fuzz_mutations as m
import numpy as np

from napari_semigda.engine.types import EngineError


class Target(NamedTuple):
    """One kind of file."""

    build: Callable[[Path], None]
    """Writes good files into an empty folder."""
    victims: str
    """Glob of the files that are damaged, one at a time."""
    mutations: tuple[m.Mutation, ...]
    read: Callable[[Path], None]
    """Reads what is in the folder, all of it; raises EngineError or checks what it got."""
    weight: int = 4
    """How often it has its turn, next to the others."""


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, top: int = 250) -> np.ndarray:
    """The same random numbers each time."""
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def _read_image(folder: Path) -> None:
    """Open every image of a folder, read its planes, and write masks for them."""
    from napari_semigda.formats import open_source, write_masks

    for path in sorted(folder.iterdir()):
        source = open_source(path)
        for plane in source.planes[:3]:
            pixels = np.asarray(plane)
            if pixels.shape != plane.shape or pixels.dtype != plane.dtype:
                raise AssertionError(f"{plane.name} is {pixels.shape} {pixels.dtype}, not {plane.shape} {plane.dtype}")
            if plane.part is not None:
                _ = plane[:5, 2:7]
        if sum(plane.shape[0] * plane.shape[1] for plane in source.planes) < 10**7:
            write_masks(source, folder / "out", [np.zeros(plane.shape[:2], np.uint8) for plane in source.planes])


def _read_mask(folder: Path) -> None:
    from napari_semigda.images import read_mask

    for path in sorted(folder.iterdir()):
        read_mask(path)


def _png(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(noise((24, 20, 3))).save(folder / "a.png")


def _png_mask(folder: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(noise((24, 20), top=3), mode="P")
    picture.putpalette(bytes(range(256)) * 3)
    picture.save(folder / "a.png")


def _jpeg(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(noise((24, 20))).save(folder / "a.jpg")


def _tiff(**how: Any) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        import tifffile

        tifffile.imwrite(folder / "a.tif", noise((3, 32, 32), np.uint16), photometric="minisblack", **how)

    return build


def _ome_tiff(folder: Path) -> None:
    import tifffile

    told = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Description": " " * 300}
    tifffile.imwrite(folder / "a.ome.tif", noise((3, 32, 32), np.uint16), metadata=told)


def _nifti(name: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        import nibabel

        image = nibabel.Nifti1Image(noise((16, 14, 5), np.int16), np.diag([2.0, 2, 3, 1]))
        nibabel.save(image, folder / name)

    return build


def _dicom_file(path: Path, number: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = f"1.2.3.{number}"
    file.PatientName, file.SeriesInstanceUID, file.InstanceNumber = "DOE^JANE", "1.2.3", number
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = 20, 16, 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, 2 * number], [1, 0, 0, 0, 1, 0]
    file.PixelSpacing, file.RescaleSlope, file.RescaleIntercept = [0.5, 0.5], "1", "-1024"
    file.PixelData = noise((20, 16), np.int16).tobytes()
    file.save_as(path, enforce_file_format=True)


def _dicom(folder: Path) -> None:
    _dicom_file(folder / "a.dcm", 1)


def _dicom_series(folder: Path) -> None:
    (folder / "scan").mkdir()
    for number in range(3):
        _dicom_file(folder / "scan" / f"{number}.dcm", number)


def _zarr(version: int) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        import zarr

        root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=version)
        how = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == 2 else {}
        for level, shape in enumerate(((2, 3, 32, 24), (2, 3, 16, 12))):
            array = root.create_array(str(level), shape=shape, chunks=(1, 1, 16, 16), dtype="uint16", **how)
            array[:] = noise(shape, np.uint16)
        scales = [[{"type": "scale", "scale": [1, 1, 0.5 * 2**level, 0.5 * 2**level]}] for level in range(2)]
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        told = {
            "axes": [{"name": "c", "type": "channel"}, *axes],
            "datasets": [{"path": str(at), "coordinateTransformations": scale} for at, scale in enumerate(scales)],
        }
        if version == 2:
            root.attrs.update({"multiscales": [told | {"version": "0.4"}]})
        else:
            root.attrs.update({"ome": {"version": "0.5", "multiscales": [told]}})

    return build


def _project(folder: Path) -> None:
    """Three images of different kinds, painted, one of them verified, and two rounds."""
    import tifffile
    from PIL import Image

    from napari_semigda.engine.exchange import Standing
    from napari_semigda.engine.findings import Findings, Opinion, Opinions, Painted
    from napari_semigda.engine.metrics import Score
    from napari_semigda.engine.types import Settings
    from napari_semigda.rounds import Round
    from napari_semigda.store import ProjectStore

    for name in ("a.png", "b.png"):
        Image.fromarray(noise((24, 20))).save(folder / name)
    tifffile.imwrite(folder / "c.tif", noise((2, 24, 20)), photometric="minisblack")
    store = ProjectStore.create(folder)
    masks = {plane: noise((24, 20), top=3) for plane in range(4)}
    store.save_masks([0, 2, 3], masks)
    store.mark("verified", 0)
    store.mark("empty", 1)
    score = Score(0.5, 0.4, 3.0)
    opinions = {"a.png": Opinions(Opinion(0.5, (0, 1), 0.1, 0.6), None)}
    found = Findings({"a.png": {1: score}}, {"a.png": {1: score}}, {1: Painted(10, 2)}, opinions)
    rounds = []
    for number in (1, 2):
        model = folder / "semigda" / "rounds" / f"round-{number}.semigda"
        model.parent.mkdir(exist_ok=True)
        model.write_bytes(b"a model")
        standing = Standing(model, 0.9, ("a.png",), number, (1,), {"a.png": 0.9})
        rounds.append(Round(standing, 2, 1.0, False, Settings(), {1: 0.9}, "2026-11-23", None, False, found))
    store.save_rounds(rounds, rounds[1].standing)
    for plane in range(4):
        store.pictures.put(plane, noise((8, 8, 3)))
    store.close()
    (folder / "semigda" / "project.json.previous").unlink(missing_ok=True)


def _read_project(folder: Path) -> None:
    """Open a project, look at everything, paint, save, close."""
    from napari_semigda.engine import verdict
    from napari_semigda.store import ProjectStore, painted_how

    painted_how(folder / "semigda" / "masks")
    store = ProjectStore.open(folder)
    try:
        _ = list(store.read_masks()), store.spacing, [store.marked(kind) for kind in ("verified", "skipped", "empty")]
        for plane in range(min(len(store.images), 4)):
            _ = store.images[plane]
            store.pictures.get(plane)
            height, width = store.images.planes[plane].size
            if height * width < 10**6:
                store.save_masks([plane], {plane: np.ones((height, width), np.uint8)})
            store.mark("verified", plane)
        rounds, in_use = store.rounds()
        store.new_model()
        store.save_classes(store.classes, not store.scribbles)
        store.save_rounds(rounds, in_use)
        store.flush()
        json.dumps(store._index.to_json())
        for each in rounds:
            verdict.refused(each.findings)
    finally:
        store.close()
    again = ProjectStore.open(folder)  # what was saved must be good
    again.close()


def _header() -> dict[str, Any]:
    """The header of a model as trainings write it."""
    from napari_semigda.engine.types import Settings

    return {
        "schema": 1,
        "version": "0.1.0",
        "class_count": 2,
        "classes": [{"id": 0, "name": "background"}, {"id": 1, "name": "disc", "colour": "#0072b2"}],
        "class_order": [1],
        "sparse": False,
        "backbone": "compact",
        "mapper_width": 16,
        "v_share": 0.33,
        "view": {"scale": 1.0, "crop": 64, "poses": [0, 1, 2, 3]},
        "structure_width": 12.0,
        "plan": {"batch": 2, "steps": 40, "fractions": [0.1, 0.2], "checks": []},
        "training": {
            "rounds": 1,
            "steps": 40,
            "seconds": 4.0,
            "device": "CPU",
            "settings": asdict(Settings()),
            "labelled": 3,
            "unlabelled": 5,
            "held_out": [],
            "trained_on": ["disc0"],
            "dice": None,
            "dice_by_class": {},
            "findings": {"scores": {"disc1": {"1": [0.9, 0.8, 2.0]}}, "painted": {"1": [900, 3]}, "began_with": 3},
        },
        "libraries": {"torch": "2.13.0"},
    }


def _model(folder: Path) -> None:
    """A header with two of the weights: enough for all that does not predict."""
    from safetensors.numpy import save_file

    tensors = {"weights.a": np.zeros((4, 4), np.float32), "backbone.b": np.zeros(3, np.float32)}
    save_file(tensors, folder / "a.semigda", metadata={"semigda": json.dumps(_header())})


def _read_model(folder: Path) -> None:
    """Everything that docks and command line ask of a model before they predict."""
    from napari_semigda.classes import of_model, taught
    from napari_semigda.engine.header import class_colours, class_names, copy_with_classes, read_header

    path = folder / "a.semigda"
    taught(path)
    header = read_header(path)
    class_names(header), class_colours(header), of_model(header)
    copy_with_classes(path, folder / "copy.semigda", {1: "cell", 7: "x"}, {1: "#123456"})
    if class_names(read_header(folder / "copy.semigda")).get(1, "cell") != "cell":
        raise AssertionError("the copy lost its names")


def _read_weights(folder: Path) -> None:
    """The weights as well: these are never whole, so nothing but a refusal is right."""
    import torch

    from napari_semigda.engine.checkpoint import load_model

    load_model(folder / "a.semigda", torch.device("cpu"))
    raise AssertionError("weights that are not there were loaded")


def _backbone(folder: Path) -> None:
    """Weights of an autoencoder in each way that they are passed on."""
    import torch
    from safetensors.torch import save_file

    state = {"encoder.layers.0.weight": torch.zeros(8, 3, 3, 3), "decoder.layers.0.weight": torch.zeros(8, 4, 3, 3)}
    save_file(state, folder / "a.safetensors")
    torch.save({"state_dict": state}, folder / "a.ckpt")
    torch.save(state, folder / "a.pt", _use_new_zipfile_serialization=False)
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTiny", "latent_channels": 4}))


def _read_backbone(folder: Path) -> None:
    from napari_semigda.engine.sources import locate, read_settings, read_weights

    refusals = []
    for name in ("a.safetensors", "a.ckpt", "a.pt"):
        try:
            locate("tiny", folder / name, download=False)
            read_weights(folder / name)
            read_settings(folder / "config.json")
        except EngineError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _batch(folder: Path) -> None:
    """A folder of masks that a batch made, with its notes."""
    from PIL import Image

    from napari_semigda.journal import FOLDER, Journal, digest

    Image.fromarray(noise((24, 20))).save(folder / "a.png")
    Image.fromarray(noise((24, 20), top=2)).save(folder / "out.png")
    (folder / "m.semigda").write_bytes(b"a model")
    journal = Journal(folder / FOLDER, folder, folder / "m.semigda", frozenset({"masks", "measurements"}))
    row = {"plane": 1, "class": 1, "class_name": "disc", "object": 1, "area_px": 12}
    tables = {"objects": [row], "totals": [{"class": 1, "class_name": "disc", "objects": 1, "area_px": 12}]}
    found = journal.announce(folder / "a.png", [noise((24, 20), top=2)])
    journal.add(folder / "a.png", digest(folder / "a.png"), found, [folder / "out.png"], tables)


def _read_batch(folder: Path) -> None:
    """What a batch that goes on asks of the notes, and the tables it writes from them."""
    from napari_semigda.batch import Tally
    from napari_semigda.engine.types import BatchRequest
    from napari_semigda.journal import FOLDER, Journal

    journal = Journal(folder / FOLDER, folder, folder / "m.semigda", frozenset({"masks", "measurements"}))
    request = BatchRequest(folder / "m.semigda", (folder / "a.png",), folder, measurements=True)
    tally = Tally(request, journal)
    if journal.has(folder / "a.png"):
        tally.finished.add(folder / "a.png")
    journal.made(folder / "a.png", [noise((24, 20))])
    tally.write_tables()
    journal.announce(folder / "a.png", [noise((24, 20))])


def _request(folder: Path) -> None:
    from napari_semigda.engine.exchange import Job, Standing, write_job
    from napari_semigda.engine.types import Plane, Settings, TrainRequest

    planes = (Plane("a", noise((20, 18)), noise((20, 18), top=2)), Plane("b", noise((20, 18))))
    request = TrainRequest(planes, folder / "m.semigda", Settings(), classes={1: "disc"}, colours={1: "#0072b2"})
    before = Standing(folder / "m.semigda", 0.5, ("a",), 1, (1,), {"a": 0.5})
    for _ in write_job(folder, Job(request, 1, 0, before)):
        pass


def _read_request(folder: Path) -> None:
    from napari_semigda.engine.exchange import read_job

    job = read_job(folder / "request.json")
    for plane in getattr(job.request, "planes", ()):
        _ = np.asarray(plane.image).sum(), None if plane.mask is None else np.asarray(plane.mask).sum()


def _answers(folder: Path) -> None:
    from napari_semigda.engine import answers
    from napari_semigda.engine.exchange import Outcome
    from napari_semigda.engine.types import BatchReport, Prediction, Report

    prediction = Prediction(0, "a", noise((9, 8)), np.zeros((9, 8), np.float32), description=np.zeros(3, np.float32))
    report = Report("learning", 3, 0.5, 1.0, 2.0, loss=0.5, dice=0.5, held_out=("a",), preview=prediction)
    lines = {
        "prediction": answers.prediction_to_json(prediction, folder, "one"),
        "report": answers.report_to_json(report, folder, "two"),
        "batch": answers.batch_to_json(BatchReport(3, 1)),
        "outcome": answers.outcome_to_json(Outcome(folder / "m.semigda", classes={1: "disc"})),
    }
    (folder / "lines.json").write_text(json.dumps(lines))


def _read_answers(folder: Path) -> None:
    from napari_semigda.engine import answers

    try:
        lines = json.loads((folder / "lines.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # no line of ours; the runner's business
    for kind, read in (
        ("prediction", lambda line: answers.prediction_from_json(line, folder)),
        ("report", lambda line: answers.report_from_json(line, folder)),
        ("batch", answers.batch_from_json),
        ("outcome", answers.outcome_from_json),
    ):
        if isinstance(lines, dict) and isinstance(lines.get(kind), dict):
            read(lines[kind])


_ANY = (m.any_bytes, m.any_bytes, m.swapped, m.other_thing)
_TIFF = (m.tiff_tags, m.tiff_tags, *_ANY)
_JSON = (m.json_file, m.json_file, m.json_file, m.json_file, m.any_bytes, m.other_thing)
_NII = (m.nifti_header, m.nifti_header)

TARGETS = {
    "PNG": Target(_png, "a.png", (m.png_header, m.png_header, *_ANY), _read_image),
    "PNG mask": Target(_png_mask, "a.png", (m.png_header, *_ANY), _read_mask, 2),
    "JPEG": Target(_jpeg, "a.jpg", _ANY, _read_image),
    "TIFF": Target(_tiff(), "a.tif", _TIFF, _read_image),
    "TIFF, tiles, zlib": Target(_tiff(tile=(16, 16), compression="zlib"), "a.tif", _TIFF, _read_image),
    "TIFF of ImageJ": Target(_tiff(imagej=True, metadata={"axes": "ZYX"}), "a.tif", (m.tiff_text, *_TIFF), _read_image),
    "OME-TIFF": Target(_ome_tiff, "a.ome.tif", (m.tiff_text, m.tiff_text, *_TIFF), _read_image),
    "NIfTI": Target(_nifti("a.nii"), "a.nii", (*_NII, *_ANY), _read_image),
    "NIfTI, gzip": Target(_nifti("a.nii.gz"), "a.nii.gz", (*_NII, m.packed_bytes, *_ANY), _read_image),
    "DICOM": Target(_dicom, "a.dcm", (m.dicom_tags, m.dicom_tags, *_ANY), _read_image),
    "DICOM series": Target(_dicom_series, "scan/*.dcm", (m.dicom_tags, m.dicom_tags, *_ANY), _read_image),
    "OME-Zarr 0.4": Target(_zarr(2), "a.zarr/**/*", (m.json_file, *_ANY), _read_image),
    "OME-Zarr 0.4, description": Target(_zarr(2), "a.zarr/**/.z*", _JSON, _read_image),
    "OME-Zarr 0.5": Target(_zarr(3), "a.zarr/**/*", (m.json_file, *_ANY), _read_image, 2),
    "OME-Zarr 0.5, description": Target(_zarr(3), "a.zarr/**/zarr.json", _JSON, _read_image),
    "project.json": Target(_project, "semigda/project.json", _JSON, _read_project, 8),
    "project, other files": Target(_project, "semigda/*/*", _ANY, _read_project, 3),
    "project, images": Target(_project, "*.*", _ANY, _read_project, 2),
    "model, header": Target(_model, "a.semigda", (m.safetensors_header,) * 3 + _ANY, _read_model, 8),
    "model, weights": Target(_model, "a.semigda", (m.safetensors_header,) * 3 + _ANY, _read_weights, 3),
    "weights of a backbone": Target(_backbone, "a.*", _ANY, _read_backbone, 3),
    "settings of a backbone": Target(_backbone, "config.json", _JSON, _read_backbone, 1),
    "notes of a batch": Target(_batch, ".semigda-batch/*", _JSON, _read_batch),
    "request to the trainer": Target(_request, "request.json", _JSON, _read_request),
    "arrays of a request": Target(_request, "**/*.npy", _ANY, _read_request, 2),
    "answers of the trainer": Target(_answers, "lines.json", _JSON, _read_answers),
}
