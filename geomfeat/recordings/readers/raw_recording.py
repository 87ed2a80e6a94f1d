"""What every reader returns: arrays and labels as they were found, NaN included, before anything is decided."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from geomfeat.errors import BadInput
from geomfeat.recordings._pseudo_population import pseudo_population
from geomfeat.recordings._recording import Recording
from geomfeat.recordings.trial_labels import TRIAL_FIELDS, UNIT_FIELDS, label_array, levels

TOGETHER, APART, PSEUDO = "together", "apart", "pseudo-population"
SESSIONS = (TOGETHER, APART, PSEUDO)


@dataclass(frozen=True, eq=False)
class RawRecording:
    """x (trials, units[, time]) with NaN where nothing was measured; labels by field; notes on how it was read."""

    x: Any
    labels: dict[str, Any]
    time: Any = None
    name: str = ""
    notes: tuple[str, ...] = field(default=())

    def finished(self, missing: str, sessions: str, seed: int) -> Recording | dict[Hashable, Recording]:
        """The recording; or one for each session, of the units that have values in it, or these side by side.

        Raises BadInput as `Recording`, and for sessions that are to be separated and have no labels.
        """
        if sessions not in SESSIONS:
            raise BadInput(f"sessions={sessions!r}: use one of {', '.join(map(repr, SESSIONS))}")
        if sessions == TOGETHER:
            return self._recording(missing)
        if self.labels.get("session") is None:
            raise BadInput(f"sessions={sessions!r}: there are no session labels, name them by session=")
        labels = label_array(self.labels["session"], "session", len(self.x), "trials")
        parts = {one: self._session(labels == one, one)._recording(missing) for one in levels(labels)}
        return parts if sessions == APART else pseudo_population(parts, seed=seed, name=self.name)

    def _recording(self, missing: str) -> Recording:
        try:
            return Recording(
                self.x, **self.labels, time=self.time, name=self.name, notes=self.notes, missing=missing
            )  # fmt: skip
        except BadInput as cause:
            empty = self._sessions_apart()
            raise BadInput(f"{cause}. {empty}") if empty and "missing of" in str(cause) else cause from cause

    def _session(self, rows: np.ndarray, name: Hashable) -> RawRecording:
        """The trials of one session, and the units that have any value in it."""
        x = self.x[rows]
        there = np.ones(x.shape[1], dtype=bool)
        if x.dtype.kind == "f":
            there = ~np.isnan(x).transpose(1, 0, *range(2, x.ndim)).reshape(x.shape[1], -1).all(1)
        labels: dict[str, Any] = {}
        of_field: tuple[tuple[tuple[str, ...], list[bool]], ...] = (
            (TRIAL_FIELDS, rows.tolist()), (UNIT_FIELDS, there.tolist()),
        )  # fmt: skip
        for fields, kept in of_field:
            given = {f: self.labels[f] for f in fields if self.labels.get(f) is not None}
            labels |= {f: [v for v, k in zip(values, kept, strict=True) if k] for f, values in given.items()}
        return replace(self, x=x[:, there], labels=labels, name=f"{self.name} {name}".strip())

    def _sessions_apart(self) -> str:
        """A remedy where units have values in some of the sessions only."""
        session = self.labels.get("session")
        if session is None or self.x.dtype.kind != "f":
            return ""
        values = np.asarray(session)
        empty = torch.isnan(torch.as_tensor(self.x)).reshape(*self.x.shape[:2], -1).all(2)
        gone = torch.stack([empty[torch.from_numpy(values == one)].all(0) for one in levels(values)])
        partly = int((gone.any(0) & ~gone.all(0)).sum())
        if not partly:
            return ""
        return (
            f"{partly} units have no values in some of the sessions: sessions='pseudo-population' puts sessions side "
            "by side, sessions='apart' gives one recording for each"
        )
