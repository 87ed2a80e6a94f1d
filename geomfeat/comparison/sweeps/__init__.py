"""Sweeps: a grid of trainings, each run and measured once, resumed after an interruption."""

from geomfeat.comparison.sweeps._sweep import SweepResult, sweep
from geomfeat.comparison.sweeps.config_schemas import OwnAtGammaConfig, OwnSweepConfig, SweepConfig

__all__ = ["OwnAtGammaConfig", "OwnSweepConfig", "SweepConfig", "SweepResult", "sweep"]
