"""Pictures of the accuracy cells: Dice over time, Dice over labels, what unlabelled images bring over the budget.

Small SVG files in benchmarks/plots/. Each is drawn only where cells of at least two budgets exist.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from accuracy_tables import dice, differences
from cells import ALL, PLOTS, README, SETS, SHORT

Curves = dict[str, dict[float | str, list[float]]]
"""Label -> x -> values of the seeds."""


def draw_plots(cells: Sequence[dict]) -> list[str]:
    """Draw what can be drawn; markdown that shows it."""
    cells = [c for c in cells if c.get("device", "cpu") == "cpu"]
    lines = []
    for labels in sorted({c["labels"] for c in cells if c["labels"] != ALL}):
        group = [c for c in cells if c["labels"] == labels]
        lines += _panels(f"dice-over-time-{labels}labels", "CPU minutes", group, lambda c: c["minutes"])
        lines += _gain(f"gain-over-budget-{labels}labels", group)
    for minutes in sorted({c["minutes"] for c in cells}):
        group = [c for c in cells if c["minutes"] == minutes]
        lines += _panels(f"dice-over-labels-{minutes:g}min", "labelled images", group, lambda c: c["labels"])
    return lines


def _panels(name: str, axis: str, cells: list[dict], x: Callable[[dict], float | str]) -> list[str]:
    """One panel a set, one curve an arm."""
    per_set = {n: _curves([c for c in cells if c["set"] == n], x) for n in SETS}
    per_set = {n: curves for n, curves in per_set.items() if curves}
    if not per_set:
        return []
    figure, axes = _figure(len(per_set))
    for panel, (title, curves) in zip(axes, per_set.items(), strict=False):
        _draw(panel, curves, title, axis)
    handles = {label: line for panel in axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    axes[0].set_ylabel("Dice on test")
    return _save(figure, name)


def _gain(name: str, cells: list[dict]) -> list[str]:
    """Whole SemiGDA above itself without unlabelled images, one curve a set."""
    curves: Curves = {}
    for minutes in sorted({c["minutes"] for c in cells}):
        here = [c for c in cells if c["minutes"] == minutes]
        for title, values in differences(here, "semigda-supervised").items():
            curves.setdefault(title, {})[minutes] = values
    curves = {title: curves[title] for title in SETS if len(curves.get(title, ())) > 1}
    if not curves:
        return []
    figure, axes = _figure(1)
    _draw(axes[0], curves, "", "CPU minutes")
    axes[0].axhline(0, color="grey", linewidth=0.8)
    axes[0].set_ylabel("Dice points from unlabelled images")
    axes[0].legend(frameon=False)
    return _save(figure, name)


def _curves(cells: list[dict], x: Callable[[dict], float | str]) -> Curves:
    """Arms with at least two places on the axis."""
    curves: Curves = {}
    for arm in SHORT:
        for cell in cells:
            if cell["arm"] == arm:
                curves.setdefault(arm, {}).setdefault(x(cell), []).append(dice(cell))
    return {arm: curve for arm, curve in curves.items() if len(curve) > 1}


def _draw(panel, curves: Curves, title: str, axis: str) -> None:
    places = sorted({x for curve in curves.values() for x in curve}, key=lambda x: (x == ALL, 0 if x == ALL else x))
    for label, curve in curves.items():
        xs = [x for x in places if x in curve]
        mean = [statistics.fmean(curve[x]) for x in xs]
        sd = [statistics.stdev(curve[x]) if len(curve[x]) > 1 else 0 for x in xs]
        colour = (
            f"C{(SHORT if label in SHORT else SETS).index(label)}"  # the same in every panel, whatever is missing there
        )
        where = [places.index(x) for x in xs]
        panel.errorbar(where, mean, sd, label=label, color=colour, marker="o", markersize=3, capsize=2)
    panel.set_xticks(range(len(places)), [x if x == ALL else f"{x:g}" for x in places])
    panel.set(title=title, xlabel=axis)


def _figure(panels: int):
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, and the same cells give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "cells", "font.size": 8})
    columns = min(3, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(3 * columns + (2 if panels == 1 else 0), 2.4 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in axes[panels:]:
        empty.set_visible(False)
    return figure, list(axes)


def _save(figure, name: str) -> list[str]:
    PLOTS.mkdir(exist_ok=True)
    path = PLOTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    return ["", f"![{name}]({path.relative_to(README.parent)})"]
