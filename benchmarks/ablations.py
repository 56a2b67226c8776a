"""SemiGDA with one part taken out at a time, composed from the product's own classes.

Each arm is a round of the engine with another network or objective, or without stage 1; everything else, the clock and
the data included, stays the same. Nothing here is part of the product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_semigda.engine import palette
from napari_semigda.engine.adapters import AdapterSet
from napari_semigda.engine.backbones import CompactDecoder
from napari_semigda.engine.model import Branches, Latents, SemiGDA
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.round import Round
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Report, Stage, TrainRequest


class OnlyV(SemiGDA):
    """Branch V alone, counted twice; the CNN is neither run nor trained."""

    def align(self, image: Tensor, sample: bool = False, with_v: bool = True) -> Latents:
        latent, features = self.map_latent(image, sample)
        return Latents(latent, latent, features, features)

    def generate(self, latents: Latents) -> Branches:
        scores = self._generate(latents.v, latents.features_v, self.image_adapters)
        return Branches(scores, scores)


class OnlyC(SemiGDA):
    """Branch C alone, counted twice; neither the frozen encoder nor the latent mapping is run."""

    def align(self, image: Tensor, sample: bool = False, with_v: bool = True) -> Latents:
        latent, features = self.latent_encoder(image)
        return Latents(latent, latent, features, features)

    def generate(self, latents: Latents) -> Branches:
        scores = self._generate(latents.c, latents.features_c, self.mask_adapters)
        return Branches(scores, scores)


class NoAdapters(SemiGDA):
    """No CDSA: the frozen decoder sees the latents and nothing else."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for adapters in (self.image_adapters, self.mask_adapters):
            for level in range(len(adapters)):
                adapters[level] = Untouched()


class Untouched(nn.Module):
    """In place of a skip adapter."""

    def forward(self, decoder_feature: Tensor, encoder_feature: Tensor) -> Tensor:
        return decoder_feature


class FreshDecoder(SemiGDA):
    """The compact decoder with random weights, trained along: what is lost without the generative model?"""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.decoder = CompactDecoder(self.backbone.latent_channels, self.backbone.level_channels)

    def _generate(self, latent: Tensor, features: tuple[Tensor, ...], adapters: AdapterSet) -> Tensor:
        picture = self.decoder(latent, lambda level, x: adapters[level](x, features[level]))
        return palette.scores(picture, self.class_count)


class NoMixing(Objective):
    """Pseudo-labelled crops take the place of whole painted ones."""

    pasted_side = (1.0, 1.0)


@dataclass(frozen=True)
class Ablation:
    """What differs from the whole."""

    network: type[SemiGDA] = SemiGDA
    objective: type[Objective] = Objective
    aligns: bool = True  # stage 1


ABLATIONS = {
    "no-stage1": Ablation(aligns=False),
    "only-v": Ablation(OnlyV),
    "only-c": Ablation(OnlyC),
    "no-adapters": Ablation(NoAdapters),
    "decoder-scratch": Ablation(FreshDecoder),
    "no-mixing": Ablation(objective=NoMixing),
}
"""No unlabelled images is the arm `semigda-supervised`: the product's own setting, weight 0."""


class AblatedRound(Round):
    """A round with one part taken out.

    Parameters
    ----------
    ablation
        Which.
    *arguments
        Of the round.
    """

    def __init__(self, ablation: Ablation, *arguments) -> None:
        self.ablation = ablation
        super().__init__(*arguments)

    def _start_model(self) -> None:
        super()._start_model()
        whole, network = self.model, self.ablation.network
        if network is not SemiGDA:
            self.model = network(whole.backbone, whole.class_count).to(self.device, memory_format=torch.channels_last)
            self.model.train()

    def _make_objective(self, batch: int, rng: np.random.Generator) -> Objective:
        whole, objective = super()._make_objective(batch, rng), self.ablation.objective
        if objective is Objective:
            return whole
        return objective(self.model, self.average, whole.labelled, whole.unlabelled, batch, rng)

    def _stage(self, fraction: float) -> Stage:
        stage = super()._stage(fraction)
        return "learning" if stage == "aligning" and not self.ablation.aligns else stage


class AblatedTrainer(Trainer):
    """Trains such rounds; `round` is the last one."""

    def __init__(self, ablation: Ablation) -> None:
        super().__init__()
        self._ablation = ablation
        self.round: AblatedRound | None = None

    def rounds(self, *arguments) -> AblatedRound:
        self.round = AblatedRound(self._ablation, *arguments)
        return self.round


def train_ablated(ablation: Ablation, request: TrainRequest) -> tuple[SemiGDA, Report]:
    """Train; the network with the weights that were saved, and the last report."""
    trainer = AblatedTrainer(ablation)
    last = list(trainer.fit(request))[-1]
    saved = load_file(request.out)
    weights = {name.removeprefix("weights."): w for name, w in saved.items() if name.startswith("weights.")}
    trainer.round.model.load_state_dict(weights, strict=False)
    return trainer.round.model.eval(), last
