"""A training process that really runs out of memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_semigda.engine.checkpoint import read_header
from napari_semigda.engine.trouble import lost_device, ran_out_of_memory

SCRIPT = """
import resource, sys
from pathlib import Path
import torch._dynamo  # the first optimiser imports it: no part of what is measured
from napari_semigda.engine.train import Trainer
from napari_semigda.engine.types import Settings, TrainRequest
from tests.engine.conftest import drawn_planes

request = TrainRequest(drawn_planes(2, 1), Path(sys.argv[1]), Settings(max_steps=2, crop=64, batch=64, device="cpu"))
for report in Trainer().fit(request):
    if report.step == 0 and report.held_out:  # all is made; what follows are steps
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmData"))
        limit = int(line.split()[1]) * 1024 + 300 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(report.stage, report.note)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited with the words of Linux")
def test_a_step_that_finds_no_memory_is_followed_by_a_smaller_one(tmp_path):
    model = tmp_path / "m.semigda"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that cannot get a stack end a process
    run = subprocess.run(
        (sys.executable, "-c", SCRIPT, str(model)),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("done Memory ran out, so training goes on with ")
    assert read_header(model)["plan"]["batch"] in (4, 8, 16)


@pytest.mark.parametrize(
    ("error", "memory", "lost"),
    [
        (MemoryError(), True, False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True, False),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (OSError(12, "Cannot allocate memory"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (OSError(28, "No space left on device"), False, False),
    ],
)
def test_errors_are_told_apart(error, memory, lost):
    assert (ran_out_of_memory(error), lost_device(error)) == (memory, lost)
