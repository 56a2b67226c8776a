"""Rounds as the session knows them, and as ``project.json`` does."""

from __future__ import annotations

from pathlib import Path

from napari_semigda.engine.exchange import Standing
from napari_semigda.rounds import Round
from napari_semigda.store.index import RoundEntry


def to_entry(done: Round) -> RoundEntry:
    """For ``project.json``: the model by its name."""
    standing = done.standing
    figures = {int(number): dice for number, dice in done.dice_by_class.items()}
    return RoundEntry(
        standing.number,
        standing.model.name,
        standing.dice,
        tuple(standing.held_out),
        figures,
        done.labelled,
        done.seconds,
        done.stopped,
        done.date,
        done.settings,
        dict(standing.dice_by_image),
        done.before,
        done.kept_before,
        done.findings,
    )


def from_entry(entry: RoundEntry, folder: Path) -> Round:
    """For the session: the model where it is."""
    classes = tuple(sorted(entry.findings.painted))
    standing = Standing(folder / entry.model, entry.dice, entry.held_out, entry.number, classes, entry.dice_by_image)
    return Round(
        standing,
        entry.labelled,
        entry.seconds,
        entry.stopped,
        entry.settings,
        entry.dice_by_class,
        entry.date,
        entry.before,
        entry.kept_before,
        entry.findings,
    )
