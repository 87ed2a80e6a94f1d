"""A recording: responses of units in trials, with what was shown, where the units are, and when."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import InitVar, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.charts import Heat, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.numerics import as_tensor, in_floats
from geomfeat.recordings import averaging, display, representations
from geomfeat.recordings._signal_to_noise import signal_to_noise
from geomfeat.recordings.data_checks import caveats, overflow_note
from geomfeat.recordings.missing_values import REFUSE, kept_by
from geomfeat.recordings.trial_labels import (
    TRIAL_FIELDS,
    UNIT_FIELDS,
    codes_of,
    label_array,
    levels,
    mask_of,
    time_axis,
)
from geomfeat.types import Representation

# From the largest to the smallest part of an experiment: runs are numbered anew in each session.
GROUP_FIELDS = ("subject", "session", "run")


@dataclass(frozen=True, eq=False)
class Recording(PlottableResult):
    """Responses of units (neurons, voxels, channels) in trials. Checked, and never changed.

    Args:
        x: (trials, units) or (trials, units, time) responses. Whole numbers (spike counts) become float64 before
            anything is added up, half precisions float32.
        condition: (trials,) what was shown or done: names or numbers.
        run, session, subject: (trials,) when and in whom, or None. Trials of one run are not independent of each other.
        area, unit: (units,) where a unit is, and its name, or None.
        time: (time,) seconds, increasing; needed where x has a time axis.
        name: of the recording, for tables and pages.
        pseudo: whether trials were put together from several sessions, see `pseudo_population`.
        notes: what was done to the data, in sentences; `flags` says what limits them as they are.
        missing: what to do about NaN: "refuse" them (default), "drop trials" or "drop units" that have any. What is
            dropped is counted in `notes`.

    Raises BadInput for other shapes, labels that are missing or of another length, time stamps that do not increase,
    infinite values, NaN that are refused, and where dropping leaves nothing.

    >>> area = ["V4", "V4", "IT", "IT"]
    >>> found = Recording(torch.rand(6, 4), ["face", "house"] * 3, run=[1, 1, 2, 2, 3, 3], area=area)
    >>> found.conditions, found.areas, found.select(area="IT").n_units
    (('face', 'house'), ('IT', 'V4'), 2)

    `to_frame()`: a row for each trial (and time), with its labels, and a column for each unit.
    """

    x: Tensor
    condition: np.ndarray
    run: np.ndarray | None = None
    session: np.ndarray | None = None
    subject: np.ndarray | None = None
    area: np.ndarray | None = None
    unit: np.ndarray | None = None
    time: Tensor | None = None
    name: str = ""
    pseudo: bool = False
    notes: tuple[str, ...] = ()
    missing: InitVar[str] = REFUSE

    def __post_init__(self, missing: str) -> None:
        x = as_tensor(self.x, "x")
        if x.ndim not in (2, 3) or 0 in x.shape:
            raise BadInput(
                f"x must be (trials, units) or (trials, units, time) with at least one of each, got {tuple(x.shape)}"
            )
        if x.ndim == 3 and self.time is None:
            raise BadInput(f"x {tuple(x.shape)} has a time axis: give time=, {x.shape[2]} time stamps in seconds")
        if x.ndim == 2 and self.time is not None:
            raise BadInput(f"time is given, but x {tuple(x.shape)} has no time axis: x is (trials, units, time)")
        noted = overflow_note(self.x)
        x = in_floats(x, "x").cpu()
        kept = kept_by(x, missing)
        trials, units = kept.trials, kept.units
        whole = bool(trials.all()) and bool(units.all())
        object.__setattr__(self, "x", x if whole else x[trials][:, units])
        for fields, n, mask, of in (
            (TRIAL_FIELDS, x.shape[0], trials, "trials"),
            (UNIT_FIELDS, x.shape[1], units, "units"),
        ):
            for field in fields:
                given = getattr(self, field)
                if given is not None or field == "condition":
                    object.__setattr__(self, field, label_array(given, field, n, of)[mask.numpy()])
        if x.ndim == 3:
            object.__setattr__(self, "time", time_axis(self.time, x.shape[2]))
        notes = (self.notes,) if isinstance(self.notes, str) else tuple(self.notes)
        object.__setattr__(self, "notes", (*notes, *filter(None, (noted, *kept.notes))))

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return self.x.shape[0]

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.x.shape[1]

    @property
    def conditions(self) -> tuple[Hashable, ...]:
        """The different conditions in sorted order."""
        return levels(self.condition)

    @property
    def areas(self) -> tuple[Hashable, ...]:
        """The different areas in sorted order; () without area labels."""
        return () if self.area is None else levels(self.area)

    @property
    def sessions(self) -> tuple[Hashable, ...]:
        """The different sessions in sorted order; () without session labels."""
        return () if self.session is None else levels(self.session)

    @property
    def trials_per_condition(self) -> dict[Hashable, int]:
        """Condition -> number of its trials."""
        return {name: int((self.condition == name).sum()) for name in self.conditions}

    @property
    def group_word(self) -> str:
        """The smallest of "run", "session" and "subject" that has two labels or more; "trial" where none has."""
        several = [f for f in GROUP_FIELDS if getattr(self, f) is not None and len(levels(getattr(self, f))) > 1]
        return several[-1] if several else "trial"

    def groups_by(self, word: str | None = "auto") -> Tensor | None:
        """(trials,) int64, which trials belong together, or None where nothing says so.

        word: "run" (within session and subject), "session" (within subject), "subject", or "auto": the smallest that
        has two labels or more. None: no groups. Raises BadInput for a word without labels.

        >>> Recording(torch.eye(4), list("abab"), run=[1, 1, 1, 1], session=[1, 1, 2, 2]).groups_by("run").tolist()
        [0, 0, 1, 1]
        """
        word = self.group_word if word == "auto" else word
        if word is None or word == "trial":
            return None
        if word not in GROUP_FIELDS or getattr(self, word) is None:
            known = [field for field in GROUP_FIELDS if getattr(self, field) is not None]
            raise BadInput(f"groups={word!r}: the recording has {' and '.join(known) or 'no run, session or subject'}")
        above = GROUP_FIELDS[: GROUP_FIELDS.index(word) + 1]
        return codes_of(*(getattr(self, field) for field in above if getattr(self, field) is not None))

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """What limits the data as they are, counted, in sentences: see also `notes`."""
        return caveats(self.x, self.condition, self.groups_by(), self.group_word)

    def select(
        self,
        *,
        condition: Any = None,
        run: Any = None,
        session: Any = None,
        subject: Any = None,
        area: Any = None,
        unit: Any = None,
        time: tuple[float, float] | None = None,
    ) -> Recording:
        """Some of the trials, units and times: a label or several of each; time: from a up to (without) b seconds.

        Raises BadInput for a label that does not occur, or where nothing is left.

        >>> spikes = Recording(torch.rand(4, 3, 5), list("abab"), time=[0.0, 0.1, 0.2, 0.3, 0.4])
        >>> spikes.select(condition="a", time=(0.1, 0.3)).x.shape
        torch.Size([2, 3, 2])
        """
        chosen = {"condition": condition, "run": run, "session": session, "subject": subject}
        trials, units = np.ones(self.n_trials, dtype=bool), np.ones(self.n_units, dtype=bool)
        for name, wanted in chosen.items():
            if wanted is not None:
                trials &= mask_of(getattr(self, name), wanted, name)
        for name, wanted in (("area", area), ("unit", unit)):
            if wanted is not None:
                units &= mask_of(getattr(self, name), wanted, name)
        if not trials.any() or not units.any():
            raise BadInput(f"{int(trials.sum())} trials and {int(units.sum())} units have all of these labels")
        found = self if trials.all() and units.all() else self._take(trials, units)
        return found if time is None else averaging.between(found, time)

    def _take(self, trials: Any, units: Any | None = None) -> Recording:
        """The trials (a mask or indices, in this order) and units (likewise)."""
        at = torch.as_tensor(trials)
        changes: dict[str, Any] = {"x": self.x[at]}
        changes |= {f: getattr(self, f)[at.numpy()] for f in TRIAL_FIELDS if getattr(self, f) is not None}
        if units is not None:
            changes["x"] = changes["x"][:, torch.as_tensor(units)]
            changes |= {f: getattr(self, f)[units] for f in UNIT_FIELDS if getattr(self, f) is not None}
        return replace(self, **changes)

    def bins(
        self, width: float, *, start: float | None = None, stop: float | None = None, how: str = "mean"
    ) -> Recording:
        """Wider time bins: the mean (or how="sum", for spike counts) of the time points in [t, t + width) seconds.

        A bin's time is its centre. Bins begin at `start` (default the first time point) and end by `stop`; time points
        that fill no whole bin are left out, and counted in the notes. Raises BadInput for an empty bin.

        >>> spikes = Recording(torch.ones(4, 3, 6), list("abab"), time=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
        >>> spikes.bins(0.2, how="sum").x[0, 0].tolist(), [round(float(t), 3) for t in spikes.bins(0.2).time]
        ([2.0, 2.0, 2.0], [0.1, 0.3, 0.5])
        """
        return averaging.binned(self, width, start, stop, how)

    def condition_means(self, by: str | Sequence[str] | None = None) -> Recording:
        """The mean response to each condition, as a recording of one trial each; with `by`, in each run, session, ...

        Conditions and runs are in sorted order, and combinations that do not occur are left out; the notes say how many
        trials each mean is of. Raises BadInput for `by` without labels.

        >>> found = Recording(torch.tensor([[1.0], [3.0], [5.0]]), ["a", "a", "b"]).condition_means()
        >>> found.x.tolist(), found.notes
        ([[2.0], [5.0]], ('2 means of conditions over 1 to 2 trials each',))
        """
        return averaging.condition_means(self, [by] if isinstance(by, str) else list(by or ()))

    def match_trials(self, n: int | None = None, *, seed: int = 0) -> Recording:
        """The same number of trials of each condition, drawn at random without repetition, in their order.

        n: how many; default as many as the rarest condition has. Raises BadInput where a condition has fewer.

        >>> found = Recording(torch.rand(5, 2), list("aaabb")).match_trials(seed=1)
        >>> found.trials_per_condition, found.notes
        ({'a': 2, 'b': 2}, ('2 trials of each condition were drawn at random (seed 1), of 2 to 3',))
        """
        return averaging.matched(self, n, seed)

    def by_session(self) -> dict[Hashable, Recording]:
        """Session -> its own recording; BadInput without session labels."""
        if self.session is None:
            raise BadInput("the recording has no session labels: give session= when it is made")
        return {one: replace(self.select(session=one), name=f"{self.name} {one}".strip()) for one in self.sessions}

    def to_representation(
        self, *, area: Hashable = None, groups: str | None = "auto", time: str = "mean"
    ) -> Representation:
        """Trials as samples, units as features, conditions as labels, runs (or sessions, ...) as groups.

        Args:
            area: of its units only; default all units.
            groups: see `groups_by`.
            time: of a time axis, "mean" over it, or "flatten": each unit at each time is a feature. `meta["reduce"]`
                says which.

        Raises BadInput for an area that is not there.

        >>> Recording(torch.rand(4, 3), list("abab"), run=[1, 1, 2, 2]).to_representation().groups.tolist()
        [0, 0, 1, 1]
        """
        return representations.of_recording(self, area, groups, time)

    def to_representations(self, *, groups: str | None = "auto", time: str = "mean") -> dict[str, Representation]:
        """Area -> Representation, as measures and `compare` take them; one of all units without area labels.

        >>> list(Recording(torch.rand(4, 3), list("abab"), area=["V1", "V4", "V4"]).to_representations())
        ['V1', 'V4']
        """
        return representations.by_area(self, groups, time)

    def signal_to_noise(self, *, groups: str | None = "auto", time: str = "mean") -> dict[str, float]:
        """Area -> variance of the condition means over that of a single trial around them, each summed over units.

        Noise does not add to the signal: only trials of different runs (or sessions, subjects; different trials where
        nothing groups them) are multiplied. Around 0, and below it by chance, where conditions do not differ.

        groups, time: see `to_representation`.

        >>> x = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> x += 2 * torch.randn(8, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).repeat(500, 1)
        >>> 2 < Recording(x, list(range(8)) * 500).signal_to_noise()["all units"] < 6
        True
        """
        return {area: signal_to_noise(rep) for area, rep in self.to_representations(groups=groups, time=time).items()}

    def _columns(self) -> dict[str, Any]:
        return display.columns(self)

    def _chart(self) -> Plot | Heat:
        return display.chart(self)

    def __str__(self) -> str:
        return display.text(self)
