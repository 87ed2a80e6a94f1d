"""The theory lab: experiments whose answer is known, each with its figure, numbers and theory's line through them."""

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
