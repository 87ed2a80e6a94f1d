"""How much of a layer's geometry is the labels'."""

from __future__ import annotations

from geomfeat.geometry.similarity import cka, one_hot
from geomfeat.registry import measure
from geomfeat.types import Estimate, Representation


@measure(
    source="Baratin et al. 2021, section 3, centred; Cortes et al. 2012, eq. 4; HSIC of Song et al. 2012, eq. 5",
    bounds=(-1, 1),
    direction="higher = more of the geometry separates the classes; 0 for features independent of the labels",
    invariant_to={"rotation", "scale", "shift", "sample order", "unit order"},
    needs={"labels"},
    min_samples=4,
)
def label_alignment_unbiased(rep: Representation) -> Estimate:
    """Centred alignment of a layer's linear kernel with the label kernel, by unbiased HSIC.

    Centred, because uncentred alignment of a kernel that does not see its inputs at all is already 1/sqrt(C).

    >>> import torch
    >>> labels = torch.arange(12) % 3
    >>> round(label_alignment_unbiased(Representation(torch.eye(3)[labels], labels)).value, 6)
    1.0
    """
    if rep.labels is None:
        return Estimate.failed("label alignment needs labels: pass labels= to extract()")
    if len(rep.labels.unique()) < 2:
        return Estimate.failed("all samples have the same label: pass samples of at least two classes")
    return cka(rep, one_hot(rep.labels), estimator="unbiased")
