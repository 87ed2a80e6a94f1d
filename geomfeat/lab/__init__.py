"""The theory lab: experiments whose answer is known, each with its figure, numbers and theory's line through them."""

from geomfeat.charts import Check, Curve, Findings, Heat, Plot
from geomfeat.lab.registry import Experiment, all_experiments, experiment, get_experiment, run_experiment

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
