"""When a run fitted, generalised and turned its kernel, and what the order says: lazy, rich, or first lazy, then rich.

The kernel's turn is the angle between the double-centred tangent kernel and the first one. Of a run that fits,

    lazy throughout       the turn never exceeds LAZY_TURN
    lazy-then-rich        more than LATE_SHARE of the furthest turn came after the fit
    rich from the start   otherwise: the kernel had turned by the time the training samples were fitted

Grokking is a test transition long after the fit, whatever the kernel did: `delay` and `grokked` say so on their own.

LAZY_TURN and LATE_SHARE were set on 34 runs (polynomial networks at alpha = .25, .5, 4, 8, and sums mod 23 with and
without decay) and judged on 56 others (other alphas and seeds, sums mod 29 and 31, ReLU, digits at both ends of the
knob, digits from a large start with decay): balanced accuracy 1.00; the truth is how a run was set up
(benchmarks/transition_verdicts.py). They lie well within a regime, the nearest to a limit being ReLU's, late share
.56. Between regimes the numbers change smoothly and the verdict is only the nearer one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

from scipy.special import stdtrit

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.regimes.training.series import TrainingSeries
from geomfeat.tangent import SilentAlignment, silent_alignment_lag

LAZY_THEN_RICH, RICH, LAZY, NONE = "lazy-then-rich", "rich from the start", "lazy throughout", "no transition"
VERDICTS = (LAZY_THEN_RICH, RICH, LAZY, NONE)
FITTED_ACCURACY, GENERALISED_ACCURACY = 0.99, 0.8
FITTED_LOSS, GENERALISED_LOSS = 0.1, 0.2  # shares of the first loss, for tasks without classes
LAZY_TURN = 0.15  # radians
LATE_SHARE = 0.5
LATE_TEST = 3.0  # test transition over fit, in steps, from which on a run has grokked


@dataclass(frozen=True)
class TransitionReport(BaseResult):
    """The order of events in one run; a time is NaN where its event did not happen.

    Attributes:
        verdict: one of `VERDICTS`.
        fit_time: step of train accuracy .99 (without classes: a tenth of the first train loss).
        test_time: step of test accuracy .8 (without classes: a fifth of the first test loss).
        delay: test_time / fit_time.
        grokked: whether the delay is at least 3.
        fastest_time: step at which the kernel left its start fastest per unit of log time, after step 0.
        fastest_velocity: radians per unit of natural log time, there.
        turn_at_fit, furthest_turn: radians.
        late_share: share of the furthest turn that came after the fit, in [0, 1].
        silent: whether the kernel aligned with the targets before the train loss fell, or None without enough records.
        flags: what to know before the numbers are used.
    """

    verdict: str
    fit_time: float
    test_time: float
    delay: float
    grokked: bool
    fastest_time: float
    fastest_velocity: float
    turn_at_fit: float
    furthest_turn: float
    late_share: float
    silent: SilentAlignment | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeanOfRuns:
    """Mean over the runs in which an event happened, with a 95 % interval (Student's t); NaN bounds for one run.

    n: runs that count; missing: those in which the number does not exist.
    """

    mean: float
    low: float
    high: float
    n: int
    missing: int


def transitions(series: TrainingSeries) -> TransitionReport:
    """Times of the fit, the test transition and the kernel's fastest turn, and the verdict.

    Times are of first crossings, interpolated linearly between records. A series that diverged is judged up to its
    last finite record, and flagged.

    >>> from geomfeat.regimes.training.series import KernelPath
    >>> path = KernelPath((0, 0, 0.2, 0.2), (0, 0.01, 0.6, 0.6), (0, 0.01, 0.6, 0.01), (0.0, 0.0, 0.4, 0.4))
    >>> found = transitions(TrainingSeries((0, 10, 100, 200), (1, 0.05, 0.01, 0.01), path, (1, 1, 0.1, 0.1)))
    >>> found.verdict, round(found.fit_time, 1), round(found.test_time, 1), found.grokked
    ('lazy-then-rich', 9.5, 90.0, True)
    """
    end, flags = _alive(series)
    steps, turn = series.steps[:end], series.kernel.turn[:end]
    fit = _fit_time(series, end)
    test = _test_time(series, end)
    fastest, velocity = _fastest(steps, turn)
    furthest = max(turn)
    at_fit = math.nan if math.isnan(fit) else _at(steps, turn, fit)
    late = 1 - at_fit / furthest if furthest > 0 else math.nan
    if math.isnan(fit):
        flags.append("the training samples were never fitted: train longer, or with another rate")
        verdict = NONE
    elif furthest <= LAZY_TURN:
        verdict = LAZY
    else:
        verdict = LAZY_THEN_RICH if late > LATE_SHARE else RICH
    if verdict == LAZY_THEN_RICH and math.isnan(test) and (series.test_loss or series.test_accuracy):
        flags.append("the kernel turned after the fit, but the test samples were not learned")
    if not math.isnan(fit) and fit <= steps[min(2, end - 1)]:
        flags.append("fitted within the first two records: record earlier steps")
    delay = test / fit if fit > 0 else math.nan
    return TransitionReport(
        verdict, fit, test, delay, delay >= LATE_TEST, fastest, velocity, at_fit, furthest, late,
        _silent(series, end), tuple(flags),
    )  # fmt: skip


def over_seeds(reports: Sequence[TransitionReport]) -> dict[str, MeanOfRuns]:
    """Intervals of the numbers of runs that differ by their seed: of times and the delay over their log10.

    Keys: log10_fit_time, log10_test_time, log10_delay, log10_fastest_time, turn_at_fit, furthest_turn, late_share,
    silent_log_ratio. Runs without the event are left out and counted as missing: a mean over the others is too early.

    >>> found = [TransitionReport("", t, 10 * t, 10.0, True, t, 1.0, 0.1, 0.5, 0.8, None) for t in (10.0, 1000.0)]
    >>> over_seeds(found)["log10_fit_time"].mean
    2.0
    """
    if not reports:
        raise BadInput("reports is empty: give the report of at least one run")

    def log10(value: float) -> float:
        return math.log10(value) if value > 0 else math.nan

    numbers: dict[str, Callable[[TransitionReport], float]] = {
        "log10_fit_time": lambda r: log10(r.fit_time),
        "log10_test_time": lambda r: log10(r.test_time),
        "log10_delay": lambda r: log10(r.delay),
        "log10_fastest_time": lambda r: log10(r.fastest_time),
        "turn_at_fit": lambda r: r.turn_at_fit,
        "furthest_turn": lambda r: r.furthest_turn,
        "late_share": lambda r: r.late_share,
        "silent_log_ratio": lambda r: math.nan if r.silent is None else r.silent.log_ratio,
    }
    return {name: _interval([of(r) for r in reports]) for name, of in numbers.items()}


def _interval(values: list[float]) -> MeanOfRuns:
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return MeanOfRuns(math.nan, math.nan, math.nan, 0, len(values))
    mean = fmean(known)
    half = math.nan
    if len(known) > 1:
        half = float(stdtrit(len(known) - 1, 0.975)) * stdev(known) / len(known) ** 0.5
    return MeanOfRuns(mean, mean - half, mean + half, len(known), len(values) - len(known))


def _alive(series: TrainingSeries) -> tuple[int, list[str]]:
    """Number of records before anything that is known stops being finite, and flags."""
    known = (series.train_loss, series.test_loss, series.train_accuracy, series.test_accuracy, series.kernel.turn)
    end = 0
    for values in zip(*(v for v in known if v is not None), strict=True):
        if not all(map(math.isfinite, values)):
            break
        end += 1
    if end < 2:
        raise BadInput(
            "the series is finite at fewer than two records: check the first snapshots, and "
            "that the outputs of the first network depend on its inputs"
        )
    flags = []
    if end < len(series.steps):
        flags.append(f"not finite from step {series.steps[end]:g} on (diverged, or a dead output): judged up to there")
    if max(series.train_loss[:end]) == min(series.train_loss[:end]) and max(series.kernel.turn[:end]) == 0:
        flags.append("nothing changed over the series: are the snapshots copies of one network?")
    return end, flags


def _fit_time(series: TrainingSeries, end: int) -> float:
    if series.train_accuracy is not None:
        return _reached(series.steps, series.train_accuracy[:end], FITTED_ACCURACY)
    return _fallen(series.steps, series.train_loss[:end], FITTED_LOSS)


def _test_time(series: TrainingSeries, end: int) -> float:
    if series.test_accuracy is not None:
        return _reached(series.steps, series.test_accuracy[:end], GENERALISED_ACCURACY)
    if series.test_loss is not None:
        return _fallen(series.steps, series.test_loss[:end], GENERALISED_LOSS)
    return math.nan


def _fallen(steps: Sequence[float], values: Sequence[float], share: float) -> float:
    """When values first fall to a share of the first."""
    return _reached(steps, [-v for v in values], -share * values[0])


def _reached(steps: Sequence[float], values: Sequence[float], level: float) -> float:
    """When values first reach the level, interpolated; NaN if never."""
    k = next((i for i, v in enumerate(values) if v >= level), None)
    if k is None:
        return math.nan
    if k == 0:
        return float(steps[0])
    share = (level - values[k - 1]) / (values[k] - values[k - 1])
    return steps[k - 1] + share * (steps[k] - steps[k - 1])


def _at(steps: Sequence[float], values: Sequence[float], time: float) -> float:
    """The value at a time, interpolated linearly."""
    k = next(i for i, step in enumerate(steps) if step >= time)
    if k == 0:
        return values[0]
    share = (time - steps[k - 1]) / (steps[k] - steps[k - 1])
    return values[k - 1] + share * (values[k] - values[k - 1])


def _fastest(steps: Sequence[float], turn: Sequence[float]) -> tuple[float, float]:
    """Geometric middle of the interval in which the turn grew most per unit of log time, and that velocity, or NaN.

    Not of the largest arc: an optimizer of constant step keeps shaking the kernel long after it has arrived.
    """
    best = (0.0, math.nan)
    for (old, new), (before, after) in zip(pairwise(steps), pairwise(turn), strict=True):
        if old > 0 and (after - before) / math.log(new / old) > best[0]:
            best = ((after - before) / math.log(new / old), math.sqrt(old * new))
    return best[1], best[0] if best[0] > 0 else math.nan


def _silent(series: TrainingSeries, end: int) -> SilentAlignment | None:
    alignment = series.kernel.alignment[:end]
    if end < 3 or not all(map(math.isfinite, alignment)):
        return None
    return silent_alignment_lag(series.steps[:end], alignment, series.train_loss[:end])
