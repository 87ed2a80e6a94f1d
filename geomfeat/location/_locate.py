"""Locate a network between lazy and rich: demand R, movement M and excess E, for the network and for every layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from geomfeat.activations.layer_selection import Patterns
from geomfeat.data.batch_streams import reread
from geomfeat.errors import BadInput, require_kind
from geomfeat.labels import as_groups
from geomfeat.location.assembly import assembled, details_of, difference, floor_of, half_width, widened
from geomfeat.location.caveats import flags_of
from geomfeat.location.demand import MIDDLE, solve
from geomfeat.location.demand_interval import bootstrap, by_probes
from geomfeat.location.initial_states import Observed, Start, initial_models, observe, start_from
from geomfeat.location.kernel_interval import Resample
from geomfeat.location.options import FEWEST_REINITIALISATIONS, LocateOptions
from geomfeat.location.planning.effort import Effort, effort_of
from geomfeat.location.planning.plan import probes_within
from geomfeat.location.reference_ladder import Ladder, plan_ladder, read_off, train_ladder
from geomfeat.location.result import Location
from geomfeat.models.functional import Readout, unwrapped
from geomfeat.models.readouts.prefixes import repeated, sampled, together
from geomfeat.models.readouts.reading import BY_FUNCTION, reading_of
from geomfeat.models.reinitialize import Factory
from geomfeat.network import Network
from geomfeat.statistics.group_errors import FEWEST
from geomfeat.tangent.metric import GRADIENT, STATE
from geomfeat.tangent.tangent_space import Params
from geomfeat.types import Snapshot

BY_SIZE = (STATE, GRADIENT)  # metrics of optimizers that divide by the size of gradients


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
        optimizer: what trained the network: a torch optimizer, its `state_dict()`, {parameter glob: rate}, or a file of
            one; demand is then measured in the coordinates in which its training is gradient flow, see
            `optimizer_rates`. Default None: that of a Snapshot, else plain descent of equal rates, as `metric` says.
        params: which parameters were trained: name globs or a predicate. Default: those that differ from `initial`,
            whatever their requires_grad; without it, those of `model` that require a gradient, or all of them.
            Parameters that were not trained make no tangent space, and fresh weights leave them as they are.
        readout: what the outputs (n, C) are: "last", "mean", "cls" (the first), "token:i" of the valid tokens, "masked"
            all of them, "tokens:k" k sampled tokens of each sequence as samples; a function (output, inputs) -> (n, C),
            or its name, "pkg.module:function" or "file.py:function". Default: the last token of a language model, see
            `output_matrix`. Read by name, logits are taken less their mean, which no softmax sees, as all outputs are
            where `options.loss` is "cross-entropy" and none where it is "mse".
        groups: (n,) which inputs belong together (views of one object, trials of one session), or None. The interval
            is then over whole groups, of which the probes must hold 3, better 10.
        ladder: number of reference networks to train at known gamma, with this architecture and these inputs, or a
            Ladder trained before; gives the output scale gamma with the same R. They are trained by `options.loss`, mse
            if it is not known, to the loss that the outputs have on the labels.
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
    optimizer = model.optimizer if optimizer is None and isinstance(model, Snapshot) else optimizer
    reading = reading_of(end, readout, options.loss)
    _require_no_network(labels)
    inputs, labels = reread(end, inputs, labels, why="locate")
    reading, inputs, rows = sampled(end, reading, inputs, seed)
    labels, groups = repeated(labels, rows), together(groups, rows)
    network = Network.prepare(
        end, inputs, layers=layers, initial=begin, params=params, optimizer=optimizer, readout=reading, device=device
    )
    # Nothing changes the weights before this returns, and copies of large networks would be most of its memory.
    network = replace(network, borrowed=True)
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
    effort = effort_of(observed, options, known=initial is not None, climbed=ladder is not None)
    n_starts = options.n_reinitialisations
    n_wanted = len(observed.rows)
    if options.budget is not None:
        plan = probes_within(observed, effort, 1 if initial is not None else n_starts, options.budget)
        observed = observe(network, labels, n_probes=plan.n_probes, seed=seed)
    together = _groups_of(observed, groups, network.n)
    steps = (1 if initial is not None else 2 * n_starts) + effort.n_bootstrap + 2 * effort.orders
    with tqdm(total=steps, desc="locate", disable=not progress, leave=False) as bar:
        starts: list[Start] = []
        for fresh in initial_models(network.model, initial, factory, n_starts, seed, network.space):
            starts.append(
                start_from(
                    fresh, observed, shares=effort.shares, method=effort.method, projections=effort.projections,
                    all_outputs=effort.all_outputs, seed=seed, known=initial is not None,
                    near=starts[0].kernel if starts else None,
                )
            )  # fmt: skip
            bar.update()
        samples, resamples, growth = _resampled(starts[0], effort, seed, together, lambda: _tick(bar))
        floors = None if initial is not None else floor_of(starts, lambda: _tick(bar))
    words = observed.network.f.words(observed.network.inputs)
    located = assembled(starts, samples, resamples, floors, observed)
    located = replace(located, tangent=network.space.words, readout=words)
    stderr = difference(located.richness, located.low) / half_width(starts)
    details = details_of(starts, observed, together, options, effort.n_bootstrap, seed) | {"stderr": stderr}
    located = replace(located, by_probes=growth, details=details)
    located = widened(located, starts[0], network.n)
    if ladder is not None:
        rungs = _rungs(ladder, starts[0], observed, network.inputs, labels, options, seed, progress)
        located = _on_ladder(located, rungs, observed, stderr, half_width(starts))
    flags = flags_of(located, starts[0], observed, loss=options.loss, own_reset=factory is None, trained=network.space)
    return replace(located, flags=(*_limited(len(observed.rows), n_wanted, options), *flags))


def _limited(n: int, wanted: int, options: LocateOptions) -> tuple[str, ...]:
    if n == wanted:
        return ()
    return (f"budget={options.budget} allows {n} of {wanted} probes. R is lower on fewer: it grows with their number.",)


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
    start: Start, effort: Effort, seed: int, groups: torch.Tensor | None, step: Callable[[], None]
) -> tuple[pd.DataFrame, list[Resample], pd.DataFrame]:
    """Demand over resampled probes, these, and demand over their number: at one share, which adds a constant."""
    share = MIDDLE if MIDDLE in start.task.shares else min(start.task.shares)
    task, there = start.task.stopped_at(share), start.demand.richness_at(share)
    if task.few is not None:
        task = task.cheapest
        there = solve(task).richness
    samples, resamples = bootstrap(task, effort.n_bootstrap, seed, step, groups)
    growth = by_probes(task, there, seed, step, orders=effort.orders, groups=groups)
    return samples, resamples, growth.assign(richness=growth["richness"] + difference(start.demand.richness, there))


def _check(options: LocateOptions, ladder: Any, initial: Any) -> None:
    n = options.n_reinitialisations
    if initial is None and n < FEWEST_REINITIALISATIONS:
        raise BadInput(f"n_reinitialisations={n}: at least 4, for an interval and a floor")
    if ladder is not None and options.share_left is not None:
        raise BadInput(
            f"ladder= with share_left={options.share_left}: rungs are measured over all shares of the change, so the "
            "model must be: leave share_left out"
        )


def _rungs(
    ladder: int | Ladder, start: Start, observed: Observed, inputs: Any, labels: Any, options: LocateOptions, seed: int,
    progress: bool,
) -> Any:  # fmt: skip
    """The ladder as it was given, or one of so many rungs, trained in what training moved, by the loss that it had."""
    if not isinstance(ladder, int):
        return ladder
    gammas, loss_reached = plan_ladder(start, observed, ladder, options.loss)
    return train_ladder(
        start.model, inputs, labels, gammas, loss=options.loss or "mse", target_loss=loss_reached,
        layers=list(observed.layers), n_probes=options.n_probes, seed=seed, readout=observed.network.readout,
        device=observed.network.device, progress=progress, params=start.space.names.__contains__,
        optimizer=observed.network.rates,
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
    if (ladder.metric in BY_SIZE) != (located.metric in BY_SIZE):
        raise BadInput(
            f"the ladder was measured in the coordinates of {ladder.metric!r}, the model in those of "
            f"{located.metric!r}: give locate and train_ladder the same optimizer="
        )
    # Functions are distinguished by their names alone, which say nothing.
    read = {words for words in (ladder.readout, located.readout) if words and not words.startswith(BY_FUNCTION)}
    if len(read) > 1:
        raise BadInput(
            f"the ladder was measured on {ladder.readout!r}, the model on {located.readout!r}: give locate and "
            "train_ladder the same readout=, and both the loss where it is cross-entropy"
        )
    gamma, low, high = read_off(ladder, located.richness, stderr, z)
    return replace(located, equivalent_gamma=gamma, gamma_low=low, gamma_high=high, ladder=ladder.rungs)


def _tick(bar: Any) -> None:
    bar.update()


def _module(model: nn.Module | Snapshot) -> nn.Module:
    model = model.model if isinstance(model, Snapshot) else model
    if not isinstance(model, nn.Module):
        raise BadInput(
            f"model and initial must be torch modules or Snapshots, got {type(model).__name__}: "
            "load weights with geomfeat.load_weights(model, path)"
        )
    return unwrapped(model)
