"""Experiments at their small size, run once in a process, however many modules look at them."""

from __future__ import annotations

from functools import cache

from geomfeat.lab import run_experiment
from geomfeat.lab.result import Findings


@cache
def small_run(name: str) -> Findings:
    """What an experiment finds at its small size, with the seed of a user who gives none."""
    return run_experiment(name, size="small", progress=False)
