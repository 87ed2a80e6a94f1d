"""How time and memory of every public call grow: a page with fitted exponents and a picture, so that users can plan.

    python -m benchmarks.growth [--only gf.locate ...] [--docs FOLDER] [--points FILE] [--quick]

Each point is a process of its own on one thread: the call once at tiny sizes (imports, compiled loops), then as it is
timed, in CPU seconds (a short one twice, and the less counts) and megabytes beyond what the process held before. The
processes are forked from one that has imported the package and computed nothing. Exponents are the slope of log cost
over log size, by least squares, and between the two largest sizes. --quick takes tiny sizes in one process: it shows
that the page can be made, and nothing of growth.
--only prints, and leaves the page in docs as it is. --points keeps the points in a
file as they are measured, a line of JSON each, and takes those that it holds already.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.growth_calls import Call, calls, planned, warm
from benchmarks.keeping import added_memory, machine

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, PICTURE = "growth.md", "pictures/measured/growth.png"
PRELOADED = (
    "torch", "scipy.linalg", "sklearn.linear_model", "geomfeat.api", "geomfeat.location", "geomfeat.forecasting",
    "geomfeat.measures.layer", "geomfeat.measures.pair", "geomfeat._numba.cone_columns", "benchmarks.growth_calls",
)  # fmt: skip
# Costs below these are those of the call itself: no exponent is told.
LEAST_SECONDS, LEAST_MEGABYTES = 0.02, 5.0
SHORT = 1.0  # seconds below which a call is timed again, and the less counts
UNIT = 1000  # rows of the square float64 product whose time says how fast the machine is
INTRODUCTION = """\
# How time and memory grow

What to expect of a call: CPU seconds and memory (beyond what the process holds) on one thread, while one size grows
and the others stay. With cost c at size s and exponent e, expect c (t / s)^e at size t: the exponent at the end of the
range is the one to go on with. Where a cost does not grow, it is that of the call itself, or some samples are drawn
(see [Many samples](how_to/many_samples.md)).

Made by `python -m benchmarks.growth`; sizes and inputs are in `benchmarks/growth_calls.py`. One product of two
{unit} x {unit} matrices in float64 took {product:.3f} s here: measure it on your machine, and multiply by the ratio.
{machine}.

![CPU seconds against each size that grows](pictures/measured/growth.png)
"""
PLANNED = """\
## A location before it is begun

`gf.plan_location` times a few products of the network at hand, and so knows the machine and the architecture, which the
table does not. What it expected beside what the location took, both on one thread:
"""


class Point(NamedTuple):
    """A measured call: which size had which value, CPU seconds, megabytes; seconds expected, where there is a plan."""

    name: str
    axis: str
    size: int
    seconds: float
    megabytes: float
    expected: float


def points(every: dict[str, Call], quick: bool) -> Iterator[tuple[str, str, int]]:
    """(call, axis, size) of everything to measure; quick: twice the smallest size, of one axis each."""
    for name, call in every.items():
        if quick:
            axis = next(iter(call.grows))
            yield from ((name, axis, k * call.quick[axis]) for k in (1, 2))
        else:
            yield from ((name, axis, size) for axis, sizes in call.grows.items() for size in sizes)


def measured(name: str, axis: str, size: int, quick: bool) -> Point:
    """One point, in this process."""
    import torch

    call = calls()[name]
    if not quick:
        torch.set_num_threads(1)
        warm()
        call.prepare(**call.quick)()
    sizes = {**(call.quick if quick else call.base), axis: size}
    work = call.prepare(**sizes)
    expected = planned(**sizes) if name == "gf.locate" and not quick else math.nan
    spent: list[float] = []

    def timed() -> None:
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)

    _give_back()
    megabytes = added_memory(timed)
    if not quick and spent[0] < SHORT:
        timed()
    return Point(name, axis, size, min(spent), megabytes, expected)


def _give_back() -> None:
    """Return freed memory to the system, where it can be: what a call takes would else be hidden in it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def measured_apart(name: str, axis: str, size: int) -> Point:
    """The same in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, name, axis, size))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise RuntimeError(f"{name} at {axis} = {size} ended without a result") from None
    finally:
        process.join()


def _send(there: Any, name: str, axis: str, size: int) -> None:
    there.send(measured(name, axis, size, quick=False))


def exponents(found: list[Point], cost: str, least: float) -> tuple[float, float]:
    """Over the whole range and at its end; NaN where the largest cost is below `least`."""
    import numpy as np

    values = [getattr(p, cost) for p in found]
    if len(found) < 2 or values[-1] < least or min(values) <= 0:
        return math.nan, math.nan
    logs = np.log([p.size for p in found]), np.log(values)
    return float(np.polyfit(*logs, 1)[0]), float(np.diff(logs[1])[-1] / np.diff(logs[0])[-1])


def by_series(found: list[Point]) -> dict[tuple[str, str], list[Point]]:
    series: dict[tuple[str, str], list[Point]] = {}
    for point in found:
        series.setdefault((point.name, point.axis), []).append(point)
    return series


def table(found: list[Point], every: dict[str, Call], quick: bool) -> list[str]:
    """A row for each call and size that grows."""
    lines = [
        "| call | grows | CPU s | exponent: range, end | MB | exponent: range, end | at |", "|" + " --- |" * 7,
    ]  # fmt: skip
    for (name, axis), here in by_series(found).items():
        call = every[name]
        sizes = call.quick if quick else call.base
        rest = ", ".join(f"{key} = {value:,}" for key, value in sizes.items() if key != axis)
        cells = [
            name, unbroken(f"{axis}: " + ", ".join(f"{p.size:,}" for p in here)),
            unbroken(", ".join(_number(p.seconds) for p in here)), _both(exponents(here, "seconds", LEAST_SECONDS)),
            unbroken(", ".join(_number(p.megabytes, 1) for p in here)),
            _both(exponents(here, "megabytes", LEAST_MEGABYTES)),
            rest,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table_of_plans(found: list[Point]) -> list[str]:
    """What the plan of a location expected, and what it took."""
    lines = ["| what grows | size | expected, s | took, s |", "|" + " --- |" * 4]
    known = [p for p in found if math.isfinite(p.expected)]
    return [*lines, *(f"| {p.axis} | {p.size:,} | {p.expected:.2g} | {p.seconds:.2g} |" for p in known)]


def unbroken(text: str) -> str:
    """A text of one line: a column of numbers that wraps makes the table four times as high."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _number(value: float, least: float = 0.001) -> str:
    return f"< {least:g}" if value < least else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _both(pair: tuple[float, float]) -> str:
    return "–" if math.isnan(pair[0]) else ", ".join(f"{value:.1f}".replace("-0.0", "0.0") for value in pair)


def draw(found: list[Point], path: Path) -> None:
    """CPU seconds against size: a panel for each size that grows, measures apart from other calls."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from geomfeat.charts import style
    from geomfeat.charts._draw import label_log_axis
    from geomfeat.charts.theme import OKABE_ITO

    panels: dict[tuple[bool, str], list[list[Point]]] = {}
    for (name, axis), here in by_series(found).items():
        panels.setdefault((name.startswith("gf."), axis), []).append(here)
    with style():
        columns = min(2, len(panels))
        rows = -(-len(panels) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(4.5 * columns, 2.2 * rows), squeeze=False)
        for ax, ((calls_of, axis), series) in zip(axes.flat, sorted(panels.items()), strict=False):
            for i, here in enumerate(series):
                dash = ("-", "--", ":")[i // len(OKABE_ITO) % 3]
                ax.loglog(
                    [p.size for p in here], [p.seconds for p in here], dash, marker="o", ms=2.5, label=here[0].name
                )
            lines = [point for here in series for point in here]
            label_log_axis(ax.xaxis, [point.size for point in lines])
            label_log_axis(ax.yaxis, [point.seconds for point in lines])
            ax.set(xlabel=axis, ylabel="CPU seconds", title="calls" if calls_of else "measures of a layer")
            ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1.05))
        for ax in axes.flat[len(panels) :]:
            ax.axis("off")
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
        plt.close(figure)


def product_seconds() -> float:
    """CPU seconds of one product of square matrices, the less of three."""
    import numpy as np

    a = np.random.default_rng(0).standard_normal((UNIT, UNIT))
    times = []
    for _ in range(3):
        begin = time.process_time()
        a @ a
        times.append(time.process_time() - begin)
    return min(times)


def write(found: list[Point], lines: list[str], docs: Path) -> None:
    """The page and its picture."""
    said = machine(("torch", "numpy", "scipy", "scikit-learn", "numba"), 1)
    text = INTRODUCTION.format(machine=said, unit=UNIT, product=product_seconds())
    parts = [text, *lines, ""]
    if any(math.isfinite(p.expected) for p in found):
        parts += [PLANNED, *table_of_plans(found), ""]
    draw(found, docs / PICTURE)
    (docs / PAGE).write_text("\n".join(parts), encoding="utf-8")


def read(file: Path | None) -> dict[tuple[str, str, int], Point]:
    """The points that a file holds, by call, axis and size."""
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
    every = [Point(*json.loads(line)) for line in lines]
    return {(point.name, point.axis, point.size): point for point in every}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of calls")
    parser.add_argument("--docs", type=Path, help="the folder for the page and its picture; default docs")
    parser.add_argument("--points", type=Path, help="a file for measured points; a rerun goes on from it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, in one process")
    given = parser.parse_args(words)
    every = {name: call for name, call in calls().items() if not given.only or name in given.only}
    begin, found = time.perf_counter(), []
    kept = read(given.points)
    for name, axis, size in points(every, given.quick):
        point = kept.get((name, axis, size))
        if point is None:
            point = measured(name, axis, size, True) if given.quick else measured_apart(name, axis, size)
            said = f"{name}, {axis} = {size:,}: {point.seconds:.3g} s, {point.megabytes:.3g} MB"
            print(said, file=sys.stderr, flush=True)
            if given.points:
                with given.points.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(point) + "\n")
        found.append(point)
    lines = table(found, every, given.quick)
    print("\n".join(lines))
    if given.docs or not given.only:
        write(found, lines, given.docs or DOCS)
    print(f"{time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    main()
