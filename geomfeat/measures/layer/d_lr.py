"""How far a layer is from holding nothing but the learned function."""

from __future__ import annotations

from geomfeat.geometry.probes import low_rank_distance
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Nam et al. 2024 (arXiv 2410.04264), dynamical richness: 1 - CKA of the feature kernel and the projector "
    "on the learned functions",
    bounds=(0, 1),
    direction="lower = richer: features vary only along what the network computes",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order", "duplication"},
    needs={"outputs"},
    min_samples=4,
)
def d_lr(rep: Representation) -> Estimate:
    """Distance of a layer's kernel from the projector on the network's outputs: high when lazy, 0 when fully rich.

    Needs the final model only. Meant for the last hidden layer; earlier layers are comparable across checkpoints.

    >>> import torch
    >>> outputs = torch.eye(3).repeat(4, 1)
    >>> round(d_lr(Representation(2 * outputs, outputs=outputs)).value, 6)     # features hold the outputs alone
    0.0
    """
    if rep.outputs is None:
        return Estimate.failed("D_LR needs the network's outputs: extract() records them with the features")
    return low_rank_distance(rep, rep.with_(x=rep.outputs))
