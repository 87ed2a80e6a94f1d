"""Trajectories of population responses through time: speed, tangling, and distances without the bias of noise."""

from geomfeat.geometry.trajectories._tangling import tangling
from geomfeat.geometry.trajectories.along_time import derivative, smoothed
from geomfeat.geometry.trajectories.cross_validated import CrossValidated, cross_validated_length, pattern_distances

__all__ = ["CrossValidated", "cross_validated_length", "derivative", "pattern_distances", "smoothed", "tangling"]
