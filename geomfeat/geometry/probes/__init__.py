"""What can be read from a layer: linear probes, neural collapse, distance to a low-rank kernel."""

from geomfeat.geometry.probes._linear_probe import ProbeAccuracy, linear_probe
from geomfeat.geometry.probes._low_rank_distance import low_rank_distance
from geomfeat.geometry.probes.neural_collapse import nc1
from geomfeat.geometry.probes.streaming_probe import FittedProbe, StreamingProbe

__all__ = [
    "FittedProbe",
    "ProbeAccuracy",
    "StreamingProbe",
    "linear_probe",
    "low_rank_distance",
    "nc1",
]
