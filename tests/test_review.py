"""States and suggestions of a project's images, without a viewer."""

import numpy as np
import pytest
from PIL import Image

from napari_semigda.engine.exchange import Outcome
from napari_semigda.engine.types import Prediction, Report, Settings
from napari_semigda.project import Project
from napari_semigda.review import ImageState, Review
from napari_semigda.stacks import ImageStack
from napari_semigda.store import ProjectStore


def prediction(plane, doubt, description=None):
    """A square in the middle, a band of it in doubt."""
    mask, unsure = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.float32)
    mask[5:15, 5:15] = 1
    unsure[5:15, 5:7] = doubt
    return Prediction(plane, f"image {plane}", mask, unsure, description=description)


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        Image.fromarray(np.full((20, 30), number, np.uint8)).save(tmp_path / f"ax{number}.png")
    return tmp_path


def opened(folder):
    store = (ProjectStore.open if (folder / "semigda").exists() else ProjectStore.create)(folder)
    return Project(ImageStack("study", store.images), keeper=store)


def paint(project, plane, value=1):
    masks = np.zeros(project.stack.shape, np.uint8)
    for index, mask in project.masks():
        masks[index] = mask
    masks[plane, 5:9, 5:9] = value
    project.update_masks(masks)


def test_an_image_goes_from_unlabelled_to_verified_and_back():
    masks = {}
    review, said = Review(masks), []
    review.marks_changed.connect(said.append)
    assert review.state(3) is ImageState.UNLABELLED
    review.note(prediction(3, 0.8))
    assert review.state(3) is ImageState.PREDICTED
    review.mark("skipped", 3)
    assert review.state(3) is ImageState.SKIPPED
    masks[3] = np.ones((20, 30), np.uint8)
    assert review.state(3) is ImageState.IN_PROGRESS
    review.mark("verified", 3)
    review.mark("verified", 3)  # once more says nothing
    assert review.state(3) is ImageState.VERIFIED and review.is_verified(3)
    paint = masks.pop(3)  # all of it erased
    assert not review.is_verified(3)
    masks[3] = paint  # and back, by undo
    assert review.is_verified(3)
    review.mark("verified", 3, False)
    assert review.state(3) is ImageState.IN_PROGRESS
    assert said == [3, 3, 3]
    assert review.count(range(5))[ImageState.UNLABELLED] == 4


def test_an_empty_image_is_verified_as_such_and_painting_on_it_takes_that_back():
    masks = {}
    review = Review(masks)
    review.note(prediction(3, 0.8))
    review.mark("empty", 3)
    assert review.state(3) is ImageState.VERIFIED and review.is_verified(3)
    assert review.empty() == {3}
    assert review.suggestions() == []
    masks[3] = np.ones((20, 30), np.uint8)
    assert review.state(3) is ImageState.IN_PROGRESS
    assert review.empty() == set()
    del masks[3]  # by undo
    assert review.is_verified(3)
    review.mark("empty", 3, False)
    assert review.state(3) is ImageState.PREDICTED


def test_only_images_that_nobody_dealt_with_are_suggested_most_doubtful_first():
    masks = {0: np.ones((20, 30), np.uint8)}
    review = Review(masks)
    for plane, doubt in enumerate((0.9, 0.3, 0.6, 0.8, 0.5)):
        review.note(prediction(plane, doubt))
    review.mark("skipped", 3)
    assert review.suggestions() == [2, 4, 1]
    review.mark("skipped", 3, False)
    assert review.suggestions() == [3, 2, 4, 1]


def test_an_image_like_a_painted_or_a_skipped_one_comes_last_even_after_a_preview():
    review = Review({0: np.ones((20, 30), np.uint8)})
    looks = np.random.default_rng(0).normal(0, 1, (6, 8))
    looks[1], looks[3] = looks[0], looks[2]
    for plane, look in enumerate(looks):
        review.note(prediction(plane, 0.9 - 0.1 * plane, look))
    review.note(prediction(1, 0.9))  # the preview of a training describes nothing
    review.mark("skipped", 2)
    assert set(review.suggestions()[:2]) == {4, 5}


def test_marks_are_there_again_when_the_project_is_opened(folder):
    project = opened(folder)
    paint(project, 1)
    project.review.mark("verified", 1)
    project.review.mark("skipped", 2)
    project.close()
    project = opened(folder)
    assert project.review.state(1) is ImageState.VERIFIED
    assert project.review.state(2) is ImageState.SKIPPED
    assert dict(project.masks()).keys() == {1}  # verified ones are learnt from as all painted ones are
    project.review.mark("skipped", 2, False)
    project.close()
    project = opened(folder)
    assert project.review.state(2) is ImageState.UNLABELLED
    project.close()


def test_dice_of_held_out_images_is_that_of_the_model_in_use_and_is_kept(folder):
    project = opened(folder)
    paint(project, 1)
    paint(project, 3)
    for dice, kept in ((0.8, False), (0.5, True)):
        job = project.snapshot(Settings())
        job.request.out.write_bytes(b"model")
        by_image = {"ax3.png": dice, "ax1.png": float("nan")}
        last = Report("done", elapsed=1, dice=dice, held_out=("ax3.png",), dice_by_image=by_image)
        project.finish(
            job.generation, Outcome(project.rounds.in_use.model if kept else job.request.out, kept=kept), last
        )
        assert project.review.dice == {3: 0.8}
    project.rounds.use(project.rounds[-1].standing.number)
    assert project.review.dice == {3: 0.5}
    project.close()
    project = opened(folder)
    assert project.review.dice == {3: 0.5}
    project.close()


def test_other_masks_of_a_loose_stack_are_not_verified():
    project = Project(ImageStack("scan", np.zeros((3, 20, 30), np.uint8)))
    paint(project, 1)
    project.review.mark("verified", 1)
    project.forget_masks()
    paint(project, 1)
    assert project.review.state(1) is ImageState.IN_PROGRESS
    project.close()
