"""Movement M: how far hidden features moved relative to their size, log10(|h(theta_T) - h(theta_0)| / |h(theta_0)|)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations import recording
from geomfeat.activations.reduction import plain
from geomfeat.errors import BadInput
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import batches, n_samples
from geomfeat.numerics import require_finite
from geomfeat.tangent.jacobians.products import has_rows


def outputs_and_features(
    f: Functional,
    inputs: Any,
    layers: Sequence[str],
    batch_size: int = 256,
    needed: Callable[[str], bool] = lambda _: True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """(n, C) outputs and, for every layer, its (n, d) features, flattened per sample.

    A layer with nested outputs gives one entry for each that has a row per sample ("rnn[0]"). A layer that has none, or
    holds infinite values that the outputs do not inherit (a mask), is left out, or is BadInput where it is `needed`.
    """
    inputs = f.inputs(inputs)
    outputs, features = [], {}
    with torch.no_grad():
        for _, part in batches(inputs, batch_size):
            with recording(f.model, list(layers)) as recorded:
                outputs.append(f(f.theta, part))
            n = n_samples(part)
            for name, value in recorded.items():
                if has_rows(value, n):
                    features.setdefault(name, []).append(plain(value).reshape(n, -1))
    # Chance can make another dimension as long as one batch (the layers of an LSTM's states), but not as every batch.
    rows = sum(part.shape[0] for part in outputs)
    features = {name: parts for name, parts in features.items() if sum(p.shape[0] for p in parts) == rows}
    if bool(torch.isfinite(torch.cat(outputs)).all()):
        features = {
            key: parts
            for key, parts in features.items()
            if needed(key) or all(bool(torch.isfinite(part).all()) for part in parts)
        }
    missing = [name for name in layers if not any(key == name or key.startswith(f"{name}[") for key in features)]
    missing = [name for name in missing if needed(name) or not features]
    if missing:
        raise BadInput(f"layer {missing[0]!r} has no output with one row per sample: leave it out of layers=")
    return torch.cat(outputs), {name: torch.cat(parts) for name, parts in features.items()}


def movement(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """M of every layer, decades, from features (n, d) of the same samples; -inf for a layer that did not move.

    Raises BadInput for a layer that is zero everywhere, holds NaN or infinite values, or is missing after.

    >>> h = torch.ones(4, 3)
    >>> movement({"fc1": h}, {"fc1": 1.1 * h})["fc1"].__round__(4)
    -1.0
    """
    out = {}
    for name, start in before.items():
        if name not in after:
            raise BadInput(f"layer {name!r} has no features after training: it has {', '.join(after) or 'none'}")
        size = float(require_finite(start, f"layer {name!r}").norm())
        if size == 0.0:
            raise BadInput(f"layer {name!r} is zero on every probe: leave it out of layers=")
        moved = float((require_finite(after[name], f"layer {name!r} after training") - start).norm())
        out[name] = math.log10(moved / size) if moved > 0 else -math.inf
    return out
