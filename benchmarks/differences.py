"""The same numbers everywhere: how far those of other settings are from one thread, one process, the CPU and float64.

    python benchmarks/differences.py [--only TEXT] [--setting NAME ...] [--write]

Every registered measure and the main calls on small fixed inputs, on 2 and 4 threads; in float32, where features and
weights are those of the reference rounded, and on a GPU where there is one; what has a form for several processes, by
two ranks over gloo against one; the table of a sweep on two dask workers against a serial one. A row says the largest
difference, relative to the number or, if larger, to a thousandth of the largest of its kind, and the limit it must
meet; a limit other than the setting's has its reason below. --write keeps the table in benchmarks/RESULTS.md. The exit
code is 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from keeping import keep, machine
from paths import (
    Numbers,
    Where,
    compared,
    features,
    flat,
    kernel,
    layer,
    main_calls,
    measured,
    nets,
    trained,
    training,
)
from threadpoolctl import threadpool_limits

import geomfeat as gf
from geomfeat import distributed
from geomfeat.activations import ActivationStore
from geomfeat.geometry import StreamingCKA, StreamingMoments, StreamingPoints, StreamingProbe
from geomfeat.numerics import WORKING
from geomfeat.registry import available
from geomfeat.tangent import ntk_by_rank

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "numba", "distributed")
REFERENCE = Where(weights=WORKING, samples=300, units=64, inputs=96, widths=(20, 64, 48))
IN_FLOAT32 = replace(REFERENCE, features=torch.float32, weights=torch.float32)
BATCH = 37
SWEEP: dict[str, Any] = {
    "width": 8, "sigma": [0.5, 2.0], "seeds": 2, "train": {"n": 50, "target_loss": 0.7},
    "measure": {"measures": ["capacity", "nc1", "participation_ratio", "cka_linear_unbiased"], "n": 50},
}  # fmt: skip
# What each setting must meet, unless stated otherwise.
LIMITS = {"2 threads": 1e-12, "4 threads": 1e-12, "float32": 1e-6, "cuda": 1e-6, "2 ranks": 1e-12, "dask": 0.0}
THREADS, ROUNDED = ("2 threads", "4 threads"), ("float32", "cuda")
# Settings -> what -> the limit that holds in place of theirs, and why.
STATED: dict[tuple[str, ...], dict[str, tuple[float, str]]] = {
    THREADS: {
        "pair: pwcca": (1e-10, "single canonical directions turn by rounding over the gap between correlations"),
    },
    ROUNDED: {
        "ntk, in the precision of the weights": (1e-4, "single entries are sums of terms a thousand times larger"),
        "extract": (1e-4, "single features are sums of terms a thousand times larger"),
        "train_at_gamma, given rate": (1e-3, "thirty steps, each of which rounds the weights"),
        "train_at_gamma, own rate": (1e-2, "curvature by finite differences whose step is the cube root of eps"),
    },
    ("2 ranks",): {
        "StreamingCKA, float32": (1e-6, "products in float32"),
    },
}


@dataclass(frozen=True)
class Row:
    """One line of the table: `found` is the largest relative difference, or what went wrong."""

    what: str
    setting: str
    found: str
    limit: float
    reason: str = ""

    @property
    def kept(self) -> bool:
        try:
            return float(self.found) <= self.limit
        except ValueError:
            return False

    def __str__(self) -> str:
        limit = "bit for bit" if self.limit == 0 else f"{self.limit:.0e}"
        why = f", {self.reason}" if self.reason else ""
        return f"| {self.what} | {self.setting} | {self.found} | {limit}{why} | {'yes' if self.kept else '**no**'} |"


def row(what: str, setting: str, found: str) -> Row:
    """With the limit that holds for it."""
    stated = [some[what] for settings, some in STATED.items() if setting in settings and what in some]
    return Row(what, setting, found, *(stated[0] if stated else (LIMITS[setting],)))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Torch and the libraries of numpy, scipy and scikit-learn on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before)


def on_threads(n: int, work: Callable[[], Numbers]) -> Numbers:
    """The numbers of some work on so many threads."""
    with threads(n):
        return work()


def study(where: Where) -> Numbers:
    """The table of a study of default measures, with the location."""
    start, end, x, y = nets(where)
    found = gf.analyze(
        end, x, y, initial=start, progress=False, measures=("participation_ratio", "nc1", "cka_linear_unbiased"),
        location=gf.LocateOptions(n_bootstrap=3), options=gf.StudyOptions(umap=False),
    )  # fmt: skip
    return in_table(found.table)


def in_table(table: Any) -> Numbers:
    """The numbers of a table of results, with what they are of."""
    of = [c for c in ("run", "at", "layer", "layer_b", "measure", "quantity") if c in table]
    names = ["/".join(map(str, key)) for key in table[of].itertuples(index=False)]
    return {
        f"{name}{part}": float(value)
        for part, column in (("", "value"), (" stderr", "stderr"))
        for name, value in zip(names, table[column], strict=True)
    }


def calls() -> dict[str, Callable[[Where], Numbers]]:
    """What is measured in every place: each measure, and the main calls in the precision of that place."""
    main = main_calls()
    kept = {
        name: main[name]
        for name in ("ntk, trace", "ntk, full", "ntk by layer", "cka_matrix", "capacity", "locate", "sharpness")
    }
    return {
        **{f"{m.scope}: {m.name}": partial(measured, m) for m in available()},
        **kept,
        "ntk, in the precision of the weights": lambda where: kernel(where, dtype=where.weights),
        "extract": lambda where: features(where, where.weights),
        "train_at_gamma, given rate": lambda where: training(where, lr=0.03),
        "train_at_gamma, own rate": lambda where: {"lr": trained(where).lr},
        "study": study,
    }


def places() -> dict[str, tuple[int, Where]]:
    """Setting -> threads and where."""
    found = {"2 threads": (2, REFERENCE), "4 threads": (4, REFERENCE), "float32": (1, IN_FLOAT32)}
    return found | ({"cuda": (1, replace(IN_FLOAT32, device="cuda"))} if torch.cuda.is_available() else {})


def in_places(settings: Sequence[str], only: str) -> Iterator[Row]:
    """The rows of threads, precisions and devices."""
    for name, call in calls().items():
        if only not in name:
            continue
        reference = cache(partial(on_threads, 1, partial(call, REFERENCE)))
        for setting, (n, where) in places().items():
            if setting in settings:
                found, _ = compared(reference, partial(on_threads, n, partial(call, where)))
                yield row(name, setting, found)


def shared_work(folder: Path) -> dict[str, Numbers]:
    """What several processes do together: each with its share of the samples, or one with all."""
    rep, (_, net, x, _) = layer(REFERENCE), nets(REFERENCE)
    cka, rough = StreamingCKA(dtype=WORKING), StreamingCKA()
    moments, points, labels = StreamingMoments(3), StreamingPoints(3, most=20), rep.labels
    assert labels is not None
    probe, own = StreamingProbe(3), torch.tensor(list(distributed.share(rep.n))).split(BATCH)
    for index in own:
        some = {"a": rep.x[index], "b": rep.x[index].relu()}
        cka.update(some)
        rough.update(some)
        moments.update(rep.x[index], labels[index])
        points.update(rep.x[index], labels[index], index)
        probe.update(rep.x[index], labels[index], index)
    fitted = probe.all_reduce().fitted()
    for index in own:
        fitted.update(rep.x[index], labels[index], index)
    found = moments.all_reduce().result()
    names = ("participation_ratio", "participation_ratio_wishart", "effective_rank", "stable_rank", "nc1")
    options = gf.ExtractOptions(batch_size=16)
    gf.extract(net, x, layers="type:Linear", store=folder / "store", progress=False, options=options)
    store = ActivationStore(folder / "store")
    return {
        "StreamingCKA": flat(torch.as_tensor(cka.all_reduce().result().values)),
        "StreamingCKA, float32": flat(torch.as_tensor(rough.all_reduce().result().values)),
        "StreamingMoments": {name: float(getattr(found, name)) for name in names},
        "StreamingMoments, eigenvalues": flat(torch.as_tensor(found.eigenvalues)),
        "StreamingProbe": {"accuracy": fitted.all_reduce().result().accuracy},
        "StreamingPoints": flat(points.all_reduce().result().x),
        "extract to a store": {f"{k}.{i}": v for k in ("0", "2", "4")
                               for i, v in flat(torch.as_tensor(store.read(k))).items()},
        "ntk_by_rank": flat(ntk_by_rank(net, x).gram),
    }  # fmt: skip


def _as_rank(rank: int, world: int, port: int, folder: Path) -> None:
    """One of several processes, as torchrun starts them; the first writes what was found."""
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in named.items()})
    warnings.simplefilter("error")
    with threads(1), distributed.process_group("gloo"):
        found = shared_work(folder)
        if distributed.is_first():
            (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def by_ranks(world: int, folder: Path, context: Any = None) -> dict[str, Numbers]:
    """`shared_work` by so many processes. RuntimeError where one of them fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = (context or multiprocessing.get_context("spawn")).Process
    started = [start(target=_as_rank, args=(k, world, port, folder)) for k in range(world)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    codes = [process.exitcode for process in started]
    if any(codes):
        raise RuntimeError(f"exit codes of the ranks: {codes}")
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def of_ranks(only: str, context: Any = None) -> Iterator[Row]:
    """The rows of two ranks against one."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        with threads(1):
            alone = shared_work(Path(one))
        together = by_ranks(2, Path(two), context)
    for name, numbers in alone.items():
        if only in name:
            yield row(name, "2 ranks", compared(lambda n=numbers: n, lambda name=name: together[name])[0])


def of_engines(only: str) -> Iterator[Row]:
    """The rows of a sweep on two dask workers against a serial one: the numbers of each measure."""

    def swept(engine: str, folder: str) -> Numbers:
        with threads(1):
            return in_table(gf.sweep(SWEEP, folder, engine=engine, workers=2, progress=False).table)

    if "sweep" in only or not only:
        with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
            found, _ = compared(partial(swept, "serial", here), partial(swept, "dask", there))
        yield row("sweep", "dask", found)


def rows(settings: Sequence[str], only: str = "", context: Any = None) -> Iterator[Row]:
    """The whole table, or the rows of some settings and of what holds a text."""
    yield from in_places(settings, only)
    if "2 ranks" in settings:
        yield from of_ranks(only, context)
    if "dask" in settings and find_spec("distributed"):
        yield from of_engines(only)


def main() -> int:
    """Print the table; keep it with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--setting", choices=LIMITS, action="append")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    began, found = time.perf_counter(), list[Row]()
    lines = ["| measure | setting | largest relative difference | limit | kept |", "|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for one in rows(asked.setting or list(LIMITS), asked.only):
        found.append(one)
        print(one, flush=True)
    missed = sum(not one.kept for one in found)
    absent = [] if torch.cuda.is_available() else ["cuda: no GPU is there"]
    absent += [] if find_spec("distributed") else ["dask: distributed is not installed"]
    lines += [*map(str, found), "", *(f"Not measured: {what}." for what in absent)]
    lines.append(f"{len(found)} differences, {missed} above their limit; {time.perf_counter() - began:.0f} s. ")
    lines[-1] += machine(PACKAGES, 1)
    print(lines[-1], flush=True)
    if asked.write:
        keep("differences", lines)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
