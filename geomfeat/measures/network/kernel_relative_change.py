"""How far the tangent kernel moved, relative to its initial size."""

from __future__ import annotations

from math import inf

from geomfeat.geometry.similarity import kernel_relative_change as change
from geomfeat.measures.network._tangent_kernels import compared
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate


@measure(
    source="Geiger et al. 2020, section 3; Chizat, Oyallon and Bach 2019",
    quantities={"relative_change": Quantity((0, inf), "", "higher = the kernel moved more; 0 = lazy")},
    needs={"init", "gradients"},
)
def kernel_relative_change(pair: SnapshotPair, probes: int = 64) -> dict[str, dict[str, Estimate]]:
    """Relative change |K - K0| / |K0| of the tangent kernel, traced over outputs; resolves the lazy end.

    For the whole network (layer "") and for every module by its own parameters, on at most `probes` samples. The
    standard error is a jackknife over samples.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> net, after = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)  # linear in its parameters
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=())
    >>> kernel_relative_change(pair)[""]["relative_change"].value
    0.0
    """
    return compared(pair, probes, "relative_change", change)
