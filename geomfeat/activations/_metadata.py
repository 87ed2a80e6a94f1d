"""What a layer's features carry along: how they were made, labels, outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomfeat.activations._feature_sites import Site
from geomfeat.labels import Labels
from geomfeat.precision import coarser
from geomfeat.types import Representation


def settings_of(site: Site) -> dict[str, Any]:
    """How the features of a site are made: "reduce", "shape" of one sample before, "project", "seed", "io", "calls".

    And "precision", where the layer computes in one with fewer digits than the features have.
    """
    how = site.wish.options
    widened = coarser(site.precision, site.dtype) != site.dtype
    return {
        "reduce": how.reduce if isinstance(how.reduce, str) else getattr(how.reduce, "__qualname__", "function"),
        "shape": site.shape,
        "project": None if site.matrix is None else site.width,
        "seed": None if site.matrix is None else site.wish.seed,
        "io": how.io,
        "calls": how.calls,
        **({"precision": str(site.precision).removeprefix("torch.")} if widened else {}),
    }


def representation(
    site: Site,
    x: Tensor,
    tokens: Tensor | None,
    labels: Labels | None,
    outputs: Tensor | None,
    groups: Tensor | None = None,
) -> Representation:
    """A layer's features with what belongs to them.

    `tokens` (n,) counts the rows of each sample where rows are tokens: labels, outputs and groups are then repeated.
    """
    meta = settings_of(site)
    codes, classes = (None, ()) if labels is None else (labels.codes, labels.classes)
    if tokens is not None:
        meta["tokens_per_sample"] = tokens.tolist()
        codes, outputs, groups = (
            None if value is None else value.repeat_interleave(tokens.to(value.device), 0)
            for value in (codes, outputs, groups)
        )
    return Representation(x, codes, site.key, meta, outputs, groups, classes)
