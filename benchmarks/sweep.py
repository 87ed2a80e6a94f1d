"""Speed of sweeps: the one of the tutorials, what an engine costs beside the work, and loading 10,000 runs.

    python benchmarks/sweep.py [--write] [--skip-sweep] [--folder DIR]

The sweep is tutorials/configs/scale_by_rate.yaml (108 trainings of a multilayer perceptron on digits, with location,
capacity and CKA) on two dask workers; what is in DIR already is not made again. An engine's cost is the time
from one finished run to the next less the seconds of training and measuring, over 30 or 40 tiny runs, everything else
counted: hand out, lock, write, check.
Seeds: one full-batch step of `seeds` networks at once under torch.func.vmap, against one after the other.
--write keeps the table in benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from keeping import keep, machine, memory
from torch.func import functional_call, grad, stack_module_state, vmap

from geomfeat.comparison.sweeps import task
from geomfeat.comparison.sweeps._sweep import SweepResult, found_in, planned, sweep
from geomfeat.comparison.sweeps.config import SlurmConfig, parse_config
from geomfeat.comparison.sweeps.executors.base import serial
from geomfeat.comparison.sweeps.executors.registry import engine_named
from geomfeat.comparison.sweeps.grid import dataset_of, network_of, runs_of

CONFIG = Path(__file__).parents[1] / "tutorials" / "configs" / "scale_by_rate.yaml"
TINY = {
    "width": 8, "train": {"n": 50, "target_loss": 0.9}, "measure": {"measures": [], "location": False, "n": 50}
}  # fmt: skip


def seconds_of(folder: Path) -> list[float]:
    """Of training and measuring, by run."""
    return [json.loads(path.read_text())["seconds"] for path in folder.glob("runs/*/run.json")]


def whole_sweep(folder: Path) -> list[str]:
    """The row of the tutorial's sweep."""
    began, before = time.perf_counter(), children()
    found = sweep(CONFIG, folder, engine="dask", workers=2)
    wall, work = time.perf_counter() - began, children() - before
    outcomes = ", ".join(f"{n} {outcome}" for outcome, n in found.outcomes.items())
    return [
        row(f"108 trainings, 2 workers ({outcomes}), wall time", wall, "s", 240),
        row("the same, CPU seconds of both workers", work, "s", 480),
    ]


def children() -> float:
    """CPU seconds of processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def every_ninth(folder: Path) -> list[str]:
    """The row of the CPU seconds of every ninth training of that sweep, here, times nine: no matter what else runs."""
    plan = planned(CONFIG, folder / "ninth")
    todo = found_in(plan)[0]
    list(serial(todo[60:61], plan.folder, plan.version))  # compile
    chosen = todo[4::9]
    began = time.process_time()
    list(serial(chosen, plan.folder, plan.version))
    work = (time.process_time() - began) * len(todo) / len(chosen)
    return [row(f"CPU seconds of 108 trainings, from {len(chosen)} of them", work, "s", 480)]


def overhead(folder: Path) -> list[str]:
    """Rows for the serial engine in CPU time, and for each engine in wall time: milliseconds a run beside its work."""
    rows = []
    plan = planned({**TINY, "seeds": 40}, folder / "cpu")
    todo, work = found_in(plan)[0], [0.0]
    list(serial(todo[:10], plan.folder, plan.version))

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return call(*arguments)
            finally:
                work[0] += time.process_time() - began

        return instead

    with (
        mock.patch.object(task, "train_run", timed(task.train_run)),
        mock.patch.object(task, "run_table", timed(task.run_table)),
    ):
        began = time.process_time()
        list(serial(todo[10:], plan.folder, plan.version))
        spent = time.process_time() - began - work[0]
    rows.append(row("serial: a run beside its work, CPU time", 1e3 * spent / 30, "ms", 10))
    for name in ("serial", "dask"):  # in wall time, which waits for others on a busy machine
        plan = planned({**TINY, "seeds": 50}, folder / name)
        run, todo = engine_named(name, 1, SlurmConfig()), found_in(plan)[0]
        done = run(todo, plan.folder, plan.version)
        for _ in range(10):  # start, import and compile
            next(done)
        before, there = sum(seconds_of(plan.folder)), len(seconds_of(plan.folder))
        stamps = [time.perf_counter() for _ in done]
        each = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
        work = (sum(seconds_of(plan.folder)) - before) / (len(todo) - there)
        rows.append(row(f"{name}, one worker: a run beside its work, wall time", 1e3 * (each - work), "ms", 10))
    return rows


def loading(folder: Path) -> list[str]:
    """Rows of 10,000 finished runs, copies of a real one at their own addresses: to plan, to check, to one table."""
    asked = {**TINY, "seeds": 10_000, "measure": {"n": 50}}
    real = sweep({**asked, "seeds": 1}, folder / "one", progress=False)
    (run,) = (folder / "one" / "runs").iterdir()
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    many = planned(asked, folder / "many")
    for address, config in many.plan.items():
        made = folder / "many" / "runs" / address
        shutil.copytree(run, made)
        own = {**manifest, "config": json.loads(config.canonical()), "address": address}
        (made / "run.json").write_text(json.dumps(own, indent=1), encoding="utf-8")
    many.save()

    def checked() -> None:
        todo, there = found_in(many)
        assert (len(todo), len(there)) == (0, 10_000)

    def read() -> None:
        assert len(SweepResult.load(folder / "many").table) == 10_000 * len(real.table)

    before = memory("VmRSS")
    rows = [
        row(what, statistics.median(map(seconds_to(work), range(3))), "s", goal)
        for what, work, goal in (
            ("10,000 runs: plan", lambda: planned(asked, folder / "many"), 3),
            ("10,000 finished runs: check before resuming", checked, 6),
            (f"10,000 runs of {len(real.table)} numbers to one table", read, 10),
        )
    ]
    return [
        *rows,
        row("the table: memory at its highest, beyond that before", (memory("VmHWM") - before) / 1e3, "GB", 1),
    ]


def seconds_to(work: Callable[[], Any]) -> Callable[[object], float]:
    """A function that does the work and returns how long it took."""

    def timed(_: object) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return timed


def seeds_together() -> list[str]:
    """Rows for networks whose seeds share one step."""
    rows = []
    for width, n, seeds in ((8, 50, 8), (128, 500, 3), (128, 500, 8), (256, 1400, 3)):
        runs = runs_of(parse_config({**TINY, "width": width, "train": {"n": n}, "seeds": seeds}))
        data = dataset_of(runs[0])
        assert data.labels is not None
        goal = torch.nn.functional.one_hot(data.labels, 10).float() - 0.1
        nets = [network_of(run, data) for run in runs]
        weights, buffers = stack_module_state(nets)

        def loss(w: dict, b: dict, net: torch.nn.Module = nets[0], x=data.inputs, y=goal) -> torch.Tensor:
            return (functional_call(net, (w, b), (x,)) - y).square().sum(1).mean()

        step = vmap(grad(loss))

        def together(w=weights, b=buffers, step=step) -> None:
            step(w, b)

        def apart(nets=nets, x=data.inputs, y=goal) -> None:
            for net in nets:
                torch.autograd.grad((net(x) - y).square().sum(1).mean(), list(net.parameters()))

        times: dict[str, list[float]] = {"together": [], "apart": []}
        for _ in range(15):
            for name, call in (("together", together), ("apart", apart)):
                began = time.process_time()
                call()
                times[name].append(time.process_time() - began)
        one, other = (1e3 * statistics.median(times[name]) for name in ("together", "apart"))
        what = f"a step of {seeds} seeds, {n} digits, width {width}: together {one:.2f} ms, apart {other:.2f} ms"
        rows.append(f"| {what} | {other / one:.2f}x | |")
        print(rows[-1], flush=True)
    return rows


def row(name: str, value: float, unit: str, goal: float) -> str:
    """One line of the table."""
    line = f"| {name} | {value:.3g} {unit} | {goal:g} {unit} |"
    print(line, flush=True)
    return line


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    parser.add_argument("--skip-sweep", action="store_true", help="leave out the sweep of minutes")
    parser.add_argument("--folder", type=Path, help="of the sweep; default one that is thrown away")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = ["| what | measured | goal |", "|---|---|---|"]
    print("\n".join(head))
    with tempfile.TemporaryDirectory() as name:
        lines = [*head, *every_ninth(Path(name)), *overhead(Path(name)), *loading(Path(name)), *seeds_together()]
        if not options.skip_sweep:
            lines += whole_sweep(options.folder or Path(name) / "sweep")
    lines += ["", machine(("torch", "numpy", "dask", "pyarrow"), 1)]
    print(f"\n{lines[-1]}")
    if options.write:
        keep("sweep", lines)


if __name__ == "__main__":
    main()
