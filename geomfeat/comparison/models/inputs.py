"""What is compared: networks, recordings and dissimilarity matrices, as layers of the same samples in one order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.layer_selection import Patterns
from geomfeat.comparison.models.members import BRAIN, FEWEST, MATRICES, NETWORK, RECORDING, Member, each_layer
from geomfeat.comparison.models.recordings import MEANS, Rows, of_recording, with_same_rows
from geomfeat.data.batch_streams import reread
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs
from geomfeat.labels import Labels, classes_in
from geomfeat.models.nested_inputs import n_samples
from geomfeat.recordings import Recording
from geomfeat.study.snapshots import TRAINED, Look, make_subject
from geomfeat.types import Representation, Snapshot


def members_of(
    models: Mapping[str, Any],
    inputs: Any,
    labels: Any,
    *,
    layers: Patterns | Mapping[str, Patterns],
    brain: Mapping[str, RDMs],
    look: Look,
    trials: str = MEANS,
    progress: bool = False,
) -> tuple[list[Member], Tensor | None, Rows]:
    """The models with the features of their layers, the labels (n,) that all share, or None, and what the rows are.

    trials: how rows of recordings with conditions correspond to those of other models, see `with_same_rows`.

    Raises BadInput for other types, for fewer than two models, for other numbers of samples, and for recordings
    whose labels differ (their samples are others, or in another order).
    """
    _require_two(models, brain)
    patterns: Mapping[str, Any] = _patterns(layers, models)
    networks = [
        m.model if isinstance(m, Snapshot) else m for m in models.values() if isinstance(m, nn.Module | Snapshot)
    ]
    first = next(iter(networks), None)
    inputs, labels = reread(first, inputs, labels, why="compare", batch_size=look.options.batch_size)
    given = None if labels is None else classes_in(labels)
    made = [
        _network(name, model, inputs, given, patterns[name], look, progress)
        if isinstance(model, nn.Module | Snapshot)
        else _given(name, model)
        for name, model in models.items()
    ]
    made += [Member(name, BRAIN, {name: _one_matrix(name, rdms)}) for name, rdms in brain.items()]
    if given is not None and any(member.has_areas for member in made):
        made = [_with_labels(member, given) if member.kind == NETWORK else member for member in made]
    made, rows = with_same_rows(made, trials, look.seed)
    if rows.words:  # no longer the samples that were given
        inputs = given = None
    _require_same_samples(made, inputs, given)
    _require_same_inputs(made, inputs)
    common = _common_labels(made, given)
    known = None if common is None else common.codes
    return [_with_labels(member, common) for member in made], known, rows


def _require_two(models: Mapping[str, Any], brain: Mapping[str, RDMs]) -> None:
    if not isinstance(models, Mapping):
        raise BadInput(
            f"models must be a mapping of names to models, got {type(models).__name__}: give {{name: model}}"
        )
    twice = sorted(set(models) & set(brain))
    if twice:
        raise BadInput(f"{twice[0]!r} names a model and a brain: give each its own name")
    if len(models) + len(brain) < 2 or not models:
        counts = f"{len(models)} model" + (f" and {len(brain)} brain data" if brain else "")
        raise BadInput(f"models: got {counts}, and two are needed (for one, use analyze)")


def _patterns(layers: Any, models: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(layers, Mapping):
        return dict.fromkeys(models, layers)
    unknown = sorted(set(layers) - set(models))
    if unknown:
        raise BadInput(f"layers names the unknown model {unknown[0]!r}: the models are {', '.join(models)}")
    given: Mapping[str, Any] = layers
    return {name: given.get(name, "*") for name in models}


def _network(
    name: str, model: Any, inputs: Any, labels: Labels | None, layers: Patterns, look: Look, progress: bool
) -> Member:
    if inputs is None:
        raise BadInput(f"model {name!r} is a network: give the inputs to run it on")
    try:
        subject = make_subject(model, inputs, labels, initial=None, checkpoints=None, layers=layers, look=look)
    except BadInput as cause:
        raise type(cause)(f"model {name!r}: {cause}") from cause
    return Member(name, NETWORK, subject.features(TRAINED, progress))


def _given(name: str, model: Any) -> Member:
    if isinstance(model, Recording):
        return of_recording(name, model)
    if isinstance(model, RDMs):
        return Member(name, MATRICES, {layer: model.select(layer) for layer in model.names})
    if isinstance(model, Representation):
        model = {model.layer or name: model}
    if not isinstance(model, Mapping) or not model:
        raise BadInput(
            f"model {name!r} is a {type(model).__name__}: give an nn.Module, a mapping of layers to "
            "Representations (as extract and load_npz return), a Recording, or RDMs"
        )
    odd = [layer for layer, value in model.items() if not isinstance(value, Representation)]
    if odd:
        raise BadInput(f"layer {odd[0]!r} of model {name!r} is a {type(model[odd[0]]).__name__}, not a Representation")
    return Member(name, RECORDING, {str(layer): model[layer] for layer in model})


def _one_matrix(name: str, rdms: Any) -> RDMs:
    """The mean over subjects, each scaled to a mean of 1 before, so that no subject counts for more."""
    if not isinstance(rdms, RDMs):
        raise BadInput(f"brain {name!r} must be RDMs, got {type(rdms).__name__}: see geomfeat.geometry.rsa.RDMs")
    size = rdms.vectors.abs().nanmean(1, keepdim=True)
    scaled = rdms.vectors / torch.where(size > 0, size, torch.ones_like(size))
    return replace(rdms, vectors=scaled.nanmean(0, keepdim=True), names=(name,))


def _count(value: Any) -> int:
    return value.n_conditions if isinstance(value, RDMs) else value.n


def _require_same_samples(members: list[Member], inputs: Any, labels: Labels | None) -> None:
    known = [("the inputs", n_samples(inputs))] if inputs is not None else []
    known += [("labels", len(labels.codes))] if labels is not None else []
    known += [(f"layer {layer!r} of {m.name!r}", _count(value)) for m, layer, value in each_layer(members)]
    (first, n), *rest = known
    for what, other in rest:
        if other != n:
            raise BadInput(
                f"{first} have {n} samples, {what} has {other}: all models must see the same samples in the same order "
                "(for tokens as rows, reduce to one row a sample)"
            )
    if n < FEWEST:
        raise BadInput(f"{n} samples are too few to compare geometries: give at least {FEWEST}, better hundreds")


def _require_same_inputs(members: list[Member], inputs: Any) -> None:
    """Recordings that geomfeat extract wrote know their inputs by a checksum (`meta["inputs"]`)."""
    known = {
        f"{member.name!r}": value.meta["inputs"]
        for member, _, value in each_layer(members)
        if isinstance(value, Representation) and member.kind == RECORDING and "inputs" in value.meta
    }
    if known and inputs is not None:
        from geomfeat.activations.stored_representations import fingerprint  # brings zarr

        known = {"the inputs": fingerprint(inputs), **known}
    for name, checksum in known.items():
        first = next(iter(known))
        if checksum != known[first]:
            raise BadInput(
                f"the features of {name} are of other samples, or in another order, than {first}: extract all with the "
                "same data, number of samples and seed (beside matrices or brains: all samples, geomfeat extract --n 0)"
            )


def _common_labels(members: list[Member], labels: Labels | None) -> Labels | None:
    source = "labels="
    for member, layer, value in each_layer(members):
        if not isinstance(value, Representation) or value.labels is None:
            continue
        own = Labels(value.labels.cpu(), value.classes)
        if labels is None:
            labels, source = own, f"layer {layer!r} of {member.name!r}"
        elif not _same(own, labels):
            raise BadInput(
                f"the labels of layer {layer!r} of {member.name!r} differ from those of {source}: its samples are "
                "others, or in another order. Extract all with the same data, number of samples and seed"
            )
    return labels


def _same(a: Labels, b: Labels) -> bool:
    """Whether every sample has the same class; names count where both sides have them."""
    named = not a.classes or not b.classes or a.classes == b.classes
    return named and torch.equal(a.codes.cpu(), b.codes.cpu())


def _with_labels(member: Member, labels: Labels | None) -> Member:
    if labels is None:
        return member
    given = {
        layer: value.with_(labels=labels) if isinstance(value, Representation) and value.labels is None else value
        for layer, value in member.layers.items()
    }
    return replace(member, layers=given)
