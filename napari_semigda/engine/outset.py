"""How a round begins: what this machine can do in the user's time, or what an earlier run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_semigda.engine.checkpoint import read_header
from napari_semigda.engine.device import describe_device
from napari_semigda.engine.planner import BATCH, Plan, make_plan
from napari_semigda.engine.resume import planned
from napari_semigda.engine.types import EngineError
from napari_semigda.engine.view import View, choose_view

if TYPE_CHECKING:
    from napari_semigda.engine.round import Round


def choose_plan(run: Round, saved: Mapping[str, Any] | None) -> tuple[Plan, View, float]:
    """The plan of a round, its view, and the width of the structures that led to it.

    Parameters
    ----------
    run
        Set up but for what hangs on the plan; its clock replays where the request says so.
    saved
        The state of a run of this request that was cut off: its plan is kept.

    Raises
    ------
    EngineError
        When there is nothing to repeat, or these devices cannot share the steps of that run.
    """
    plan, view, width = None, run.view, run.width
    if run.request.plan:
        header = read_header(run.request.plan)
        plan, view = Plan.of(header, run.request.plan), View.of_model(header)
        if not plan.fractions:
            raise EngineError(f"{run.request.plan} was stopped before its first step: there is nothing to repeat.")
        run.clock.replay(plan.fractions, plan.checks)
    if saved is not None:
        plan, view, width = planned(saved)
        if run.device.type == "cpu" != saved["device"]:  # what a graphics card takes at once is too much here
            plan = replace(plan, batch=min(plan.batch, BATCH * run.several.count))
    if plan is None:
        return _new_plan(run)
    if plan.batch % run.several.count:
        raise EngineError(
            f"That run takes {plan.batch} crop{'s' * (plan.batch > 1)} a step, which {run.several.count} devices "
            "cannot share evenly: choose a number of devices that can."
        )
    return plan, view, width


def _new_plan(run: Round) -> tuple[Plan, View, float]:
    """Each device takes on what one alone would, so that several take on as much more in the same time."""
    view, width = run.view, run.width
    plan = make_plan(
        run.settings,
        view.crop,
        run.measure_pace,
        run.seconds_left,
        correction=bool(run.earlier),
        before=_plan_before(run),
    )
    if plan.crop != view.crop:
        view, width = choose_view(run.planes, run.reader, plan.crop)
    return replace(plan, crop=view.crop, batch=plan.batch * run.several.count), view, width


def _plan_before(run: Round) -> Plan | None:
    """The plan, for one device, of the model that a correction starts from, where it was made on this machine."""
    training, wanted = run.earlier.get("training", {}), run.settings
    settings = {"devices": 1, "nodes": 1} | training.get("settings", {})
    there = (training.get("device"), *map(settings.get, ("clock", "devices", "nodes")))
    if there != (describe_device(run.device), wanted.clock, wanted.devices, wanted.nodes):
        return None
    plan = Plan.of(run.earlier, run.request.init)
    return replace(plan, batch=max(1, plan.batch // run.several.count))
