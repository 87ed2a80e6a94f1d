"""Width scaling: train one architecture at a range of widths, and fit the powers of the width.

Karkada 2024 (section 3): with outputs f = net / gamma, gamma = n^r, and rate eta0 gamma^2 in NTK parameterization,
features change as |Dh| ~ n^r, f starts as n^-r, |DW|/|W| ~ n^(r - 1/2), and the part of the change of f that the
linearised network leaves out is ~ |Dh|^2 / n = n^(2r - 1). `geomfeat.regimes.width.readings` says what exactly is
measured. Any family of networks can be measured so: what its exponents say is its own r.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.errors import BadInput, require_kind
from geomfeat.labels import as_goal
from geomfeat.models.functional import unwrapped
from geomfeat.models.nested_inputs import as_inputs, moved, n_samples
from geomfeat.numerics import WORKING
from geomfeat.regimes.training.richness import Richness
from geomfeat.regimes.width.options import WidthOptions
from geomfeat.regimes.width.parallel_training import (
    Family,
    Values,
    can_batch,
    cast,
    descend_together,
    family,
    learning_rates,
)
from geomfeat.regimes.width.readings import ReadingSites, find_sites, readings
from geomfeat.regimes.width.result import Reading, RichnessEstimate, WidthScaling, richness_of
from geomfeat.statistics.power_law import FEWEST_WIDTHS

Build = Callable[[int, int], nn.Module]
Train = Callable[[nn.Module, Any, Any], nn.Module]


@dataclass(frozen=True, eq=False)
class ScalingPlan:
    """Checked arguments, shared by `width_scaling` and `coordinate_check`."""

    build: Build
    inputs: Any
    targets: Tensor
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    gammas: tuple[float, ...]
    r: float | None
    train_is_plain: bool  # trained by gradient descent without randomness, so equal networks give equal results
    options: WidthOptions

    def families(self) -> list[Family]:
        """The untrained networks of every width."""
        found = [family([_built(self.build, width, seed) for seed in self.seeds]) for width in self.widths]
        sizes = [f.n_weights for f in found]
        if len(set(sizes)) < len(sizes):
            raise BadInput(
                f"build ignores the width: at widths {self.widths} its models have {sizes} trainable parameters; make "
                "build(width, seed) return a network of that width"
            )
        if self.train_is_plain and any(_all_alike(f.start) for f in found):
            raise BadInput(
                f"build ignores the seed: its models of seeds {self.seeds} have the same weights, do not scatter "
                "and give no intervals; make build(width, seed) draw from the seed, or give one seed"
            )
        return found

    def batched(self, nets: Family) -> bool:
        """Whether seeds are trained and measured side by side."""
        wish = self.options.batched
        return can_batch(nets, self.inputs, self.options.readout) if wish is None else wish


def _all_alike(weights: Values) -> bool:
    """Whether stacked networks, two or more, are one network."""
    return all(len(t) > 1 and bool((t == t[:1]).all()) for t in weights.values())


def _built(build: Build, width: int, seed: int) -> nn.Module:
    model = build(width, seed)
    if not isinstance(model, nn.Module):
        raise BadInput(f"build({width}, {seed}) returned {type(model).__name__}, not a torch.nn.Module")
    return unwrapped(model)


def width_scaling(
    build: Build,
    inputs: Any,
    targets: Any,
    widths: Sequence[int],
    *,
    r: float | None = None,
    gamma: float | None = None,
    train: Train | None = None,
    seeds: int | Sequence[int] = 4,
    steps: int = 20,
    progress: bool = False,
    options: WidthOptions = WidthOptions(),
) -> WidthScaling:
    """Train `build(width, seed)` at several widths and fit how feature change, updates and outputs scale with width.

    Args:
        build: (width, seed) -> untrained network, in any parameterization.
        inputs, targets: as for `train_at_gamma`; the training set, on which everything is measured too.
        widths: three or more. seeds: how many, or which; four or more for intervals.
        r: gamma = width^r, from 0 (lazy) to 1/2 (rich); or gamma: the same at all widths. Default gamma = 1.
            Training is full-batch gradient descent on f = (net - net0) / gamma for `steps` of rate eta0 gamma^2.
        train: (model, inputs, targets) -> trained model: the user's own training instead, f = net, of a fixed number of
            steps. It gets a copy.
        options: eta0, loss, readout, seeds side by side: see `WidthOptions`.

    A network that diverged (weights not finite, or a loss above its start) has flagged readings, left out of all fits.

    Raises BadInput for fewer than three widths, r outside [0, 1/2], a build that ignores the width or the seed or whose
    architecture depends on the seed, a network without hidden layers.

    >>> from geomfeat.models.mlp import mlp
    >>> make = lambda width, seed: mlp(4, (width, width), 1, activation="tanh", parameterization="ntk", seed=seed)
    >>> found = width_scaling(make, torch.eye(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), (64, 128, 256), r=0.5)
    >>> abs(found.exponent("feature_change", "fc2").exponent - 0.5) < 0.1
    True
    """
    plan = planned(build, inputs, targets, widths, r=r, gamma=gamma, train=train, seeds=seeds, steps=steps,
                   options=options)  # fmt: skip
    nets = plan.families()
    sites = find_sites(nets[0], plan.inputs, options.readout)
    batched = plan.batched(nets[0])
    rows: list[Reading] = []
    ways = trained(plan, nets, train, steps=steps, wanted=[1 if train else steps], batched=batched, progress=progress)
    for width, own, scale, ([after], losses) in zip(plan.widths, nets, plan.gammas, ways, strict=True):
        rows += _rows(plan, width, own, after, losses, scale, sites, batched)
    return WidthScaling(plan.widths, plan.seeds, None if train else plan.r, sites.hidden, sites.readout, tuple(rows))


def estimate_r(build: Build, inputs: Any, targets: Any, widths: Sequence[int], **arguments: Any) -> RichnessEstimate:
    """The richness r at which a family of networks trains, with its interval and the criteria it violates.

    Arguments as for `width_scaling`: without r=, gamma= or train= it is plain gradient descent in the family's own
    parameterization, with one learning rate for all layers.

    >>> from geomfeat.models.mlp import mlp
    >>> make = lambda width, seed: mlp(4, (width, width), 1, activation="tanh", seed=seed)
    >>> found = estimate_r(make, torch.eye(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), (64, 128, 256))
    >>> found.violations[0][:30]
    'useful update at fc2 (exponent'
    """
    return richness_of(width_scaling(build, inputs, targets, widths, **arguments))


def planned(
    build: Build, inputs: Any, targets: Any, widths: Sequence[int], *, r: float | None, gamma: float | None,
    train: Train | None, seeds: int | Sequence[int], steps: int, options: WidthOptions,
) -> ScalingPlan:  # fmt: skip
    """The arguments, checked; BadInput names the one that cannot be."""
    require_kind(options, WidthOptions, "options")
    if sum(v is not None for v in (r, gamma, train)) > 1:
        raise BadInput("give at most one of r=, gamma= and train=: your own training sets its own richness")
    sizes = tuple(sorted({int(w) for w in widths}))
    if len(sizes) < FEWEST_WIDTHS or sizes[0] < 1:
        raise BadInput(f"widths={tuple(widths)}: give at least {FEWEST_WIDTHS} different ones, each at least 1")
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise BadInput(f"seeds={seeds}: give at least one, each once")
    if steps < 1:
        raise BadInput(f"steps={steps} must be at least 1")
    if gamma is None:
        gammas = tuple(Richness.from_r(r or 0.0, float(width)).gamma for width in sizes)
    else:
        gammas = (Richness(gamma).gamma,) * len(sizes)
    data, goal = as_inputs(inputs), as_goal(targets, "targets")
    if n_samples(data) != goal.shape[0]:
        raise BadInput(f"targets have {goal.shape[0]} entries, but inputs {n_samples(data)} samples")
    first = next(_built(build, sizes[0], chosen[0]).parameters(), torch.zeros(()))
    data, goal = moved(data, first.device, first.dtype), goal.to(first.device)
    return ScalingPlan(build, data, goal, sizes, chosen, gammas, 0.0 if r is None else r, train is None, options)


def trained(
    plan: ScalingPlan, nets: Sequence[Family], train: Train | None, *, steps: int, wanted: Collection[int],
    batched: bool, progress: bool,
) -> Iterator[tuple[list[Values], Tensor | None]]:  # fmt: skip
    """(weights and buffers at the `wanted` steps, losses as in `Descent`) of every width in turn.

    A step is one of gradient descent, or one call of the user's own training, which tells no losses.
    """
    how = plan.options
    rates = [] if train else rates_of(plan, nets)
    for k, own in enumerate(tqdm(nets, "widths", disable=not progress, leave=False)):
        if train is not None:
            calls = islice(_calls_of(plan, own, train), max(wanted))
            yield [after for step, after in enumerate(calls, 1) if step in wanted], None
        else:
            found = descend_together(own, plan.inputs, plan.targets, gamma=plan.gammas[k], steps=steps, lr=rates[k],
                                     loss=how.loss, readout=how.readout, wanted=wanted, batched=batched)  # fmt: skip
            yield [{**own.fixed, **found.weights[step]} for step in wanted], found.losses


def rates_of(plan: ScalingPlan, nets: Sequence[Family]) -> list[Tensor]:
    """eta0 of every network, (S,) per width: the given one or `learning_rates`."""
    how = plan.options
    if how.lr is not None:
        return [torch.full((len(plan.seeds),), how.lr, dtype=WORKING) for _ in nets]
    return learning_rates(nets, plan.inputs, plan.targets, gammas=plan.gammas, loss=how.loss, readout=how.readout)


def _calls_of(plan: ScalingPlan, nets: Family, train: Train) -> Iterator[Values]:
    """Weights and buffers after one, two, ... calls of the user's own training, stacked in float64."""
    while True:
        found = []
        for i in range(nets.n_seeds):
            model = train(nets.network(nets.start, i), plan.inputs, plan.targets)
            if not isinstance(model, nn.Module):
                raise BadInput(f"train returned {type(model).__name__}, not the trained torch.nn.Module")
            model = unwrapped(model)
            state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            odd = sorted({*state} ^ {*nets.start, *nets.fixed})
            if odd:
                raise BadInput(f"train returned another architecture than it got: see {odd[:3]}")
            found.append(state)
        after = {name: torch.stack([state[name].detach() for state in found]) for name in found[0]}
        yield cast(after, WORKING)
        start, fixed = ({n: after[n].to(t.dtype) for n, t in old.items()} for old in (nets.start, nets.fixed))
        nets = replace(nets, start=start, fixed=fixed)


def _rows(
    plan: ScalingPlan, width: int, nets: Family, after: Values, losses: Tensor | None, gamma: float,
    sites: ReadingSites, batched: bool,
) -> list[Reading]:  # fmt: skip
    """Readings of one width; of diverged networks, and of terms that a layer does not have, flagged."""
    wide = nets.to(WORKING)
    before = {**wide.fixed, **wide.start}
    after = cast(after, WORKING)
    notes = [_diverged(after, losses, i) for i in range(nets.n_seeds)]
    # A diverged network is measured at its start, so that the others can still be measured beside it.
    good = torch.tensor([not note for note in notes], device=plan.targets.device)
    after = {name: torch.where(good.view(-1, *[1] * (t.ndim - 1)), t, before[name]) for name, t in after.items()}
    inputs = moved(plan.inputs, plan.targets.device, WORKING)
    found = readings(
        wide, before, after, inputs, gamma=gamma, sites=sites, readout=plan.options.readout, batched=batched
    )
    rows = []
    for (quantity, layer), values in found.items():
        for seed, value, note in zip(plan.seeds, values.tolist(), notes, strict=True):
            rows.append(Reading(width, seed, layer, quantity, math.nan if note else value, not note, note))
    for layer in set(sites.names) - set(sites.alone):
        note = f"layer {layer!r} takes more than tensors by position, so it cannot be run by itself"
        rows += [
            Reading(width, s, layer, q, math.nan, False, note) for q in ("direct", "inherited") for s in plan.seeds
        ]
    if losses is not None:
        final = zip(plan.seeds, losses[-1].tolist(), notes, strict=True)
        rows += [Reading(width, seed, "", "train_loss", value, not note, note) for seed, value, note in final]
    return rows


def _diverged(after: Values, losses: Tensor | None, i: int) -> str:
    if not _all_finite(t[i] for t in after.values()):
        return "diverged: weights are not finite; lower lr"
    if losses is not None and not float(losses[-1, i]) <= float(losses[0, i]):
        return f"diverged: the relative loss ended at {float(losses[-1, i]):.3g}, above its start; lower lr"
    return ""


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in tensors)
