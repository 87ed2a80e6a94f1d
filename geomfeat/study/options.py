"""Options of a study: its name and conditions, and what is done beyond the table and the location."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.location.reference_ladder import Ladder
from geomfeat.models.reinitialize import Factory
from geomfeat.tangent.tangent_space import Params

MOST_RUNGS = 100


@dataclass(frozen=True, eq=False)
class StudyOptions:
    """What `analyze` takes beyond the network and its samples.

    Attributes:
        name: of the model, the table's `run`; default "model".
        conditions: plain values by name that become columns of the table; default None: those of the Snapshot.
        evaluate: part -> (inputs, labels), or a Dataset or DataLoader of both in a fixed order, to report the accuracy
            on; default None: the inputs, as "data". The part "test" counts as samples that were not trained on, also
            over time.
        umap: the layer for the UMAP plot; True (default) the last, False none.
        resume: a folder for finished parts: after an interruption the same call resumes from them; default None.
        factory: draws fresh weights for the location where the initial ones are not known, see `locate`; default None:
            each module's own reset.
        ladder: number of reference networks to train, 2 to 100, or a Ladder, see `locate`; default None.
        params: which parameters were trained, for the location, see `locate`; default None: those that moved.
        optimizer: what trained them, for the location, see `locate`; default None: that of the Snapshot, if it has one.

    Raises BadInput for a number of rungs out of range.

    >>> StudyOptions(name="first", umap=False).ladder is None
    True
    """

    name: str = "model"
    conditions: Mapping[str, Any] | None = None
    evaluate: Mapping[str, Any] | None = None
    umap: bool | str = True
    resume: str | Path | None = None
    factory: Factory | None = None
    ladder: int | Ladder | None = None
    params: Params | None = None
    optimizer: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.ladder, int) and self.ladder < 2:
            raise BadInput(f"ladder={self.ladder}: at least 2 rungs, 4 to interpolate well")
        if isinstance(self.ladder, int) and self.ladder > MOST_RUNGS:
            raise BadInput(
                f"ladder={self.ladder}: at most {MOST_RUNGS} rungs, each a training; they lie half a decade apart"
            )
