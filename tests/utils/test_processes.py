"""Work in several processes: as many as this one may use."""

import errno
import os

import pytest

from musicgen.utils import processes
from musicgen.utils.processes import run_parallel


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity")
def test_a_process_that_may_use_one_core_starts_no_others():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert set(run_parallel(os.getpid, [()] * 20)) == {os.getpid()}
    finally:
        os.sched_setaffinity(0, allowed)


def test_where_there_can_be_no_other_process_this_one_does_the_work(two_processes, monkeypatch):
    def refuse(_n_workers):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # of sem_open

    monkeypatch.setattr(processes, "ProcessPoolExecutor", refuse)
    assert set(run_parallel(os.getpid, [()] * 20)) == {os.getpid()}


def test_a_worker_that_the_system_ends_is_told_in_one_line(two_processes):
    with pytest.raises(OSError, match="has ended a worker process, perhaps for lack of memory"):
        list(run_parallel(os._exit, [(1,)] * 20))
