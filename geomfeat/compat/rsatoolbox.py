"""Exchange of data and dissimilarity matrices with rsatoolbox, both ways; the package is imported when first needed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs
from geomfeat.geometry.rsa.rdms import Triangles
from geomfeat.labels import levels_of
from geomfeat.types import Representation

# Where the two call one dissimilarity by different names; both divide the squared ones by the number of units.
PEER_NAMES = {"squared_euclidean": "squared euclidean", "squared_mahalanobis": "squared mahalanobis"}
OWN_NAMES = {theirs: ours for ours, theirs in PEER_NAMES.items()}


def to_rsatoolbox(
    value: RDMs | Representation,
    *,
    conditions: Sequence[Hashable] | None = None,
    runs: Sequence[Hashable] | None = None,
) -> Any:
    """An rsatoolbox RDMs object of RDMs, or Dataset of a Representation.

    Args:
        value: RDMs: their names become the rdm descriptor "name", their conditions the pattern descriptor "condition".
            A Representation: samples become observations, units channels.
        conditions: of a Representation, (n,): its observation descriptor "condition"; default its labels, where it has
            some. runs: its observation descriptor "run".

    Raises BadInput where rsatoolbox is not installed, for other values, and for lengths that disagree.
    """
    package = _package()
    if isinstance(value, RDMs):
        if conditions is not None or runs is not None:
            raise BadInput("conditions= and runs= belong to a Representation: RDMs have their own conditions")
        return package.rdm.RDMs(
            value.vectors.cpu().numpy(),
            dissimilarity_measure=PEER_NAMES.get(value.dissimilarity, value.dissimilarity) or None,
            rdm_descriptors={"name": list(value.names)},
            pattern_descriptors={"condition": list(value.conditions)},
        )
    if not isinstance(value, Representation):
        raise BadInput(f"value is a {type(value).__name__}: give RDMs or a Representation")
    if conditions is None and value.labels is not None:
        codes = value.labels.tolist()
        conditions = [value.classes[i] for i in codes] if value.classes else codes
    observations = {}
    for name, given in (("condition", conditions), ("run", runs)):
        if given is None:
            continue
        names, index = levels_of(given, f"{name}s", value.n)
        observations[name] = [names[i] for i in index.tolist()]
    return package.data.Dataset(
        value.x.cpu().numpy(), descriptors={"layer": value.layer} if value.layer else {}, obs_descriptors=observations
    )


def from_rsatoolbox(value: Any, *, descriptor: str = "condition") -> RDMs | Representation:
    """RDMs of an rsatoolbox RDMs object, or a Representation of its Dataset.

    Args:
        value: the object. descriptor: the pattern (observation) descriptor that holds the conditions; one that is not
            there leaves RDMs with conditions 0, 1, ... and a Representation without labels.

    The matrices keep their names from the rdm descriptor "name". A Representation has whole numbers as labels, in the
    order of the sorted conditions; `meta["conditions"]` holds their names, and `meta["observations"]` every
    descriptor of the samples (runs, sessions, ...).

    Raises BadInput where rsatoolbox is not installed, and for other objects (of several time points, for example).
    """
    package = _package()
    if isinstance(value, package.rdm.RDMs):
        names = value.rdm_descriptors.get("name", ())
        conditions = np.asarray(value.pattern_descriptors.get(descriptor, ())).tolist()
        measure = value.dissimilarity_measure or ""
        return RDMs(Triangles(value.get_vectors()), OWN_NAMES.get(measure, measure), tuple(names), tuple(conditions))
    if type(value) is not package.data.Dataset:
        raise BadInput(f"value is a {type(value).__name__}: give an rsatoolbox RDMs or Dataset (no time dimension)")
    observations = {name: np.asarray(given).tolist() for name, given in value.obs_descriptors.items()}
    labels, levels = None, []
    if descriptor in observations:
        found, labels = levels_of(value.obs_descriptors[descriptor], f"observation descriptor {descriptor!r}")
        levels = list(found)
    meta = {"reduce": "none", "observations": observations, "conditions": levels}
    return Representation(value.measurements, labels, str(value.descriptors.get("layer", "")), meta)


def _package() -> Any:
    try:
        import rsatoolbox
        import rsatoolbox.data
        import rsatoolbox.rdm
    except ImportError as cause:
        raise BadInput(f"this exchange needs the package rsatoolbox: pip install rsatoolbox ({cause})") from cause
    return rsatoolbox
