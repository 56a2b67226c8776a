"""What an arm says of an image, and the figures taken of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F

from napari_semigda.engine.class_table import ClassTable
from napari_semigda.engine.metrics import average, dice, mean_foreground, score, summarise
from napari_semigda.engine.model import SemiGDA
from napari_semigda.engine.normalise import Input
from napari_semigda.engine.predict import believe, to_prediction
from napari_semigda.engine.types import Plane
from napari_semigda.engine.view import PlaneReader, View

PIXELS = 2000  # of each image, for the ranking of wrong pixels


class Answer(NamedTuple):
    """The mask of one image, and for a network of two branches what each says alone."""

    mask: np.ndarray  # (H, W) uint8 class ids
    v: np.ndarray | None = None
    c: np.ndarray | None = None
    disagreement: np.ndarray | None = None  # (H, W) float32, how far these are apart
    doubt: np.ndarray | None = None  # (H, W) float32, what the product shows


Look = Callable[[Plane], Answer]


def look_with(model: SemiGDA, header: Mapping[str, Any]) -> Look:
    """Plane -> answer, by the very prediction that the product makes, with what the model's file records."""
    view, rule = View.of_model(header), Input.of_model(header)
    table = ClassTable([entry["id"] for entry in header["classes"]], header["sparse"])

    def look(plane: Plane) -> Answer:
        belief = believe(model, PlaneReader([plane], rule).whole(0, view.scale), view, turns=True)
        three = [belief, *(belief._replace(v_share=share) for share in (1.0, 0.0))]
        mean, v, c = (to_prediction(one, plane, 0, table) for one in three)
        apart = F.interpolate(belief.disagreement[None, None], plane.size, mode="bilinear")[0, 0]
        return Answer(mean.mask, v.mask, c.mask, apart.cpu().numpy(), mean.doubt)

    return look


def figures(look: Look, planes: Sequence[Plane], ids: Sequence[int], branches: bool = False) -> dict:
    """Dice and 95 % Hausdorff over images: mean over an image's foreground classes, then over images.

    Parameters
    ----------
    look
        The arm.
    planes
        With masks.
    ids
        Foreground classes.
    branches
        Also Dice of each branch alone (``v``, ``c``), and how well their disagreement (``auroc``) and the product's
        doubt (``doubt_auroc``) rank wrong pixels.

    Returns
    -------
    dict
        JSON-able.
    """
    scores, alone, wrongs = [], {"v": [], "c": []}, []
    unsure = {"auroc": ("disagreement", []), "doubt_auroc": ("doubt", [])}
    rng = np.random.default_rng(0)
    for plane in planes:  # one at a time: the answers of a whole set would fill the memory
        answer, mask = look(plane), np.asarray(plane.mask)
        scores.append(score(answer.mask, mask, ids))
        if branches and answer.disagreement is not None:
            for name, figures_alone in alone.items():
                figures_alone.append(mean_foreground(dice(getattr(answer, name), mask, ids)))
            pixels = rng.choice(mask.size, min(mask.size, PIXELS), replace=False)
            for kind, values in unsure.values():
                values.append(getattr(answer, kind).ravel()[pixels])
            wrongs.append((answer.mask != mask).ravel()[pixels])
    by_class, overall = summarise(scores)
    found = {
        "images": len(planes),
        "dice": asdict(overall.dice),
        "hausdorff95": asdict(overall.hausdorff),
        "dice_by_class": {c: summary.dice.mean for c, summary in by_class.items()},
    }
    if wrongs:
        found |= {name: average(values).mean for name, values in alone.items()}
        wrong = np.concatenate(wrongs)
        found |= {name: ranking(np.concatenate(values), wrong) for name, (_, values) in unsure.items()}
    return found


def ranking(doubt: np.ndarray, wrong: np.ndarray) -> float | None:
    """AUROC of pixels' doubt for being wrong; None where all are right or all wrong."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong, doubt)) if 0 < wrong.sum() < wrong.size else None
