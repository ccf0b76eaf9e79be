"""No operation mixes tensors on a GPU and on the CPU: tested with a pretended device, without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("pretended_device.py")


@pytest.fixture(scope="module")
def results():
    """Train and use models of each output on the CPU and on the pretended device, which needs a process of its own."""
    return json.loads(subprocess.run([sys.executable, SCRIPT], stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.parametrize("output", ["independent", "shared", "joint"])
def test_another_device_gives_the_results_of_the_cpu(results, output):
    """Training with a stop and a resume, checkpoints, scores, attention, and a piece."""
    near, far = results["cpu"][output], results["pretended"][output]
    for mine, other in zip(near[:3], far[:3]):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
    assert near[3] == far[3] and all(np.any(piece[-20:]) for piece in near[3]), "music"


def test_the_pretended_device_rejects_mixed_tensors_but_not_single_numbers(results):
    tensor, *single_numbers = results["errors_of_mixing"]
    assert "two devices" in tensor
    assert single_numbers == [None, None]
