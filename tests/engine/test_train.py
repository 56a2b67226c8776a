"""The training loop as users get it: honest figures, warm rounds, Stop, repeatable."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_semigda.engine import predict, schedule
from napari_semigda.engine.checkpoint import load_model, read_header
from napari_semigda.engine.findings import Findings
from napari_semigda.engine.holding_out import hold_out
from napari_semigda.engine.metrics import surely_worse
from napari_semigda.engine.objective import Objective
from napari_semigda.engine.planner import Pace
from napari_semigda.engine.predict import Predictor
from napari_semigda.engine.round import REFIT_FROM, Round
from napari_semigda.engine.sampling import CropSampler
from napari_semigda.engine.suspects import suspects
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import EngineError, Plane, Settings, TrainRequest
from napari_semigda.engine.verdict import refused

from .conftest import draw_discs, drawn_planes


def fit(planes, out, **settings):
    return list(Trainer().fit(TrainRequest(planes, out, Settings(**{"max_steps": 12, "crop": 64, **settings}))))


def assert_same_weights(*models):
    first, second = (load_model(model, torch.device("cpu"))[0].trained_parts() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def dice_of(model, seeds=range(100, 104)) -> float:
    predictor = Predictor(model)
    scores = []
    for seed in seeds:
        picture, truth = draw_discs(seed)
        mask = predictor.predict(Plane("new", picture)).mask
        scores.append(2 * np.sum(mask & truth) / (mask.sum() + truth.sum()))
    return float(np.mean(scores))


def test_it_learns_discs_it_never_saw(tiny_run):
    _, reports, model = tiny_run
    assert reports[-1].stage == "done"
    assert reports[-1].model == model
    assert dice_of(model) > 0.8


def test_an_empty_image_teaches_that_what_is_on_it_is_background(tmp_path, monkeypatch):
    """One with discs that are of no class, and one that is black all over, in a stack."""
    drawn = drawn_planes(3, 1)
    nothing = np.zeros((64, 72), np.uint8)
    empty = [dataclasses.replace(drawn[2], mask=nothing, group="z"), Plane("black", nothing, nothing, "z")]
    seen = set()
    cut = CropSampler._cut

    def watched(self, index, *window):
        image, target, weight = cut(self, index, *window)
        if index in (2, 3) and len(self) > 1:
            seen.add(index)
            assert weight.all() and not target.any()
        return image, target, weight

    monkeypatch.setattr(CropSampler, "_cut", watched)
    last = fit((*drawn[:2], *empty, drawn[3]), tmp_path / "m.semigda", max_steps=6)[-1]
    assert seen == {2, 3}
    assert set(last.held_out) < {"disc0", "disc1"} and len(last.held_out) == 1
    assert np.isfinite(last.dice)


def test_reports_say_what_a_user_wants_to_know(tiny_run):
    _, reports, _ = tiny_run
    fractions = [r.fraction for r in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert {"starting", "checking", "done"} <= {r.stage for r in reports}
    previews = [r.preview for r in reports if r.preview is not None]
    assert {(p.index, p.mask.shape) for p in previews} == {(1, (64, 72))}
    best = max(r.dice for r in reports if r.dice is not None)
    assert best - surely_worse(1) <= reports[-1].dice <= best
    assert len(reports[-1].held_out) == 1
    assert all("." in r.message for r in reports if r.stage == "done")


def test_an_image_that_comes_into_view_is_previewed_before_the_next_turn(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.reporter.PREVIEW_EVERY", 1000)
    monkeypatch.setattr("napari_semigda.engine.reporter.MOVED_EVERY", 0)
    trainer, shown = Trainer(), []
    trainer.look_at(0)
    settings = Settings(max_steps=20, crop=64)
    for report in trainer.fit(TrainRequest(drawn_planes(2, 2), tmp_path / "m.semigda", settings)):
        if report.preview is not None:
            shown.append(report.preview.index)
            trainer.look_at(3)
    assert shown == [0, 3]


def test_every_stage_is_told_however_short_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.reporter.REPORT_EVERY", 1000)
    stages = dict.fromkeys(report.stage for report in fit(drawn_planes(2, 0), tmp_path / "m", max_steps=3))
    assert list(stages) == ["starting", "aligning", "checking", "learning", "done"]


def test_the_held_out_image_is_never_trained_on_before_its_figure(tiny_run):
    _, reports, model = tiny_run
    training = read_header(model)["training"]
    assert training["held_out"] == list(reports[-1].held_out)
    (figure,) = reports[-1].dice_by_image.values()
    assert set(reports[-1].dice_by_image) == set(training["held_out"])
    assert figure == pytest.approx(reports[-1].dice)
    assert not set(training["held_out"]) & set(training["trained_on"])
    final, _ = load_model(model, torch.device("cpu"))
    clean, _ = load_model(model, torch.device("cpu"), clean=True)
    assert any(not torch.equal(a, b) for a, b in zip(final.parameters(), clean.parameters(), strict=True))


def test_a_round_starts_from_the_last_weights_and_keeps_the_same_image_back(tiny_run, tmp_path):
    request, reports, model = tiny_run
    warm = dataclasses.replace(
        request, out=tmp_path / "two.semigda", init=model, settings=dataclasses.replace(request.settings, max_steps=4)
    )
    second = list(Trainer().fit(warm))
    assert second[-1].held_out == reports[-1].held_out
    assert second[-1].dice >= reports[-1].dice - surely_worse(1)  # or the weights it began with are kept
    assert dice_of(warm.out) > 0.8
    assert read_header(warm.out)["training"]["rounds"] == 2
    painted = sum(plane.mask is not None for plane in request.planes)
    assert [each[-1].findings.began_with for each in (reports, second)] == [painted, painted]


def test_a_correction_that_is_stopped_at_once_is_the_model_it_began_with(tiny_run, tmp_path):
    request, _, model = tiny_run
    warm = dataclasses.replace(request, out=tmp_path / "two.semigda", init=model)
    trainer = Trainer()
    for _ in trainer.fit(warm):
        trainer.stop()
    assert_same_weights(model, warm.out)


@pytest.fixture(scope="module")
def contradicted(tiny_run, tmp_path_factory):
    """A warm round on a painted image more, and on two whose masks are inside out: its last report by `keep_start`.

    It looks at the held-out image only once the harm is done; earlier looks would have kept weights from before it.
    """
    request, _, model = tiny_run
    planes = list(request.planes)
    for i, wrong in ((3, False), (4, True), (5, True)):
        mask = draw_discs(i)[1]
        planes[i] = dataclasses.replace(planes[i], mask=1 - mask if wrong else mask)
    ended = {}
    for keep_start in (True, False):
        out = tmp_path_factory.mktemp("contradicted") / "m.semigda"
        settings = Settings(max_steps=30, crop=64)
        warm = TrainRequest(tuple(planes), out, settings, init=model, classes={1: "disc"}, keep_start=keep_start)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("napari_semigda.engine.round.CHECKS", (REFIT_FROM,))
            *_, ended[keep_start] = Trainer().fit(warm)
    return ended


def test_masks_inside_out_are_told_and_good_ones_are_not(contradicted):
    found = suspects(contradicted[False].findings, worse=False)
    assert {each.image: each.swap for each in found} == {"disc4": (0, 1), "disc5": (0, 1)}
    assert "disc4 looks contradictory: “background” and “disc” seem swapped there." in contradicted[False].message


def test_a_round_that_got_worse_ends_where_it_began_or_as_it_turned_out(contradicted, tiny_run):
    before = tiny_run[1][-1].dice
    kept, turned_out = contradicted[True], contradicted[False]
    assert refused(kept.findings) and kept.findings.kept_start
    assert kept.dice == pytest.approx(before)
    assert_same_weights(tiny_run[2], kept.model)  # with what the held-out image had taught them
    assert "brought nothing" in kept.message
    assert refused(turned_out.findings) and not turned_out.findings.kept_start
    assert turned_out.dice < before - 0.01
    assert f"not better (Dice {turned_out.dice:.2f} after {before:.2f})" in turned_out.message
    assert turned_out.findings.scores.keys() == turned_out.findings.before.keys() == set(turned_out.held_out)


def test_the_model_file_keeps_what_the_round_is_judged_by(tiny_run):
    _, reports, model = tiny_run
    kept = Findings.from_json(read_header(model)["training"]["findings"])
    (by_class,) = kept.scores.values()
    assert by_class[1].dice == pytest.approx(reports[-1].dice, abs=1e-4)
    assert 0 <= by_class[1].hausdorff < 30
    masks = [np.asarray(plane.mask) for plane in tiny_run[0].planes if plane.mask is not None]
    assert kept.painted == {1: (sum(int(mask.sum()) for mask in masks), 3)}
    assert kept.opinions.keys() == {"disc0", "disc1", "disc2"} and not kept.before


def test_more_painted_images_bring_more_to_check_on_and_the_old_ones_stay():
    planes = drawn_planes(20, 0)
    first = hold_out(planes[:4])
    names = [planes[i].name for i in first]
    seen = [plane.name for plane in planes[:4] if plane.name not in names]
    assert len(first) == 1
    grown = hold_out(planes, names, seen)
    assert len(grown) == 2 and set(first) < set(grown)
    assert not {planes[i].name for i in grown} & set(seen)


def test_a_class_painted_later_joins_a_warm_round(tiny_run, tmp_path):
    request, _, model = tiny_run
    planes = list(request.planes)
    mask = np.asarray(planes[0].mask).copy()
    mask[:10, :10] = 5
    planes[0] = dataclasses.replace(planes[0], mask=mask)
    out = tmp_path / "more.semigda"
    list(Trainer().fit(TrainRequest(tuple(planes), out, Settings(max_steps=4, crop=64), init=model)))
    assert Predictor(out).class_ids == (0, 1, 5)


def test_stop_keeps_the_best_and_saves(tmp_path):
    trainer = Trainer()
    out = tmp_path / "stopped.semigda"
    last = None
    for report in trainer.fit(TrainRequest(drawn_planes(2, 2), out, Settings(minutes=5, crop=64))):
        last = report
        if report.step >= 3:
            trainer.stop()
    assert last.stage == "stopped"
    assert last.step < 10
    assert last.dice is not None
    assert Predictor(out).predict(drawn_planes(1, 0)[0]).mask.shape == (64, 72)


def test_same_seed_same_weights(tmp_path):
    models = []
    for name in ("a", "b"):
        fit(drawn_planes(2, 3), tmp_path / name, seed=3)
        models.append(load_model(tmp_path / name, torch.device("cpu"))[0].trained_parts())
    assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])


def test_unlabelled_images_are_used_and_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.planner.LEAST_STEPS", 0)
    used = fit(drawn_planes(2, 4), tmp_path / "used", max_steps=13)
    assert used[-1].unlabelled_loss is not None
    assert {"aligning", "learning", "unlabelled"} <= {r.stage for r in used}
    off = fit(drawn_planes(2, 4), tmp_path / "off", max_steps=8, unlabelled_weight=0.0)
    assert off[-1].unlabelled_loss is None
    assert all(r.ramp == 0 for r in off)
    a, b = (load_model(tmp_path / n, torch.device("cpu"))[0].trained_parts() for n in ("used", "off"))
    assert any(not torch.equal(a[k], b[k]) for k in a)


def test_short_runs_keep_to_painted_pixels_in_stage_two(tiny_run):
    assert not any(r.stage == "unlabelled" for r in tiny_run[1])
    assert any(r.stage == "aligning" and r.ramp > 0 for r in tiny_run[1])


def test_unlabelled_images_count_in_full_while_a_run_without_end_waits(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.planner.LEAST_STEPS", 0)
    waiting = [0.0] * 2 + [schedule.HOLD] * 14  # such a run stays at one fraction for many steps
    monkeypatch.setattr("napari_semigda.engine.schedule.Clock.fraction", lambda self: [*waiting, 1.0][self.step])
    reports = fit(drawn_planes(2, 4), tmp_path / "m", max_steps=16)
    assert max(r.ramp for r in reports) == Settings().unlabelled_weight


def test_scribbles_teach_only_where_painted(tmp_path):
    planes = []
    for i, plane in enumerate(drawn_planes(3, 2)):
        if plane.mask is None:
            planes.append(plane)
            continue
        scribble = np.zeros(plane.mask.shape, dtype=np.uint8)
        scribble[::6] = (np.asarray(plane.mask) + 1)[::6]  # 1 background, 2 disc, 0 not annotated
        planes.append(Plane(f"scribble{i}", plane.image, scribble))
    fit(tuple(planes), tmp_path / "s", max_steps=30, sparse=True)
    predictor = Predictor(tmp_path / "s")
    assert predictor.class_ids == (1, 2)
    picture, truth = draw_discs(100)
    mask = predictor.predict(Plane("new", picture)).mask
    assert set(np.unique(mask)) <= {1, 2}
    assert np.mean((mask == 2) == (truth == 1)) > 0.85


def test_one_painted_image_trains_without_a_figure(tmp_path):
    reports = fit(drawn_planes(1, 2), tmp_path / "one", max_steps=3)
    assert reports[-1].dice is None
    assert "second image" in reports[-1].message


def test_errors_inside_torch_become_sentences(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("kernel exploded")

    monkeypatch.setattr("napari_semigda.engine.objective.mask_loss", fail)
    with pytest.raises(EngineError, match="kernel exploded"):
        fit(drawn_planes(2, 0), tmp_path / "no")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_a_number_ends_the_run_with_words(tmp_path, monkeypatch):
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr("napari_semigda.engine.objective.mask_loss", lambda *_: nan)
    with pytest.raises(EngineError, match="diverged"):
        fit(drawn_planes(2, 0), tmp_path / "no", max_steps=30)
    assert list(tmp_path.iterdir()) == []


def test_a_timed_run_can_be_replayed_exactly(tmp_path):
    planes = drawn_planes(2, 3)
    timed = fit(planes, tmp_path / "timed", max_steps=None, minutes=0.12)
    assert read_header(tmp_path / "timed")["plan"]["fractions"][0] > 0  # by the clock, not by steps
    again = TrainRequest(planes, tmp_path / "again", Settings(minutes=3, crop=64), plan=tmp_path / "timed")
    replayed = list(Trainer().fit(again))
    assert replayed[-1].step == timed[-1].step
    assert_same_weights(tmp_path / "timed", tmp_path / "again")


def test_a_replay_repeats_what_the_planner_chose(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.round.measure_pace", lambda *_: Pace(3.0, 1.0))
    planes = drawn_planes(2, 3)
    fit(planes, tmp_path / "slow", max_steps=None, crop=None, minutes=0.1)
    plan = read_header(tmp_path / "slow")["plan"]
    assert plan["batch"] == 1
    assert 0 < plan["step_seconds"] < 1.5  # what a step was thought to take, until halfway
    monkeypatch.undo()
    list(Trainer().fit(TrainRequest(planes, tmp_path / "again", plan=tmp_path / "slow")))
    assert read_header(tmp_path / "again")["plan"] == plan
    assert_same_weights(tmp_path / "slow", tmp_path / "again")


def test_a_run_that_was_stopped_at_once_cannot_be_repeated(tmp_path):
    trainer = Trainer()
    for _ in trainer.fit(TrainRequest(drawn_planes(1, 0), tmp_path / "none", Settings(max_steps=3, crop=64))):
        trainer.stop()
    assert read_header(tmp_path / "none")["training"]["steps"] == 0
    with pytest.raises(EngineError, match="nothing to repeat"):
        list(Trainer().fit(TrainRequest(drawn_planes(1, 0), tmp_path / "again", plan=tmp_path / "none")))


def test_measuring_leaves_no_trace(tmp_path, monkeypatch):
    """A run of the clock and its replay differ in nothing but the measuring; see the replays above for the weights."""
    planes, before = drawn_planes(2, 1), {}

    def look(self, batch):
        before.update({name: weight.detach().clone() for name, weight in self.model.named_parameters()})
        return measure(self, batch)

    measure = Round.measure_pace
    monkeypatch.setattr(Round, "measure_pace", look)
    monkeypatch.setattr(Round, "run", lambda self: iter([self]))
    *_, made = Trainer().fit(TrainRequest(planes, tmp_path / "m", Settings(minutes=1, crop=64)))
    assert made.plan.step_seconds > 0
    assert all(torch.equal(before[name], weight) for name, weight in made.model.named_parameters())
    assert all(weight.grad is None for weight in made.model.parameters())


def test_it_ends_when_it_stops_improving_and_that_can_be_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_semigda.engine.round.Round._standing", lambda _: 0.5)
    planes = drawn_planes(3, 2)
    ended = fit(planes, tmp_path / "ended", max_steps=100, until_best=True)
    assert ended[-1].stage == "done"
    assert 8 < ended[-1].step < 25
    assert any(r.at_most for r in ended)
    assert len(read_header(tmp_path / "ended")["plan"]["checks"]) == 5
    list(Trainer().fit(TrainRequest(planes, tmp_path / "again", Settings(crop=64), plan=tmp_path / "ended")))
    assert_same_weights(tmp_path / "ended", tmp_path / "again")


@pytest.mark.parametrize("look", [0.2, 2.0])
def test_the_end_is_known_from_the_start_within_15_percent(tmp_path, monkeypatch, look):
    """A machine on which a crop costs a quarter of a second and a look at a picture `look` seconds."""
    now = [0.0]

    def costs(seconds, action):
        def slower(*arguments):
            now[0] += seconds(arguments)
            return action(*arguments)

        return slower

    monkeypatch.setitem(schedule.READ, "wall", lambda: now[0])
    for stage in ("alignment", "segmentation"):
        slower = costs(lambda arguments: arguments[0].crops / 4, getattr(Objective, stage))
        monkeypatch.setattr(Objective, stage, slower)
    monkeypatch.setattr(predict, "_windows", costs(lambda _: look, predict._windows))
    monkeypatch.setattr("napari_semigda.engine.reporter.REPORT_EVERY", -1.0)
    planes, out = drawn_planes(3, 5), tmp_path / "m"
    trainer = Trainer()
    trainer.look_at(4)
    request = TrainRequest(planes, out, Settings(minutes=0.4, crop=64), then_predict=True)
    reports = [report for report in trainer.fit(request) if report.remaining is not None]
    said = [report.elapsed + report.remaining for report in reports]
    predictor = Predictor(out)
    for plane in planes:
        predictor.predict(plane)
    assert len(said) > 10
    assert said == pytest.approx([now[0]] * len(said), rel=0.15)
    assert now[0] == pytest.approx(24, rel=0.15) or look > 1
