"""How a round ends: which of its weights are kept, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_semigda.engine.checkpoint import load_model
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.record import classes_of, painted_images, rounds_before
from napari_semigda.engine.verdict import Trained, judge
from napari_semigda.engine.wording import sentences

if TYPE_CHECKING:
    from napari_semigda.engine.round import Round


def choose_weights(run: Round) -> None:
    """The last weights, which all painted images have taught; those last checked where these went wrong."""
    examiner = run.examiner
    if examiner.kept_weights is None:
        return
    run.model.v_share = examiner.v_share
    if run.lessons.refitted and examiner.holds_up(run.model, run.average):
        return
    run.average.load(examiner.kept_weights)
    if examiner.kept_start:  # nothing was learnt, and nothing gets lost: the held-out images had taught that model
        before, _ = load_model(Path(run.request.init), run.device, source=run.settings.backbone_source)
        run.average.load(before.trained_parts())


def verdict(run: Round, findings: Findings) -> str:
    """What there is to say of a round that is over."""
    names = {entry["id"]: entry["name"] for entry in classes_of(run.request, run.table)}
    before = rounds_before(run.earlier)
    trained = Trained(before + 1, findings, painted_images(run), before or None)
    return " ".join(sentences(judge([trained]), names))
