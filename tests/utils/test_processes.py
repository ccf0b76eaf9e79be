"""Work in several processes: as many as this one may use."""

import os

import pytest

from musicgen.utils.processes import run_parallel


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity")
def test_a_process_that_may_use_one_core_starts_no_others():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert set(run_parallel(os.getpid, [()] * 20)) == {os.getpid()}
    finally:
        os.sched_setaffinity(0, allowed)
