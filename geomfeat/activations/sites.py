"""What each layer will deliver: two small forward passes find the sample axis and the width of its features."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geomfeat.activations.firing import few, home, tried
from geomfeat.activations.hooks import Calls, recording
from geomfeat.activations.project import project, projection_matrix
from geomfeat.activations.reduce import Reduction, dense, reduce
from geomfeat.activations.select import module_name
from geomfeat.errors import BadInput, LayerDidNotFire
from geomfeat.models.functional import moved, n_samples
from geomfeat.numerics import WORKING, require_finite

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """How to read layers: the arguments of `extract` that decide what a feature is."""

    reduce: Reduction = "flatten"
    project: int | None = None
    seed: int = 0
    io: Literal["output", "input"] = "output"
    calls: Calls = "last"


@dataclass(frozen=True, eq=False)
class Site:
    """One tensor of one layer: where its samples are, and how it becomes features.

    Attributes:
        key: its name. axis: the dimension that counts samples. shape: of one sample. width: number of features d.
        tokens: number of tokens, padding included, where "token_all" makes rows of them; None where rows are samples.
        matrix: the sparse projection, if there is one. precision: that the layer computes in, before it is widened.
    """

    key: str
    axis: int
    shape: tuple[int, ...]
    width: int
    tokens: int | None
    dtype: torch.dtype
    wish: Wish
    matrix: Tensor | None = None
    precision: torch.dtype = WORKING

    def features(self, tensor: Tensor, mask: Tensor | None) -> Tensor:
        """(n, d) features of a batch; (tokens, d) where rows are tokens."""
        tensor, mask = _sample_first(tensor, self.axis, mask)
        out = reduce(tensor, self.wish.reduce, mask=mask)
        return out if self.matrix is None else project(out, self.matrix)

    def valid(self, tensor: Tensor, mask: Tensor | None) -> Tensor:
        """(n, tokens) of a batch, true for those that "token_all" makes rows of."""
        tensor, mask = _sample_first(tensor, self.axis, mask)
        return torch.ones(tensor.shape[:2], dtype=torch.bool) if mask is None else mask.cpu() != 0


def _sample_first(tensor: Tensor, axis: int, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    tensor, mask = dense(tensor, mask)
    return tensor.movedim(axis, 0), mask


def find_sites(
    model: nn.Module, inputs: Any, names: Sequence[str], named: Collection[str], mask: Tensor | None, wish: Wish
) -> dict[str, Site]:
    """The sites of the layers `names`, in the order of recording.

    The model runs on two and on three samples: the axis that grows is the samples', wherever a layer puts it (an
    LSTM's final state, sequence-first attention). A layer of `named` (asked for by name) must fire, depend on the
    samples and fit the reduction; others are left out with a log message.

    Raises LayerDidNotFire or BadInput, naming the layer.
    """
    two, three = (_probe(model, inputs, names, wish, k) for k in (2, 3))
    for name in names:
        if not any(key == name or module_name(key) == name for key in three):
            if name in named:
                raise LayerDidNotFire(did_not_fire(name))
            _log.info("layer %r returns no tensor: left out", name)
    sites = {}
    rows = torch.arange(3) % n_samples(inputs)
    for key, tensor in three.items():
        try:
            site, reduced = _site(key, two.get(key), tensor, None if mask is None else mask[rows], wish)
        except BadInput as problem:
            if key in named or module_name(key) in named:
                raise BadInput(f"layer {key!r}: {problem}") from problem
            _log.info("layer %r is left out: %s", key, problem)
            continue
        require_finite(reduced, f"layer {key!r}")
        sites[key] = site
    return sites


def did_not_fire(name: str, where: str = "in a forward pass") -> str:
    """What to say of a layer that was not called."""
    return (
        f"layer {name!r} was not called {where}. Likely causes: its parent computes with its weights directly (fused "
        "attention: select the parent), the model is scripted, a branch was not taken, or a call index is too high. "
        "All layers that are called: geomfeat extract --list"
    )


def _probe(model: nn.Module, inputs: Any, names: Sequence[str], wish: Wish, k: int) -> dict[str, Tensor]:
    where, dtype = home(model)
    with recording(model, list(names), io=wish.io, calls=wish.calls) as seen:
        tried(model, moved(few(inputs, k), where, dtype))
    return seen


def _site(key: str, two: Tensor | None, three: Tensor, mask: Tensor | None, wish: Wish) -> tuple[Site, Tensor]:
    axis = _sample_axis(two, three)
    tensor, mask = _sample_first(three, axis, mask)
    tokens = tensor.shape[1] if tensor.ndim > 2 and wish.reduce == "token_all" else None
    reduced = reduce(tensor, wish.reduce, mask=mask)
    k = wish.project if wish.project is not None and wish.project < reduced.shape[1] else None
    matrix = None if k is None else projection_matrix(reduced.shape[1], k, key, wish.seed)
    width = reduced.shape[1] if k is None else k
    if width == 0:
        raise BadInput(f"it has no features (shape {tuple(three.shape)})")
    precision = three.dtype if three.is_floating_point() else WORKING
    return Site(key, axis, tuple(tensor.shape[1:]), width, tokens, reduced.dtype, wish, matrix, precision), reduced


def _sample_axis(two: Tensor | None, three: Tensor) -> int:
    if three.is_nested:
        return 0
    shapes = (tuple(two.shape) if two is not None and not two.is_nested else None, tuple(three.shape))
    small, large = shapes
    axes = [i for i, (a, b) in enumerate(zip(small or (), large, strict=False)) if (a, b) == (2, 3)]
    if small is None or len(small) != len(large) or len(axes) != 1:
        raise BadInput(
            f"for 2 and 3 samples its shapes are {small} and {large}, so no one dimension counts the samples (a value "
            "that is the same for all of them, or windows folded into the batch): select another layer"
        )
    return axes[0]
