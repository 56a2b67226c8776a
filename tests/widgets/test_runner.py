"""One process, one run at a time, one waiting, and nothing stale."""

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from napari_semigda.engine.types import Settings
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.widgets import process
from napari_semigda.widgets import runner as runner_module
from napari_semigda.widgets.process import Watch
from napari_semigda.widgets.runner import Runner
from tests import fake_engine

from .conftest import discs, let_run, wait_for


@pytest.fixture
def project():
    images, masks = discs()
    made = Project(ImageStack("discs", images))
    made.update_masks(masks * (np.arange(4) < 2)[:, None, None].astype(np.uint8))
    yield made
    made.close()


@pytest.fixture
def runner(qapp):
    made = Runner(fake_engine.COMMAND)
    made.heard = []
    made.reported.connect(lambda report: made.heard.append(report.stage))
    made.predicted.connect(lambda prediction: made.heard.append(prediction.index))
    made.finished.connect(lambda generation, outcome: made.heard.append((generation, outcome.stopped)))
    made.failed.connect(lambda failure: made.heard.append(failure.message))
    yield made
    made.close()


def job(project, wish="", steps=2):
    project.name_classes({1: wish})
    return project.snapshot(Settings(max_steps=steps))


def test_the_process_is_warm_before_it_is_needed_and_stays_for_the_next_run(runner, project):
    devices = []
    runner.ready.connect(devices.append)
    runner.warm()
    runner.warm()
    wait_for(lambda: devices)
    pid = runner.pid
    assert devices == ["CPU"]
    assert not runner.busy
    for generation in (1, 2):
        runner.submit(job(project), project.folder)
        assert runner.busy
        wait_for(lambda generation=generation: runner.heard[-1:] == [(generation, False)])
    assert runner.pid == pid
    wait_for(lambda: not runner.busy)


def test_a_run_that_waits_gives_way_to_a_newer_one(runner, project):
    runner.submit(job(project, steps=10_000), project.folder)
    wait_for(lambda: "learning" in runner.heard)
    runner.submit(job(project), project.folder)
    runner.submit(job(project), project.folder)
    wait_for(lambda: (3, False) in runner.heard)
    assert [x for x in runner.heard if isinstance(x, tuple)] == [(1, True), (3, False)]


def test_stop_before_the_process_is_ready_ends_the_run_at_once(runner, project):
    runner.warm()
    runner.submit(job(project), project.folder)
    runner.stop()
    assert runner.heard == [(1, True)]
    let_run(1)
    assert runner.heard == [(1, True)]
    runner.submit(job(project), project.folder)
    wait_for(lambda: (2, False) in runner.heard)


def test_stop_while_images_are_handed_over_ends_the_run(runner, project):
    runner.submit(job(project), project.folder)
    runner.stop()
    wait_for(lambda: runner.heard)
    assert runner.heard == [(1, True)]


@pytest.mark.parametrize("warm", [True, False])
def test_a_slice_looked_at_before_the_process_knows_of_the_run_is_the_first_one(runner, project, warm):
    if warm:
        devices = []
        runner.ready.connect(devices.append)
        runner.warm()
        wait_for(lambda: devices)
    runner.submit(job(project), project.folder)
    runner.look(3)  # at once: the job, which says slice 0, has not been handed over
    wait_for(lambda: (1, False) in runner.heard)
    assert next(index for index in runner.heard if isinstance(index, int)) == 3
    runner.submit(job(project), project.folder)  # without a look it is where the viewer stood
    wait_for(lambda: (2, False) in runner.heard)
    since = runner.heard[runner.heard.index((1, False)) :]
    assert next(index for index in since if isinstance(index, int)) == 0


def test_after_close_nothing_is_heard_any_more(runner, project):
    runner.submit(job(project, steps=10_000), project.folder)
    wait_for(lambda: "learning" in runner.heard)
    process = psutil.Process(runner.pid)
    runner.close()
    heard = list(runner.heard)
    let_run(0.5)
    assert runner.heard == heard
    assert not process.is_running()
    runner.close()


def test_close_just_after_submit_does_not_wait(runner, project):
    runner.submit(job(project), project.folder)
    runner.close()
    let_run(0.5)
    assert runner.heard == []


def test_an_idle_process_that_was_killed_is_replaced(runner, project):
    runner.submit(job(project), project.folder)
    wait_for(lambda: (1, False) in runner.heard)
    psutil.Process(runner.pid).kill()
    let_run(0.2)
    runner.submit(job(project), project.folder)
    wait_for(lambda: (2, False) in runner.heard)


def test_an_engine_that_cannot_load_is_said_at_every_attempt(qapp, project):
    runner = Runner((*fake_engine.COMMAND, "cannot load"))
    failures = []
    runner.failed.connect(lambda failure: failures.append(failure.message))
    for attempt in (1, 2):
        runner.submit(job(project), project.folder)
        wait_for(lambda attempt=attempt: len(failures) == attempt and not runner.busy and runner.pid is None)
    assert all(said.startswith("The training engine could not be loaded (ImportError: libtorch") for said in failures)
    runner.close()


def test_a_program_that_cannot_start_is_said_in_words(qapp, project):
    runner = Runner((sys.executable, "-c", "import sys; print('no torch here', file=sys.stderr); sys.exit(1)"))
    failures = []
    runner.failed.connect(failures.append)
    runner.submit(job(project), project.folder)
    wait_for(lambda: failures)
    assert "exit status 1" in failures[0].message
    assert "no torch here" in failures[0].details
    runner.close()


def test_rounds_leave_no_process_thread_or_file_behind(runner, project):
    me = psutil.Process()
    counts = []
    for generation in range(1, 6):
        runner.submit(job(project, steps=1), project.folder)
        wait_for(lambda generation=generation: (generation, False) in runner.heard)
        wait_for(lambda: not runner.busy)
        counts.append((len(me.children()), me.num_fds(), len(list(project.folder.rglob("answer-*")))))
    assert counts[-1] == counts[1]
    assert counts[-1][2] == 0


# -- a process that dies or hangs -----------------------------------------------------------------------------------


@pytest.fixture
def notes(runner):
    """What was said of mishaps, each once."""
    said = {}
    runner.reported.connect(lambda report: said.setdefault(report.note) if report.note else None)
    return said


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(process, "HANG_S", 1.0)
    monkeypatch.setattr(process, "STOPPING_HANG_S", 1.0)
    monkeypatch.setattr(runner_module, "LOOK_EVERY_MS", 100)


def ends(runner):
    return [x for x in runner.heard if isinstance(x, tuple | str) and x not in STAGES]


STAGES = ("starting", "learning", "done", "stopped", "predicting")


def test_a_training_whose_process_is_killed_goes_on_in_another(runner, project, notes):
    runner.submit(job(project, "cut off", steps=5), project.folder)
    wait_for(lambda: ends(runner))
    assert ends(runner) == [(1, False)]
    assert runner.heard.count("learning") == 5  # two before, three after
    (note,) = notes
    assert note.startswith("The training process ended unexpectedly; going on from ") and note.endswith(" ago.")
    assert {x for x in runner.heard if isinstance(x, int)} == {0, 1, 2, 3}


def test_one_that_is_killed_again_ends_with_what_it_had_learnt(runner, project, notes):
    runner.submit(job(project, "cut off twice", steps=5), project.folder)
    wait_for(lambda: ends(runner))
    assert ends(runner) == [(1, True)]
    assert "ended unexpectedly again; keeping what it learnt until" in [*notes][-1]
    assert {x for x in runner.heard if isinstance(x, int)} == {0, 1, 2, 3}


def test_one_that_dies_before_there_is_anything_to_keep_is_tried_once_more(runner, project):
    runner.submit(job(project, "exits"), project.folder)
    wait_for(lambda: ends(runner))
    assert ends(runner)[0].startswith("The training process ended unexpectedly (exit status 3).")
    assert runner.heard.count("starting") == 1


@pytest.mark.parametrize("wish", ["dies marking", "dies marking twice"])
def test_a_death_while_images_are_marked_costs_no_training(runner, project, notes, wish):
    outcomes = []
    runner.finished.connect(lambda _, outcome: outcomes.append(outcome))
    runner.submit(job(project, wish), project.folder)
    wait_for(lambda: outcomes)
    assert runner.heard.count("learning") == 2
    assert outcomes[0].model.exists()
    assert next(iter(notes)) == "The training process ended unexpectedly; marking the images again."
    assert bool(outcomes[0].skipped) == ("twice" in wish)
    if "twice" not in wish:
        assert {x for x in runner.heard if isinstance(x, int)} == {0, 1, 2, 3}


def test_a_training_that_hangs_is_ended_and_gone_on_with(runner, project, notes, impatient):
    runner.submit(job(project, "cut off hangs", steps=4), project.folder)
    wait_for(lambda: ends(runner))
    assert ends(runner) == [(1, False)]
    assert next(iter(notes)).startswith("The training process stopped answering; going on from ")


def test_stop_reaches_a_training_that_hangs(runner, project, impatient, monkeypatch):
    monkeypatch.setattr(process, "HANG_S", 1000.0)
    runner.submit(job(project, "cut off hangs", steps=50), project.folder)
    wait_for(lambda: runner.heard.count("learning") == 2)
    let_run(0.3)
    runner.stop()
    wait_for(lambda: ends(runner))
    assert ends(runner) == [(1, True)]
    assert "stopped" in runner.heard


def test_the_viewer_never_waits_for_a_process_that_does_not_listen(runner, project, impatient):
    slowest = 0.0

    def timed(action, *arguments):
        nonlocal slowest
        begun = time.monotonic()
        action(*arguments)
        slowest = max(slowest, time.monotonic() - begun)

    runner.submit(job(project, steps=10_000), project.folder)
    wait_for(lambda: "learning" in runner.heard)
    psutil.Process(runner.pid).send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    for plane in range(5_000):  # far more than a pipe holds
        runner.look(plane % 4)
    assert time.monotonic() - begun < 0.5
    timed(runner.stop)
    timed(runner.submit, job(project), project.folder)
    assert slowest < 0.1
    stopped = psutil.Process(runner.pid)
    begun = time.monotonic()
    runner.close()
    assert time.monotonic() - begun < 1.5
    wait_for(lambda: not stopped.is_running() or stopped.status() == psutil.STATUS_ZOMBIE, 3)


def test_a_process_that_is_slow_to_end_is_not_left_in_the_list_of_processes(monkeypatch):
    child = process.Child([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(process, "LEAVE_S", 0.0)  # nobody ends as quickly
    child.end()
    wait_for(lambda: not psutil.pid_exists(child.pid), 3)
    child.forget()


@pytest.mark.parametrize(("code", "hangs"), [("while True: pass", False), ("import time; time.sleep(60)", True)])
def test_who_computes_does_not_hang_however_long_he_is_silent(code, hangs):
    busy = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        time.sleep(0.5)
        watch, end, found = (
            Watch(SimpleNamespace(pid=busy.pid, lines_heard=0, at_work=True)),
            time.monotonic() + 1.5,
            [],
        )
        while time.monotonic() < end:
            time.sleep(0.2)
            found.append(watch.hangs(0.8))
        assert any(found) == hangs
        assert not found[0]
    finally:
        busy.kill()
        busy.wait()


def test_the_time_that_a_computer_sleeps_is_not_held_against_a_process(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Watch, "_cpu_seconds", lambda _: 0.0)
    watch = Watch(SimpleNamespace(pid=0, lines_heard=0, at_work=True))
    now[0] = 3600.0
    assert not watch.hangs(120.0)
    for _ in range(24):
        now[0] += 5
        hangs = watch.hangs(120.0)
    assert hangs


def test_one_that_computes_for_ever_without_a_word_hangs_too(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Watch, "_cpu_seconds", lambda _: now[0])
    watch, found = Watch(SimpleNamespace(pid=0, lines_heard=0, at_work=True)), []
    while now[0] < process.MUTE_S:
        now[0] += 5
        found.append(watch.hangs(process.HANG_S, process.MUTE_S))
    assert found.index(True) == len(found) - 1
    watch = Watch(SimpleNamespace(pid=0, lines_heard=0, at_work=True))
    now[0] += 10 * process.MUTE_S
    assert not watch.hangs(process.HANG_S)


def test_a_process_that_waits_for_its_images_does_not_hang(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Watch, "_cpu_seconds", lambda _: 0.0)
    child = SimpleNamespace(pid=0, lines_heard=1, at_work=False)
    watch = Watch(child)
    for _ in range(100):
        now[0] += 5
        assert not watch.hangs(process.HANG_S)
    child.at_work = True
    assert [watch.hangs(4.0) for now[0] in (now[0] + 1, now[0] + 5)] == [False, True]
