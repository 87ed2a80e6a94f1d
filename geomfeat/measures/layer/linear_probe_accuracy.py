"""How much of the labels a linear read-out gets from a layer."""

from __future__ import annotations

from geomfeat import geometry
from geomfeat.registry import measure
from geomfeat.statistics.subsamples import takes_at_most
from geomfeat.types import Estimate, Representation


@measure(
    source="Alain and Bengio 2017 (arXiv 1610.01644)",
    bounds=(0, 1),
    unit="share of held-out samples",
    direction="higher = classes easier to read out linearly",
    invariant_to={"scale", "shift", "unit order"},
    needs={"labels"},
    stochastic=True,
    min_samples=4,
)
@takes_at_most(5000)  # an accuracy to half a per cent
def linear_probe_accuracy(
    rep: Representation, *, folds: int = 5, classifier: str = "logistic", strength: float = 1.0, seed: int = 0
) -> Estimate:
    """Cross-validated accuracy of a linear classifier on standardised features, with its error over samples.

    classifier: "logistic" or "ridge" (faster); strength: inverse penalty. The note gives chance, the accuracy of always
    answering the largest class. Samples of a group, and copies of a sample, are held out together.

    >>> import torch
    >>> x = torch.cat([torch.linspace(0, 1, 10), torch.linspace(2, 3, 10)])[:, None]
    >>> linear_probe_accuracy(Representation(x, torch.arange(20) // 10)).value
    1.0
    """
    if rep.labels is None:
        return Estimate.failed("a linear probe needs labels: pass labels= to extract()")
    found = geometry.linear_probe(rep, folds=folds, classifier=classifier, strength=strength, seed=seed)
    return Estimate(found.accuracy, found.stderr, note=found.note)
