"""Activations: choose layers, hook them, reduce what they return to (samples, features), stream it to disk."""

from geomfeat.activations._extract import extract, readable_layers
from geomfeat.activations.hidden_layers import fired_layers, hidden_weight_layers, require_samples_first
from geomfeat.activations.hooks import recording, tensors_by_path
from geomfeat.activations.layer_calls import innermost_layers, recording_layer_calls
from geomfeat.activations.layer_selection import module_name, select_layers, split_key
from geomfeat.activations.npz import load_npz, save_npz
from geomfeat.activations.options import ExtractOptions
from geomfeat.activations.random_projection import project, projection_matrix
from geomfeat.activations.reduction import reduce, span_coordinates
from geomfeat.activations.zarr_store import ActivationStore

__all__ = [
    "ActivationStore",
    "ExtractOptions",
    "extract",
    "fired_layers",
    "hidden_weight_layers",
    "innermost_layers",
    "load_npz",
    "module_name",
    "project",
    "projection_matrix",
    "readable_layers",
    "recording",
    "recording_layer_calls",
    "reduce",
    "require_samples_first",
    "save_npz",
    "select_layers",
    "span_coordinates",
    "split_key",
    "tensors_by_path",
]
