"""Compare models on the same samples: similarity of layers and models, profiles over depth, likeness to brain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from geomfeat._version import __version__
from geomfeat.activations import ExtractOptions
from geomfeat.activations.layer_selection import Patterns
from geomfeat.comparison.models.area_geometry import COURSE_COLUMNS, courses_of, targets_of_areas
from geomfeat.comparison.models.brain_ranking import RANKING_COLUMNS, brain_ranking, matrices_of
from geomfeat.comparison.models.depth_profiles import profile_measures, profiles_of
from geomfeat.comparison.models.embedding import angles, classical_mds, clusters, umap_map
from geomfeat.comparison.models.inputs import members_of
from geomfeat.comparison.models.layer_matching import best_matches, model_similarity
from geomfeat.comparison.models.layer_similarity import SIMILARITIES, projection_loss, similarity_of_all
from geomfeat.comparison.models.members import Member, each_layer
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.comparison.models.recordings import ONE_ROW, taken
from geomfeat.comparison.models.result import ModelComparison
from geomfeat.errors import BadInput, require_kind
from geomfeat.geometry.rsa import RDMs
from geomfeat.models.nested_inputs import Inputs
from geomfeat.recordings import Recording
from geomfeat.study.recordings import facts_of_recording
from geomfeat.study.snapshots import Look
from geomfeat.types import Representation, Snapshot

# Loss of similarity by projection, above which a note reports it.
REPORTED_LOSS = 0.02


def compare(
    models: Mapping[str, nn.Module | Snapshot | Recording | Mapping[str, Representation] | RDMs],
    inputs: Inputs | None = None,
    labels: Any = None,
    *,
    layers: Patterns | Mapping[str, Patterns] = "*",
    measures: Sequence[str] | str | None = None,
    similarity: str = "cka_linear_unbiased",
    brain: RDMs | Mapping[str, RDMs] | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
    extraction: ExtractOptions = ExtractOptions(),
    options: CompareOptions = CompareOptions(),
) -> ModelComparison:
    """Compare networks, recordings and brains, layer by layer and as wholes, on the same samples and the same draws.

    Args:
        models: name -> a network; features that were extracted (layer -> Representation, from input to output); RDMs,
            each a layer; or a Recording, each area a layer. All of the same n samples in the same order: differing
            numbers of samples, labels, or inputs (if geomfeat extract recorded them) raise BadInput. With a Recording
            all are compared by condition instead (labels, or conditions of RDMs, by the same names), see
            `CompareOptions(trials=)`.
        inputs: n samples, samples first, or a DataLoader or Dataset in a fixed order; needed for networks.
        labels: (n,) classes, for the capacity; default those of the batches, or of a recording.
        layers: of the networks: "*" hidden layers with weights, else patterns; or model -> patterns.
        measures: names for the profiles over depth; None: capacity (with labels), corrected participation ratio and
            TwoNN; an empty list: none.
        similarity: "cka_linear_unbiased", or "cka_linear_biased", which is near 1 for any wide layers.
        brain: RDMs of subjects, or name -> RDMs, whose conditions are the n samples in order. Each becomes a model with
            one layer (the mean over subjects), and the layers of all other models are ranked by similarity to it. So
            they are to each area of a Recording that is compared by condition means, with a matrix for each run.
        extraction: how features of networks become (n, d), batch size and readout, see `ExtractOptions`. Projection
            (by default above 4096 features to 2048) lowers CKA of layers of many dimensions, which a note reports;
            None is exact.
        options: draws of the capacity, comparator and bootstrap of the ranking, UMAP, see `CompareOptions`.

    The similarity of two models is the mean over the layers of one of the similarity with the best matching layer of
    the other, averaged over both directions. A constant layer, and a number that fails, is NaN with a note.

    Returns ModelComparison: similarity of layers and models, best matches, maps, profiles over relative depth, RDMs,
    the ranking with its noise ceiling, and of recordings over time its time course; `.to_html(path)`, `.save(dir)`.

    Raises BadInput, before any comparison, for fewer than two models, other samples, unknown names.

    >>> x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    >>> one = {"a": Representation(x, layer="a"), "b": Representation(x.relu(), layer="b")}
    >>> two = {"c": Representation(3 * x.flip(1), layer="c")}
    >>> found = compare({"one": one, "two": two}, measures=[], progress=False)
    >>> found.matches.query("model == 'two'")["match"].item(), bool(found.similarity[0, 2] > 0.999)
    ('a', True)
    """
    require_kind(options, CompareOptions, "options")
    if similarity not in SIMILARITIES:
        raise BadInput(f"similarity={similarity!r}: use one of {', '.join(map(repr, SIMILARITIES))}")
    brains = {"brain": brain} if isinstance(brain, RDMs) else {} if brain is None else brain
    if not isinstance(brains, Mapping):
        raise BadInput(f"brain must be RDMs or a mapping of names to RDMs, got {type(brain).__name__}: see gf.RDMs")
    look = Look.of(extraction, seed=seed, device=device)
    members, known, rows = members_of(
        models, inputs, labels, layers=layers, brain=brains, look=look, trials=options.trials, progress=progress
    )
    if rows.conditions:
        brains = {name: taken(rdms, rows.conditions) for name, rdms in brains.items()}
    chosen, left_out = profile_measures(measures, known is not None)
    if rows.conditions:
        left_out = dict.fromkeys(left_out, ONE_ROW)
    found, errors, broken, said = similarity_of_all([value for _, _, value in each_layer(members)], similarity)
    table = _layers(members, broken)
    profiles, differences = profiles_of(
        members, chosen, n_draws=options.n_draws, seed=seed, every_trial=rows.every_trial, progress=progress
    )
    recordings = {name: model for name, model in models.items() if isinstance(model, Recording)}
    geometry = _geometry(members, brains, recordings if rows.conditions else {}, rows.conditions, options, seed)
    reduce = look.options.reduce
    settings = {
        "version": __version__, "torch": torch.__version__, "n": int(table["n"].iloc[0]), "seed": seed,
        "classes": None if known is None else len(known.unique()), "similarity": similarity,
        "measures": [m.name for m in chosen], "left_out": left_out, "n_draws": options.n_draws,
        "comparator": options.comparator if len(geometry.ranking) else None,
        "n_bootstrap": options.n_bootstrap if len(geometry.ranking) else None,
        "reduce": reduce if isinstance(reduce, str) else reduce.__name__, "project": look.options.project,
        "device": str(device or "as the models"), "rows": rows.words or None,
        "conditions": geometry.conditions, "clusters": geometry.clusters, "areas": geometry.owners,
        "recordings": {name: facts_of_recording(one, one.to_representations(), "auto", "mean")
                       for name, one in recordings.items()},
        "notes": [*rows.notes, *_of_recordings(recordings), *_notes(table, similarity, members, said),
                  *geometry.notes],
    }  # fmt: skip
    placed = _placed(found, table, options.umap, seed)
    return ModelComparison(
        tuple(m.name for m in members), table, found, errors, matches=best_matches(found, errors, table),
        profiles=profiles, differences=differences, ranking=geometry.ranking, settings=settings,
        rdms=geometry.rdms, courses=geometry.courses, **placed,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Geometry:
    """RDMs of all layers, and which resemble those of brains and areas, as wholes and over time."""

    ranking: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=list(RANKING_COLUMNS)))
    courses: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=list(COURSE_COLUMNS)))
    rdms: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    conditions: list[str] = field(default_factory=list)
    clusters: list[dict[str, Any]] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _geometry(
    members: list[Member],
    brains: Mapping[str, RDMs],
    recordings: Mapping[str, Recording],
    conditions: Sequence[str],
    options: CompareOptions,
    seed: int,
) -> _Geometry:
    """Without brains and conditions of recordings, nothing."""
    if not brains and not recordings:
        return _Geometry()
    matrices = matrices_of(members)
    areas, owners, notes = targets_of_areas(recordings, members, conditions)
    ranking, said = brain_ranking(
        members, {**brains, **areas}, matrices, owners=owners,
        comparator=options.comparator, n_bootstrap=options.n_bootstrap, seed=seed,
    )  # fmt: skip
    courses, clusters, of_courses = courses_of(
        recordings, matrices.found, conditions, comparator=options.comparator, seed=seed
    )
    names = list(conditions) or list(map(str, next(iter(brains.values())).conditions))
    return _Geometry(ranking, courses, matrices.stacked(members), names, clusters, owners, [*notes, *said, *of_courses])


def _layers(members: list[Member], broken: Mapping[int, str]) -> pd.DataFrame:
    rows = [
        {
            "model": member.name, "layer": layer, "depth": member.depth(layer), "kind": member.kind,
            "n": value.n_conditions if isinstance(value, RDMs) else value.n,
            "d": None if isinstance(value, RDMs) else value.d, "note": broken.get(i, ""),
        }
        for i, (member, layer, value) in enumerate(each_layer(members))
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"d": "Int64", "note": "str"})


def _of_recordings(recordings: Mapping[str, Recording]) -> list[str]:
    """What was done to recordings, and what limits them."""
    return [f"{name}: {note}" for name, one in recordings.items() for note in (*one.notes, *one.flags)]


def _placed(similarity: np.ndarray, layers: pd.DataFrame, umap: bool, seed: int) -> dict[str, np.ndarray]:
    """Everything that follows from the similarity matrix: that of models, clusters, maps."""
    owner = pd.factorize(layers["model"])[0]
    of_models = model_similarity(similarity, owner)
    between = angles(similarity)
    linkage, order = clusters(between)
    layer_map, layer_share = classical_mds(between)
    model_map, model_share = classical_mds(angles(of_models))
    drawn = umap_map(between, seed) if umap else None
    return {
        "model_similarity": of_models, "linkage": linkage, "order": order, "layer_map": layer_map,
        "model_map": model_map, "map_shares": np.array([layer_share, model_share]),
        "umap": np.zeros((0, 2)) if drawn is None else drawn,
    }  # fmt: skip


def _notes(layers: pd.DataFrame, similarity: str, members: list[Member], said: str) -> list[str]:
    noted = zip(layers["model"], layers["layer"], layers["note"], strict=True)
    notes = [*filter(None, [said]), *(f"{model} {layer}: {note}" for model, layer, note in noted if note)]
    if similarity == "cka_linear_biased" and bool(np.any(layers["d"].fillna(0) > layers["n"])):
        notes.append("biased CKA of layers with more features than samples is high for any layers: prefer unbiased")
    losses = {
        f"{member.name} {layer}": projection_loss(value)
        for member, layer, value in each_layer(members)
        if isinstance(value, Representation)
    }
    worst = max(losses, key=losses.__getitem__, default="")
    if losses.get(worst, 0) > REPORTED_LOSS:
        notes.append(
            "random projection of wide layers lowers their similarity with others, by up to "
            f"{100 * losses[worst]:.0f} % ({worst}): project=None is exact where memory allows"
        )
    return notes
