"""Why each layer's output drifted: by its own weights, by what it is given, or by both together.

With y(a, b) the output of a layer with the weights of moment a on what it was given at moment b,

    own = |y(T, 0) - y(0, 0)|,    inherited = |y(0, T) - y(0, 0)|,    total = |y(T, T) - y(0, 0)|,
    interaction = |y(T, T) - y(T, 0) - y(0, T) + y(0, 0)|,            all relative to |y(0, 0)|.

A layer that is frozen has own = 0 and total = inherited, however far its features moved.
"""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations import fired_layers, innermost_layers, recording_layer_calls, tensors_by_path
from geomfeat.activations.layer_calls import LayerCall
from geomfeat.activations.model_state import evaluating, unfused_attention
from geomfeat.errors import BadInput
from geomfeat.location.padding import cleared, fitted, packed_lengths, valid_steps
from geomfeat.models.functional import call, copied
from geomfeat.models.nested_inputs import as_inputs, batches, moved, n_samples
from geomfeat.models.readouts.token_masks import valid_tokens
from geomfeat.network import working_precision
from geomfeat.numerics import WORKING, jackknife_stderr, resolve_device
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate

PARTS = ("own", "inherited", "interaction", "total")
FEWEST_FOR_STDERR = 6
HOLDS_OTHERS = "it has weights and also calls other layers, so its share is unknown: see the layers inside"
# A layer called again on what it was given must return what it returned, up to rounding.
REPRODUCED = 1e-4


@measure(
    source="Chizat, Oyallon and Bach 2019, section 1 (movement of representations), split by cause: this package",
    quantities={
        "own": Quantity((0, inf), "", "higher = the layer's own weights moved its output more; 0 = frozen"),
        "inherited": Quantity((0, inf), "", "higher = changes of its input moved its output more"),
        "interaction": Quantity((0, inf), "", "higher = own and inherited drift are less additive"),
        "total": Quantity((0, inf), "", "higher = the layer's output moved more"),
        "share_own": Quantity((0, 1), "share of squares", "0 = all drift is inherited, 1 = all is the layer's own"),
    },
    needs={"init"},
    min_samples=1,
    by_default=False,
)
def layer_drift(pair: SnapshotPair, batch_size: int = 64) -> dict[str, dict[str, Estimate]]:
    """Own drift (new weights on the initial inputs), inherited drift (old weights on new inputs) and both, by layer.

    Relative to the layer's initial output, over the probes; share_own = own^2 / (own^2 + inherited^2). Padding is no
    output. A layer is a called module with parameters that calls no other; buffers (running statistics) go with the
    weights. Of nested outputs the first tensor counts; of several calls all. Layer "" is the mean over layers. Standard
    errors are jackknives over samples, the mean's a joint one.

    >>> import copy
    >>> from geomfeat.types import Snapshot
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.ReLU(), torch.nn.Linear(3, 1, bias=False))
    >>> after = copy.deepcopy(net)
    >>> _ = after[0].requires_grad_(False).weight.mul_(3)
    >>> rows = layer_drift(SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.randn(4, 2)))
    >>> [(round(rows[layer]["own"].value, 4), round(rows[layer]["inherited"].value, 4)) for layer in ("0", "2")]
    [(2.0, 0.0), (0.0, 2.0)]
    """
    models = [_ready(s.model, pair.device) for s in (pair.initial, pair.trained)]
    fired = [fired_layers(model, pair.inputs) for model in models]
    alone, around = innermost_layers(models[0], fired[0])
    squares, problems = _squares(models, alone, pair, batch_size)
    problems |= dict.fromkeys(around, HOLDS_OTHERS)
    rows: dict[str, dict[str, Estimate]] = {}
    good: dict[str, dict[str, Tensor]] = {}
    for name in fired[0]:
        if name not in problems and name in squares and not float(squares[name]["size"].sum()) > 0:
            problems[name] = "its output is zero on every probe at the start: relative drift is undefined"
        if name in problems:
            rows[name] = {part: Estimate.failed(f"layer {name!r}: {problems[name]}") for part in (*PARTS, "share_own")}
        elif name in squares:
            good[name] = squares[name]
            rows[name] = _estimates([squares[name]])
    return {"": _estimates(list(good.values()), len(rows) - len(good)), **rows}


def _ready(model: nn.Module, device: Any) -> nn.Module:
    model = copied(model)
    where = resolve_device(device, next(model.parameters(), None))
    return model.to(where, working_precision(model)) if any(True for _ in model.parameters()) else model.to(where)


def _squares(
    models: list[nn.Module], layers: list[str], pair: SnapshotPair, batch_size: int
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """layer -> part -> (n,) squared norms by sample (and "size" of the initial output), and what went wrong where."""
    first = next(models[0].parameters(), None)
    if first is None:
        raise BadInput("the model has no parameters: give two checkpoints of one model with weights")
    named = [dict(model.named_modules()) for model in models]
    problems = {name: "the trained network has no such layer" for name in layers if name not in named[1]}
    found: dict[str, list[dict[str, Tensor]]] = {name: [] for name in layers if name not in problems}
    with evaluating(models[0], first.device), evaluating(models[1], first.device), torch.no_grad(), unfused_attention():
        for _, part in batches(moved(as_inputs(pair.inputs), first.device, first.dtype), batch_size):
            seen = []
            for model in models:
                with recording_layer_calls(model, list(found)) as calls, packed_lengths(model) as lengths:
                    call(model, part)
                seen.append(dict(calls))
            valid = valid_steps(part, lengths[-1]) if lengths else valid_tokens(part)
            for name in [n for n in found if n not in problems]:
                modules = [named[i][name] for i in (0, 1)]
                try:
                    calls_of = [s.get(name, []) for s in seen]
                    found[name].append(_of_batch(modules, calls_of, n_samples(part), valid))
                except (BadInput, RuntimeError, TypeError, ValueError) as cause:
                    problems[name] = f"it cannot be called on its own ({str(cause).splitlines()[0]})"
    joined = {n: {k: torch.cat([p[k] for p in parts]) for k in parts[0]} for n, parts in found.items()
              if parts and n not in problems}  # fmt: skip
    return joined, problems


def _of_batch(
    modules: list[nn.Module], calls: list[list[LayerCall]], n: int, valid: Tensor | None
) -> dict[str, Tensor]:
    """part -> (n,) squared norms, added up over the calls of one forward pass."""
    if len(calls[0]) != len(calls[1]) or not calls[0]:
        raise BadInput(f"called {len(calls[0])} times before and {len(calls[1])} times after training")
    total: dict[str, Tensor] = {}
    for before, after in zip(*calls, strict=True):
        given = (before, after)
        y = {(w, b): _first(given[b].again(modules[w]), n, valid) for b in (0, 1) for w in (0, 1)}
        returned = _first(before.output, n, valid)
        if not float((y[0, 0] - returned).norm()) <= REPRODUCED * float(returned.norm()):
            raise BadInput("it returns other values for the same arguments: it has a state, or is random")
        own, inherited, both = y[1, 0] - y[0, 0], y[0, 1] - y[0, 0], y[1, 1] - y[0, 0]
        parts = {"own": own, "inherited": inherited, "interaction": both - own - inherited, "total": both,
                 "size": y[0, 0]}  # fmt: skip
        for key, value in parts.items():
            total[key] = total.get(key, 0) + value.square().sum(1).cpu()
    return total


def _first(output: Any, n: int, valid: Tensor | None) -> Tensor:
    """(n, d) float64 of the first floating tensor of an output, whatever axis holds the samples; padding is zero."""
    for tensor in tensors_by_path(output).values():
        if tensor.is_floating_point():
            axes = [i for i, size in enumerate(tensor.shape) if size == n]
            if not axes:
                raise BadInput(f"its output of shape {tuple(tensor.shape)} has no axis of the {n} samples")
            rows = tensor.movedim(axes[0], 0)
            flat = rows.reshape(n, -1).to(WORKING)
            kept = None if rows.ndim < 3 else fitted(valid, rows.shape[1])
            return flat if kept is None else cleared(flat, kept)
    raise BadInput("it returns no tensor of floating numbers")


def _estimates(layers: list[dict[str, Tensor]], left_out: int = 0) -> dict[str, Estimate]:
    """Mean over layers of each part, from squared norms by sample, with the jackknife over samples."""
    if not layers:
        why = "no layer with weights can be called on its own: see the notes of the layers' own rows"
        return {part: Estimate.failed(why) for part in (*PARTS, "share_own")}
    note = f"{left_out} layers left out: see their own rows" if left_out else ""
    out = {part: _mean([_ratio(s[part], s["size"]) for s in layers], note) for part in PARTS}
    moving = [s for s in layers if float(s["own"].sum() + s["inherited"].sum()) > 0]
    out["share_own"] = (
        _mean([_share(s["own"], s["inherited"]) for s in moving], note)
        if moving
        else Estimate.failed("nothing drifted, so its share is undefined: compare with a later checkpoint")
    )
    return out


def _ratio(moved: Tensor, size: Tensor) -> Tensor:
    """(1 + n,) |moved| / |size| of all samples, then with each left out."""
    return (_and_without_each(moved) / _and_without_each(size)).sqrt()


def _share(own: Tensor, inherited: Tensor) -> Tensor:
    return _and_without_each(own) / (_and_without_each(own) + _and_without_each(inherited))


def _and_without_each(squares: Tensor) -> Tensor:
    whole = squares.sum()
    # Rounding must not leave a negative rest where one sample holds everything.
    return torch.cat([whole[None], (whole - squares).clamp_min(0)])


def _mean(values: list[Tensor], note: str) -> Estimate:
    mean = torch.stack(values).mean(0)
    without = mean[1:]
    usable = len(without) >= FEWEST_FOR_STDERR and bool(torch.isfinite(without).all())
    return Estimate(float(mean[0]), jackknife_stderr(without) if usable else None, True, note)
