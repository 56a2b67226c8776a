"""How long a training step takes, on this computer's processor and graphics card.

    python benchmarks/speed.py cpu     a step against one of MONAI's BasicUNet, the parts of a step, the first preview
    python benchmarks/speed.py gpu     a step with the backbone `sd` against the published recipe, and memory
    python benchmarks/speed.py work    arithmetic of both, counted rather than timed; needs no graphics card
    python benchmarks/speed.py table   what was measured, into benchmarks/README.md

Steps are whole: crops, augmentation, both branches, loss, gradients, optimiser, averaged weights. What is compared runs
in turns within one process, and medians are taken, so that a busy machine slows all of it alike.

`sd` has the architecture of Stable Diffusion's autoencoder with random weights: time does not depend on them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from cells import RESULTS, machine, today, write_section
from speed_tables import cpu_lines, gpu_lines, work_lines
from torch import Tensor, nn

from napari_semigda.engine.round import Round
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Plane, Settings, TrainRequest

SPEED = RESULTS / "speed"
BATCH = 4  # crops a step
PAPER_SIDE = 224
SD = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 256,
}

app = typer.Typer(add_completion=False)


class _Opener(Trainer):
    """Sets a round up as ever, and does not run it."""

    round: Round

    def rounds(self, *arguments) -> _Opener:
        self.round = Round(*arguments)
        return self

    def run(self):
        """Nothing."""
        return iter(())


def open_round(planes: tuple[Plane, ...], **settings) -> Round:
    """A round that is ready for its first step."""
    opener = _Opener()
    list(opener.fit(TrainRequest(planes, Path("never-written.semigda"), Settings(**settings))))
    return opener.round


def sample_planes() -> tuple[Plane, ...]:
    """The bundled slices; four have masks."""
    from napari_semigda.sample_data import brain

    (images, *_), (masks, *_) = brain()
    return tuple(Plane(f"slice {i}", images[i], masks[i] if masks[i].any() else None) for i in range(len(images)))


def take_turns(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Run all actions in turns; median wall and processor seconds of each, the first turn not counted."""
    wall: dict[str, list[float]] = {name: [] for name in actions}
    used: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            begun, begun_used = time.perf_counter(), time.process_time()
            action()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                wall[name].append(time.perf_counter() - begun)
                used[name].append(time.process_time() - begun_used)
    return {n: {"wall": statistics.median(wall[n]), "cpu": statistics.median(used[n])} for n in actions}


# ---- the processor --------------------------------------------------------------------------------------------------


def our_step(training: Round, weight: float, with_v: bool | None = None) -> None:
    """A step of stage 2, with pseudo-masks where the weight is not 0; by itself, branch V rests in every other one."""
    if with_v is not None:
        training.objective._steps = 0 if with_v else 1
    training.learner.step(training.objective.segmentation(weight))


def unet_step(training: Round) -> Callable[[], None]:
    """The same step with MONAI's BasicUNet: our crops, augmentation and kind of optimiser, MONAI's loss."""
    from monai.losses import DiceCELoss
    from rivals import basic_unet

    from napari_semigda.engine.average import MovingAverage

    net = basic_unet(training.model.class_count).to(memory_format=torch.channels_last).train()
    average, optimiser = MovingAverage(dict(net.named_parameters())), torch.optim.AdamW(net.parameters(), lr=1e-3)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)

    def step() -> None:
        batch = training.objective._varied(training.objective.labelled.draw(BATCH))
        optimiser.zero_grad(set_to_none=True)
        loss_of(net(batch.image * 2 - 1), batch.target[:, None]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 3.0)
        optimiser.step()
        average.update()

    return step


def parts(training: Round) -> dict[str, Callable[[], object]]:
    """What a step consists of, each forward and, where it learns, backward."""
    from napari_semigda.engine.losses import mask_loss
    from napari_semigda.engine.model import Branches

    model, objective = training.model, training.objective
    drawn = objective.labelled.draw(BATCH)
    batch = objective._varied(drawn)
    image = batch.image * 2 - 1
    latents = model.align(image)
    leaf = lambda x: x.detach().requires_grad_()  # noqa: E731
    branches = Branches(*(leaf(scores) for scores in model.generate(latents)))

    def generated(latent: Tensor, features: tuple[Tensor, ...], adapters: nn.Module) -> Callable[[], object]:
        latent, features = leaf(latent), tuple(f.detach() for f in features)
        return lambda: model._generate(latent, features, adapters).sum().backward()

    def cnn() -> None:
        latent, features = model.latent_encoder(image)
        (latent.sum() + sum(f.sum() for f in features)).backward()

    def mapping() -> Callable[[], object]:
        seen: list[Tensor] = []
        with model.latent_mapper.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach())):
            model.map_latent(image)
        return lambda: model.latent_mapper(seen[0]).sum().backward()

    return {
        "cutting crops": lambda: objective.labelled.draw(BATCH),
        "augmentation": lambda: objective._varied(drawn),
        "frozen encoder": lambda: model.backbone.encode(image),
        "latent mapping (V)": mapping(),
        "CNN (C)": cnn,
        "decoding V": generated(latents.v, latents.features_v, model.image_adapters),
        "decoding C": generated(latents.c, latents.features_c, model.mask_adapters),
        "loss": lambda: mask_loss(branches, batch.target, batch.weight).backward(),
    }


@app.command()
def cpu(
    threads: str = "1,2",
    repeats: Annotated[int, typer.Option(help="turns, of which medians are taken")] = 10,
    side: Annotated[int, typer.Option(help="of a crop in pixels, a multiple of 32")] = 192,
    out: Path = SPEED,
) -> None:
    """Measure on the processor."""
    for count in map(int, threads.split(",")):
        torch.set_num_threads(count)
        training = open_round(sample_planes(), device="cpu", crop=side, batch=BATCH)
        steps = {
            "SemiGDA, painted crops": lambda training=training: our_step(training, 0.0, with_v=True),
            "... in two of three: branch V rests": lambda training=training: our_step(training, 0.0, with_v=False),
            "SemiGDA, with pseudo-masks": lambda training=training: our_step(training, 0.3, with_v=True),
            "... branch V rests": lambda training=training: our_step(training, 0.3, with_v=False),
            "MONAI BasicUNet": unet_step(training),
        }
        figures = {"threads": count, "batch": BATCH, "side": training.view.crop, "steps": take_turns(steps, repeats)}
        figures["parts"] = take_turns(parts(training), repeats)
        figures["preview"] = first_preview(count)
        _keep(f"cpu-{count}threads", figures, out)
        print("\n".join(cpu_lines([figures])))


def first_preview(threads: int) -> float:
    """Seconds from the start of a fresh process to the first preview of the bundled sample."""
    begun = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, __file__, "preview"], check=True, env=environment)
    return time.perf_counter() - begun


@app.command()
def preview() -> None:
    """Train the bundled sample until there is a preview; `cpu` times this."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer()
        trainer.look_at(12)
        for report in trainer.fit(TrainRequest(sample_planes(), Path(folder) / "m.semigda", Settings(device="cpu"))):
            if report.preview is not None:
                return


# ---- the graphics card ----------------------------------------------------------------------------------------------


def random_sd(folder: Path, **smaller) -> str:
    """An autoencoder of Stable Diffusion's architecture with random weights, in its real format."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(**{**SD, **smaller}).save_pretrained(folder)
    return str(folder)


def published_step(source: str, device: torch.device, side: int) -> Callable[[], None]:
    """A step of the published recipe on pictures that are there already."""
    from published import BATCH as PUBLISHED_BATCH
    from published import PublishedRecipe

    from napari_semigda.engine.backbones import load_backbone

    recipe = PublishedRecipe(load_backbone("sd", source=source)).to(device).train()
    labelled, unlabelled = (torch.rand(PUBLISHED_BATCH, 3, side, side, device=device) * 2 - 1 for _ in range(2))
    mask = (torch.rand(PUBLISHED_BATCH, side, side, device=device) < 0.3).float()
    return lambda: recipe.step(labelled, mask, unlabelled)


@app.command()
def gpu(
    repeats: Annotated[int, typer.Option(help="turns, of which medians are taken")] = 20,
    out: Path = SPEED,
    rehearse: Annotated[bool, typer.Option(help="a small autoencoder on whatever device there is")] = False,
) -> None:
    """Measure on the graphics card, and say so where there is none."""
    if not torch.cuda.is_available() and not rehearse:
        print("There is no CUDA device on this computer, so nothing was measured.")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side, smaller = (64, {"block_out_channels": (32, 32, 64, 64)}) if rehearse else (PAPER_SIDE, {})
    with tempfile.TemporaryDirectory() as folder:
        source = random_sd(Path(folder), **smaller)
        ours = {"device": device.type, "backbone": "sd", "backbone_source": source, "crop": side, "batch": BATCH}

        def product(**more) -> Callable[[], None]:
            training = open_round(sample_planes(), **ours, **more)
            return lambda: our_step(training, 0.3)

        makers = {
            "published recipe": lambda: published_step(source, device, side),
            "SemiGDA": product,
        }
        if not rehearse:  # compiling takes minutes on a processor
            makers["SemiGDA, compiled"] = lambda: product(compile=True)
        figures = {"side": side, "steps": {name: _on_its_own(make, repeats) for name, make in makers.items()}}
    if device.type == "cuda":
        figures["machine"] = torch.cuda.get_device_name()
    if not rehearse:
        _keep("gpu", figures, out)
    print("\n".join(gpu_lines([figures])))


def _on_its_own(make: Callable[[], Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds and peak memory in GiB of an action that has the memory to itself."""
    on_card = torch.cuda.is_available()
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    action = make()
    for _ in range(3):  # kernels are chosen and compiled
        action()
    seconds = take_turns({"it": action}, repeats)["it"]["wall"]
    return {"wall": seconds, "memory": torch.cuda.max_memory_allocated() / 2**30 if on_card else 0.0}


# ---- arithmetic -----------------------------------------------------------------------------------------------------


@app.command()
def work(out: Path = SPEED) -> None:
    """Count the multiplications of a step with the backbone `sd`, ours and the published one."""
    from diffusers import AutoencoderKL
    from published import PublishedRecipe

    from napari_semigda.engine.diffusers_backbones import StableDiffusionBackbone
    from napari_semigda.engine.model import SemiGDA

    backbone = StableDiffusionBackbone(AutoencoderKL(**SD))
    recipe, model = (network.to("meta") for network in (PublishedRecipe(backbone), SemiGDA(backbone, 2)))
    image = torch.empty(1, 3, PAPER_SIDE, PAPER_SIDE, device="meta")

    def learn(network: nn.Module) -> None:
        sum(scores.sum() for scores in network(image)).backward()

    teacher = torch.no_grad()(lambda: model(image))
    once = {
        "published": _count(lambda: learn(recipe)),
        "ours": _count(lambda: learn(model)),
        "teacher": _count(teacher),
    }
    encoder = _count(lambda: backbone.encode(image))
    figures = {
        "side": PAPER_SIDE,
        "published": 8 * once["published"],  # 2 labelled, 2 unlabelled, 4 mixed pictures
        "ours": BATCH * once["ours"] + once["teacher"],  # 4 pictures, and 1 for its pseudo-mask
        "encoder": (BATCH + 1) * encoder,
    }
    _keep("work", figures, out)
    print("\n".join(work_lines([figures])))


def _count(action: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() / 1e12


@app.command()
def table() -> None:
    """Write what was measured into benchmarks/README.md."""
    kinds = {"cpu": cpu_lines, "gpu": gpu_lines, "work": work_lines}
    lines = []
    for kind, show in kinds.items():
        found = [json.loads(path.read_text()) for path in sorted(SPEED.glob(f"{kind}*.json"))]
        lines += [*(show(found) if found else [f"Not yet taken: `{kind}`."]), ""]
    write_section("speed", lines)


def _keep(name: str, figures: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figures |= {"date": today(), "machine": figures.get("machine", machine().rsplit(",", 1)[0])}
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app()
