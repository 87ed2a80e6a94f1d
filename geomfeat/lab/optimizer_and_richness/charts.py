"""The figures: R, E and the kernel by rate and optimizer, by layer, effects of schedules, and along training."""

from __future__ import annotations

from collections.abc import Sequence

from geomfeat.charts import Curve, Plot
from geomfeat.lab.optimizer_and_richness.starts import ADAMW, LAZY, RICH, SGD
from geomfeat.lab.optimizer_and_richness.summary import Found, Table, mean_of, rows_of

UNIT = "rate, in units of the optimizer's own (1: stable rate, or full first step)"
APART = 0.12  # between the marks of one schedule
DECADES = {"E": "excess E, decades", "kernel_excess": "kernel excess, decades"}


def plots(found: Found) -> list[Plot]:
    """All of them; bars are one standard error over seeds."""
    followed = [name for name in (LAZY, RICH) if name in set(found.times["start"])]
    return [
        _by_rate(found, LAZY, "E", "Excess of a lazy network, by rate", "Dashed: the unit. For SGD and momentum it is "
                 "the stable rate of the forecast; for AdamW and Muon that at which the first step, linearised, moves "
                 "the outputs by the size of the targets."),
        _demand(found),
        _by_rate(found, LAZY, "kernel_excess", "Kernel excess of a lazy network, by rate", ""),
        _by_rate(found, RICH, "E", "Excess of a rich network, by rate", "The same weights with ten times the output "
                 "scale."),
        _by_rate(found, RICH, "kernel_excess", "Kernel excess of a rich network, by rate", "Under the flow the kernel "
                 "and with it the curvature grows; at the edge of stability curvature stays near 2 over the rate."),
        _by_layer(found),
        *_of_schedules(found),
        *(_along(found, name, column, label) for name in followed
          for column, label in (("E", "Excess"), ("kernel_change", "Change of the kernel"))),
    ]  # fmt: skip


def _curve(label: str, rows: Table, x: str, y: str) -> Curve:
    """Means over seeds, where two seeds or all have a number."""
    points = [(at, mean_of(own[y].tolist())) for at, own in rows.groupby(x)]
    return Curve(label, [float(at) for at, _ in points], [m.value for _, m in points], [m.error for _, m in points])


def _unit(curves: Sequence[Curve]) -> Curve:
    """A vertical line at 1, as high as the curves."""
    heights = [y for curve in curves for y in curve.y]
    return Curve("unit", [1.0, 1.0], [min(heights), max(heights)], kind="theory")


def _by_rate(found: Found, start: str, column: str, title: str, caption: str) -> Plot:
    curves = [_curve(name, found.of(start, name), "share", column) for name in found.optimizers(start)]
    return Plot(title, UNIT, DECADES[column], [*curves, _unit(curves)], log_x=True, caption=caption)


def _demand(found: Found) -> Plot:
    slowest = dict(enumerate(found.at_slowest(LAZY, SGD, "R"), start=int(found.rates["seed"].min())))

    def over_sgd(name: str, label: str, column: str) -> Curve:
        rows = found.of(LAZY, name)
        return _curve(label, rows.assign(apart=rows[column] - rows["seed"].map(slowest)), "share", "apart")

    names = found.optimizers(LAZY)
    curves = [over_sgd(name, name, "R") for name in names]
    if ADAMW in names:
        curves.append(over_sgd(ADAMW, "AdamW, coordinates of SGD", "R_plain"))
    return Plot("Demand of a lazy network, by rate", UNIT, "R less that of the slowest SGD, decades",
                [*curves, _unit(curves)], log_x=True,
                caption="From the same weights. AdamW moves in coordinates of its own, in which R has another value; "
                "the same change in those of plain descent demands what SGD's does.")  # fmt: skip


def _by_layer(found: Found) -> Plot:
    curves = [_curve(f"{start}, layer {layer}", found.of(start, SGD), "share", f"E{layer}")
              for start in (LAZY, RICH) for layer in (1, 2)]  # fmt: skip
    return Plot("Excess by layer, SGD", "rate over the stable rate", DECADES["E"], [*curves, _unit(curves)], log_x=True)


def _of_schedules(found: Found) -> list[Plot]:
    effects = found.effects
    names = list(dict.fromkeys(effects["schedule"]))
    groups = list(effects[effects["n"] > 1].groupby(["start", "optimizer", "share"], sort=False))
    out = []
    for column, label in (("E", "excess E"), ("kernel_excess", "kernel excess")):
        curves = []
        for k, ((start, optimizer, share), own) in enumerate(groups):
            own = own.set_index("schedule").reindex(names)
            # Side by side, so that bars do not hide each other.
            places = [place + APART * (k - (len(groups) - 1) / 2) for place in range(len(names))]
            curves.append(Curve(f"{start}, {optimizer} at {share:.2g}", places, own[column].tolist(),
                                own[f"{column}_error"].tolist(), kind="scatter"))  # fmt: skip
        nothing = Curve("no effect", [-0.3, len(names) - 0.7], [0.0, 0.0], kind="theory")
        out.append(
            Plot(f"Effect of the schedule on the {label}", "", f"difference in {label}, decades", [*curves, nothing],
                 x_ticks=names, caption="Less the constant rate from the same weights, over seeds that reach the loss "
                 "with both. Rates in units of the optimizer's own. Decay: what weight decay takes from the weights in "
                 "as many steps as the constant rate needs.")
        )  # fmt: skip
    return out


def _along(found: Found, start: str, column: str, label: str) -> Plot:
    rows = rows_of(found.times, start=start)
    curves = [_curve(f"SGD, {name}", own, "time", column) for name, own in rows.groupby("training", sort=False)]
    y_label = DECADES.get(column, "|K − K₀| / |K₀|")
    return Plot(f"{label} along training, {start} network", "share of the steps", y_label, curves, log_x=True,
                log_y=column not in DECADES, caption="In the flow at half of the stable rate, beyond it at twice.",
                )  # fmt: skip
