"""CPU time of every measure and of the main calls in two checkouts, in turn: what did a change cost?

    python benchmarks/before_after.py BEFORE [AFTER] [--rounds 3] [--only NAME ...]

BEFORE and AFTER are checkouts of the project (default AFTER: this one). Each round runs both, with one thread; the
least time of all rounds counts. Public calls only, so that both need not have the same files.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve()
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
LEAST, MOST, SECONDS = 3, 60, 0.6


def work() -> dict[str, Callable[[], object]]:
    """Name -> a call on fixed data: 1000 samples of 512 features in 10 classes; networks of some 30,000 parameters."""
    import torch

    import geomfeat as gf
    from geomfeat.registry import available

    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    n, d = 1000, 512
    base = torch.randn(n, 40, generator=g) @ torch.randn(40, d, generator=g) + 0.3 * torch.randn(n, d, generator=g)
    labels, outputs = torch.arange(n) % 10, torch.randn(n, 10, generator=g)
    a = gf.Representation(base.relu(), labels, outputs=outputs)
    b = gf.Representation((base @ torch.randn(d, d, generator=g) / 20).relu(), labels, outputs=outputs)
    calls: dict[str, Callable[[], object]] = {m.name: (lambda m=m: m.run(a)) for m in available(scope="layer")}
    calls |= {m.name: (lambda m=m: m.run(a, b)) for m in available(scope="pair")}
    layers = [torch.randn(n, d, generator=g) for _ in range(10)]
    net = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    moved = copy.deepcopy(net)
    with torch.no_grad():
        for p in moved.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=g))
    x = torch.randn(100, 64, generator=g)
    rdms = gf.stack_rdms([gf.rdm(torch.randn(30, 20, generator=g)) for _ in range(6)], list("abcdef"))
    separable = torch.randn(40, 50, 200, generator=g) + 2 * torch.randn(40, 1, 200, generator=g)
    mixed = torch.randn(100, 20, 500, generator=g)
    return calls | {
        "cka_matrix, 10 layers": lambda: gf.cka_matrix(layers),
        "ntk, 10 samples": lambda: gf.ntk(net, x[:10]),
        "ntk, 100 samples": lambda: gf.ntk(net, x),
        "ntk, 100 samples, full": lambda: gf.ntk(net, x, outputs="full"),
        "locate": lambda: gf.locate(moved, x, initial=net),
        "extract": lambda: gf.extract(net, x, layers="*", progress=False),
        "rdm": lambda: gf.rdm(base),
        "rank_by_rsa": lambda: gf.rank_by_rsa({"m": rdms.select("a")}, rdms, "spearman"),
        "capacity, 40 x 50 x 200": lambda: gf.capacity(separable, n_draws=20),
        "capacity, 100 x 20 x 500": lambda: gf.capacity(mixed, n_draws=20),
    }


def measured(only: list[str]) -> dict[str, float]:
    """Name -> least CPU seconds of this tree; NaN for what it cannot run."""
    found = {}
    for name, call in work().items():
        if only and name not in only:
            continue
        try:
            call()
        except Exception as error:  # noqa: BLE001  an older tree may lack it
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            found[name] = float("nan")
            continue
        best, began, k = float("inf"), time.time(), 0
        while k < LEAST or (time.time() - began < SECONDS and k < MOST):
            start = time.process_time()
            call()
            best, k = min(best, time.process_time() - start), k + 1
        found[name] = best
    return found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("before", type=Path)
    asked.add_argument("after", type=Path, nargs="?", default=HERE.parents[1])
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--only", nargs="*", default=[])
    given = asked.parse_args()
    best: dict[str, dict[Path, float]] = {}
    for _ in range(given.rounds):
        for tree in (given.before, given.after):
            environment = {**os.environ, **THREADS, "PYTHONPATH": str(tree.resolve())}
            code = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); import before_after as b, json; "
            code += f"print(json.dumps(b.measured({given.only!r})))"
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code],
                cwd=tree,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            if done.returncode:
                sys.exit(done.returncode)
            for name, seconds in json.loads(done.stdout.splitlines()[-1]).items():
                times = best.setdefault(name, {})
                times[tree] = min(seconds, times.get(tree, seconds))
    print("| what | before, ms | after, ms | change |\n|---|---|---|---|")
    for name, times in best.items():
        a, b = times.get(given.before, float("nan")), times.get(given.after, float("nan"))
        print(f"| {name} | {a * 1e3:.2f} | {b * 1e3:.2f} | {b / a - 1:+.0%} |")


if __name__ == "__main__":
    main()
