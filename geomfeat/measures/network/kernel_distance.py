"""How far the tangent kernel turned."""

from __future__ import annotations

from geomfeat.geometry.similarity import kernel_distance as distance
from geomfeat.measures.network._tangent_kernels import compared
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate


@measure(
    source="Fort et al. 2020, eq. 3",
    quantities={"distance": Quantity((0, 1), "", "higher = the kernel turned more; 0 = lazy")},
    needs={"init", "gradients"},
)
def kernel_distance(pair: SnapshotPair, probes: int = 64) -> dict[str, dict[str, Estimate]]:
    """Kernel distance 1 - <K, K0> / (|K| |K0|) of the tangent kernel, traced over outputs; blind to its scale.

    For the whole network (layer "") and for every module by its own parameters, on at most `probes` samples. The
    standard error is a jackknife over samples.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> net, after = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)  # linear in its parameters
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=())
    >>> kernel_distance(pair)[""]["distance"].value
    0.0
    """
    return compared(pair, probes, "distance", distance)
