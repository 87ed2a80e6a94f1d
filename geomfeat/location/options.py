"""Options of a location: how much work it is, and what is known of the training."""

from __future__ import annotations

from dataclasses import dataclass

from geomfeat.errors import BadInput

FEWEST_REINITIALISATIONS = 4
LOSSES = (None, "mse", "cross-entropy")


@dataclass(frozen=True)
class LocateOptions:
    """How `locate` measures, in `locate` and `analyze`.

    Attributes:
        n_probes: how many inputs to use (seeded choice), at least 4; default None: up to 256, fewer with many outputs:
            32, or 16 where the Jacobian of all outputs would have more than 3e13 entries.
        share_left: share of the change that remains when the linear response stops; default None: R is the mean over
            nine of them, from .001 to .1.
        n_bootstrap: resamples of the probes behind the interval, at least 2; default None: 20, or 6 for more than a
            million parameters, or as much work (5e9 entries of the Jacobian of all outputs, or 8,192 rows of it).
        n_reinitialisations: sets of fresh weights where the initial ones are not known, then at least 4; default 4.
        method, projections: see `linearised_task`. Default "auto" and None: all outputs. For as much work and more than
            16 outputs these are solved for by a guess at their kernel (`through_all_outputs`) and resamples go through
            the 4 leading directions of the change; where no last linear layer is found, everything does.
        budget: (seconds, bytes) that the location may take, either of them None: the most probes that fit are used, and
            the result says so; see `plan_location`. Default None: no limit.
        loss: of the training, "mse" or "cross-entropy", if known; cross-entropy raises a flag. Default None: unknown.

    Raises BadInput for another loss, fewer than two resamples, or a budget that is no pair of positive numbers.

    >>> LocateOptions(n_probes=50).n_reinitialisations
    4
    """

    n_probes: int | None = None
    share_left: float | None = None
    n_bootstrap: int | None = None
    n_reinitialisations: int = FEWEST_REINITIALISATIONS
    method: str = "auto"
    projections: int | None = None
    loss: str | None = None
    budget: tuple[float | None, float | None] | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise BadInput(f"loss={self.loss!r}: one of 'mse', 'cross-entropy', or leave it out")
        if self.n_bootstrap is not None and self.n_bootstrap < 2:
            raise BadInput(f"n_bootstrap={self.n_bootstrap}: an interval needs at least 2 resamples")
        if self.budget is not None and (
            not isinstance(self.budget, tuple | list)
            or len(self.budget) != 2
            or not all(most is None or most > 0 for most in self.budget)
        ):
            raise BadInput(f"budget={self.budget!r}: (seconds, bytes), positive numbers or None")
