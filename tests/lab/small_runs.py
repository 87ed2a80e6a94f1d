"""Experiments at their small size, run once in a test run, however many modules and workers look at them."""

from __future__ import annotations

import os
import pickle
from functools import cache
from pathlib import Path

from geomfeat.lab import run_experiment
from geomfeat.lab.result import Findings


@cache
def small_run(name: str) -> Findings:
    """What an experiment finds at its small size, with the seed of a user who gives none.

    The workers of one test run share a folder (see `pytest_configure`): who comes first writes what it found.
    """
    file = Path(os.environ["GEOMFEAT_TEST_RUNS"]) / f"{name}.pickle"
    if file.exists():
        return pickle.loads(file.read_bytes())
    found = run_experiment(name, size="small", progress=False)
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_bytes(pickle.dumps(found))
    draft.replace(file)  # whole or not at all
    return found
