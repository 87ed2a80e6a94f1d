"""Files of weights: formats, names of parameters, loading and saving, never with pickled code."""

from geomfeat.models.weights.checkpoints import load_weights, save_weights

__all__ = [
    "load_weights",
    "save_weights",
]
