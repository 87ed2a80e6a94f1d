"""Recordings of neurons, voxels or channels: trials with conditions, runs, areas and time; and their readers."""

from geomfeat.recordings._load_recording import load_recording
from geomfeat.recordings._pseudo_population import pseudo_population
from geomfeat.recordings._recording import Recording

__all__ = ["Recording", "load_recording", "pseudo_population"]
