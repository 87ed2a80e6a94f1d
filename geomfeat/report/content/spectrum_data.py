"""Spectra of a study, as both renderers draw them."""

from __future__ import annotations

import numpy as np

from geomfeat.report.content.study_view import AT_KEYS, View, thinned

MOST_LAYERS = 4
SMALLEST = 1e-12


def spectrum_layers(view: View) -> list[str]:
    """Layers with a spectrum, in forward order."""
    return list(dict.fromkeys(layer for at in AT_KEYS for layer, _ in view.arrays("spectrum", at)))


def shown_spectra(view: View) -> list[tuple[str, str, float, np.ndarray]]:
    """(layer, at, share of the depth, shares of variance (r,) by rank) of the layers that are shown."""
    layers = spectrum_layers(view)
    chosen = [layers[i] for i in thinned(len(layers), MOST_LAYERS)]
    found = []
    for i, layer in enumerate(chosen):
        for at in AT_KEYS:
            values = view.array("spectrum", at, layer)
            if values is None:
                continue
            values = np.asarray(values, dtype=float).ravel()
            total = values[np.isfinite(values)].sum()
            if total > 0:
                shares = values / total
                found.append((layer, at, i / max(len(chosen) - 1, 1), shares[shares > SMALLEST]))
    return found
