"""The backbones `tiny` and `sd` on the command line: small random autoencoders in every format people have them in."""

import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from napari_semigda.cli import run
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.checkpoint import load_model, read_header
from napari_semigda.engine.types import EngineError
from napari_semigda.engine.whereabouts import of_model

diffusers = pytest.importorskip("diffusers")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def autoencoders():
    """One of each kind; as wide as Stable Diffusion's 32 groups allow, since a lone file says nothing of groups."""
    torch.manual_seed(1)
    four = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    return {
        "sd": diffusers.AutoencoderKL(**four, block_out_channels=(32, 32, 64, 64), layers_per_block=1),
        "tiny": diffusers.AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4),
    }


def original_name(key):
    """Name of a weight in the original Stable Diffusion releases."""
    key = re.sub(r"up_blocks\.(\d)", lambda match: f"up.{3 - int(match[1])}", key)
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", key)
    for new, old in {
        "down_blocks.": "down.", ".resnets.": ".block.", "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out",
        "downsamplers.0": "downsample", "upsamplers.0": "upsample", "mid_block.attentions.0": "mid.attn_1",
        "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    }.items():  # fmt: skip
        key = key.replace(new, old)
    return key


def as_released(autoencoder):
    """The weights as a whole Stable Diffusion checkpoint has them."""
    state = {}
    for key, value in autoencoder.state_dict().items():
        is_map = ".attentions." in key and value.ndim == 2  # was a 1 x 1 convolution
        state[f"first_stage_model.{original_name(key)}"] = value[..., None, None] if is_map else value
    return {"state_dict": {**state, "model.diffusion_model.out.weight": torch.ones(2)}, "global_step": 7}


def old_attention(state):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        state = {key.replace(f".{new}.", f".{old}."): value for key, value in state.items()}
    return state


def in_hub_cache(autoencoder, cache, monkeypatch):
    place = cache / "models--someone--vae"
    autoencoder.save_pretrained(place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return "someone/vae"


@pytest.fixture
def make_source(autoencoders, tmp_path, monkeypatch):
    """(backbone, format) -> what --backbone-source takes."""

    def make(name, form):
        autoencoder, file = autoencoders[name], tmp_path / f"vae.{form}"
        if form == "folder":
            autoencoder.save_pretrained(file)
        elif form == "safetensors":
            save_file(autoencoder.state_dict(), file)
        elif form == "ckpt":
            torch.save(as_released(autoencoder) if name == "sd" else autoencoder.state_dict(), file)
        elif form == "half":
            file = file.with_suffix(".safetensors")
            save_file({key: value.half() for key, value in old_attention(autoencoder.state_dict()).items()}, file)
        else:
            return in_hub_cache(autoencoder, tmp_path / "cache", monkeypatch)
        return str(file)

    return make


def disc(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :72]
    row, column = rng.uniform(20, 44, 2)
    mask = (rows - row) ** 2 + (columns - column) ** 2 < 130
    return (60 + 100 * mask + rng.normal(0, 12, mask.shape)).clip(0, 255).astype(np.uint8), mask.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(4):
        picture, mask = disc(i)
        Image.fromarray(picture).save(tmp_path / "images" / f"{i}.png")
        if i < 2:
            Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    wide = np.tile(disc(9)[0], (3, 2))  # larger than a window, so predicted in tiles
    (tmp_path / "more").mkdir()
    Image.fromarray(wide).save(tmp_path / "more" / "wide.png")
    return tmp_path


def train(folder, *more):
    out = folder / "m.semigda"
    args = ["--images", folder / "images", "--masks", folder / "masks", "--out", out, "--max-steps", 3, "--json"]
    return run([str(arg) for arg in ("train", *args, *more)])


def predict(folder, *more, images="images"):
    args = ["--model", folder / "m.semigda", "--images", folder / images, "--out", folder / "out", "--uncertainty"]
    return run([str(arg) for arg in ("predict", *args, *more)])


def sentence(capfd):
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].endswith("."), lines
    return lines[0]


@pytest.mark.parametrize("form", ["folder", "safetensors", "ckpt", "hub"])
@pytest.mark.parametrize("name", ["sd", "tiny"])
def test_whole_run(name, form, make_source, folder, capfd):
    source = make_source(name, form)
    assert train(folder, "--backbone", name, "--backbone-source", source) == 0, capfd.readouterr().err
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["stage"] == "done"
    header = read_header(folder / "m.semigda")
    assert (header["backbone"], header["mapper_width"]) == (name, 32)
    assert header["backbone_source"] == (source if form == "hub" else Path(source).name)
    assert str(folder) not in json.dumps(header)
    assert header["backbone_digest"] == load_backbone(name, source=source).digest()
    with safe_open(folder / "m.semigda", "pt") as file:
        assert not [key for key in file.keys() if "backbone" in key]  # noqa: SIM118 - not a dictionary
    assert predict(folder) == 0
    masks = [np.asarray(Image.open(folder / "out" / f"{i}.png")) for i in range(4)]
    assert {mask.shape for mask in masks} == {(64, 72)} and set(np.unique(masks)) <= {0, 1}
    assert predict(folder, images="more") == 0
    assert np.asarray(Image.open(folder / "out" / "wide.png")).shape == (192, 144)


@pytest.mark.parametrize("name", ["sd", "tiny"])
def test_every_format_is_the_same_network(name, make_source, autoencoders):
    digests = {form: load_backbone(name, source=make_source(name, form)).digest() for form in ("folder", "ckpt", "hub")}
    digests["safetensors"] = load_backbone(name, source=make_source(name, "safetensors")).digest()
    assert len(set(digests.values())) == 1, digests
    assert load_backbone(name, source=make_source(name, "half")).digest() != digests["folder"]
    ours, theirs = load_backbone(name, source=make_source(name, "ckpt")).autoencoder, autoencoders[name]
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_settings_belong_to_the_digest(autoencoders, tmp_path):
    autoencoders["sd"].save_pretrained(tmp_path)
    before = load_backbone("sd", source=tmp_path).digest()
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"scaling_factor": 0.5}))
    assert load_backbone("sd", source=tmp_path).digest() != before


def test_a_second_round_goes_on_and_keeps_the_source(make_source, folder, capfd):
    source = make_source("tiny", "folder")
    assert train(folder, "--backbone", "tiny", "--backbone-source", source) == 0
    assert train(folder, "--init", folder / "m.semigda") == 0
    header = read_header(folder / "m.semigda")
    assert header["training"]["rounds"] == 2 and header["backbone_source"] == Path(source).name
    capfd.readouterr()
    assert train(folder, "--init", folder / "m.semigda", "--backbone", "sd", "--backbone-source", source) == 2
    assert "built on the backbone tiny" in capfd.readouterr().err


def test_weights_that_moved_or_changed(make_source, autoencoders, folder, capfd):
    source = make_source("tiny", "safetensors")
    assert train(folder, "--backbone", "tiny", "--backbone-source", source) == 0
    moved = (folder / "vae.safetensors").rename(folder / "elsewhere.safetensors")
    capfd.readouterr()
    assert predict(folder) == 2
    refusal = sentence(capfd)
    assert "m.semigda" in refusal and "vae.safetensors" in refusal and "--backbone-source" in refusal
    assert predict(folder, "--backbone-source", moved) == 0
    other = {key: value + 0.01 for key, value in autoencoders["tiny"].state_dict().items()}
    save_file(other, folder / "vae.safetensors")
    capfd.readouterr()
    assert predict(folder) == 2
    assert "other weights of the tiny backbone" in sentence(capfd)
    assert not (folder / "out" / "wide.png").exists()


def test_a_shared_model_finds_its_weights_beside_it_and_nowhere_else_by_name(make_source, folder, capfd, monkeypatch):
    source = Path(make_source("tiny", "safetensors"))
    assert train(folder, "--backbone", "tiny", "--backbone-source", source) == 0
    model = folder / "m.semigda"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "another computer"))
    stranger = folder / "shared"
    stranger.mkdir()
    model.rename(stranger / "m.semigda")
    monkeypatch.chdir(folder)  # where weights of that name are, which nobody has offered
    (folder / "shared").joinpath("out").mkdir()
    with pytest.raises(EngineError, match=r"vae\.safetensors.*--backbone-source"):
        load_model(stranger / "m.semigda", torch.device("cpu"))
    source.rename(stranger / source.name)
    load_model(stranger / "m.semigda", torch.device("cpu"))


@pytest.mark.parametrize("place", ["/etc/x.ckpt", "../x.ckpt", "C:\\x.ckpt", "../.."])
def test_a_model_cannot_name_a_file_elsewhere(place, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "x.ckpt").write_bytes(b"somebody else's")
    with pytest.raises(EngineError, match="are not where they were"):
        of_model(place, "0" * 64, tmp_path / "models")


def test_the_hub_is_asked_only_for_what_is_not_here(make_source, folder, monkeypatch, capfd):
    import huggingface_hub

    fetch, asked = huggingface_hub.hf_hub_download, []

    def download(repository, file, *, local_files_only, **more):
        if not local_files_only:
            asked.append(f"{repository}/{file}")
            raise OSError("no route to host\nand more")
        return fetch(repository, file, local_files_only=True, **more)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert train(folder, "--backbone", "tiny", "--backbone-source", make_source("tiny", "hub")) == 0
    assert predict(folder) == 0
    assert asked == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "empty"))
    capfd.readouterr()
    assert predict(folder) == 2  # a model file alone makes nobody download anything
    assert "not on this computer" in sentence(capfd) and asked == []
    assert predict(folder, "--backbone-source", "someone/vae") == 2
    assert "no route to host)" in sentence(capfd) and asked == ["someone/vae/config.json"]


def test_no_network(folder, monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "empty"))
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client waits between its attempts
    assert train(folder, "--backbone", "sd") == 2
    *before, refusal = capfd.readouterr().err.splitlines()
    assert not [line for line in before if "Retrying" in line]
    assert "stabilityai/sd-vae-ft-mse" in refusal and "check the name and the connection" in refusal
    assert not (folder / "m.semigda").exists()


class Code:
    def __reduce__(self):
        return print, ("this must never run",)


def bad_sources(folder, autoencoders):
    """Backbone, source -> what must be said."""
    kl, tiny = autoencoders["sd"], autoencoders["tiny"]
    files = {name: folder / name for name in ("no.safetensors", "cut.safetensors", "text.ckpt", "code.ckpt", "list.pt")}
    save_file(kl.state_dict(), folder / "kl.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "kl.safetensors").read_bytes()[:5000])
    (folder / "text.ckpt").write_text("hello")
    (folder / "code.ckpt").write_bytes(pickle.dumps({"state_dict": Code()}, protocol=2))
    torch.save([torch.ones(2)], folder / "list.pt")
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("hello")
    few = dict(list(tiny.state_dict().items())[:-1])
    save_file(few, folder / "few.safetensors")
    lacking = as_released(kl)["state_dict"]
    lacking.pop("first_stage_model.decoder.mid.attn_1.q.weight")
    torch.save(lacking, folder / "lacking.ckpt")
    save_file({"unet.weight": torch.ones(3)}, folder / "unet.safetensors")
    three = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    diffusers.AutoencoderKL(**three, block_out_channels=(32,) * 3).save_pretrained(folder / "three")
    return [
        ("sd", files["no.safetensors"], "no weights for the sd backbone"),
        ("sd", "images/vae", "no weights for the sd backbone"),
        ("sd", files["cut.safetensors"], "damaged or cannot be read"),
        ("sd", files["text.ckpt"], "damaged"),
        ("sd", files["code.ckpt"], "more than plain weights"),
        ("sd", files["list.pt"], "no weights by name"),
        ("sd", folder / "empty", "no config.json"),
        ("sd", folder / "notes.txt", "no file of weights"),
        ("tiny", folder / "few.safetensors", "not a whole AutoencoderTiny"),
        ("sd", folder / "lacking.ckpt", "not a whole AutoencoderKL"),
        ("sd", folder / "unet.safetensors", "not a whole AutoencoderKL"),
        ("tiny", folder / "kl.safetensors", "choose the sd backbone"),
        ("sd", folder / "few.safetensors", "choose the tiny backbone"),
        ("sd", folder / "three", "four levels"),
    ]


def test_bad_sources_are_one_sentence(folder, autoencoders, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    for name, source, says in bad_sources(folder, autoencoders):
        with pytest.raises(EngineError) as caught:
            load_backbone(name, source=source)
        refusal = str(caught.value)
        assert says in refusal and str(source) in refusal and refusal.endswith("."), refusal
    assert "never run" not in capfd.readouterr().out
    assert train(folder, "--backbone", "sd", "--backbone-source", folder / "three") == 2
    assert "four levels" in capfd.readouterr().err.splitlines()[-1]


def test_compact_has_no_source(folder, capfd):
    assert train(folder, "--backbone-source", "someone/vae") == 2
    assert "comes with the package" in sentence(capfd)
    with pytest.raises(EngineError, match="comes with the package"):
        load_backbone("compact", source="someone/vae")


def test_without_diffusers(make_source, folder, monkeypatch, capfd):
    source = make_source("tiny", "folder")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert train(folder, "--backbone", "tiny", "--backbone-source", source) == 2
    assert "pip install diffusers" in capfd.readouterr().err.splitlines()[-1]


def test_the_same_model_after_loading(make_source, folder):
    assert train(folder, "--backbone", "tiny", "--backbone-source", make_source("tiny", "folder")) == 0
    first, _ = load_model(folder / "m.semigda", CPU)
    again, _ = load_model(folder / "m.semigda", CPU)
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.inference_mode():
        one, two = first(image), again(image)
    assert torch.equal(one.v, two.v) and torch.equal(one.c, two.c)
    assert one.v.shape == (1, 2, 64, 96)
