"""How good a mask is: Dice, IoU and the 95 % Hausdorff distance of every class, and their averages over images.

The figures come from MONAI; what is decided here is only what to do with a class that is missing:

==================== ======= ======= ===========
class is in          Dice    IoU     Hausdorff
==================== ======= ======= ===========
truth and prediction 0..1    0..1    >= 0
one of them only     0       0       nan
neither              nan     nan     nan
==================== ======= ======= ===========

nan means "not counted": averages leave it out and say how many images they are made of. A missed object has no
Hausdorff distance, so always read that average together with its count.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from napari_semigda.engine.types import EngineError

_LEAST, _AS_GOOD, _SURELY_WORSE = 0.005, 0.03, 0.15  # Dice; the last two on one image, see below
LEAST_FOR_INTERVAL = 5
"""Images; see `interval`."""
_RESAMPLES = 4000
_MANY_PIXELS = 2**20


def as_good(images: int) -> float:
    """How far apart two figures of Dice may be and still say that the models are as good as each other.

    Parameters
    ----------
    images
        How many the Dice was measured on.

    Returns
    -------
    float
        As means of so many images vary: .03 for one, less by their root for more, never below .005.
    """
    return _of_several(_AS_GOOD, images)


def surely_worse(images: int) -> float:
    """How far Dice must fall for new weights to be refused.

    A correction has learnt from new masks, which speaks for it; one image kept back says little against that. Where
    corrections made a test set of glands better, one image of it in ten fell by .05, one in thirty by .1
    (`benchmarks/tried.md`). To believe a single image sooner would be to refuse what the user has just painted.

    Parameters
    ----------
    images
        How many the Dice was measured on.

    Returns
    -------
    float
        .15 for one, less by their root for more, never below .005.
    """
    return _of_several(_SURELY_WORSE, images)


def _of_several(one: float, images: int) -> float:
    """What holds for the mean of several images when `one` holds for a single one."""
    return max(_LEAST, one / math.sqrt(max(1, images)))


@dataclass(frozen=True)
class Score:
    """One class of one image."""

    dice: float = math.nan
    """0..1, nan when the class is in neither mask."""
    iou: float = math.nan
    """0..1, nan when the class is in neither mask."""
    hausdorff: float = math.nan
    """95 % Hausdorff distance in pixels (or the unit of `spacing`), nan unless the class is in both masks."""


@dataclass(frozen=True)
class Average:
    """Mean and spread of one figure over the images it could be taken of."""

    mean: float
    """nan when no image counted."""
    sd: float
    """Sample standard deviation (n - 1); nan with fewer than two images."""
    images: int
    """How many images counted."""


@dataclass(frozen=True)
class Summary:
    """The three figures of one class, or of the foreground as a whole, over many images."""

    dice: Average
    iou: Average
    hausdorff: Average


def score(
    prediction: np.ndarray,
    truth: np.ndarray,
    class_ids: Iterable[int],
    spacing: Sequence[float] | None = None,
    ignore: int | None = None,
) -> dict[int, Score]:
    """Dice, IoU and 95 % Hausdorff distance of each class of one image.

    Parameters
    ----------
    prediction, truth
        (H, W) masks of integer class ids.
    class_ids
        The ids to score, in the order of the answer; 0 (background) only when it is asked for.
    spacing
        Pixel height and width in physical units, for the Hausdorff distance; None means pixels.
    ignore
        A value of `truth` that means "not annotated": these pixels are cut out of both masks first. With scribbles
        that is 0.

    Returns
    -------
    dict
        One `Score` for each class id; the module's table says when a figure is nan.

    Raises
    ------
    EngineError
        When the two masks differ in shape or are not (H, W).
    """
    from monai.metrics import compute_dice, compute_iou

    class_ids = tuple(class_ids)
    predicted, true = _one_hot(prediction, truth, class_ids, ignore)  # (1, K, H, W) each
    dice = compute_dice(predicted, true, ignore_empty=False)[0]
    iou = compute_iou(predicted, true, ignore_empty=False)[0]
    in_prediction, in_truth = (mask[0].flatten(1).any(1).tolist() for mask in (predicted, true))
    scores = {}
    for k, class_id in enumerate(class_ids):
        if not in_prediction[k] and not in_truth[k]:
            scores[class_id] = Score()
            continue
        distance = math.nan
        if in_prediction[k] and in_truth[k]:
            distance = _hausdorff(predicted[:, k : k + 1], true[:, k : k + 1], spacing)
        scores[class_id] = Score(dice[k].item(), iou[k].item(), distance)
    return scores


def dice(
    prediction: np.ndarray, truth: np.ndarray, class_ids: Iterable[int], ignore: int | None = None
) -> dict[int, float]:
    """Dice of each class of one image: `score` without the costly Hausdorff distance, for use while training.

    Takes and raises what `score` does; a class in neither mask is nan, in one only 0.
    """
    from monai.metrics import compute_dice

    class_ids = tuple(class_ids)
    predicted, true = _one_hot(prediction, truth, class_ids, ignore)
    values = compute_dice(predicted, true, ignore_empty=False)[0].tolist()
    present = (predicted | true)[0].flatten(1).any(1).tolist()
    return {
        class_id: value if there else math.nan
        for class_id, value, there in zip(class_ids, values, present, strict=True)
    }


def border_distances(
    prediction: np.ndarray, truth: np.ndarray, class_ids: Iterable[int], ignore: int | None = None
) -> dict[int, float]:
    """95 % Hausdorff distance in pixels of each class of one image.

    Of an image with more than a million pixels only every second (third, ...) row and column is looked at, so that an
    image costs about a second a class at most; the figure is then sure to about as many pixels.

    Takes and raises what `score` does; nan unless a class is in both masks.
    """
    step = math.ceil(math.sqrt(truth.size / _MANY_PIXELS))
    scores = score(prediction[::step, ::step], truth[::step, ::step], class_ids, (step, step), ignore)
    return {class_id: each.hausdorff for class_id, each in scores.items()}


def mean_foreground(values: Mapping[int, float]) -> float:
    """Mean over the foreground classes that count (id not 0, figure not nan); nan when none does."""
    return average(value for class_id, value in values.items() if class_id != 0).mean


def average(values: Iterable[float]) -> Average:
    """Mean, sample standard deviation and number of the values that are not nan."""
    counted = [value for value in values if not math.isnan(value)]
    mean = float(np.mean(counted)) if counted else math.nan
    sd = float(np.std(counted, ddof=1)) if len(counted) > 1 else math.nan
    return Average(mean, sd, len(counted))


def mean_over_images(figures: np.ndarray) -> np.ndarray:
    """Mean over images of each class, then over classes: (..., N, K) -> (...), what is nan left out.

    This is the Dice that a round reports; nan when nothing counts.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        return np.nanmean(np.nanmean(figures, axis=-2), axis=-1)


def interval(figures: np.ndarray) -> tuple[float, float] | None:
    """95 % confidence interval of a mean over images, by a bootstrap over these images.

    Images are what the next user's image is drawn from, so images are what is resampled. Blocks or pixels of one image
    are not independent of each other and know nothing of other images: resampling them would give an interval where
    there is none, and a narrow one. So one image has no interval, and a few have none either: the percentiles of a
    bootstrap are too close together with few images, which is put right as Hesterberg (The American Statistician,
    2015) does, by taking percentiles further out. Drawn from Dice-like figures (beta with mean 0.86 and standard
    deviation 0.07), such an interval holds the true mean in 74 % of the cases with three images, 85 % with four, 91 %
    with five and 94 % with eight. Where one image in ten fails outright, no method knows before it has met one.

    Parameters
    ----------
    figures
        (N,) or (N, K) floats, a row for each image, nan where a class does not count. For the change between two
        models, give the differences on the same images: what makes an image hard then cancels out.

    Returns
    -------
    tuple of float or None
        Lower and upper end; None with fewer than `LEAST_FOR_INTERVAL` images that count.
    """
    from scipy.special import ndtr, stdtrit

    figures = np.asarray(figures, float)
    figures = figures[:, None] if figures.ndim == 1 else figures
    figures = figures[~np.isnan(figures).all(1)]
    count = len(figures)
    if count < LEAST_FOR_INTERVAL:
        return None
    drawn = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))  # always the same: figures must not flit
    outer = float(ndtr(math.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.025)))
    low, high = np.nanquantile(mean_over_images(figures[drawn]), [outer, 1 - outer])
    return float(low), float(high)


def summarise(scores: Iterable[Mapping[int, Score]]) -> tuple[dict[int, Summary], Summary]:
    """Average the scores of many images.

    Parameters
    ----------
    scores
        What `score` returned for each image; images may name different classes.

    Returns
    -------
    by_class : dict of int to Summary
        Each class over the images where it counted, in ascending order of id.
    foreground : Summary
        First the mean over the foreground classes of each image, then the average of that over images.
    """
    images = list(scores)
    class_ids = sorted({class_id for image in images for class_id in image})
    names = [figure.name for figure in fields(Score)]
    by_class = {
        class_id: Summary(
            **{name: average(getattr(image[class_id], name) for image in images if class_id in image) for name in names}
        )
        for class_id in class_ids
    }
    foreground = {
        name: average(mean_foreground({c: getattr(s, name) for c, s in image.items()}) for image in images)
        for name in names
    }
    return by_class, Summary(**foreground)


def _hausdorff(predicted, true, spacing: Sequence[float] | None) -> float:
    """95 % Hausdorff distance of two (1, 1, H, W) bool masks, neither of them empty."""
    from monai.metrics import compute_hausdorff_distance

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="monai")  # MONAI warns of its own arguments
        return compute_hausdorff_distance(
            predicted,
            true,
            include_background=True,
            percentile=95,
            spacing=None if spacing is None else [float(step) for step in spacing],
        ).item()


def _one_hot(prediction, truth, class_ids: tuple[int, ...], ignore: int | None):
    """Turn both masks into (1, K, H, W) bool tensors, with the ignored pixels of the truth empty in both."""
    import torch

    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise EngineError(
            f"A predicted mask of shape {prediction.shape} cannot be compared with a true mask of shape {truth.shape}: "
            "both must be flat and of the same height and width."
        )
    counted = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    ids = np.asarray(class_ids, dtype=np.int64).reshape(-1, 1, 1)
    return tuple(torch.from_numpy((mask == ids) & counted)[None] for mask in (prediction, truth))
