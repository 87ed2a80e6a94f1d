"""Recordings beside networks and each other: rows that correspond, although every member has trials of its own.

Trials of two recordings, or of a recording and a network, are not the same events, and one may have more than another.
What they share are conditions: rows are the means of these, or as many trials of each, drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.comparison.models.members import FEWEST, RECORDING, Member
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs
from geomfeat.numerics import WORKING, stream
from geomfeat.types import Representation

MEANS, MATCHED, SAME = "means", "matched", "same"
TRIALS = (MEANS, MATCHED, SAME)
ONE_ROW = "it needs several rows of each condition, and rows are their means: use CompareOptions(trials='matched')"


@dataclass(frozen=True, eq=False)
class Rows:
    """What the rows of all members are, in words, and notes on how they were made. "" where they are samples.

    conditions: those that the rows are means of; () where they are not. every_trial: model -> layer -> all trials of
    the common conditions, where rows are a choice of them.
    """

    words: str = ""
    notes: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    every_trial: dict[str, dict[str, Representation]] = field(default_factory=dict)


def with_same_rows(members: list[Member], how: str, seed: int) -> tuple[list[Member], Rows]:
    """The members with corresponding rows, where one is a recording with conditions; else as they are.

    how: "means": a row for each condition that all have. "matched": as many trials of each as the member has that has
    fewest, drawn at random, so that row i of two members is of one condition. "same": trials correspond one by one.

    Raises BadInput for members without conditions or with too few in common, for matrices with "matched", and for
    trials that do not correspond with "same".
    """
    if not any(member.has_areas for member in members):
        return members, Rows()
    named = {member.name: _conditions(member) for member in members}
    if how == SAME:
        return members, _same(named)
    every = set().union(*named.values())
    shared = sorted(set.intersection(*(set(names) for names in named.values())), key=_in_order)
    if len(shared) < (FEWEST if how == MEANS else 2):
        held = "; ".join(f"{name}: {_listed(names)}" for name, names in named.items())
        raise BadInput(
            f"conditions that all models have: {len(shared)} of {len(every)}, and {FEWEST if how == MEANS else 2} are "
            f"needed. {held}. Name conditions alike: labels= of networks, condition= of recordings, conditions= of "
            "RDMs"
        )
    lost = sorted(every - set(shared), key=_in_order)
    notes = []
    if lost:
        notes.append(f"{len(lost)} of {len(every)} conditions are not in all models and were left out: {_listed(lost)}")
    matrices = [member.name for member in members if any(isinstance(v, RDMs) for v in member.layers.values())]
    if how == MATCHED and matrices:
        raise BadInput(f"trials='matched': {matrices[0]!r} is RDMs, which have no trials; use trials='means'")
    counts = {name: {one: names.count(one) for one in shared} for name, names in named.items()}
    spans = {name: _span(list(of.values())) for name, of in counts.items()}
    if how == MEANS:
        made = [_means(member, named[member.name], shared) for member in members]
        notes.append(f"rows are means of {len(shared)} conditions, over so many trials or samples each: {_said(spans)}")
        return made, Rows(f"means of {len(shared)} conditions", tuple(notes), tuple(shared))
    n = min(min(of.values()) for of in counts.values())
    if n < 2:
        one = next(name for name, of in counts.items() if min(of.values()) < 2)
        raise BadInput(f"trials='matched': {one!r} has one trial or sample of a condition; use trials='means'")
    made = [_matched(member, named[member.name], shared, n, seed) for member in members]
    notes.append(
        f"{n} trials of each of {len(shared)} conditions were drawn at random (seed {seed}), of: {_said(spans)}. Row "
        "by row, models share the condition and not the trial; errors are over trials and do not know runs"
    )
    every = {member.name: _every_trial(member, named[member.name], shared) for member in members}
    return made, Rows(f"{n} matched trials of each of {len(shared)} conditions", tuple(notes), every_trial=every)


def _conditions(member: Member) -> list[str]:
    """The condition of every row."""
    value = next(iter(member.layers.values()))
    if isinstance(value, RDMs):
        return list(map(str, value.conditions))
    if value.labels is None:
        raise BadInput(
            f"model {member.name!r} has no conditions, and a recording is compared by them: give labels=, the "
            "condition of each sample, by the names that the recording has"
        )
    codes = value.labels.tolist()
    return [value.classes[code] for code in codes] if value.classes else list(map(str, codes))


def _same(named: dict[str, list[str]]) -> Rows:
    (first, conditions), *others = named.items()
    for name, other in others:
        if other != conditions:
            what = f"{len(conditions)} and {len(other)} rows" if len(other) != len(conditions) else "other conditions"
            raise BadInput(
                f"trials='same': {first!r} and {name!r} have {what}, so that trials do not correspond one by one: use "
                "trials='means' or 'matched'"
            )
    return Rows("the same trials", ("trials are taken to be the same ones, in the same order, in all models",))


def _means(member: Member, names: list[str], shared: Sequence[str]) -> Member:
    rows = [torch.tensor([i for i, name in enumerate(names) if name == one]) for one in shared]

    def mean(rep: Representation) -> Representation:
        x = torch.stack([rep.x[at.to(rep.x.device)].to(WORKING).mean(0) for at in rows])
        return Representation(x, None, rep.layer, {**rep.meta, "trials": MEANS})

    layers: dict[str, Any] = {
        key: taken(value, shared) if isinstance(value, RDMs) else mean(value) for key, value in member.layers.items()
    }
    return replace(member, layers=layers)


def taken(rdms: RDMs, shared: Sequence[str]) -> RDMs:
    """The matrices of these conditions, which are named by their text."""
    own = {str(one): one for one in rdms.conditions}
    return rdms.take([own[name] for name in shared])


def _matched(member: Member, names: list[str], shared: Sequence[str], n: int, seed: int) -> Member:
    rows: list[Tensor] = []
    for one in shared:
        there = torch.tensor([i for i, name in enumerate(names) if name == one])
        order = torch.randperm(len(there), generator=stream(seed, "matched trials", member.name, one))
        # In random order: else all trials of two recordings of one session would meet one by one, with their noise.
        rows.append(there[order[:n]])
    at, labels = torch.cat(rows), torch.arange(len(shared)).repeat_interleave(n)
    layers = {
        key: Representation(rep.x[at.to(rep.x.device)], labels, rep.layer, {**rep.meta, "trials": MATCHED},
                            classes=tuple(shared))
        for key, rep in member.layers.items()
    }  # fmt: skip
    return replace(member, layers=layers)


def _every_trial(member: Member, names: list[str], shared: Sequence[str]) -> dict[str, Representation]:
    """All trials of the common conditions, with their groups."""
    place = {one: i for i, one in enumerate(shared)}
    at = torch.tensor([i for i, name in enumerate(names) if name in place])
    labels = torch.tensor([place[names[i]] for i in at.tolist()])
    return {
        key: rep.take(at.to(rep.x.device)).with_(labels=labels, classes=tuple(shared))
        for key, rep in member.layers.items()
    }


def _in_order(name: str) -> tuple[int, float, str]:
    """Numbers by size, then words."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _listed(names: Sequence[str], most: int = 5) -> str:
    different = list(dict.fromkeys(names))
    return ", ".join(different[:most]) + (f" and {len(different) - most} more" if len(different) > most else "")


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _said(spans: dict[str, str]) -> str:
    return ", ".join(f"{name} {span}" for name, span in spans.items())


def of_recording(name: str, recording: Any) -> Member:
    """The areas of a Recording as a member."""
    return Member(name, RECORDING, dict(recording.to_representations()), has_areas=True)
