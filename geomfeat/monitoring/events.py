"""Early warnings: rules on the rows of a training so far. Each says something once, at the step that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from geomfeat.location.kernel_demand import CHANGED
from geomfeat.location.regimes import BY_OPTIMIZER, LAZY_BELOW
from geomfeat.monitoring.row import Event, Row
from geomfeat.regimes.grokking._transitions import LATE_SHARE, LAZY_TURN

SPIKE, FALLEN = 2.0, 0.85  # of the loss before, and of the kernel's size before
SAME, MUCH_LESS = 0.05, 0.1  # of the features' size, and of the spread at the start
NEARLY_ALL = 0.9  # of the features that were alive at the start
FIT, LATER = 0.1, 2.0  # of the first loss, and times the step at which it was fit
TURNED = 0.3  # radians, of which most after the fit
STILL_HIGH = 0.5  # of the first held-out loss
KINDS = (
    "left the linear regime", "catapult", "features collapse", "dead layer", "excess without demand",
    "grokking-like lag", "loss is not finite", "weights do not move",
)  # fmt: skip

Rule = Callable[[Sequence[Row]], Iterator[Event]]


def events_of(rows: Sequence[Row]) -> list[Event]:
    """All events of a series of rows, ascending in step: each kind once for the network or a layer."""
    found: list[Event] = []
    for end in range(1, len(rows) + 1):
        found += new_events(rows[:end], found)
    return found


def new_events(rows: Sequence[Row], known: Sequence[Event]) -> list[Event]:
    """What the last of these rows shows that is not `known` yet."""
    said = {(event.kind, event.layer) for event in known}
    found = [event for rule in RULES for event in rule(rows)]
    return [event for event in found if (event.kind, event.layer) not in said]


def _left_linear(rows: Sequence[Row]) -> Iterator[Event]:
    """The kernel has changed by a fifth; without a kernel, the features moved further than a lazy network's."""
    last = rows[-1]
    change, moved = last.get("kernel_change"), last.get("movement")
    by = ""
    if change >= CHANGED:
        by = f"the tangent kernel has changed by {100 * change:.0f} %"
    elif math.isnan(change) and moved > LAZY_BELOW:
        by = f"features have moved by {100 * 10**moved:.0f} % of their size"
    if by:
        yield _event(last, "left the linear regime", f"The network has left its linear regime: {by}.")


def _catapult(rows: Sequence[Row]) -> Iterator[Event]:
    """The loss rose to twice what it was, came back, and the kernel is smaller than before the rise.

    Lewkowycz et al. 2020: beyond the stable rate the loss grows until the curvature has fallen enough.
    """
    last, seen = rows[-1], [row for row in rows if math.isfinite(row.get("loss"))]
    peaks = [(_worst(row), i) for i, row in enumerate(seen)]
    if len(peaks) < 2:
        return
    height, at = max(peaks)
    before = [row for row in seen[:at] if row.get("loss") <= height / SPIKE]
    if not before or not last.get("loss") < before[-1].get("loss"):
        return
    ratio = last.get("kernel_size") / _kernel_size(before)
    if ratio <= FALLEN:
        text = (
            f"Catapult: the loss rose from {before[-1].get('loss'):.3g} to {height:.3g} near step {seen[at].step} and "
            f"fell again, and the tangent kernel has {100 * ratio:.0f} % of its size before: the rate was beyond the "
            "stable one."
        )
        yield _event(last, "catapult", text)


def _kernel_size(rows: Sequence[Row]) -> float:
    """The last known size of the kernel, that at the start where none is."""
    known = [row.get("kernel_size") for row in rows if math.isfinite(row.get("kernel_size"))]
    return known[-1] if known else 1.0


def _worst(row: Row) -> float:
    worst = row.get("worst_loss")
    return worst if math.isfinite(worst) else row.get("loss")


def _collapse(rows: Sequence[Row]) -> Iterator[Event]:
    """The features of a layer are nearly the same for every probe, and were not at the start."""
    last = rows[-1]
    for layer in last.layers:
        now, before = last.of_layer(layer, "spread"), rows[0].of_layer(layer, "spread")
        if now < SAME and now < MUCH_LESS * before:
            text = (
                f"The features of layer {layer!r} collapse: they differ between probes by {100 * now:.2g} % of their "
                f"size, {100 * before:.2g} % at the start."
            )
            yield _event(last, "features collapse", text, layer)


def _dead(rows: Sequence[Row]) -> Iterator[Event]:
    """No output depends on nearly all features of a layer that were in use at the start."""
    last = rows[-1]
    for layer in last.layers:
        now, before = last.of_layer(layer, "dead"), rows[0].of_layer(layer, "dead")
        if before < 1 and (now - before) / (1 - before) >= NEARLY_ALL:
            text = f"Layer {layer!r} is dead: the outputs depend on {100 * (1 - now):.2g} % of its features, "
            yield _event(last, "dead layer", f"{text}{100 * (1 - before):.2g} % at the start.", layer)


def _excess(rows: Sequence[Row]) -> Iterator[Event]:
    """Features moved half a decade further than the learned function demands."""
    last = rows[-1]
    if last.regime == BY_OPTIMIZER:
        text = (
            f"Excess without demand: features moved {10 ** last.get('excess'):.1f} times as far as the learned "
            "function demands: large steps, gradient noise or weight decay, or more training data than probes."
        )
        yield _event(last, "excess without demand", text)


def _lag(rows: Sequence[Row]) -> Iterator[Event]:
    """The training loss is low for long, yet the held-out loss is high, or the kernel began to turn only then."""
    seen = [row for row in rows if math.isfinite(row.get("loss"))]
    fit = next((row for row in seen if row.get("loss") <= FIT * seen[0].get("loss")), None)
    last = rows[-1]
    if fit is None or last.step < LATER * max(fit.step, 1) or not last.get("loss") <= FIT * seen[0].get("loss"):
        return
    turn, then = last.get("kernel_turn"), fit.get("kernel_turn")
    late = 1 - then / turn if turn > 0 else math.nan
    held, first = last.get("held_out_loss"), _first(rows, "held_out_loss")
    why = ""
    if held > STILL_HIGH * first:
        why = f"the held-out loss is still {held:.3g}, {first:.3g} at the start"
    elif late > LATE_SHARE and then < LAZY_TURN and turn > TURNED:
        why = f"{100 * late:.0f} % of the turn of the tangent kernel came later"
    if why:
        text = f"Grokking-like lag: the training loss has been low since step {fit.step}, and {why}."
        yield _event(last, "grokking-like lag", text)


def _first(rows: Sequence[Row], name: str) -> float:
    return next((row.get(name) for row in rows if math.isfinite(row.get(name))), math.nan)


def _not_finite(rows: Sequence[Row]) -> Iterator[Event]:
    last = rows[-1]
    if "loss" in last.network and not math.isfinite(last.get("loss")):
        text = f"The loss is {last.get('loss')}: the training diverged, or a batch holds such numbers."
        yield _event(last, "loss is not finite", text)
    elif "NaN" in last.note:
        yield _event(last, "loss is not finite", f"The training diverged: {last.note}.")


def _not_moving(rows: Sequence[Row]) -> Iterator[Event]:
    """The weights are exactly those of two measurements before, while the loss is another."""
    of_session = [row for row in rows if row.session == rows[-1].session]
    if len(of_session) < 3:
        return
    a, b, c = of_session[-3:]
    weights = [row.get("weight_change") for row in (a, b, c)]
    # Without a change of the outputs there is no change of weights in a row either.
    still = len(set(weights)) == 1 or (all(map(math.isnan, weights)) and not any(row.note for row in (a, b, c)))
    if still and a.get("loss") != c.get("loss"):
        text = (
            f"The weights have not moved since step {a.step}, while the loss changes: if the model was replaced, make "
            "a new monitor of the one that is trained."
        )
        yield _event(c, "weights do not move", text)


def _event(row: Row, kind: str, text: str, layer: str = "") -> Event:
    return Event(row.step, kind, text, layer, row.session)


RULES: tuple[Rule, ...] = (
    _not_finite, _left_linear, _catapult, _collapse, _dead, _excess, _lag, _not_moving,
)  # fmt: skip
