"""A study: one network's snapshots x layers x measures as a tidy table, with its location and arrays for pictures."""

from geomfeat.study.result import Study
from geomfeat.study.run import run_study

__all__ = ["Study", "run_study"]
