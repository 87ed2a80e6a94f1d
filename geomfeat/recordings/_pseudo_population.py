"""Several sessions side by side: units of different sessions as if they had been recorded together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.numerics import whole_seed
from geomfeat.recordings._recording import Recording
from geomfeat.recordings.averaging import drawn
from geomfeat.recordings.trial_labels import UNIT_FIELDS

CELL = ("condition", "run")
SAME_TIME = 1e-9


def pseudo_population(
    sessions: Mapping[Hashable, Recording] | Sequence[Recording], *, seed: int = 0, name: str = ""
) -> Recording:
    """One recording of the units of several sessions, whose trials are put together by condition.

    Each pseudo-trial joins one trial of each session, all of the same condition, drawn at random without repetition; so
    each condition has as many as in the session where it is rarest. Where every session labels the same runs, trials
    of one run are joined and the run label is kept; else pseudo-trials have none. Units that were not recorded
    together share no noise, so noise correlations between them are lost: measures of trial-to-trial variability
    (dimension, capacity) are not those of one population. The result says so (`pseudo`, `notes`).

    Args:
        sessions: session -> Recording, or a list of them. seed: of the pairing.

    Units keep their areas where all sessions have them, and are named "session/unit". Conditions that a session lacks
    are left out and counted. Raises BadInput for fewer than two sessions, none of the conditions in common, and time
    axes that differ.

    >>> a = Recording(torch.rand(5, 2), list("xxxyy"))
    >>> both = pseudo_population({"mon": a, "tue": Recording(torch.rand(4, 3), list("xxyy"))})
    >>> both.x.shape, both.pseudo, both.unit.tolist()
    (torch.Size([4, 5]), True, ['mon/0', 'mon/1', 'tue/0', 'tue/1', 'tue/2'])
    """
    named = _named(sessions)
    parts = list(named.values())
    _require_one_time_axis(named)
    fields = CELL if _same_runs(parts) else CELL[:1]
    shared, notes = _shared_conditions(named)
    cells = [cell for cell in _cells(parts[0], fields) if cell[0] in shared]
    counts = {cell: min(int(_in(part, fields, cell).sum()) for part in parts) for cell in cells}
    rows = [
        torch.cat([_drawn(part, fields, cell, n, whole_seed(seed), key) for cell, n in counts.items()])
        for key, part in named.items()
    ]
    labels: dict[str, Any] = {
        field: np.concatenate([np.full(n, cell[i]) for cell, n in counts.items() if n])
        for i, field in enumerate(fields)
    }
    if not len(rows[0]):
        raise BadInput("the sessions share conditions, but no run in which each has one: drop the run labels")
    notes += [
        f"pseudo-population of {len(parts)} sessions: trials were paired at random within "
        f"{' and '.join(fields)} (seed {seed}), so noise correlations between units of different sessions are lost",
        *_used(named, rows),
    ]
    x = torch.cat([part.x[at].double() for part, at in zip(parts, rows, strict=True)], 1)
    return Recording(
        x, **labels, **_units(named), time=parts[0].time, name=name, pseudo=True,
        notes=tuple(notes + [f"{key}: {note}" for key, part in named.items() for note in part.notes]),
    )  # fmt: skip


def _named(sessions: Any) -> dict[Hashable, Recording]:
    if isinstance(sessions, Recording):
        sessions = sessions.by_session()
    if not isinstance(sessions, Mapping):
        sessions = {part.name or str(i): part for i, part in enumerate(sessions)} if _distinct(sessions) else dict(
            enumerate(sessions)
        )  # fmt: skip
    odd = [type(part).__name__ for part in sessions.values() if not isinstance(part, Recording)]
    if odd:
        raise BadInput(f"sessions holds a {odd[0]}: give Recordings, by session")
    if len(sessions) < 2:
        raise BadInput(f"sessions: got {len(sessions)}, and a pseudo-population needs two or more")
    return dict(sessions)


def _distinct(sessions: Sequence[Recording]) -> bool:
    names = [getattr(part, "name", "") for part in sessions]
    return len(set(names)) == len(names)


def _require_one_time_axis(named: Mapping[Hashable, Recording]) -> None:
    (first, one), *others = named.items()
    for key, part in others:
        same = (one.time is None) == (part.time is None)
        if same and one.time is not None and part.time is not None:
            same = one.time.shape == part.time.shape and bool((one.time - part.time).abs().max() <= SAME_TIME)
        if not same:
            raise BadInput(f"sessions {first!r} and {key!r} have different time axes: bring both to the same bins(...)")


def _same_runs(parts: Sequence[Recording]) -> bool:
    """Whether all have runs of the same names, with the same conditions in each."""
    if any(part.run is None for part in parts):
        return False
    known = [set(_cells(part, CELL)) for part in parts]
    return all(cells == known[0] for cells in known[1:])


def _cells(part: Recording, fields: Sequence[str]) -> list[tuple[Hashable, ...]]:
    """The combinations of labels that occur, in sorted order."""
    return sorted(set(zip(*(getattr(part, field).tolist() for field in fields), strict=True)))


def _in(part: Recording, fields: Sequence[str], cell: tuple[Hashable, ...]) -> np.ndarray:
    return np.all([getattr(part, field) == value for field, value in zip(fields, cell, strict=True)], axis=0)


def _drawn(
    part: Recording, fields: Sequence[str], cell: tuple[Hashable, ...], n: int, seed: int, key: Hashable
) -> Tensor:
    return drawn(_in(part, fields, cell), True, n, seed, "pseudo-population", key, *cell)


def _shared_conditions(named: Mapping[Hashable, Recording]) -> tuple[set[Hashable], list[str]]:
    sets = {key: set(part.conditions) for key, part in named.items()}
    every, shared = set.union(*sets.values()), set.intersection(*sets.values())
    if not shared:
        held = "; ".join(f"{key}: {', '.join(sorted(map(str, names))[:5])}" for key, names in sets.items())
        raise BadInput(f"the sessions have no condition in common ({held}): name conditions alike")
    lost = sorted(map(str, every - shared))
    if not lost:
        return shared, []
    return shared, [
        f"{len(lost)} of {len(every)} conditions are not in every session and were left out: {', '.join(lost[:5])}"
        + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    ]


def _used(named: Mapping[Hashable, Recording], rows: Sequence[Tensor]) -> list[str]:
    left = {key: part.n_trials - len(at) for (key, part), at in zip(named.items(), rows, strict=True)}
    lost = ", ".join(f"{count} of {named[key].n_trials} in {key}" for key, count in left.items() if count)
    return [f"trials without a partner were left out: {lost}"] if lost else []


def _units(named: Mapping[Hashable, Recording]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "unit": [f"{key}/{u}" for key, part in named.items() for u in _unit_names(part)],
    }  # fmt: skip
    if all(part.area is not None for part in named.values()):
        made["area"] = [str(a) for part in named.values() for a in getattr(part, UNIT_FIELDS[0])]
    return made


def _unit_names(part: Recording) -> list[Any]:
    return list(range(part.n_units)) if part.unit is None else part.unit.tolist()
