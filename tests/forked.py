"""Processes that start in a moment: each is forked from one that has imported torch and musicgen already."""

import multiprocessing
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDERS = [str(HERE), *(str(HERE / name) for name in ("midi", "corpora", "utils"))]  # of the modules below
PROCESSES = multiprocessing.get_context("forkserver" if sys.platform != "win32" else None)
os.environ["PYTHONPATH"] = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
PROCESSES.set_forkserver_preload(["test_distributed", "test_kills", "test_signals"])
