"""Intrinsic dimension of a layer at several scales."""

from __future__ import annotations

from math import inf, isfinite

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.types import Estimate, Representation

NEAREST = (1, 2, 4, 8, 16)


@measure(
    source="Denti et al. 2022 (Sci. Rep. 12, 20005), eq. 8",
    quantities={
        f"dimension_{2 * n}": Quantity(
            (0, inf), "dimensions", f"at the scale of {2 * n} neighbours; level = a dimension"
        )
        for n in NEAREST
    },
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=10,
    by_default=False,
)
def gride(rep: Representation) -> dict[str, Estimate]:
    """Dimension of the manifold from the distances to neighbours n and 2 n, for n = 1 to 16: how it depends on scale.

    Copies of a sample are left out and counted in the note. Scales beyond the number of samples are failed rows.

    >>> import torch
    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> 1.8 < gride(Representation(x))["dimension_8"].value < 2.2
    True
    """
    curve = geometry.dimension_curve(rep, largest=2 * NEAREST[-1])
    out = {}
    for n in NEAREST:
        if 2 * n not in curve.neighbours:
            out[f"dimension_{2 * n}"] = Estimate.failed(
                f"{rep.n - curve.n_duplicates} different samples have no {2 * n} neighbours: give more samples"
            )
            continue
        at = curve.neighbours.index(2 * n)
        value, stderr = curve.value[at], curve.stderr[at]
        out[f"dimension_{2 * n}"] = (
            Estimate(value, stderr, note=geometry.copies_and_ties(curve.n_duplicates, curve.tied[at]))
            if isfinite(value)
            else Estimate.failed(
                f"{100 * curve.tied[at]:.0f} % of neighbours {n} and {2 * n} are at equal distances (tied: a lattice, "
                "whole numbers or rounded values): use features before rounding, or a larger scale"
            )
        )
    return out
