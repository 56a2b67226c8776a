"""The child process of the viewer: trains and predicts like the engine's worker, and runs batches of files.

Started as ``python -m napari_semigda.child``; see `engine.worker` for what it hears and says.
"""

from __future__ import annotations

from napari_semigda.batch import run_batch
from napari_semigda.engine.jobs import Files
from napari_semigda.engine.worker import TorchEngine, run
from napari_semigda.grown import grow
from napari_semigda.images import opener

FILES = Files(run_batch, grow, opener)

if __name__ == "__main__":
    run(TorchEngine(), FILES)
