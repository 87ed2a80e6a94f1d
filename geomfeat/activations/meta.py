"""What a layer's features carry along: how they were made, labels, outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomfeat.activations.sites import Site
from geomfeat.precision import coarser
from geomfeat.types import Representation


def settings_of(site: Site) -> dict[str, Any]:
    """How the features of a site are made: "reduce", "shape" of one sample before, "project", "seed", "io", "calls".

    And "precision", where the layer computes in one with fewer digits than the features have.
    """
    wish = site.wish
    widened = coarser(site.precision, site.dtype) != site.dtype
    return {
        "reduce": wish.reduce if isinstance(wish.reduce, str) else getattr(wish.reduce, "__qualname__", "function"),
        "shape": site.shape,
        "project": None if site.matrix is None else site.width,
        "seed": None if site.matrix is None else wish.seed,
        "io": wish.io,
        "calls": wish.calls,
        **({"precision": str(site.precision).removeprefix("torch.")} if widened else {}),
    }


def representation(
    site: Site, x: Tensor, tokens: Tensor | None, labels: Tensor | None, outputs: Tensor | None
) -> Representation:
    """A layer's features with what belongs to them.

    `tokens` (n,) counts the rows of each sample where rows are tokens: labels and outputs are then repeated.
    """
    meta = settings_of(site)
    if tokens is not None:
        meta["tokens_per_sample"] = tokens.tolist()
        labels = None if labels is None else labels.repeat_interleave(tokens)
        outputs = None if outputs is None else outputs.repeat_interleave(tokens, 0)
    return Representation(x, labels, site.key, meta, outputs)
