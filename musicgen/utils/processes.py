"""Run a function in worker processes that do not outlive this one."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from loky import ProcessPoolExecutor, cpu_count

from musicgen.utils.signals import SIGNALS

BATCH = 8  # jobs that are sent to a worker at once
FEW = 4  # so few jobs are not worth the start of a process


def run_parallel(function: Callable, jobs: Sequence[tuple], batch_size: int = BATCH) -> Iterator[Any]:
    """Yield ``function(*job)`` for each job, in order; workers get `batch_size` jobs at once.

    Workers are killed when the caller stops early: by an error, by Ctrl-C or by a signal that raises an exception.

    Raises
    ------
    OSError
        If the system ends a worker.
    """
    n_workers = min(cpu_count(), len(jobs))  # the affinity and the quota of this process count
    if len(jobs) <= FEW or n_workers == 1:
        yield from (function(*job) for job in jobs)
        return
    batches = [jobs[start : start + batch_size] for start in range(0, len(jobs), batch_size)]
    # A terminal sends Ctrl-C to all processes. Workers inherit the blocked signals, so that it stops only this one.
    try:
        resource_tracker.ensure_running()  # before signals are blocked: its start would unblock them
        workers = ProcessPoolExecutor(n_workers)
    except (OSError, ImportError, NotImplementedError):  # a sandbox without semaphores or other processes
        yield from (function(*job) for job in jobs)
        return
    try:
        with _hold_signals():
            futures = [workers.submit(_run_batch, function, batch) for batch in batches]
        for future in futures:
            yield from future.result()
    except BrokenExecutor as error:
        advice = "perhaps for lack of memory: close other programs, and try again"
        raise OSError(f"the system has ended a worker process, {advice}") from error
    finally:
        with _hold_signals():
            _end(workers)


def _run_batch(function: Callable, batch: Sequence[tuple]) -> list[Any]:
    return [function(*job) for job in batch]


def _end(workers: ProcessPoolExecutor) -> None:
    """Kill the workers, and wait for the threads that serve them.

    Those threads still own semaphores.
    """
    workers.shutdown(wait=True, kill_workers=True)
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":
            thread.join(timeout=5)


@contextmanager
def _hold_signals() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
