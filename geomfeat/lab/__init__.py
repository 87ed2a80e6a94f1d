"""The theory lab: experiments whose answer is known, each with its figure, numbers and theory's line through them."""

from geomfeat.lab.experiments import Experiment, all_experiments, experiment, get_experiment, run_experiment
from geomfeat.lab.findings import Check, Curve, Findings, Heat, Plot

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
