"""How much work a location is: resamples, shares and directions of the outputs, as asked for or as the size allows."""

from __future__ import annotations

from dataclasses import dataclass

from geomfeat.location.demand import FEW_SHARES, SHARES
from geomfeat.location.initial_states import Observed
from geomfeat.location.kernel_place import MANY_OUTPUTS
from geomfeat.location.options import LocateOptions

BOOTSTRAP, HEAVY_BOOTSTRAP, HEAVY_PROJECTIONS = 20, 6, 4
# Entries n C p of the Jacobian of all outputs, above which some hundred products with it, for each of thirty solutions,
# take minutes on one core: then as for a heavy network, whatever its number of parameters.
ENTRIES = 5e9
# Rows n C above which they do so for the smallest network: each product is a pass of it, which has a least time.
MOST_ROWS = 8192
ORDERS, HEAVY_ORDERS = 4, 1  # random orders of the probes to average the growth of R with their number over


@dataclass(frozen=True)
class Effort:
    """The work of one location.

    Attributes:
        n_bootstrap: resamples of the probes. orders: random orders of them for the growth of R with their number.
        shares: of the change, left where the responses stop. projections: directions of the outputs for resamples, and
            for R itself where not `all_outputs`; None for all outputs everywhere. method: of `linearised_task`.
    """

    n_bootstrap: int
    orders: int
    shares: tuple[float, ...]
    projections: int | None
    all_outputs: bool
    method: str


def effort_of(observed: Observed, options: LocateOptions, *, known: bool, climbed: bool) -> Effort:
    """The effort for a network, as given or as the size of the work allows.

    Args:
        known: whether the initial weights are. climbed: whether there is a ladder, which compares all outputs.
    """
    heavy, projections = _is_heavy(observed), options.projections
    if projections is None and heavy and not climbed and observed.outputs.shape[1] > MANY_OUTPUTS:
        projections = HEAVY_PROJECTIONS
    # Fresh starts differ by far more than three shares from nine.
    usual = SHARES if known and not heavy else FEW_SHARES
    return Effort(
        options.n_bootstrap or (HEAVY_BOOTSTRAP if heavy else BOOTSTRAP),
        HEAVY_ORDERS if heavy else ORDERS,
        usual if options.share_left is None else (options.share_left,),
        projections,
        options.projections is None,
        options.method,
    )


def _is_heavy(observed: Observed) -> bool:
    n_outputs = observed.outputs.shape[1]
    rows = len(observed.rows) * n_outputs
    many = rows > MOST_ROWS or rows * observed.network.f.n_parameters > ENTRIES
    return observed.network.is_heavy or (n_outputs > MANY_OUTPUTS and many)
