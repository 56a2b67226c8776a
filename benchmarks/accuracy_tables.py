"""The accuracy tables: rivals, parts taken out, and the two branches, each with a mean over the sets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from cells import ALL, FORESTS, RIVALS, SETS, SHORT, WIDE, markdown, mean_and_sd, pairs, taken

SUPERVISED = tuple(arm for arm in RIVALS if arm != "mean-teacher")
OURS = "semigda"
ABLATED = (OURS, "semigda-supervised", *(arm for arm in WIDE if arm not in SHORT))

Figure = Callable[[dict], float | None]
"""Cell -> one number, None where an older cell lacks it."""


def dice(cell: dict) -> float:
    """On `test`."""
    return cell["test"]["dice"]["mean"]


def accuracy_section(cells: Sequence[dict]) -> list[str]:
    """Markdown of everything that the cells say, one part for each number of labels, budget and device."""
    lines = []
    for budget in sorted({budget_of(c) for c in cells}, key=_in_order):
        group = [c for c in cells if budget_of(c) == budget]
        lines += ["", f"### {describe(budget)}", "", *_rivals_table(group), *_ablations_table(group)]
        lines += _branches_table(group)
    return lines


def budget_of(cell: dict) -> tuple:
    """Labels, minutes and device."""
    return cell["labels"], cell["minutes"], cell.get("device", "cpu")


def describe(budget: tuple) -> str:
    """``8 labelled images, 5 CPU minutes, one thread``."""
    labels, minutes, device = budget
    images = "the whole pool labelled" if labels == ALL else f"{labels} labelled images"
    return f"{images}, {minutes:g} {'CPU minutes, one thread' if device == 'cpu' else f'minutes on {device}'}"


def differences(cells: Sequence[dict], other: str) -> dict[str, list[float]]:
    """Dice points by which whole SemiGDA is above another arm: set -> one a seed that both have."""
    found: dict[str, list[float]] = {}
    for ours, theirs in pairs(cells, OURS, other):
        found.setdefault(ours["set"], []).append(100 * (dice(ours) - dice(theirs)))
    return found


def above_best_rival(cells: Sequence[dict]) -> dict[str, list[float]]:
    """Set -> points above that set's best supervised rival, one a seed; the best is the one with the highest mean."""
    means = {
        (c["set"], arm): statistics.fmean(dice(x) for x in cells if (x["set"], x["arm"]) == (c["set"], arm))
        for c in cells
        if (arm := c["arm"]) in SUPERVISED
    }
    found = {}
    for name in {name for name, _ in means}:
        best = max((arm for there, arm in means if there == name), key=lambda arm: means[name, arm])
        found[name] = differences(cells, best).get(name, [])
    return found


def _rivals_table(cells: list[dict]) -> list[str]:
    arms = [a for a in SHORT if _of(cells, a)]
    if not arms:
        return []
    above, gain = above_best_rival(cells), differences(cells, "semigda-supervised")
    rows = []
    for name in _sets(cells, arms):
        columns = [_entry([c for c in _of(cells, a) if c["set"] == name]) for a in arms]
        rows.append([name, *columns, _points(above.get(name, [])), _points(gain.get(name, []))])
    rows.append(["**mean**", *_means(cells, arms), _points(_per_set(above)), _points(_per_set(gain))])
    rows.append(["steps", *(_steps(_of(cells, arm)) for arm in arms), "", ""])
    note = (
        "Dice on `test` (on the unlabelled pool; 95 % Hausdorff in pixels on `test`), ± over seeds where there are "
        "several. Points: whole SemiGDA above the set's best of " + ", ".join(SUPERVISED) + "; above itself without "
        "unlabelled images. A mean is of an arm that has all sets of the table (their number in brackets), the "
        "means of points over the sets that have a difference, ± over sets. Steps are means over cells. "
    )
    return [*markdown(["set", *arms, "above best rival", "from unlabelled"], rows), "", note + taken(cells), ""]


def _ablations_table(cells: list[dict]) -> list[str]:
    arms = [a for a in ABLATED if _of(cells, a)]
    if all(a in SHORT for a in arms):
        return []
    rows = []
    for name in _sets(cells, arms):
        here = [[dice(c) for c in _of(cells, a) if c["set"] == name] for a in arms]
        rows.append([name, *(mean_and_sd(values) for values in here)])
    rows.append(["**mean**", *_means(cells, arms)])
    lost = [_points([-d for d in _per_set(differences(cells, a))]) for a in arms if a != OURS]
    rows.append(["points against the whole", "", *lost])
    return ["Parts taken out, Dice on `test`:", "", *markdown(["set", *arms], rows), ""]


def _branches_table(cells: list[dict]) -> list[str]:
    figures: dict[str, Figure] = {
        "V alone": lambda c: c["test"].get("v"),
        "C alone": lambda c: c["test"].get("c"),
        "their mean": dice,
        "mean - better one (points)": lambda c: 100 * (dice(c) - max(c["test"]["v"], c["test"]["c"])),
        "AUROC of disagreement for wrong pixels": lambda c: c["test"].get("auroc"),
        "... of doubt": lambda c: c["test"].get("doubt_auroc"),
    }
    cells = [c for c in _of(cells, OURS) if "v" in c["test"]]
    if not cells:
        return []
    digits = {"mean - better one (points)": 1}
    rows = [
        [n, *(mean_and_sd([f(c) for c in cells if c["set"] == n], digits.get(k, 3)) for k, f in figures.items())]
        for n in _sets(cells, [OURS])
    ]
    return ["The branches of whole SemiGDA on `test`:", "", *markdown(["set", *figures], rows), ""]


def _means(cells: list[dict], arms: list[str]) -> list[str]:
    """Mean Dice of each arm that has all sets of the table: means over other sets would be no comparison."""
    names = _sets(cells, arms)
    by_set = [{n: [dice(c) for c in _of(cells, a) if c["set"] == n] for n in names} for a in arms]
    return [f"**{statistics.fmean(_per_set(d)):.3f}** ({len(names)})" if all(d.values()) else "–" for d in by_set]


def _per_set(values: dict[str, list[float]]) -> list[float]:
    return [statistics.fmean(v) for v in values.values() if v]


def _steps(cells: list[dict]) -> str:
    """Of a run on average; a forest has trees."""
    return "–" if cells[0]["arm"] in FORESTS else f"{statistics.fmean(c['steps'] for c in cells):.0f}"


def _entry(cells: list[dict]) -> str:
    if not cells:
        return "–"
    scored = [c["pool"]["dice"]["mean"] for c in cells if c.get("pool")]  # with every label there is no pool to score
    pool = f"{statistics.fmean(scored):.3f}" if scored else "–"
    distance = statistics.fmean(c["test"]["hausdorff95"]["mean"] for c in cells)
    return f"**{mean_and_sd([dice(c) for c in cells])}** ({pool}; {distance:.1f})"


def _points(values: list[float]) -> str:
    sign = "+" if values and statistics.fmean(values) > 0 else ""
    return sign + mean_and_sd(values, 1)


def _of(cells: Sequence[dict], arm: str) -> list[dict]:
    return [c for c in cells if c["arm"] == arm]


def _sets(cells: Sequence[dict], arms: Sequence[str]) -> list[str]:
    """Names of sets with a cell, ours first in their usual order."""
    names = {c["set"] for c in cells if c["arm"] in arms}
    return [n for n in SETS if n in names] + sorted(names - set(SETS))


def _in_order(budget: tuple) -> tuple:
    labels, minutes, device = budget
    return device != "cpu", device, minutes, float("inf") if labels == ALL else labels
