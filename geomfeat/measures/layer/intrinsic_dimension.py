"""Dimension of the manifold that the samples of a layer lie on, from neighbours."""

from __future__ import annotations

from math import inf, isfinite

from geomfeat import geometry
from geomfeat.registry import Quantity, measure
from geomfeat.statistics.subsamples import takes_at_most
from geomfeat.types import Estimate, Representation

NEAREST = (1, 2, 4, 8, 16)
# Samples beyond which some are drawn: the search for neighbours grows with the square of their number.
MOST = 3000


@measure(
    source="Grassberger and Procaccia 1983 (Physica D 9, 189), slope between two median neighbour distances",
    bounds=(0, inf),
    unit="dimensions",
    direction="higher = more degrees of freedom at the scale of k neighbours; dense regions count most",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=21,
    by_default=False,
)
@takes_at_most(MOST)
def correlation_dimension(rep: Representation, *, k: tuple[int, int] = (10, 20)) -> Estimate:
    """How fast the number of pairs grows with distance, between the median distances to the 10th and 20th neighbour.

    Copies of a sample are left out and counted in the note.

    >>> import torch
    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> 1.8 < correlation_dimension(Representation(x)).value < 2.2
    True
    """
    found = geometry.correlation_dimension(rep, k)
    if not isfinite(found.value):
        return Estimate.failed(
            "no pair lies within the smaller radius: use more neighbours, k=(20, 40), or more samples"
        )
    return Estimate(found.value, found.stderr if isfinite(found.stderr) else None, note=found.note)


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
@takes_at_most(MOST)
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


@measure(
    source="Levina and Bickel 2004 (NIPS 17), averaged as MacKay and Ghahramani 2005",
    bounds=(0, inf),
    unit="dimensions",
    direction="higher = more degrees of freedom at the scale of k neighbours; low by more the higher it is",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=21,
    by_default=False,
)
@takes_at_most(MOST)
def mle_dimension(rep: Representation, *, k: int = 20) -> Estimate:
    """Dimension of the manifold near each sample, from the distances to its k neighbours.

    Less noise than TwoNN, at a larger scale. Copies of a sample are left out and counted in the note.

    >>> import torch
    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> 1.8 < mle_dimension(Representation(x)).value < 2.2
    True
    """
    found = geometry.mle_dimension(rep, k)
    return Estimate(found.value, found.stderr, note=found.note)


@measure(
    source="Facco et al. 2017 (Sci. Rep. 7, 12140), eq. 3 (likelihood) and eq. 5 (linear fit)",
    bounds=(0, inf),
    unit="dimensions",
    direction="higher = more degrees of freedom at the scale of neighbours; low by a few % above 10 dimensions",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    min_samples=10,
)
@takes_at_most(MOST)
def two_nn(rep: Representation, *, method: str = "mle") -> Estimate:
    """Dimension of the manifold near each sample, from the ratio of the two nearest distances.

    method: "mle" (likelihood) or "linear" (the published fit without the top 10 % of ratios). Copies of a sample are
    left out and counted in the note.

    >>> import torch
    >>> x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    >>> 1.8 < two_nn(Representation(x)).value < 2.2
    True
    """
    found = geometry.two_nn(rep, method=method)
    return Estimate(found.value, found.stderr, note=found.note)
