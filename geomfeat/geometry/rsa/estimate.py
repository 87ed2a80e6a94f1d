"""Similarity of two layers by their RDMs, with jackknife errors over stimuli."""

from typing import Any

import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa.compare import COMPARATORS, aligned, similarities
from geomfeat.geometry.rsa.dissimilarity import rdm
from geomfeat.geometry.rsa.rdms import RDMs
from geomfeat.numerics import jackknife_stderr
from geomfeat.precision import Spread
from geomfeat.statistics.group_errors import errors_wanted
from geomfeat.statistics.repeated_samples import repeats_once
from geomfeat.types import Estimate, as_layer

# From how many samples on a jackknife means something, and up to how many it is cheap: it grows with their cube.
FEWEST, MOST = 6, 256


def rsa_estimates(
    a: Any, b: Any, dissimilarity: str = "squared_euclidean", comparators: tuple[str, ...] = COMPARATORS
) -> dict[str, Estimate]:
    """Similarity of the RDMs of two layers by each comparator, in [-1, 1], with its standard error over samples.

    Args:
        a, b: Representations or arrays (n, units): the same n samples (stimuli) in the same order.
        dissimilarity: of both; see `rdm`. comparators: see `compare_rdms`.

    The error is the jackknife's over samples, None below 6 and above 256 samples (`rank_by_rsa` resamples any number).
    Copies of samples in both layers are 0 apart in both, which inflates the similarity: within a group they count once,
    and the note counts others. What is undefined is a failed Estimate. Raises BadInput for different samples, and for a
    constant layer.

    >>> x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    >>> round(rsa_estimates(x, 3 * x.flip(1) + 1)["rho_a"].value, 6)
    1.0
    """
    (a, b), note = repeats_once(a, b)
    sides = [rdm(x, dissimilarity=dissimilarity) for x in (a, b)]
    for name, x, side in zip("ab", (a, b), sides, strict=True):
        layer = as_layer(x, name)
        if not (Spread.of(layer.x, layer.precision).varies and bool((side.vectors > 0).any())):
            raise BadInput(f"{name} is constant over the samples (a dead or saturated layer): its RDM is zero")
    if sides[0].n_conditions != sides[1].n_conditions:
        raise BadInput(f"a has {sides[0].n_conditions} samples, b has {sides[1].n_conditions}: compare the same inputs")
    return {name: _estimate(sides[0], sides[1], name, note) for name in comparators}


def _estimate(first: RDMs, second: RDMs, comparator: str, note: str) -> Estimate:
    a, b, n = aligned(first, second, comparator)
    value = float(similarities(a, b, comparator, a.new_ones(1, n)))
    if value != value:
        return Estimate.failed(f"{comparator} is undefined: all pairs of samples are equally far apart; try rho_a")
    if not FEWEST <= n <= MOST or not errors_wanted():
        return Estimate(value, note=note)
    left_out = similarities(a, b, comparator, 1 - torch.eye(n, dtype=a.dtype, device=a.device))[:, 0, 0]
    return Estimate(value, jackknife_stderr(left_out) if bool(left_out.isfinite().all()) else None, note=note)
