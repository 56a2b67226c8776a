"""The scripts that play a person are played themselves: they break unnoticed otherwise."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.timeout(400)
def test_a_short_day_from_project_to_batch(tmp_path):
    command = [sys.executable, SCRIPTS / "day.py", "--rehearse", "--out", tmp_path / "day"]
    played = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert played.returncode == 0, played.stderr[-2000:]
    left = {path.name for path in (tmp_path / "day").iterdir()}
    assert left >= {"day.semigda", "masks", "study", "train.png", "review.png", "batch.png", "day.txt"}
    assert "3 images verified, and so project.json says" in played.stdout
