"""Between napari's layers and the project: which layers are worked on, and what is read from and shown on them.

When to read is the business of `reading`. The user's own layers are read and get the class colours; what is painted on
them is written by nobody but `writing`: Accept, and the deletion of a class, each one step that Ctrl+Z takes back.
"""

from contextlib import suppress
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from psygnal import EmitLoopError, Signal

from napari_semigda.classes import with_found
from napari_semigda.engine.types import EngineError, Prediction
from napari_semigda.project import Project
from napari_semigda.stacks import ImageStack
from napari_semigda.widgets import opened, opening, place, tiled, words, writing
from napari_semigda.widgets.class_keys import ClassKeys
from napari_semigda.widgets.colours import class_colormap
from napari_semigda.widgets.history import History
from napari_semigda.widgets.ours import PredictionLayers, masks_on, note, role, same
from napari_semigda.widgets.reading import Reader


class LayerBridge:
    """Follows one image layer and one masks layer of a viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer, or napari's proxy of it.
    whole : bool
        Work on large images as they are, not on their tiles.
    """

    layers_changed = Signal()  # layers came, went, moved or were renamed
    project_changed = Signal()  # another image layer, or none
    masks_chosen = Signal()  # another masks layer, or none
    plane_changed = Signal(int)  # the viewer shows another image of the stack
    class_picked = Signal(int)  # the brush has another class
    digit_pressed = Signal(int)  # a key 1..9 on the masks
    closed = Signal()  # the viewer is not followed any more

    def __init__(self, viewer: Any, *, whole: bool = False) -> None:
        self.viewer = viewer
        self._whole = whole
        self._predictions = PredictionLayers(viewer)
        self._reader = Reader(viewer, self.plane_in_view, self._take)
        self._class_keys = ClassKeys(viewer, self.digit_pressed.emit)
        self.history = History(self._reader.touch)
        self.image: Image | None = None
        self.masks: Labels | None = None
        self.project: Project | None = None
        self._projects: dict[str, Project] = {}
        self._plane = 0
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.reordered):
            event.connect(self._on_layers)
        viewer.dims.events.current_step.connect(self._on_dims)
        for layer in viewer.layers:
            layer.events.name.connect(self._on_layers)

    def close(self) -> None:
        """Let go of the viewer, save what is kept and remove temporary folders."""
        with suppress(EmitLoopError):  # the last stroke is kept, although docks that Qt has deleted cannot show it
            self._reader.finish()
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self._on_layers)
        self.viewer.dims.events.current_step.disconnect(self._on_dims)
        for layer in self.viewer.layers:
            layer.events.name.disconnect(self._on_layers)
        self._follow_masks(None)
        for project in self._projects.values():
            project.close()
        self._projects = {}
        self.closed.emit()

    # -- choosing ---------------------------------------------------------------------------------------------------

    def image_layers(self) -> list[Image]:
        """Layers that can be images to learn from, topmost first."""
        return [x for x in reversed(self.viewer.layers) if isinstance(x, Image) and role(x) is None]

    def mask_layers(self) -> list[Labels]:
        """Labels layers that are the user's, topmost first."""
        return [x for x in reversed(self.viewer.layers) if isinstance(x, Labels) and role(x) in (None, "masks")]

    def choose_image(self, layer: Image | None) -> None:
        """Work on the images of `layer`, with their channels together; the project of one chosen before is found again.

        Raises
        ------
        EngineError
            When the layer holds no images; no layer is chosen then.
        """
        wanted, layer = layer, layer and opening.channels_together(self.viewer, layer)
        if layer is not None and not self._whole:
            layer = tiled.as_tiles(self.viewer, layer)
        if same(layer, self.image):
            if not same(wanted, layer):  # who lists the layers shows the one that is worked on
                self.layers_changed.emit()
            return
        self._reader.finish()
        left, self.image, self.project = self.project, None, None
        self._follow_masks(None)
        if left is not None:
            left.forget_masks()
        try:
            if layer is not None:
                self.project = self._project_of(layer)
                self.image = layer
                self._plane = self.plane_in_view()
        finally:
            self.project_changed.emit()
            self.masks_chosen.emit()

    def _project_of(self, layer: Image) -> Project:
        data = layer.data[0] if layer.multiscale else layer.data
        known = self._projects.get(str(layer.unique_id))
        if known is not None and known.stack.data is data:
            return known
        if known is not None:
            known.close()
        axis = layer.axis_labels[-3] if layer.ndim > 2 else ""  # colours have none
        depth, unit = place.slice_distance(layer)
        project = Project(ImageStack(layer.name, data, layer.rgb, axis=axis, depth=depth, unit=unit))
        self._keep(project, layer)
        return project

    def _keep(self, project: Project, image: Image) -> None:
        self._projects[str(image.unique_id)] = project
        project.classes_changed.connect(self._on_classes)

    def open_project(self, project: Project, image: Image) -> None:
        """Work on a project that is kept on disk, shown by the layer `image` that is not in the viewer yet."""
        self._keep(project, image)
        self.viewer.add_layer(image)
        self.choose_image(image)
        self.new_masks()

    def fitting_masks(self) -> Labels | None:
        """The masks layer that most likely belongs to the images: of the right shape, ours or topmost first."""
        if self.image is None:
            return None
        fitting = [x for x in self.mask_layers() if not self.problem_with(x)]
        ours = [x for x in fitting if note(x).get("image") == str(self.image.unique_id)]
        return next(iter(ours + fitting), None)

    def problem_with(self, masks: Labels) -> str:
        """Why `masks` cannot be the masks of the chosen images, in a sentence; empty when they can."""
        if self.project is None or self.image is None:
            return "Choose the images first."
        if self.project.keeper is not None and note(masks).get("image") != str(self.image.unique_id):
            return f"The layer {masks.name} is not that of the open project: press New masks to get that one back."
        if masks.multiscale:
            return f"The layer {masks.name} is multiscale, which cannot be painted: press New masks."
        if tuple(masks.data.shape) != self.project.stack.shape:
            got, wanted = (" x ".join(map(str, shape)) for shape in (masks.data.shape, self.project.stack.shape))
            return (
                f"The layer {masks.name} is {got} pixels but {self.image.name} is {wanted}: "
                "press New masks for a layer that fits, or choose another."
            )
        return ""

    def choose_masks(self, layer: Labels | None) -> None:
        """Read the masks of `layer` from now on.

        Raises
        ------
        EngineError
            When they do not fit the images; no layer is chosen then.
        """
        if same(layer, self.masks):
            return
        problem = self.problem_with(layer) if layer is not None else ""
        self._follow_masks(None if problem else layer)
        if self.project is not None:
            if layer is None or problem:
                self.project.forget_masks()
            else:
                brought = note(layer).get("classes", {})
                self.project.set_classes(with_found(self.project.class_list, names=brought))
                self._show_colours()
                self.read_masks()
        self.masks_chosen.emit()
        if problem:
            raise EngineError(problem)

    def _follow_masks(self, layer: Labels | None) -> None:
        self._reader.follow(layer)
        if self.masks is not None:
            self.masks.events.selected_label.disconnect(self._on_class)
        self.masks = layer
        if layer is not None:
            layer.events.selected_label.connect(self._on_class)
        self._class_keys.follow(layer)
        self.history.follow(layer, self.plane_in_view)

    def new_masks(self) -> Labels:
        """Make an empty masks layer for the images, ready to paint class 1 with the brush.

        Raises
        ------
        EngineError
            When no images are chosen.
        """
        if self.project is None or self.image is None:
            raise EngineError("Open images first: drag files or a folder onto the viewer.")
        height, width = self.project.stack.shape[-2:]
        kept = self.project.keeper is not None
        layer = (self.masks or self.fitting_masks()) if kept else None  # a project on disk has one masks layer
        if layer is None:
            layer = masks_on(self.image, self.project.stack.shape, opened.masks_of(self.project) if kept else None)
            self.viewer.add_layer(layer)
        layer.brush_size = max(2, round(min(height, width) / 25))
        self.choose_masks(layer)
        self.pick_class(1)
        return layer

    # -- reading ----------------------------------------------------------------------------------------------------

    def plane_in_view(self) -> int:
        """Number of the image that the viewer shows."""
        if self.project is None or self.image is None:
            return 0
        return place.plane_in_view(self.viewer, self.image, self.project.stack)

    def go_to(self, plane: int, point: tuple[float, float] | None = None) -> None:
        """Make the viewer show image `plane`, and `point` (row, column) of it in the middle."""
        if self.project is not None and self.image is not None:
            place.go_to(self.viewer, self.image, self.project.stack, plane, point)

    def read_masks(self) -> None:
        """Tell the project what is painted; called by itself a moment after each stroke."""
        self._reader.read()

    def read_all_masks(self) -> None:
        """As `read_masks`, looking at every plane: nothing that code wrote without telling napari is missed."""
        self._reader.read_all()

    def _take(self, planes: list[int] | None) -> None:
        if self.project is None or self.masks is None:
            return
        if tuple(self.masks.data.shape) != self.project.stack.shape:  # replaced by other data meanwhile
            self.choose_masks(None)
        elif self.project.update_masks(self.masks.data, planes):
            self.project.set_classes(with_found(self.project.class_list, self.project.classes_painted()))

    # -- writing ----------------------------------------------------------------------------------------------------

    def pick_class(self, number: int) -> None:
        """Give the brush class `number` and select the masks, so that the next stroke paints it."""
        if self.masks is None:
            return
        self.viewer.layers.selection.active = self.masks
        self.masks.selected_label = number
        if str(self.masks.mode) not in ("paint", "fill", "polygon"):
            self.masks.mode = "paint"

    def ours(self, use: str) -> Any | None:
        """Our layer "predicted" or "doubt" of the chosen images, if it is there."""
        return None if self.image is None else self._predictions.find(self.image, use)

    def show_prediction(self, prediction: Prediction) -> None:
        """Write one plane of the prediction layer in place; the layer is made when it is not there."""
        if self.project is None or prediction.mask.shape != self.project.stack.size(prediction.index):
            return
        first = self.ours("predicted") is None
        in_view = prediction.index == self.plane_in_view()
        self._predictions.show(self.image, self.project.stack, prediction, self.masks, in_view)
        self.project.review.note(prediction)
        if first:
            self._show_colours()
            self._outline_masks(True)

    def toggle_prediction(self) -> None:
        """Flip between the predicted masks, with the user's as outlines on top, and the user's alone."""
        if (layer := self.ours("predicted")) is not None:
            layer.visible = not layer.visible
            self._outline_masks(layer.visible)

    def _outline_masks(self, outlined: bool) -> None:
        """Filled masks on top would hide the prediction."""
        if self.masks is not None:
            thickness = max(1, round(min(self.project.stack.shape[-2:]) / 400))
            self.masks.contour = thickness if outlined else 0

    def show_doubt(self, shown: bool) -> None:
        """Show or hide where the prediction is in doubt."""
        if (layer := self.ours("doubt")) is not None:
            layer.visible = shown

    def accept(self) -> int:
        """Copy the prediction of the plane in view into the masks, as one step that Ctrl+Z takes back.

        Returns
        -------
        int
            How many pixels changed.

        Raises
        ------
        EngineError
            When there is no prediction, or the masks cannot be written.
        """
        predicted, masks = self.ours("predicted"), self.masks
        if predicted is None or masks is None:
            raise EngineError("There is no prediction to accept yet: press Train first.")
        if self.project.review.is_verified(self.plane_in_view()):
            raise EngineError(words.verified_stays(self.project.stack.plane_name(self.plane_in_view())))
        if self.viewer.dims.ndisplay != 2:
            raise EngineError("One slice is accepted at a time: switch the viewer to 2D first.")
        writing.check_writable(masks)
        position = self.project.stack.position(self.plane_in_view())
        changed = writing.accept(masks, predicted.data[position], position, list(self.project.classes))
        if changed:
            self.viewer.layers.selection.active = masks  # so that Ctrl+Z goes to the masks
        return changed

    def _show_colours(self) -> None:
        """Show the masks and what is predicted in the class colours; of deleted classes nothing is predicted."""
        classes = () if self.project is None else self.project.class_list
        for layer, only in ((self.masks, False), (self.ours("predicted"), True)):
            if layer is not None:
                wanted = class_colormap(classes, only=only)
                if not np.array_equal(layer.colormap.colors, wanted.colors):
                    layer.colormap = wanted

    # -- events -----------------------------------------------------------------------------------------------------

    def _on_layers(self, event: Any = None) -> None:
        if getattr(event, "type", "") == "inserted":
            event.value.events.name.connect(self._on_layers)
        elif getattr(event, "type", "") == "removed":
            event.value.events.name.disconnect(self._on_layers)
        if self.masks is not None and self.masks not in self.viewer.layers:
            self.choose_masks(None)
        if self.image is not None and self.image not in self.viewer.layers:
            self.choose_image(None)
        there = {str(layer.unique_id) for layer in self.viewer.layers}
        for gone in [x for x, project in self._projects.items() if project.keeper is not None and x not in there]:
            self._projects.pop(gone).close()
        self.layers_changed.emit()

    def _on_classes(self) -> None:
        """Another name, colour, order or number of classes."""
        if self.project is None:
            return
        self._show_colours()
        if self.masks is not None and "classes" in note(self.masks):  # what is said of the layer stays true
            note(self.masks)["classes"] = self.project.classes

    def _on_class(self, event: Any = None) -> None:
        self.class_picked.emit(int(self.masks.selected_label))

    def _on_dims(self, event: Any = None) -> None:
        if self.project is not None and (plane := self.plane_in_view()) != self._plane:
            self._plane = plane
            self.plane_changed.emit(plane)
