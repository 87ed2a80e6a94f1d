"""Experiments with a known theoretical answer, each with its figure, numbers and the predicted line."""

from geomfeat.charts import Curve, Heat, Plot
from geomfeat.lab.registry import Experiment, all_experiments, experiment, get_experiment, run_experiment
from geomfeat.lab.result import Check, Findings

__all__ = [
    "Check",
    "Curve",
    "Experiment",
    "Findings",
    "Heat",
    "Plot",
    "all_experiments",
    "experiment",
    "get_experiment",
    "run_experiment",
]
