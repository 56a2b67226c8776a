"""SemiGDA without a screen: numpy and torch in, masks out. Imports neither Qt nor napari."""

import os

# Before torch loads. Idle OpenMP threads otherwise spin, which on a busy machine makes a step cost up to eight times
# as much CPU and takes that time from the viewer.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
