"""Options of a comparison: how much work its draws are."""

from __future__ import annotations

from dataclasses import dataclass

from geomfeat.comparison.models.recordings import MEANS, TRIALS
from geomfeat.errors import BadInput


@dataclass(frozen=True)
class CompareOptions:
    """How `compare` draws and ranks.

    Attributes:
        comparator: of layers with brains, see `rank_by_rsa`; default "rho_a".
        n_draws: number of random draws of the capacity, the same draws for all layers of all models; at least 1,
            default 200.
        n_bootstrap: samples of the bootstrap behind the errors of the ranking, see `rank_by_rsa`; default 1000.
        umap: also a UMAP of the layers, if there are at least 15; default False.
        trials: how Recordings are compared with each other and with networks, which have other trials, and more or
            fewer. "means" (default): one row for each condition that all have, its mean. "matched": as many trials of
            each condition from all models, drawn at random; capacities are compared at equal numbers of trials and
            units, chosen again and again. "same": trials correspond one by one, as of areas recorded together.

    Raises BadInput for fewer than one draw, and an unknown word for the trials.

    >>> CompareOptions(n_draws=50).comparator
    'rho_a'
    """

    comparator: str = "rho_a"
    n_draws: int = 200
    n_bootstrap: int = 1000
    umap: bool = False
    trials: str = MEANS

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise BadInput(f"n_draws={self.n_draws} must be at least 1")
        if self.trials not in TRIALS:
            raise BadInput(f"trials={self.trials!r}: use one of {', '.join(map(repr, TRIALS))}")
