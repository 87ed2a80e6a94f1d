"""What a sweep does not measure of its runs and a proof needs: R from all probes, fresh weights and in other norms."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat.comparison.sweeps.folder import OPTIMIZER, RUNS
from geomfeat.comparison.sweeps.grid import dataset_of, network_of
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.comparison.validation.other_norms import kernel_norms, weight_norms
from geomfeat.data.dataset import Dataset
from geomfeat.errors import GeomfeatError
from geomfeat.location._locate import locate
from geomfeat.location.demand import solve
from geomfeat.location.initial_states import observe, start_from
from geomfeat.location.options import LocateOptions
from geomfeat.models.weights.checkpoints import load_weights
from geomfeat.network import Network
from geomfeat.storage.atomic import read_json
from geomfeat.storage.owned_files import json_text, make_folder, replace_file
from geomfeat.tangent import OptimizerRates

LOOKS = "looks"
FORMAT = 2  # of the saved files; increase it when `_look` gives other numbers, so that old files are replaced
SHARES = (0.05, 0.01, 0.002)  # shares of the change that remain when the linear response stops
MIDDLE = 0.01
PROBES, DRAWS, BOOTSTRAP = 50, 4, 20


def measured_again(folder: Path, address: str, run: RunConfig) -> dict[str, Any]:
    """Numbers of one finished run, saved in `folder`/looks/<address>.json and read from there the next time.

    Keys: R, low, high (the location from 50 probes and the true initial weights); R_<share>, M (all training inputs as
    probes), R_<share>_quarter (every fourth input), layers {name: [R, M]} at a share of .01, weights and kernel (the
    same in these norms, see `norms`), tripled (what three times the change adds to R); reinit_R, reinit_low,
    reinit_high, floor, at_most (the location from the same 50 probes and fresh weights); kappa, kappa_a, kernel_change,
    gap (the location's kernel demand, on all and on the target, and what was measured). Or failed: the reason.
    """
    path = folder / LOOKS / f"{address}.json"
    if path.is_file():
        with suppress(ValueError):  # truncated: looked at again
            kept = read_json(path)
            if (kept.pop("format", None), kept.pop("address", None)) == (FORMAT, address):
                return kept
    data = dataset_of(run)
    with libraries_on_one_thread(), torch.random.fork_rng(devices=[]):
        try:
            found = _look(folder / RUNS / address, run, data)
        except (GeomfeatError, FileNotFoundError) as error:
            found = {"failed": str(error)}
    make_folder(path.parent)
    content = json_text({"format": FORMAT, "address": address, **found})
    replace_file(path, lambda draft: draft.write_text(content, encoding="utf-8"), own=True)
    return found


def _look(home: Path, run: RunConfig, data: Dataset) -> dict[str, Any]:
    initial, trained = (
        load_weights(network_of(run, data), home / f"{name}.safetensors") for name in ("init", "trained")
    )
    seen = data.training()
    rates = OptimizerRates.load(home / OPTIMIZER) if (home / OPTIMIZER).is_file() else None
    network = Network.prepare(trained, seen.inputs, initial=initial, optimizer=rates)
    observed = observe(network, None, n_probes=seen.n)
    middle, quarter = (
        start_from(initial, observed, shares=[MIDDLE], with_kernel=False),
        (torch.arange(seen.n) % 4 == 0).double(),
    )
    tasks = {share: middle.task.stopped_at(share) for share in SHARES}
    moved = [m for m in middle.movement.values() if math.isfinite(m)]
    tripled = solve(middle.task.towards(3 * middle.task.change)).richness - middle.demand.richness
    few = LocateOptions(n_probes=min(PROBES, seen.n), n_bootstrap=BOOTSTRAP, n_reinitialisations=DRAWS)
    located = partial(
        locate, trained, seen.inputs, optimizer=rates, seed=run.seed, progress=False, options=few
    )  # fmt: skip
    location, again = located(initial=initial), located(factory=lambda: _fresh(run, data))
    return {
        "R": location.richness, "low": location.low, "high": location.high,
        **{f"R_{share:g}": solve(task).richness for share, task in tasks.items()},
        **{f"R_{share:g}_quarter": solve(task, quarter).richness for share, task in tasks.items()},
        "M": sum(moved) / len(moved) if moved else -math.inf,
        "layers": {name: [r, middle.movement[name]] for name, r in middle.demand.layers.items()},
        "weights": weight_norms(middle, trained), "kernel": {"": kernel_norms(middle, trained)},
        "tripled": tripled,
        "reinit_R": again.richness, "reinit_low": again.low, "reinit_high": again.high, "floor": again.floor,
        "at_most": again.at_most,
        "kappa": location.kernel_demand, "kappa_a": location.kernel_demand_on_target,
        "kernel_change": location.kernel_change, "gap": location.linearisation_gap,
    }  # fmt: skip


def _fresh(run: RunConfig, data: Dataset) -> nn.Module:
    """New initial weights of the run's own family, from torch's global generator, as a factory must draw them."""
    seed = int(torch.randint(2**31, (1,)))
    return network_of(run.model_copy(update={"seed": seed}), data)
