"""Run a function in worker processes that do not outlive this one."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor

FEW = 4  # jobs that are not worth the start of a process


def run_parallel(function: Callable, jobs: Sequence[tuple]) -> Iterator[Any]:
    """Yield ``function(*job)`` for each job, in order.

    Workers are killed when the caller stops early: by an error, by Ctrl-C or by a signal that raises an exception.
    """
    n_workers = min(os.cpu_count() or 1, len(jobs))
    if len(jobs) <= FEW or n_workers == 1:
        yield from (function(*job) for job in jobs)
        return
    workers = joblib.Parallel(n_jobs=n_workers, return_as="generator", batch_size=8)
    finished = False
    try:
        yield from workers(joblib.delayed(function)(*job) for job in jobs)
        finished = True
    finally:
        if not finished:
            get_reusable_executor().shutdown(wait=False, kill_workers=True)
