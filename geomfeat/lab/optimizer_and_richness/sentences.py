"""The answer in words, and what limits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from geomfeat.lab.optimizer_and_richness.starts import ADAMW, BEYOND, FLOW, LAZY, RICH, SGD
from geomfeat.lab.optimizer_and_richness.summary import BELOW, EDGE, Found, Mean, edge, mean_of, rows_of, slope


def answer(found: Found) -> str:
    """What moves R, what moves E and the kernel, and from which rate on."""
    return " ".join([_of_demand(found), _of_the_edge(found), _of_rich(found), _of_schedules(found)])


def _of_demand(found: Found) -> str:
    names = found.optimizers(LAZY)
    slopes = [f"{slope(found.of(LAZY, name), 'R')} ({name})" for name in names]
    plain = [mean_of(found.at_slowest(LAZY, name, "R_plain")).value for name in names]
    apart = max(plain) - min(plain)
    below = slope(found.of(LAZY, SGD), "R", high=BELOW).value
    return (
        f"R hardly moves: in a lazy network trained to a loss of {found.target:g} its slope on log₁₀ rate is less than "
        f"{_bound(below)} below the stable rate of SGD, and over all rates {', '.join(slopes)}. In one metric the "
        f"slowest trainings of all optimizers agree to {apart:.3f} decades."
    )


def _of_the_edge(found: Found) -> str:
    rows = found.of(LAZY, SGD)
    below, beyond = slope(rows, "E", high=BELOW), slope(rows, "E", low=1.0)
    edges = {name: edge(found.of(LAZY, name), "E") for name in found.optimizers(LAZY)}
    layers = [edge(rows, f"E{layer}") for layer in (1, 2)]
    others = ", ".join(f"{_times(at)} ({name})" for name, at in edges.items() if name != SGD)
    return (
        f"E does: under SGD its slope is {below} below the stable rate and {beyond} from it on. It is up by {EDGE:g} "
        f"at {_times(edges[SGD])} the stable rate ({_times(layers[0])} and {_times(layers[1])} in layers 1 and 2), "
        f"after the kernel excess at {_times(edge(rows, 'kernel_excess'))}; other optimizers at {others} their unit."
    )


def _of_rich(found: Found) -> str:
    rows = found.of(RICH, SGD)
    changes = [mean_of(rows_of(rows, share=share)["kernel_change"].tolist()).value for share in (FLOW, BEYOND)]
    excess = [mean_of(rows_of(rows, share=share)["E"].tolist()).value for share in (FLOW, BEYOND)]
    return (
        f"In a rich network large rates do the reverse, from {_times(edge(rows, 'kernel_excess'))} the stable rate on: "
        f"at twice the rate the kernel changes by {changes[1]:.1f} of its size, not {changes[0]:.1f}, and E is "
        f"{excess[1]:+.2f}, not {excess[0]:+.2f}."
    )


def _of_schedules(found: Found) -> str:
    rows = [r for r in found.effects.to_dict("records") if math.isfinite(r["E_error"])]
    own = {share: [r for r in rows if (r["start"], r["optimizer"], r["share"]) == (LAZY, SGD, share)]
           for share in (FLOW, BEYOND)}  # fmt: skip
    parts = [f"{r['schedule']} {r['E']:+.2f} ± {r['E_error']:.2f}" for r in own[BEYOND]]
    return (
        f"Schedules change E of the lazy network under SGD by at most {_largest(own[FLOW], 'E'):.2f} at half of the "
        f"stable rate, and at twice by: {', '.join(parts)}; R of any network by at most {_largest(rows, 'R'):.2f}."
    )


def _largest(rows: Sequence[dict[str, Any]], column: str) -> float:
    return max((abs(r[column]) for r in rows), default=math.nan)


def _bound(value: float) -> str:
    """The next higher of 0.001, 0.002, ...: what the size of a value is below."""
    return f"{math.ceil(1000 * abs(value) + 1e-9) / 1000:.3f}"


def _times(found: Mean) -> str:
    return f"{10**found.value:.2f} ×" if math.isfinite(found.value) else "no rate tried,"


def notes(found: Found) -> list[str]:
    """Why R is not quite flat, and what limits the numbers."""
    rows = found.losses
    apart = {loss: mean_of(rows_of(rows, target=loss, share=BEYOND)["R"].tolist()).value
             - mean_of(rows_of(rows, target=loss, share=FLOW)["R"].tolist()).value
             for loss in sorted(set(rows["target"]))}  # fmt: skip
    flow, beyond = (mean_of(rows_of(rows, target=found.target, share=share)["left_fast"].tolist()).value
                    for share in (FLOW, BEYOND))  # fmt: skip
    drift = ", ".join(f"{value:+.3f} at a loss of {loss:g}" for loss, value in apart.items())
    out = [
        f"One loss is not one function. In the flow {flow:.0%} of what is not yet learned is in fast modes, at twice "
        f"the stable rate {beyond:.0%}, where more of the slow ones is learned. So R rises a little with the rate: at "
        f"twice the stable rate less at half of it {drift}.",
        "Momentum m swings fast modes past their goal at any rate above (1 − √m)² / λ, far below the stable one; so "
        "its E rises before. A first step of AdamW or Muon has one size whatever the gradient.",
        "Intervals are 90 %, over seeds of the initial weights. R is in the metric of the optimizer: from its state "
        "for AdamW, from the gradient at the start for Muon.",
    ]
    if ADAMW in found.optimizers(LAZY):
        own, plain = (mean_of(found.at_slowest(LAZY, ADAMW, name)).value for name in ("R", "R_plain"))
        out.append(f"AdamW's own metric reads {own - plain:+.2f} decades above the plain one, from the same weights.")
    lost = found.rates[~found.rates["reached"]]
    if len(lost):
        names = sorted({f"{r['start']}, {r['optimizer']} at {r['share']:g}" for r in lost.to_dict("records")})
        out.append(f"These missed the loss with some seeds, and are left out: {'; '.join(names)}.")
    return out
