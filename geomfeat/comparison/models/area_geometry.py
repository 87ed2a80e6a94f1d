"""The geometry of areas run by run: what layers are ranked against, and how likeness to them develops over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from geomfeat.comparison.models.members import Member
from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.geometry.rsa import RDMs, compare_rdms, noise_ceiling, rdm, stack_rdms
from geomfeat.numerics import WORKING
from geomfeat.recordings import Recording
from geomfeat.statistics.cluster_permutation import cluster_test
from geomfeat.study.time_courses.study_rows import few_bins
from geomfeat.types import Representation

COURSE_COLUMNS = (
    "recording", "area", "model", "layer", "time", "similarity", "stderr", "ceiling_lower", "ceiling_upper",
)  # fmt: skip


def targets_of_areas(
    recordings: Mapping[str, Recording], members: Sequence[Member], conditions: Sequence[str]
) -> tuple[dict[str, RDMs], dict[str, str], list[str]]:
    """({"area of recording": RDMs}, {"area of recording": recording}, notes): a matrix of each run, session or subject.

    Areas without another model's layers to compare with, or without an RDM, are left out, which a note says.
    """
    found: dict[str, RDMs] = {}
    owner: dict[str, str] = {}
    notes: list[str] = []
    for name, recording in recordings.items():
        if all(member.name == name for member in members):
            continue
        for area, layer in recording.to_representations().items():
            title = f"{area} of {name}" if recording.areas else name
            made, said = group_rdms(layer, conditions, recording.group_word)
            notes += [f"{title}: {said}"] if said else []
            if made is not None:
                found[title], owner[title] = made, name
    return found, owner, notes


def group_rdms(layer: Representation, conditions: Sequence[str], word: str) -> tuple[RDMs | None, str]:
    """(correlation distances between condition means in each group that has all conditions, a note or "").

    Of all trials together where fewer than two groups have all conditions: there is then no noise ceiling. None where
    a pattern has no variance over units.
    """
    assert layer.labels is not None
    codes = [(layer.classes or ()).index(name) for name in conditions]
    groups = torch.zeros_like(layer.labels) if layer.groups is None else layer.groups
    parts, lacking = {}, 0
    for group in groups.unique().tolist():
        means = _means(layer, codes, groups == group)
        lacking += means is None
        if means is not None:
            parts[str(group)] = means
    note = f"{lacking} {word}s lack a condition and are left out of the ranking" if lacking and len(parts) > 1 else ""
    if len(parts) < 2:
        whole = _means(layer, codes, torch.ones_like(groups, dtype=torch.bool))
        assert whole is not None
        parts, note = {"all": whole}, "no noise ceiling, which needs two runs, sessions or subjects with all conditions"
    try:
        made = [rdm(means, dissimilarity="correlation", name=name) for name, means in parts.items()]
    except BadInput as cause:
        return None, f"layers are not ranked by likeness to it: {cause}"
    return replace(stack_rdms(made), conditions=tuple(conditions)), note


def _means(layer: Representation, codes: Sequence[int], rows: torch.Tensor) -> torch.Tensor | None:
    """(conditions, units) mean patterns in these trials; None where a condition has no trial."""
    assert layer.labels is not None
    labels, x = layer.labels[rows], layer.x[rows].to(WORKING)
    means = [x[labels == code].mean(0) for code in codes if bool((labels == code).any())]
    return torch.stack(means) if len(means) == len(codes) else None


def courses_of(
    recordings: Mapping[str, Recording],
    layers: Mapping[tuple[str, str], RDMs],
    conditions: Sequence[str],
    *,
    comparator: str,
    seed: int,
) -> tuple[pd.DataFrame, list[dict[str, Any]], list[str]]:
    """(likeness of each area to each layer in each time bin, significant clusters, notes), of recordings over time.

    A row is the mean over groups of the similarity between the layer's RDM and the group's, with the standard error of
    that mean, and the noise ceiling of the bin. Clusters: bins in which it differs from 0, by sign flips of the groups.
    """
    rows: list[tuple[Any, ...]] = []
    clusters: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, recording in recordings.items():
        others = {key: value for key, value in layers.items() if key[0] != name}
        if recording.time is None or len(recording.time) < 2 or not others:
            continue
        binned, said = few_bins(recording)
        notes += [f"{name}: {said}"] if said else []
        models = RDMs(torch.cat([one.vectors for one in others.values()]), conditions=tuple(conditions))
        for area in recording.areas or (None,):
            try:
                values, ceilings = _over_bins(binned, area, models, conditions, comparator, seed)
            except GeomfeatError as cause:
                notes.append(f"{name}{'' if area is None else f' {area}'}: no time course, {cause}")
                continue
            word = name if area is None else str(area)
            rows += _rows(name, word, list(others), binned, values, ceilings)
            clusters += _clusters(name, word, list(others), binned, values, seed)
    return pd.DataFrame(rows, columns=list(COURSE_COLUMNS)), clusters, notes


def _over_bins(
    binned: Recording, area: Any, models: RDMs, conditions: Sequence[str], comparator: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """((layers, groups, bins) similarities, (2, bins) noise ceilings)."""
    assert binned.time is not None
    part = binned if area is None else binned.select(area=area)
    values, ceilings = [], []
    for k in range(len(binned.time)):
        now = replace(part, x=part.x[:, :, k], time=None).to_representation()
        data, note = group_rdms(now, conditions, part.group_word)
        if data is None:
            raise BadInput(f"at {float(binned.time[k]):g} s {note}")
        values.append(compare_rdms(models, data, comparator).numpy())
        bounds = noise_ceiling(data, comparator, n_permutations=0, seed=seed)
        ceilings.append((bounds.lower, bounds.upper if data.n_rdms > 1 else np.nan))
    return np.stack(values, 2), np.array(ceilings).T


def _rows(
    name: str, area: str, keys: list[tuple[str, str]], binned: Recording, values: np.ndarray, ceilings: np.ndarray
) -> list[tuple[Any, ...]]:
    assert binned.time is not None
    groups = values.shape[1]
    errors = values.std(1, ddof=1) / groups**0.5 if groups > 1 else np.full(values[:, 0].shape, np.nan)
    return [
        (name, area, *key, time, float(values[i, :, k].mean()), float(errors[i, k]), *map(float, ceilings[:, k]))
        for i, key in enumerate(keys)
        for k, time in enumerate(binned.time.tolist())
    ]


def _clusters(
    name: str, area: str, keys: list[tuple[str, str]], binned: Recording, values: np.ndarray, seed: int
) -> list[dict[str, Any]]:
    assert binned.time is not None
    found = []
    for (model, layer), one in zip(keys, values, strict=True):
        try:
            test = cluster_test(one, binned.time.numpy(), seed=seed)
        except BadInput:  # fewer groups than a test needs, or a similarity that is undefined
            return found
        found += [
            {"recording": name, "area": area, "model": model, "layer": layer,
             "start": float(c.start), "stop": float(c.stop), "p": float(c.p)}
            for c in test.found
        ]  # fmt: skip
    return found
