"""What the trainings must show, by theory or by what the mechanism says; each can fail."""

from __future__ import annotations

import math

from geomfeat.lab.optimizer_and_richness.starts import BEYOND, FLOW, LAZY, RICH, SGD
from geomfeat.lab.optimizer_and_richness.summary import BELOW, Found, edge, mean_of, rows_of, slope
from geomfeat.lab.result import Check

HALVED = 0.01  # decades by which a number may change where the slowest rate is doubled
MANY_SEEDS = 3
SLOWEST = 0.05  # decades by which R of the slowest trainings may differ between optimizers


def checks(found: Found) -> list[Check]:
    """On matched loss, on R, on E and the kernel by rate, on optimizers and on schedules."""
    learned = found.rates[found.rates["reached"]]
    # A last step may pass the loss by as much as it lowers it.
    missed = max(abs(math.log10(loss / found.target)) for loss in learned["loss"])
    return [
        Check("largest distance from the matched loss", missed, 0.0, 0.2, "decades"),
        *_of_rates(found), *_of_optimizers(found), *_of_schedules(found),
    ]  # fmt: skip


def _of_rates(found: Found) -> list[Check]:
    lazy, rich = (found.of(name, SGD) for name in (LAZY, RICH))
    fast = {name: _beyond(found, name) for name in (LAZY, RICH)}
    checks = [
        Check(f"{name}, SGD: largest change of R, M, E when the slowest rate is doubled", _doubled(found, name), 0.0,
              HALVED, "decades")
        for name in (LAZY, RICH)
    ]  # fmt: skip
    checks += [
        Check(f"{name}, SGD: slope of R on log₁₀ rate, below the stable rate", slope(rows, "R", high=BELOW).value, 0.0,
              0.02)
        for name, rows in ((LAZY, lazy), (RICH, rich))
    ]  # fmt: skip
    checks += [
        Check(f"{name}, SGD: slope of R on log₁₀ rate, all rates", slope(rows, "R").value, 0.0, 0.1)
        for name, rows in ((LAZY, lazy), (RICH, rich))
    ]
    return [
        *checks,
        Check("lazy, SGD: slope of E, below", slope(lazy, "E", high=BELOW).value, 0.0, 0.02),
        Check("lazy, SGD: slope of the kernel excess, below", slope(lazy, "kernel_excess", high=BELOW).value, 0.0, 0.1),
        Check("lazy, SGD: slope of E, beyond", slope(lazy, "E", low=1.0).value, 1.0, 0.6),
        Check("lazy, SGD: log₁₀ of the edge in E, over the stable rate", edge(lazy, "E").value, 0.15, 0.15, "decades"),
        Check("lazy, SGD: kernel excess beyond less that in the flow", fast[LAZY], 0.4, 0.25, "decades"),
        Check("rich, SGD: kernel excess beyond less that in the flow", fast[RICH], -0.4, 0.25, "decades"),
    ]


def _doubled(found: Found, start: str) -> float:
    rows = found.of(start, SGD)
    slowest, second = sorted(rows["share"].unique())[:2]
    one, two = (rows_of(rows, share=share).set_index("seed")[["R", "M", "E"]] for share in (slowest, second))
    return float((one - two).abs().to_numpy().max())


def _beyond(found: Found, start: str) -> float:
    """By how much the kernel excess at `BEYOND` is above that at the slowest rate."""
    fast = mean_of(rows_of(found.of(start, SGD), share=BEYOND)["kernel_excess"].tolist()).value
    return fast - mean_of(found.at_slowest(start, SGD, "kernel_excess")).value


def _of_optimizers(found: Found) -> list[Check]:
    plain = {name: mean_of(found.at_slowest(LAZY, name, "R_plain")).value for name in found.optimizers(LAZY)}
    checks = [
        Check(f"lazy: R of {name} less that of SGD, slowest rates, in the plain metric", plain[name] - plain[SGD], 0.0,
              SLOWEST, "decades")
        for name in plain if name != SGD
    ]  # fmt: skip
    risen = [mean_of(found.at_fastest(LAZY, name, "E")).value - mean_of(found.at_slowest(LAZY, name, "E")).value
             for name in plain]  # fmt: skip
    return [
        *checks,
        Check("lazy: E at the fastest rate less that at the slowest, least of all optimizers", min(risen), 0.4, 0.35,
              "decades"),
        Check("lazy: largest slope of R on log₁₀ rate, all rates, of all optimizers",
              max((slope(found.of(LAZY, name), "R").value for name in plain), key=abs), 0.0, 0.1),
    ]  # fmt: skip


def _of_schedules(found: Found) -> list[Check]:
    seen = {(r["start"], r["optimizer"], r["share"], r["schedule"]): r for r in found.effects.to_dict("records")}
    slow = seen[LAZY, SGD, FLOW, "warm-up"]
    decayed = seen[LAZY, SGD, FLOW, "decay 5%"]
    asked = max(abs(r["R"]) for r in seen.values() if math.isfinite(r["R"]))
    drift = {share: mean_of(rows_of(found.losses, share=share, target=found.target)["R"].tolist()).value
             - mean_of(rows_of(found.losses, share=share, target=found.losses["target"].max())["R"].tolist()).value
             for share in (FLOW, BEYOND)}  # fmt: skip
    fast = seen[LAZY, SGD, BEYOND, "warm-up"]
    # What catapults do differs from seed to seed.
    warmed = [Check("lazy, SGD: effect of warm-up on E, beyond", fast["E"], -0.1, 0.09, "decades")]
    return [
        *(warmed if fast["n"] >= MANY_SEEDS else ()),
        Check("largest effect of a schedule on R", asked, 0.0, 0.05, "decades"),
        Check("lazy, SGD: effect of warm-up on E, below", slow["E"], 0.0, 0.01, "decades"),
        Check("lazy, SGD: effect of weight decay of 5 % on E, below", decayed["E"], 0.025, 0.022, "decades"),
        Check("lazy, SGD: R rises with what is learned, more in the flow than beyond", drift[FLOW] - drift[BEYOND],
              0.04, 0.035, "decades"),
    ]  # fmt: skip
