"""The session: what is painted, what was trained, which model is in use."""

import numpy as np
import pytest

from napari_semigda.engine.check import check_request
from napari_semigda.engine.exchange import Outcome, read_job, write_job
from napari_semigda.engine.types import EngineError, Report, Settings
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack, LazyPlane


@pytest.fixture
def project():
    made = Project(ImageStack("scan", np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)))
    yield made
    made.close()


def painted(plane=1, value=1):
    masks = np.zeros((3, 20, 30), np.uint8)
    masks[plane, 4:8, 4:8] = value
    return masks


def finish(project, dice=0.8, held_out=("scan, slice 1",), **outcome):
    job = project.snapshot(Settings())
    outcome = Outcome(**{"model": job.request.out} | outcome)
    return project.finish(job.generation, outcome, Report("done", elapsed=64, dice=dice, held_out=held_out))


def test_a_stack_names_and_numbers_its_planes():
    stack = ImageStack("scan", np.zeros((2, 3, 4, 5, 3)), rgb=True)
    assert (stack.shape, stack.leading, len(stack)) == ((2, 3, 4, 5), (2, 3), 6)
    assert [stack.index(stack.position(i)) for i in range(6)] == list(range(6))
    assert stack.index((9, -4)) == 3  # outside: the nearest
    assert stack.plane_name(4) == "scan, slice 1, 1"
    assert stack.plane(4).image.shape == (4, 5, 3)
    assert stack.plane(4).group == "scan"
    single = ImageStack("photo", np.zeros((4, 5)))
    assert (len(single), single.plane_name(0), single.plane(0).group) == (1, "photo", "")
    with pytest.raises(EngineError, match="line is not an image"):
        ImageStack("line", np.zeros(5))


def test_a_lazy_stack_stays_lazy():
    class Stack:
        shape, dtype = (3, 4, 5), np.dtype(np.uint8)
        read = 0

        def __getitem__(self, position):
            self.read += 1
            return np.full((4, 5), position[0])

    data = Stack()
    plane = ImageStack("lazy", data).plane(2)
    assert isinstance(plane.image, LazyPlane)
    assert (plane.image.shape, plane.size, data.read) == ((4, 5), (4, 5), 0)
    assert (np.asarray(plane.image) == 2).all()


def test_only_changes_count(project):
    heard = []
    project.masks_changed.connect(lambda: heard.append(project.painted))
    assert project.update_masks(painted())
    assert not project.update_masks(painted())
    assert project.update_masks(painted(value=2), [1])
    assert not project.update_masks(painted(plane=2), [0])
    assert project.update_masks(np.zeros((3, 20, 30), np.uint8))
    assert heard == [(1,), (1,), ()]


def test_a_snapshot_is_frozen(project):
    masks = painted()
    project.update_masks(masks)
    job = project.snapshot(Settings(minutes=1), view=2)
    masks[:] = 7
    project.update_masks(masks)
    request = job.request
    assert [plane.mask is not None for plane in request.planes] == [False, True, False]
    np.testing.assert_array_equal(request.planes[1].mask, painted()[1])
    assert (job.generation, job.view, request.init) == (1, 2, None)
    assert project.snapshot(Settings()).generation == 2


def test_an_image_verified_as_empty_is_background_in_training_but_unknown_among_scribbles(project, tmp_path):
    project.update_masks(painted())
    project.review.mark("empty", 2)
    job = project.snapshot(Settings())
    assert [plane.mask is not None for plane in job.request.planes] == [False, True, True]
    list(write_job(tmp_path, job))
    sent = read_job(tmp_path / "request.json").request.planes[2].mask
    assert (sent.shape, sent.dtype, sent.any()) == ((20, 30), np.uint8, False)
    check_request(job.request)
    scribbles = project.snapshot(Settings(sparse=True)).request.planes
    assert [plane.mask is not None for plane in scribbles] == [False, True, False]
    project.review.mark("empty", 2, False)
    assert project.snapshot(Settings()).request.planes[2].mask is None
    project.forget_masks()
    project.review.mark("empty", 0)
    with pytest.raises(EngineError, match="Nothing is painted on scan"):
        project.snapshot(Settings())
    project.forget_masks()  # other masks are chosen, and what was said of the old ones goes
    assert project.review.empty() == set()


def test_nothing_painted_and_numbers_that_are_no_classes_are_refused(project):
    with pytest.raises(EngineError, match="Nothing is painted on scan"):
        project.snapshot(Settings())
    project.update_masks(painted().astype(np.int64) * 400)
    with pytest.raises(EngineError, match=r"scan, slice 1.*label 400"):
        project.snapshot(Settings())
    assert project.generation == 0


def test_rounds_go_on_from_the_model_in_use(project):
    project.update_masks(painted())
    first = finish(project)
    assert (first.labelled, first.seconds, first.standing.number) == (1, 64, 1)
    assert project.snapshot(Settings()).request.init == first.standing.model
    assert project.snapshot(Settings(), afresh=True).request.init is None
    assert project.snapshot(Settings(backbone="tiny")).request.init is None
    assert project.snapshot(Settings()).before == first.standing

    worse = finish(project, dice=0.6, kept=True)
    assert project.rounds.in_use == first.standing
    assert project.snapshot(Settings()).request.init == first.standing.model
    heard = []
    project.rounds.changed.connect(lambda: heard.append(project.rounds.number_in_use))
    assert project.rounds.use(worse.standing.number)
    assert not project.rounds.use(worse.standing.number) and not project.rounds.use(9)
    assert (heard, list(project.rounds)) == ([2], [first, worse])
    assert project.snapshot(Settings()).request.init == worse.standing.model


def test_what_ended_without_a_model_is_no_round(project):
    project.update_masks(painted())
    assert finish(project, model=None, stopped=True) is None
    assert project.finish(99, Outcome(), Report("done")) is None
    job = project.prediction_job(project.folder / "m.semigda")
    assert project.finish(job.generation, Outcome(project.folder / "m.semigda"), Report("done")) is None
    assert not project.rounds


def test_saving_the_model_is_whole_or_not_at_all(project, tmp_path):
    with pytest.raises(EngineError, match="no model to save"):
        project.save_model(tmp_path / "x")
    project.update_masks(painted())
    finish(project)
    project.rounds.in_use.model.write_bytes(b"weights")
    assert project.save_model(tmp_path / "mine") == tmp_path / "mine.semigda"
    assert (tmp_path / "mine.semigda").read_bytes() == b"weights"
    with pytest.raises(EngineError, match="Cannot write"):
        project.save_model(tmp_path / "nowhere" / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.semigda"]


def test_the_temporary_folder_goes_and_one_that_was_given_stays(tmp_path):
    own = Project(ImageStack("a", np.zeros((4, 5))))
    given = Project(ImageStack("a", np.zeros((4, 5))), tmp_path)
    assert own.folder.exists()
    own.close()
    given.close()
    assert not own.folder.exists()
    assert tmp_path.exists()
