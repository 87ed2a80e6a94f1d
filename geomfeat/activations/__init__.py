"""Activations: choose layers, hook them, reduce what they return to (samples, features), stream it to disk."""

from geomfeat.activations.extract import extract
from geomfeat.activations.firing import fired_layers, hidden_weight_layers
from geomfeat.activations.hooks import recording, tensors_by_path
from geomfeat.activations.reduce import reduce, span_coordinates
from geomfeat.activations.select import module_name, select_layers, split_key

__all__ = [
    "extract",
    "fired_layers",
    "hidden_weight_layers",
    "module_name",
    "recording",
    "reduce",
    "select_layers",
    "span_coordinates",
    "split_key",
    "tensors_by_path",
]
