"""Measures of a recording in every time bin: when geometry changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from geomfeat.errors import BadInput, require_kind
from geomfeat.numerics import whole_seed
from geomfeat.recordings import Recording
from geomfeat.registry import Measure
from geomfeat.statistics.group_errors import keeping
from geomfeat.study.measure_rows import measure_layers
from geomfeat.study.measure_selection import MeasurePlan
from geomfeat.study.recorded_measures import RECORDED, in_words, plan_of
from geomfeat.study.time_courses.course import TimeCourse, course_of
from geomfeat.study.time_courses.differences import Numbered
from geomfeat.study.time_courses.pairs import MEANS, SAME, of_means, pairs_of, partners


def over_time(
    recording: Recording,
    measures: Sequence[str] | str,
    *,
    layers: Mapping[str, Any] | None = None,
    trials: str = SAME,
    groups: str | None = "auto",
    seed: int = 0,
    progress: bool = True,
) -> TimeCourse:
    """Measures of areas, and of pairs of areas, in every time bin of a recording, with the same random draws in all.

    Args:
        recording: with a time axis; `recording.bins(width)` makes wider bins, which are fewer and less noisy.
        measures: names of measures of layers, or of pairs, such as "cka_linear_unbiased" or "rsa_squared_euclidean",
            see `geomfeat.list_measures`.
        layers: of a model, name -> Representation or (n, d) array, that pairs are taken with too. Rows are those of the
            trials, or of the conditions: by the names in labels, or without any in the order of
            `recording.conditions`. Rows of conditions are compared with condition means.
        trials: what pairs are over: "same" trials, which share their noise, or "means" of each condition.
        groups: see `analyze_recording`.

    As trials, runs and draws are the same in all bins, numbers of two bins differ by less than their errors say:
    `TimeCourse.difference` gives paired errors, `TimeCourse.test` the bins in which a number differs.

    Raises BadInput for a recording without a time axis, pairs of a single area without layers, layers whose rows do not
    correspond, and measures that are of networks.

    >>> import torch
    >>> x = torch.randn(40, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> x[:, :, 2:] += 5 * torch.eye(6).double()[[0, 1] * 20][:, :, None]  # conditions differ from 0.2 s on
    >>> spikes = Recording(x, ["a", "b"] * 20, time=[0.0, 0.1, 0.2, 0.3])
    >>> [value < 0.2 for value in over_time(spikes, "nc1", progress=False).table["value"]]
    [False, False, True, True]
    """
    require_kind(recording, Recording, "recording")
    if recording.time is None:
        raise BadInput("the recording has no time axis, x is (trials, units): for one number use analyze_recording")
    if trials not in (SAME, MEANS):
        raise BadInput(f"trials={trials!r}: use 'same' trials, or 'means' of each condition")
    plan = plan_of(measures, len(recording.conditions) > 1)
    others = partners(layers, recording)
    if plan.pairs and not others and len(recording.areas) < 2:
        raise BadInput(
            f"measure {plan.pairs[0].name!r} is of two layers, and the recording has one area: give layers= of a model"
        )
    if others and not plan.pairs:
        raise BadInput("layers= is for measures of pairs, and none was named")
    word = recording.group_word if groups == "auto" else groups
    found: list[Numbered] = []
    with tqdm(recording.time.tolist(), desc="bins", disable=not progress) as bar:
        for k, time in enumerate(bar):
            now = replace(recording, x=recording.x[:, :, k], time=None)
            for row, left in _rows_now(now, plan, others, trials, groups, seed):
                found.append(({**row, "time": time, "note": in_words(row["note"], word)}, left))
    return course_of(found, recording.name, (*recording.notes, *recording.flags))


def _rows_now(
    now: Recording, plan: MeasurePlan, others: Mapping[str, Any], trials: str, groups: str | None, seed: int
) -> list[Numbered]:
    """The numbers of one bin."""
    areas = {name: rep.with_(layer=name) for name, rep in now.to_representations(groups=groups).items()}
    found = [one for area in areas.values() for m in plan.layer for one in _measured(m, (area,), seed)]
    for a, b, by_means in pairs_of(areas, others, trials):
        for m in plan.pairs:
            found += _measured(of_means(m) if by_means else m, (a, b), seed)
    return found


def _measured(m: Measure, sides: tuple[Any, ...], seed: int) -> list[Numbered]:
    with keeping() as kept:
        rows = measure_layers(m, *sides, seed=whole_seed(seed), at=RECORDED)
    alone = kept.get(None) if len(rows) == 1 else None
    return [
        ({**{name: row[name] for name in ("measure", "quantity", "value", "stderr", "ok", "note")},
          "area": row["layer"], "area_b": row["layer_b"]}, kept.get(row["quantity"], alone))
        for row in rows
    ]  # fmt: skip
