"""The theory lab: experiments whose answer is known, each with its figure, numbers and theory's line through them."""

from geomfeat.lab.experiments import Experiment, experiment, experiments, get_experiment, run_experiment
from geomfeat.lab.findings import Check, Curve, Findings, Heat, Plot

__all__ = [
    "Check",
    "Curve",
    "Experiment",
    "Findings",
    "Heat",
    "Plot",
    "experiment",
    "experiments",
    "get_experiment",
    "run_experiment",
]
