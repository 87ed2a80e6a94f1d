"""How far the tangent kernel moved and turned."""

from __future__ import annotations

from math import inf

from geomfeat.geometry import similarity
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
    return compared(pair, probes, "distance", similarity.kernel_distance)


@measure(
    source="Fort et al. 2020, eq. 3, on kernels centred as by Kornblith et al. 2019, eq. 3 (biased CKA)",
    quantities={"distance_centred": Quantity((0, 1), "", "higher = the kernel turned more; 0 = lazy")},
    needs={"init", "gradients"},
    min_samples=3,
)
def kernel_distance_centred(pair: SnapshotPair, probes: int = 64) -> dict[str, dict[str, Estimate]]:
    """Centred kernel distance 1 - CKA(K, K0) of the tangent kernel, traced over outputs, with the BIASED CKA.

    For the whole network (layer "") and for every module by its own parameters, on at most `probes` samples. The
    standard error is a jackknife over samples.

    >>> import torch
    >>> from geomfeat.types import Snapshot
    >>> net, after = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)  # linear in its parameters
    >>> pair = SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.eye(4, 2), layers=())
    >>> kernel_distance_centred(pair)[""]["distance_centred"].value
    0.0
    """
    return compared(pair, probes, "distance_centred", similarity.kernel_distance_centred)


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
    return compared(pair, probes, "relative_change", similarity.kernel_relative_change)
