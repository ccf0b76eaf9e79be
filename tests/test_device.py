"""No operation mixes tensors on a GPU and on the CPU: tested with a pretended device, without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("pretended_device.py")
MIXED = "from pretended_device import *; register(); Pretend().__enter__(); torch.ones(2, device=PRETENDED) + {}"


@pytest.fixture(scope="module")
def lives():
    """Train and use models of each output on the CPU and on the pretended device."""
    devices = ("cpu", "pretended")
    processes = [subprocess.Popen([sys.executable, SCRIPT, device], stdout=subprocess.PIPE) for device in devices]
    return [json.loads(process.communicate()[0]) for process in processes]


@pytest.mark.parametrize("output", [0, 1, 2])
def test_another_device_gives_the_results_of_the_cpu(lives, output):
    """Training with a stop and a resume, checkpoints, scores, attention, and a piece."""
    near, far = (life[output] for life in lives)
    for mine, other in zip(near[:3], far[:3]):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
    assert near[3] == far[3] and np.any(near[3][20:]), "music"


@pytest.mark.parametrize(("other", "code"), [("torch.ones(2)", 1), ("torch.tensor(2)", 0), ("2", 0)])
def test_the_pretended_device_rejects_mixed_tensors(other, code):
    line = [sys.executable, "-c", MIXED.format(other)]
    done = subprocess.run(line, cwd=SCRIPT.parent, capture_output=True, text=True)
    assert done.returncode == code
    assert ("two devices" in done.stderr) == bool(code)
