"""Make the bundled sample from the MNI152 template that nilearn ships.

    python scripts/make_sample.py          (needs the `sample` extra: nilearn)

Writes three TIFF stacks of the same shape, 24 axial slices 5 mm apart, 1 mm pixels, front of the head up:

- ``images/brain.tif``: the T1-weighted template, uint8;
- ``masks/brain.tif``: class ids on four of the slices (1 grey matter, 2 white matter), 0 elsewhere;
- ``truth/brain.tif``: class ids on all slices. Never loaded by the viewer; the demo scores against it.

The folders are what ``semigda train --images … --masks …`` and ``semigda evaluate --truth …`` expect.
"""

import uuid
from pathlib import Path

import nibabel
import nilearn
import numpy as np
import tifffile

SAMPLE = Path(__file__).parents[1] / "napari_semigda" / "sample"
TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"

SLICES = range(24, 144, 5)  # voxel indices along z, 48 mm below the origin to 67 mm above it
SPACING = 5.0  # mm between two slices of the stack
ROWS, COLUMNS = slice(17, 217), slice(18, 178)  # the brain's box plus about 10 mm, as voxels along y and x
PAINTED = (3, 9, 15, 20)  # slices of the stack that come with masks: cerebellum, basal ganglia, ventricles, crown
GREY, WHITE = 1, 2


def axial(kind: str) -> np.ndarray:
    """Read one map of the template as (24, 200, 160) uint8, front of the head up."""
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    volume = np.asarray(nibabel.load(folder / TEMPLATE.format(kind)).dataobj)  # (x, y, z), right, front, up
    slices = volume[COLUMNS, ROWS, SLICES.start : SLICES.stop : SLICES.step]
    return np.ascontiguousarray(slices.transpose(2, 1, 0)[:, ::-1, :])


def classes(grey: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Turn two probability maps (uint8, 255 = certain) into class ids: the likelier tissue, if likely at all."""
    ids = np.zeros(grey.shape, np.uint8)
    ids[(grey >= 128) & (grey > white)] = GREY
    ids[(white >= 128) & (white >= grey)] = WHITE
    return ids


def write(kind: str, stack: np.ndarray) -> None:
    """Write a stack as OME-TIFF, which keeps the spacing next to compressed pages. Same input, same bytes."""
    path = SAMPLE / kind / "brain.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {f"PhysicalSize{axis}": spacing for axis, spacing in zip("ZYX", (SPACING, 1.0, 1.0), strict=True)}
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in "ZYX"}
    tifffile.imwrite(
        path,
        stack,
        ome=True,
        compression="zlib",
        compressionargs={"level": 9},
        photometric="minisblack",
        software="",
        metadata={"axes": "ZYX", "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"semigda/sample/{kind}"))} | size | units,
    )
    print(f"{path.relative_to(SAMPLE.parents[1])}: {stack.shape} {stack.dtype}, {path.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    """Write the three stacks."""
    truth = classes(axial("gm"), axial("wm"))
    masks = np.zeros_like(truth)
    masks[list(PAINTED)] = truth[list(PAINTED)]
    write("images", axial("t1"))
    write("masks", masks)
    write("truth", truth)


if __name__ == "__main__":
    main()
