"""Locate a network between lazy and rich: demand R, movement M and excess E, for the network and for every layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn
from tqdm import tqdm

from geomfeat.activations.layer_selection import Patterns
from geomfeat.data.batch_streams import reread
from geomfeat.errors import BadInput, require_kind
from geomfeat.labels import as_groups
from geomfeat.location.caveats import flags_of
from geomfeat.location.demand import solve
from geomfeat.location.demand_interval import bootstrap, by_probes, deviation, spread
from geomfeat.location.initial_states import Observed, Start, initial_models, observe, start_from
from geomfeat.location.kernel_place import mean_place
from geomfeat.location.options import FEWEST_REINITIALISATIONS, LocateOptions
from geomfeat.location.reference_ladder import Ladder, plan_ladder, read_off, train_ladder
from geomfeat.location.result import ABOVE_FLOOR, LAYER_COLUMNS, Location, regime_of, regime_without_start
from geomfeat.models.functional import Readout, unwrapped
from geomfeat.models.readouts import as_readout
from geomfeat.models.reinitialize import Factory
from geomfeat.network import Network
from geomfeat.statistics.group_errors import FEWEST
from geomfeat.tangent.tangent_space import Params
from geomfeat.types import Snapshot

LEVEL = 0.9  # level of the intervals
# Decades by which R through projected outputs was seen to exceed R through all (ImageNet CNN: 1.35 against .83).
PROJECTION_EXCESS = 0.5
BOOTSTRAP, HEAVY_BOOTSTRAP, HEAVY_PROJECTIONS, MANY_OUTPUTS = 20, 6, 4, 16
ORDERS, HEAVY_ORDERS = 4, 1  # random orders of the probes to average the growth of R with their number over
# A doubling of the probes can add more than the one before did. The margin was chosen on half the families of
# `geomfeat validate`, which look one and two doublings ahead.
MARGIN, MOST_DOUBLINGS = 1.25, 2.0


def locate(
    model: nn.Module | Snapshot,
    inputs: Any,
    labels: Any = None,
    *,
    initial: nn.Module | Snapshot | None = None,
    factory: Factory | None = None,
    optimizer: Any = None,
    params: Params | None = None,
    readout: Readout | str | None = None,
    groups: Any = None,
    ladder: int | Ladder | None = None,
    seed: int = 0,
    layers: Patterns = "*",
    device: str | torch.device | None = None,
    progress: bool = True,
    options: LocateOptions = LocateOptions(),
) -> Location:
    """Where a trained network sits between lazy and rich, from its weights before and after training and some inputs.

    Args:
        model: the trained network, or a Snapshot of it.
        inputs: probe inputs, best from the training set; a tensor, tuple or mapping with samples first, or a
            DataLoader or Dataset in a fixed order, of which only the probes are held in memory.
        labels: (n,) classes or target values. Not needed for the location; the ladder and the check of fit use them.
        initial: the weights training began from. Without them `factory` draws fresh ones a few times (default: copies
            of `model` reset by each module's own `reset_parameters`); R is then reported only above the measured floor,
            and movement means little.
        optimizer: what trained the network: a torch optimizer, its `state_dict()`, or {parameter glob: rate}; demand is
            then measured in the coordinates in which its training is gradient flow, see `optimizer_rates`. Default
            None: plain gradient descent of equal rates is assumed, and `metric` says so.
        params: which parameters were trained: name globs or a predicate. Default: those that differ from `initial`,
            whatever their requires_grad; without it, those of `model` that require a gradient, or all of them.
            Parameters that were not trained make no tangent space, and fresh weights leave them as they are.
        readout: (output, inputs) -> (n, C), or its name, "pkg.module:function" or "file.py:function".
        groups: (n,) which inputs belong together (views of one object, trials of one session), or None. The interval
            is then over whole groups, of which the probes must hold 3, better 10.
        ladder: number of reference networks to train at known gamma, with this architecture and these inputs, or a
            Ladder trained before; gives the output scale gamma with the same R.
        layers: which hidden layers count; "*" is every hidden layer with a weight matrix. What a kind or a glob matches
            beyond the layers that are called, and have a size at the start, is left out.
        options: number of probes, effort, and the training loss if it is known, see `LocateOptions`.

    Raises BadInput for inputs, layers, groups or weights that cannot be used.

    >>> start = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> end = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> locate(end, torch.randn(40, 8), initial=start, options=LocateOptions(n_bootstrap=5), progress=False).tier
    'initial'
    """
    require_kind(options, LocateOptions, "options")
    end, begin = _module(model), None if initial is None else _module(initial)
    reading = as_readout(readout)
    _require_no_network(labels)
    inputs, labels = reread(end, inputs, labels, why="locate")
    network = Network.prepare(
        end, inputs, layers=layers, initial=begin, params=params, optimizer=optimizer, readout=reading, device=device
    )
    return locate_network(
        network, labels, begin, factory=factory, groups=groups, ladder=ladder, seed=seed, progress=progress,
        options=options,
    )  # fmt: skip


def locate_network(
    network: Network,
    labels: Any,
    initial: nn.Module | None,
    *,
    factory: Factory | None,
    groups: Any,
    ladder: int | Ladder | None,
    seed: int,
    progress: bool,
    options: LocateOptions,
) -> Location:
    """`locate` of a network that is prepared, on its inputs, layers and trained parameters."""
    _check(options, ladder, initial)
    observed = observe(network, labels, n_probes=options.n_probes, seed=seed)
    together = _groups_of(observed, groups, network.n)
    options = _with_effort(observed, options, ladder is not None)
    n_bootstrap, n_starts = cast(int, options.n_bootstrap), options.n_reinitialisations
    orders = HEAVY_ORDERS if network.is_heavy else ORDERS
    steps = (1 if initial is not None else 2 * n_starts) + n_bootstrap + 2 * orders
    with tqdm(total=steps, desc="locate", disable=not progress, leave=False) as bar:
        starts = []
        for fresh in initial_models(network.model, initial, factory, n_starts, seed, network.space):
            starts.append(
                start_from(
                    fresh, observed, share_left=options.share_left, method=options.method,
                    projections=options.projections, seed=seed, known=initial is not None,
                )
            )  # fmt: skip
            bar.update()
        samples, growth = _resampled(starts[0], n_bootstrap, orders, seed, together, lambda: _tick(bar))
        floors = None if initial is not None else _floor(starts, lambda: _tick(bar))
    kernel = mean_place([start.kernel for start in starts])
    located = replace(
        _assembled(starts, samples, floors, observed), tangent=network.space.words, metric=starts[0].metric,
        kernel_demand=kernel.demand, kernel_demand_on_target=kernel.on_target, kernel_change=kernel.change,
        kernel_excess=kernel.excess, linearisation_gap=kernel.gap,
    )  # fmt: skip
    stderr = _difference(located.richness, located.low) / _z(starts)
    details = _details(starts, observed, together, options, seed) | {"stderr": stderr}
    located = replace(located, by_probes=growth, details=details)
    located = _widened(located, starts[0], network.n)
    if ladder is not None:
        rungs = _rungs(ladder, starts[0], observed, network.inputs, labels, options.n_probes, seed, progress)
        located = _on_ladder(located, rungs, observed, stderr, _z(starts))
    flags = flags_of(located, starts[0], observed, loss=options.loss, own_reset=factory is None, trained=network.space)
    return replace(located, flags=flags)


def _require_no_network(labels: Any) -> None:
    if isinstance(labels, nn.Module | Snapshot):
        raise BadInput(
            f"labels is a {type(labels).__name__}: give the weights that training began from as initial=, by its name"
        )


def _groups_of(observed: Observed, groups: Any, n: int) -> torch.Tensor | None:
    """The groups of the probes, from those of the n inputs."""
    if groups is None:
        return None
    together = as_groups(groups, n=n).cpu()[observed.rows]
    if (count := len(together.unique())) < FEWEST:
        raise BadInput(
            f"the {len(together)} probes are of {count} groups, too few for an interval over groups: {FEWEST} are "
            "needed, better 10; give inputs of more groups, or no groups"
        )
    return together


def _resampled(
    start: Start, n_bootstrap: int, orders: int, seed: int, groups: torch.Tensor | None, step: Callable[[], None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Demand over resampled probes, and over their number."""
    samples = bootstrap(start.task, n_bootstrap, seed, step, groups)
    return samples, by_probes(start.task, start.demand.richness, seed, step, orders=orders, groups=groups)


def _with_effort(observed: Observed, options: LocateOptions, climbed: bool) -> LocateOptions:
    """Resamples and projections as given, or as the size of the network allows. A ladder compares all outputs."""
    heavy = observed.network.is_heavy
    n_bootstrap, projections = options.n_bootstrap, options.projections
    if n_bootstrap is None:
        n_bootstrap = HEAVY_BOOTSTRAP if heavy else BOOTSTRAP
    if projections is None and heavy and not climbed and observed.outputs.shape[1] > MANY_OUTPUTS:
        projections = HEAVY_PROJECTIONS
    return replace(options, n_bootstrap=n_bootstrap, projections=projections)


def _check(options: LocateOptions, ladder: Any, initial: Any) -> None:
    n = options.n_reinitialisations
    if initial is None and n < FEWEST_REINITIALISATIONS:
        raise BadInput(f"n_reinitialisations={n}: at least 4, for an interval and a floor")
    if isinstance(ladder, int) and options.loss == "cross-entropy":
        raise BadInput(
            "ladder= with loss='cross-entropy' needs to know how far training went: train the rungs yourself, "
            "train_ladder(..., loss='cross-entropy', target_loss=...), and pass that ladder"
        )


def _widened(located: Location, start: Start, given: int) -> Location:
    """The interval with what resampling cannot show: R on all the inputs given, of which the probes are a part.

    R changes with every doubling of the probes, mostly upwards. The end towards which the last doubling moved it also
    covers the doublings that lead to all inputs: at least one, and at most two, as far as this was tried.
    """
    curve = located.by_probes["richness"].to_numpy(dtype=float)
    last = _difference(*curve[[-1, -2]].tolist()) if len(curve) > 1 else 0.0
    doublings = min(max(1.0, math.log2(given / start.task.n)), MOST_DOUBLINGS)
    ahead = MARGIN * doublings * last if math.isfinite(last) else 0.0
    # Projection can only make R too high, so only the lower end widens.
    surplus = 0.0 if start.task.projection is None else PROJECTION_EXCESS
    return replace(
        located, low=located.low - surplus + min(ahead, 0.0), high=located.high + max(ahead, 0.0),
        details={**located.details, "last_doubling": last, "doublings": doublings},
    )  # fmt: skip


def _rungs(
    ladder: int | Ladder, start: Start, observed: Observed, inputs: Any, labels: Any, n_probes: int | None, seed: int,
    progress: bool,
) -> Any:  # fmt: skip
    """The ladder as it was given, or one of so many rungs, trained in what training moved."""
    if not isinstance(ladder, int):
        return ladder
    gammas, loss_reached = plan_ladder(start, observed, ladder)
    return train_ladder(
        start.model, inputs, labels, gammas, target_loss=loss_reached, layers=list(observed.layers), n_probes=n_probes,
        seed=seed, readout=observed.network.readout, device=observed.network.device, progress=progress,
        params=start.space.names.__contains__,
    )  # fmt: skip


def _on_ladder(located: Location, ladder: Any, observed: Observed, stderr: float, z: float) -> Location:
    """The location with the equivalent gamma; BadInput for a ladder that was measured on something else."""
    if not isinstance(ladder, Ladder):
        raise BadInput(f"ladder must be a number of rungs or a Ladder, got {type(ladder).__name__}")
    if (ladder.layers, ladder.n_probes) != (observed.layers, len(observed.rows)):
        raise BadInput(
            f"the ladder was measured on {ladder.n_probes} probes and layers {', '.join(ladder.layers)}; the model on "
            f"{len(observed.rows)} and {', '.join(observed.layers)}: give both the same inputs, layers and seed"
        )
    gamma, low, high = read_off(ladder, located.richness, stderr, z)
    return replace(located, equivalent_gamma=gamma, gamma_low=low, gamma_high=high, ladder=ladder.rungs)


def _tick(bar: Any) -> None:
    bar.update()


def _difference(a: float, b: float) -> float:
    """a - b; 0 where both are -inf."""
    return 0.0 if a == b else a - b


def _module(model: nn.Module | Snapshot) -> nn.Module:
    model = model.model if isinstance(model, Snapshot) else model
    if not isinstance(model, nn.Module):
        raise BadInput(
            f"model and initial must be torch modules or Snapshots, got {type(model).__name__}: "
            "load weights with geomfeat.load_weights(model, path)"
        )
    return unwrapped(model)


def _floor(starts: list[Start], step: Callable[[], None]) -> dict[str, float]:
    """Mean demand, by layer and as "" for the network, of turning one random initialisation into the next.

    It is the value of R when nothing was learned: smaller demands are indistinguishable from it.
    """
    found = []
    for start, other in zip(starts, [*starts[1:], starts[0]], strict=True):
        demand = solve(start.task.towards(other.outputs - start.outputs))
        found.append({**demand.layers, "": demand.richness})
        step()
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def _z(starts: list[Start]) -> float:
    """Half-width of the interval in standard errors: normal with the true start, Student's t over a few fresh ones."""
    tail = 0.5 + LEVEL / 2
    return float(stats.norm.ppf(tail) if len(starts) == 1 else stats.t.ppf(tail, len(starts) - 1))


def _assembled(
    starts: list[Start], samples: pd.DataFrame, floors: dict[str, float] | None, observed: Observed
) -> Location:
    by_sample = spread(samples)
    z = _z(starts)

    def centre_and_half(of_start: list[float], column: str) -> tuple[float, float]:
        # The lost initial weights are one more draw: their variance adds to that of the mean, hence 1 + 1 / n.
        own = deviation(of_start) * math.sqrt(1 + 1 / len(starts)) if len(starts) > 1 else 0.0
        return float(np.mean(of_start)), z * float(np.hypot(by_sample[column], own))

    rows = []
    for name in [n for n in starts[0].demand.layers if all(n in s.movement for s in starts)]:
        r, half = centre_and_half([s.demand.layers[name] for s in starts], name)
        m = float(np.mean([s.movement[name] for s in starts]))
        floor = math.nan if floors is None else floors[name]
        regime = _regime(r, m, None if floors is None else floor)
        excess = m - r if np.isfinite([m, r]).all() else math.nan
        rows.append((name, r, r - half, r + half, m, excess, regime, floor))
    layers = pd.DataFrame(rows, columns=[*LAYER_COLUMNS, "floor"])
    floor = None if floors is None else floors[""]
    richness, half = centre_and_half([s.demand.richness for s in starts], "richness")
    moving = np.isfinite(layers["movement"])
    both = moving & np.isfinite(layers["richness"])
    counted = layers["movement"][both if both.any() else moving]
    moved = float(np.mean(counted)) if len(counted) else -math.inf
    at_most = floor is not None and richness < floor + ABOVE_FLOOR
    hidden_from_view = any(bool(observed.features[name].any()) for name in starts[0].left_out)
    regime = "undetermined" if moved == -math.inf and hidden_from_view else _regime(richness, moved, floor)
    high = max(richness + half, floor + ABOVE_FLOOR) if at_most and floor is not None else richness + half
    excess = moved - richness if math.isfinite(moved) and math.isfinite(richness) else math.nan
    return Location(
        richness=richness, low=richness - half, high=high, movement=moved, excess=excess,
        tier="initial" if floor is None else "reinitialised", floor=floor, at_most=at_most, regime=regime,
        layers=layers,
    )  # fmt: skip


def _regime(richness: float, movement: float, floor: float | None) -> str:
    if floor is None or movement == -math.inf:
        return regime_of(richness, movement)
    return regime_without_start(richness, richness < floor + ABOVE_FLOOR, floor)


def _details(
    starts: list[Start], observed: Observed, groups: torch.Tensor | None, options: LocateOptions, seed: int
) -> dict[str, Any]:
    first = starts[0]
    return {
        "n_probes": first.task.n,
        "n_groups": None if groups is None else len(groups.unique()),
        "n_outputs": observed.outputs.shape[1],
        "projections": None if first.task.projection is None else first.task.projection.shape[1],
        "share_left": options.share_left,
        "method": first.task.method,
        "unreachable": first.demand.response.unreachable,
        "left_out": list(first.left_out),
        "n_bootstrap": options.n_bootstrap,
        "level": LEVEL,
        "richness_of_each_start": [s.demand.richness for s in starts],
        "seed": seed,
        "loss": options.loss,
    }
