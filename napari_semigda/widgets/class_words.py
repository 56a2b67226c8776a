"""What the docks say of classes and of the two styles of painting. No widget here."""

from napari_semigda.widgets.words import count

PICK_TIP = (
    "Click a class to paint it; double-click to rename it. While you paint, the keys 1-9 choose the class of that "
    "number and the brush; napari's tools keep their letters (E erases, P paints, F fills, L picks a class)."
)
HELP = "1-9 choose a class, E erases, P paints, F fills, L picks a class from the image, Z moves the image"
"""At the bottom of the window while the masks are selected; napari would say what the digits do on other layers."""
ASK_FOR_STROKES = "Paint a few strokes of every class, background too, on two or three varied images."
STYLES = {False: "Whole images: rest is background", True: "Scribbles: rest is unknown"}
STYLE_TIPS = {
    False: "On an image that you paint, all that is left unpainted counts as background.",
    True: "A few strokes of every class are enough: what is not painted teaches nothing. Paint strokes of background "
    "too: it is a class of its own.",
}


def no_class(number: int) -> str:
    """A key was pressed that no class has."""
    return f"There is no class {number} yet: press + Add class for one more. (napari's own tools: P, F, E, L.)"


def class_tip(number: int, name: str) -> str:
    """Of one class in the list."""
    return f"{name}: its pixels hold the number {number}, in exported masks too.\n{PICK_TIP}"


def deletes(name: str, pixels: int, images: int, verified: int, scribbles: bool) -> str:
    """What the deletion of a class does, before it is done."""
    which = f" ({verified} of them verified)" if verified else ""
    meaning = "unknown" if scribbles else "background"
    return (
        f"{pixels:,} {'pixel' if pixels == 1 else 'pixels'} on {count(images, 'image')}{which} painted as {name} "
        f"become unpainted and count as {meaning}; Ctrl+Z brings them and the class back as long as these masks are "
        "open."
    )


def deleted(name: str, pixels: int, retrain: bool) -> str:
    """A class is gone."""
    what = f"{name} and its {pixels:,} pixels are" if pixels else f"{name}, which was not painted, is"
    after = " The next training starts afresh, without it." if retrain else ""
    return f"{what} deleted. Ctrl+Z brings {'them' if pixels else 'it'} back.{after}"


def style_changed(scribbles: bool, painted: int, background: str, retrain: bool) -> str:
    """What another style of painting means for the masks there are; `background` is the class to paint it with."""
    images = f"the {count(painted, 'image')} painted so far"
    if not painted:
        meaning = f"Paint strokes of every class, and of {background} too." if scribbles else STYLE_TIPS[False]
    elif scribbles:
        meaning = (
            f"On {images}, what is unpainted no longer counts as background but as unknown: paint strokes of "
            f"{background} there too."
        )
    else:
        meaning = (
            f"On {images}, all that is unpainted now counts as background: finish painting them, or erase those that "
            "are half done."
        )
    return f"{meaning}{' The next training starts afresh.' if retrain else ''}"
