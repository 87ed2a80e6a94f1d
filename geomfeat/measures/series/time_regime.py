"""The verdict over time: was a network rich from the start, lazy throughout, or first lazy and then rich.

The numbers and the verdict are those of `geomfeat.regimes.grokking._transitions`, which says what its limits rest on.
"""

from __future__ import annotations

import math
from math import inf, pi

import torch
from torch import Tensor
from torch.nn import functional

from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.measures.network._probe_samples import WORK
from geomfeat.models.nested_inputs import as_inputs, batches, n_samples, take
from geomfeat.models.one_network import require_one_network
from geomfeat.models.trained_parameters import functional_in
from geomfeat.regimes.grokking import TransitionReport, transitions
from geomfeat.regimes.training import training_series
from geomfeat.regimes.training.class_targets import SIGNS, Levels, as_row, threshold_of, two_levels, unnumbered
from geomfeat.regimes.training.objective import Loss
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotSeries
from geomfeat.tangent import JacobianRows
from geomfeat.types import Estimate

FEWEST = 3  # a start, a middle and an end: two snapshots have no order of events
FEWEST_PROBES = 16
ZERO_AND_ONE: Levels = (0.0, 1.0)

NEVER_FITTED = "the training samples were never fitted, so nothing came before or after the fit"
UNKNOWN_LOSS = (
    "the loss of the training is not known, and the alignment is timed against it: give loss= (a study: --loss, or "
    "location=LocateOptions(loss=...))"
)
NO_TEST = "no test samples were given: only the training side is judged"
NOT_LEARNED = "the test samples were not learned within the series"
FITTED_AT_ONCE = "the training samples were fitted in the first snapshot: begin at an earlier one"
STILL = "the kernel never left its start: are the snapshots copies of one network?"
NOT_AFTER_THE_START = "the kernel left its start in no interval after the first step: record more steps"
FEW_RECORDS = "the alignment with the targets is not known at three snapshots or more"


@measure(
    source="order of the fit and the kernel's turn: this package; lazy, then rich after Kumar et al. 2024 (grokking)",
    quantities={
        "fit_time": Quantity((0, inf), "steps", "higher = the training samples were fitted later"),
        "test_time": Quantity((0, inf), "steps", "higher = the test samples were learned later"),
        "delay": Quantity((0, inf), "test time / fit time", "higher = later after the fit; grokked from 3 on"),
        "fastest_time": Quantity((0, inf), "steps", "higher = the kernel turned fastest later"),
        "turn_at_fit": Quantity((0, pi / 2), "radians", "higher = the kernel had turned more by the fit"),
        "furthest_turn": Quantity((0, pi / 2), "radians", "higher = the kernel turned more; lazy to .15"),
        "late_share": Quantity(
            (0, 1), "share of the turn", "higher = more of it after the fit; lazy, then rich from .5"
        ),
        "silent_log_ratio": Quantity((-inf, inf), "ln of times", "below 0 = aligned before the loss fell, silently"),
    },
    needs={"labels"},
)
def time_regime(series: SnapshotSeries, probes: int = 64) -> dict[str, Estimate]:
    """When a run fitted, learned the test samples and turned its tangent kernel; the note gives the verdict.

    The verdict is "lazy-then-rich" (more than half of the turn came after the fit), "rich from the start", "lazy
    throughout" (it turned by .15 radians at most) or "no transition" (never fitted), with "grokked" where the test
    samples took three times as many steps as the fit. The kernel is traced over outputs, of `probes` training inputs;
    fewer where one is too heavy, in the parameters that moved. Samples count as fitted from accuracy .99 on (values: a
    tenth of the first loss), as learned from .8 (a fifth). Two values for one output are classes, divided half way
    between them; as many classes as outputs are numbered in sorted order. A number whose event did not happen is a
    failed row with the reason.

    Raises BadInput for fewer than three snapshots, those without steps, in another order, without training targets, or
    with fewer than two finite ones.

    >>> from geomfeat.models.mlp import mlp
    >>> from geomfeat.regimes.training import TrainOptions, train_at_gamma
    >>> x, y = torch.eye(8), torch.arange(8) % 2
    >>> run = train_at_gamma(mlp(8, (32,), 2, parameterization="ntk"), x, y, gamma=0.02, max_steps=60,
    ...                      options=TrainOptions(snapshot_steps="log", dtype=torch.float64))
    >>> found = time_regime(SnapshotSeries(run.snapshots_list, x, y, gamma=0.02))
    >>> found["furthest_turn"].note.split(";")[0], found["furthest_turn"].value < 0.15
    ('lazy throughout', True)
    """
    if len(series.snapshots) < FEWEST:
        raise BadInput(
            f"{len(series.snapshots)} snapshots are too few for an order of events: give {FEWEST} or more, best at "
            "steps evenly spaced in their logarithm (snapshot_steps='log')"
        )
    if series.targets is None:
        raise BadInput("targets is None, and a fit is one of training targets: give classes or values, one per input")
    _require_one_network(series)
    n = n_samples(as_inputs(series.inputs))
    n_outputs, affordable = _affordable(series, probes)
    used = min(affordable, n)
    goal = as_goal(series.targets, "targets")
    loss = _loss_of(series, goal, n_outputs)
    report = transitions(
        training_series(
            series.snapshots, series.inputs, series.targets, test=series.test,
            loss=loss, gamma=series.gamma, probes=used, readout=series.readout, device=series.device,
        )
    )  # fmt: skip
    some = "" if used == n else f"kernel of {used} of {n} inputs, evenly spread"
    return _estimates(report, series, some, _coding(goal, n_outputs, loss))


def _require_one_network(series: SnapshotSeries) -> None:
    first = series.snapshots[0]
    for later in series.snapshots[1:]:
        require_one_network(later.model, first.model, f"the weights at {later.at} differ from those at {first.at}")


def _affordable(series: SnapshotSeries, most: int) -> tuple[int, int]:
    """Number of outputs, and of probes: `most`, or fewer (FEWEST_PROBES at least) where Jacobians exceed `WORK`."""
    f = functional_in(series.snapshots[0].model, device=series.device, readout=series.readout)
    engine = JacobianRows(f, f.inputs(take(as_inputs(series.inputs), torch.arange(1))))
    return engine.n_outputs, min(most, max(FEWEST_PROBES, WORK // max(engine.saved * engine.n_outputs, 1)))


def _loss_of(series: SnapshotSeries, goal: Tensor, n_outputs: int) -> Loss:
    """The loss to judge by: the given one, that of logits where the last outputs show them, else the mean square."""
    levels = two_levels(goal, n_outputs)
    if series.loss is not None:
        return series.loss
    if levels is None or levels != ZERO_AND_ONE:
        return "mse"
    ends = []
    for snapshot in (series.snapshots[-1], series.snapshots[0]):
        f = functional_in(snapshot.model, device=series.device, readout=series.readout)
        with torch.no_grad():
            ends.append(torch.cat([f(f.theta, f.inputs(x)).cpu() for _, x in batches(as_inputs(series.inputs), 512)]))
    outputs = ends[0] if series.gamma is None else (ends[0] - ends[1]) / series.gamma
    return functional.binary_cross_entropy_with_logits if threshold_of(outputs, goal, levels) == 0 else "mse"


def _coding(goal: Tensor, n_outputs: int, loss: Loss) -> str:
    """How targets are read that are neither classes from 0 on nor -1 and +1; empty for those."""
    classes, levels = unnumbered(as_row(goal, n_outputs), n_outputs), two_levels(goal, n_outputs)
    if classes is not None:
        shown = ", ".join(str(c) for c in classes[:5].tolist())
        return f"classes {shown}{', ...' if len(classes) > 5 else ''} numbered in sorted order"
    if levels is None or levels == SIGNS:
        return ""
    at = threshold_of(torch.zeros(1, 1), goal[:1], levels, loss)
    where = "0, the outputs being logits" if at == 0 else f"{at:g}, half way between them"
    return f"targets {levels[0]:g} and {levels[1]:g} divided at {where}"


def _estimates(report: TransitionReport, series: SnapshotSeries, probes: str, coding: str) -> dict[str, Estimate]:
    verdict = verdict_of(report)
    steps = f"{len(series.snapshots)} snapshots to step {series.snapshots[-1].at}"
    scaled = "" if series.gamma is None else f"outputs less those of the start, over gamma = {series.gamma:g}"
    untested = NO_TEST if series.test is None else ""
    note = "; ".join(part for part in (verdict, *report.flags, steps, scaled, untested, probes, coding) if part)
    late, fitted = untested or NOT_LEARNED, not math.isnan(report.fit_time)
    goal = as_goal(series.targets, "targets")
    # Of values, the loss is that of the fit; classes are fitted by their accuracy, whatever the loss was.
    timed = series.loss is not None or goal.ndim != 1 or goal.is_floating_point()
    silent = report.silent if timed else None
    untimed = FEW_RECORDS if timed else UNKNOWN_LOSS
    numbers = {
        "fit_time": (report.fit_time, NEVER_FITTED),
        "test_time": (report.test_time, late),
        "delay": (report.delay, NEVER_FITTED if not fitted else FITTED_AT_ONCE if report.fit_time == 0 else late),
        "fastest_time": (report.fastest_time, STILL if report.furthest_turn == 0 else NOT_AFTER_THE_START),
        "turn_at_fit": (report.turn_at_fit, NEVER_FITTED),
        "furthest_turn": (report.furthest_turn, ""),
        "late_share": (report.late_share, STILL if fitted else NEVER_FITTED),
        "silent_log_ratio": (math.nan if silent is None else silent.log_ratio, silent.note if silent else untimed),
    }
    return {
        name: Estimate(value, note=note) if math.isfinite(value) else Estimate.failed(f"{verdict}: {why}")
        for name, (value, why) in numbers.items()
    }


def verdict_of(report: TransitionReport) -> str:
    """The verdict in words, with "grokked" where the test samples were learned long after the fit.

    >>> verdict_of(TransitionReport("lazy-then-rich", 10.0, 90.0, 9.0, True, 50.0, 1.0, 0.1, 0.8, 0.9, None))
    'lazy-then-rich, grokked'
    """
    return f"{report.verdict}, grokked" if report.grokked else report.verdict
