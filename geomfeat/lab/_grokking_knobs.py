"""The two other knobs of grokking in the polynomial network: alignment with the task, and the number of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import fmean, median, stdev

import torch

from geomfeat.charts import Curve, Plot
from geomfeat.geometry.similarity import target_alignment
from geomfeat.lab.result import Check
from geomfeat.numerics import WORKING, Device, stream
from geomfeat.regimes.grokking import PolynomialTask, polynomial_grokking, transitions
from geomfeat.regimes.grokking.polynomial import polynomial_kernel

TASK = PolynomialTask()
HORIZON = 10_000  # steps at rate N / alpha^2
FASTER = 10.0  # rates in units of N / alpha^2, for small eps
LINEAR = 1024.0  # an alpha at which the network is its own linearisation
STRENGTHS = (0.05, 0.1, 0.25, 0.5)  # eps at one alpha
SCALED = (0.1, 0.25, 0.5)  # eps at one alpha * eps
SAMPLES = {"full": (80, 150, 300, 600), "small": (80, 150, 300)}
FEW_RECORDS = {"full": 10, "small": 5}  # in every factor of ten of the steps
QUADRATIC = TASK.inputs * (TASK.inputs + 1) // 2  # features of degree two, of which the task is one direction
FEATURES = QUADRATIC + TASK.inputs  # of the first kernel, all of degree one or two


@dataclass(frozen=True)
class Knobs:
    """What the experiment adds to its findings; rows: one for each run, with the knob that was turned."""

    plots: list[Plot]
    checks: list[Check]
    rows: list[dict[str, object]]
    answer: str


Runs = dict[float, list[dict[str, float]]]


def alignment_and_samples(size: str, seed: int, device: Device = "cpu") -> Knobs:
    """Turn both knobs, from alpha = 1, eps = .25 and 150 samples."""
    draws = range(seed, seed + (4 if size == "full" else 2))
    # The networks from which both knobs are turned are in three of these groups, and are trained once.
    runs = cache(lambda task, alpha: _runs(task, alpha, draws, FEW_RECORDS[size], device))
    at_alpha = {eps: runs(PolynomialTask(eps=eps), 1.0) for eps in STRENGTHS}
    at_product = {eps: runs(PolynomialTask(eps=eps), 0.25 / eps) for eps in SCALED}
    by_samples = {float(p): runs(PolynomialTask(samples=p), 1.0) for p in SAMPLES[size]}
    kernel = {float(p): runs(PolynomialTask(samples=p), LINEAR) for p in SAMPLES[size]}
    many = range(seed, seed + (16 if size == "full" else 6))
    first = {p: _fit_by_linear_features(p, many, device) for p in ((60, 80, 150, 300) if size == "full" else (80, 150))}
    aligned = {eps: _alignment(eps, range(seed, seed + 8)) for eps in (0.5, 1.0, 2.0, 4.0)}
    plots = [_strength_plot(at_alpha, at_product), _alignment_plot(aligned), _sample_plot(by_samples, kernel),
             _first_plot(first)]  # fmt: skip
    named = (("alignment at α = 1", at_alpha), ("alignment at αε = 1/4", at_product), ("samples", by_samples),
             ("samples, linearised", kernel))  # fmt: skip
    rows: list[dict[str, object]] = [
        {"knob": name, **run} for name, runs in named for of in runs.values() for run in of
    ]
    checks = _checks(at_alpha, at_product, by_samples, first, aligned)
    return Knobs(plots, checks, rows, _answer(at_alpha, at_product, by_samples))


def _runs(task: PolynomialTask, alpha: float, draws: range, per_decade: int, device: Device) -> list[dict[str, float]]:
    """One run for each draw: times in steps at rate N / alpha^2."""
    # The kernel grows as 1 + eps^2, and the largest stable rate falls.
    rate = FASTER / (1 + task.eps**2)
    steps = round(HORIZON / rate)
    found = polynomial_grokking(
        [alpha], draws, steps=steps, rate=rate, task=task, per_decade=per_decade, device=device
    )  # fmt: skip
    rows = []
    for (draw, _), series in found.series.items():
        report = transitions(series)
        assert series.test_loss is not None
        fit, test = rate * report.fit_time, rate * report.test_time
        rows.append({"seed": draw, "alpha": alpha, "eps": task.eps, "samples": task.samples, "fit": fit, "test": test,
                     "gap": test - fit, "delay": report.delay, "last test loss": series.test_loss[-1]})  # fmt: skip
    return rows


def _fit_by_linear_features(samples: int, draws: range, device: Device = "cpu") -> tuple[float, float]:
    """Test loss once the linear features have fitted, the quadratic ones not begun: mean over draws, and its error."""
    task = PolynomialTask(eps=0.01, samples=samples)
    found = polynomial_grokking([LINEAR], draws, steps=150, rate=FASTER, task=task, per_decade=1, device=device)
    losses = [series.test_loss[-1] for series in found.series.values() if series.test_loss is not None]
    return fmean(losses), stdev(losses) / len(losses) ** 0.5


def predicted_first_loss(inputs: int, samples: int) -> float:
    """Relative test loss of least squares on linear features of a target that they do not explain.

    >>> predicted_first_loss(30, 61)
    2.0
    """
    return 1 + inputs / (samples - inputs - 1)


def predicted_alignment(inputs: int, width: int, eps: float) -> float:
    """Centred alignment of the initial kernel with the target, over all inputs.

    The kernel (x . x')(1 + eps (x + x') . m + eps^2 x'Mx'), m and M the mean and second moment of the weights, has D
    linear modes of 1 / D and, at infinite width, D (D + 1) / 2 quadratic ones of 2 eps^2 / D^2, of which the target is
    one. A finite width changes M, and adds the cross term, to the norm but not, on average, to the target's mode.

    >>> round(predicted_alignment(30, 10**9, 100.0) * (30 * 31 / 2) ** 0.5, 3)   # spread over 465 modes
    1.0
    """
    d, e = inputs, eps**2
    quadratic = d * (d + 1) / 2 + d * (d + 1) * (d + 2) / (4 * width)
    cross = 2 * e * (d + 1) / (d * d * width)
    return 2 * e / d**2 / math.sqrt(1 / d + cross + (2 * e / d**2) ** 2 * quadratic)


def _alignment(eps: float, draws: range) -> tuple[float, float]:
    """Alignment of the initial kernel with the target on fresh samples: mean over draws, and its error."""
    d, found = TASK.inputs, []
    for draw in draws:
        noise = stream(draw, "lab", "alignment of kernel and task")
        x = torch.randn(1000, d, generator=noise, dtype=WORKING) / d**0.5
        weights = torch.randn(d, TASK.width, generator=noise, dtype=WORKING)
        found.append(float(target_alignment(polynomial_kernel(weights, x, eps), d * x[:, 0].square() / 2)))
    return fmean(found), stdev(found) / len(found) ** 0.5


def _values(runs: list[dict[str, float]], name: str) -> list[float]:
    return [run[name] for run in runs]


def _middle(runs: list[dict[str, float]], name: str) -> float:
    """Median over draws; those without the event count as late."""
    found = median(math.inf if math.isnan(v) else v for v in _values(runs, name))
    return found if math.isfinite(found) else math.nan


def _disorder(runs: Runs, name: str) -> float:
    """Draws and neighbouring values of the knob at which the number does not fall from one to the next."""
    return float(sum(b >= a for before, after in pairwise(runs.values())
                     for a, b in zip(_values(before, name), _values(after, name), strict=True)))  # fmt: skip


def _checks(
    at_alpha: Runs, at_product: Runs, by_samples: Runs, first: dict[int, tuple[float, float]],
    aligned: dict[float, tuple[float, float]],
) -> list[Check]:  # fmt: skip
    units = {eps: fmean(_values(runs, "fit")) * eps**2 for eps, runs in at_product.items()}
    # Of one draw, so that the spread over draws cancels.
    known = [(a, b) for a, b in zip(*(_values(at_product[eps], "delay") for eps in (0.1, 0.25)), strict=True)
             if a > 0 and b > 0]  # fmt: skip
    ratio = fmean(a / b for a, b in known) if known else math.nan
    found = fmean(v / predicted_alignment(TASK.inputs, TASK.width, eps) for eps, (v, _) in aligned.items())
    reached = sum(math.isfinite(v) for v in _values(by_samples[80.0], "test"))
    most = max(by_samples)
    enough = [run for run in by_samples[most] if run["delay"] > 0]
    return [
        Check("alignment of the first kernel with the task, over theory's", found, 1.0, 0.2),
        Check("test loss after linear features alone, 150 samples", first[150][0],
              predicted_first_loss(TASK.inputs, 150), 4 * first[150][1]),
        Check("αε = 1/4: fit time × ε², at ε = 0.1 over 0.25", units[0.1] / units[0.25], 1.0, 0.0625),
        Check("αε = 1/4: delay at ε = 0.1 over 0.25", ratio, 1.0, 0.0625),
        Check("α = 1: pairs of neighbouring ε with the longer gap at the larger", _disorder(at_alpha, "gap"), 0, 0),
        Check("pairs of numbers of samples with the longer delay at more", _disorder(by_samples, "delay"), 0, 0),
        Check("draws of 80 samples that reach the test level", float(reached), 0, 0),
        *([Check(f"delay at {most:g} samples", fmean(run["delay"] for run in enough), 1.0, 0.1)]
          if most > FEATURES else []),
    ]  # fmt: skip


def _strength_plot(at_alpha: Runs, at_product: Runs) -> Plot:
    curves = []
    for name, runs in (("α = 1", at_alpha), ("αε = 1/4", at_product)):
        for event in ("fit", "test"):
            curves.append(Curve(f"{name}, {event}", list(runs), [_middle(of, event) for of in runs.values()]))
    at = _middle(at_product[0.25], "fit"), _middle(at_product[0.25], "test")
    for event, value in zip(("fit", "test"), at, strict=True):
        line = [value * (0.25 / eps) ** 2 for eps in at_product]
        curves.append(Curve(f"αε = 1/4, {event}, ε⁻²", list(at_product), line, kind="theory"))
    return Plot("Alignment: times of the two transitions", "ε", "step at rate N/α²", curves, log_x=True, log_y=True,
                caption="Median over draws. At one αε the whole course is that of the time ε²t, so the delay does not "
                "depend on ε. At one α a larger ε is lazier too, since weights move as 1/(αε).")  # fmt: skip


def _alignment_plot(aligned: dict[float, tuple[float, float]]) -> Plot:
    x = list(aligned)
    grid = [0.1 * 10 ** (k / 10) for k in range(18)]
    line = [predicted_alignment(TASK.inputs, TASK.width, eps) for eps in grid]
    return Plot("Alignment of the first kernel with the task", "ε", "centred alignment", [
        Curve("measured", x, [v for v, _ in aligned.values()], [e for _, e in aligned.values()]),
        Curve("theory", grid, line, kind="theory")], log_x=True, log_y=True,
        caption=f"2ε²/D^(3/2) at small ε; at most 1/√{QUADRATIC}, since the kernel is spread over all quadratic "
        "features.")  # fmt: skip


def _sample_plot(by_samples: Runs, kernel: Runs) -> Plot:
    x = list(by_samples)
    delays = [_middle(of, "delay") for of in by_samples.values()]
    curves = [Curve("delay: test transition / fit", x, delays)]
    for name, runs in (("last test loss, α = 1", by_samples), ("last test loss, linearised", kernel)):
        found = [_values(of, "last test loss") for of in runs.values()]
        curves.append(Curve(name, x, [fmean(v) for v in found], [stdev(v) / len(v) ** 0.5 for v in found]))
    curves.append(Curve("no delay", [x[0], x[-1]], [1.0, 1.0], kind="theory"))
    curves.append(Curve("as many samples as features", [FEATURES] * 2, [0.01, 5.0], kind="theory"))
    return Plot("Samples: too few to learn, then a delay, then none", "training samples", "ratio of times or losses",
                curves, log_x=True, log_y=True, caption=f"From {FEATURES} samples on, the first kernel's features "
                "determine the task, so even the linearised network learns it in the end; but it is slower than the "
                "network, whose test loss then follows the train loss.")  # fmt: skip


def _first_plot(first: dict[int, tuple[float, float]]) -> Plot:
    x = list(first)
    return Plot("Test loss when only the linear features have fitted", "training samples", "loss / loss at f = 0", [
        Curve("measured at ε = 0.01", x, [v for v, _ in first.values()], [e for _, e in first.values()]),
        Curve("1 + D/(P − D − 1)", x, [predicted_first_loss(TASK.inputs, p) for p in x], kind="theory")], log_x=True,
        caption="What misalignment does first: features that do not explain the target fit the training samples, and "
        "the test loss rises above its start.")  # fmt: skip


def _answer(at_alpha: Runs, at_product: Runs, by_samples: Runs) -> str:
    gaps = [_middle(runs, "gap") for runs in at_alpha.values()]
    delays = [_middle(runs, "delay") for runs in at_alpha.values()]
    same = [_middle(runs, "delay") for runs in at_product.values()]
    by_p = {p: _middle(runs, "delay") for p, runs in by_samples.items()}
    late = ", ".join(f"{delay:.1f} at {p:g} samples" for p, delay in by_p.items() if math.isfinite(delay))
    never = ", ".join(f"{p:g}" for p, delay in by_p.items() if not math.isfinite(delay))
    return (
        f" Alignment: at α = 1 the gap falls from {gaps[0]:.0f} steps at ε = {STRENGTHS[0]:g} to {gaps[-1]:.0f} at "
        f"{STRENGTHS[-1]:g}, since everything is faster, but as a ratio the delay grows from {delays[0]:.1f} to "
        f"{delays[-1]:.1f}: a larger ε is lazier too. At one αε the delay is {min(same):.1f} to {max(same):.1f} at "
        f"every ε. Samples: the delay is {late}; with {never} the test level is not reached."
    )
