"""One process, one run at a time, one waiting, and nothing stale."""

import numpy as np
import psutil
import pytest

from napari_semigda.engine.types import Settings
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
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
    import sys

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
