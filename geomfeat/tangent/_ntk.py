"""The neural tangent kernel K = J J', exact, within a memory budget.

K[(x, i), (x', j)] = sum_theta df_i(x)/dtheta df_j(x')/dtheta (Jacot, Gabriel and Hongler 2018, eq. 7). Parameters that
the rules cover are done layer by layer without a Jacobian, the others, and small kernels, from Jacobian rows. For
x2=None each pair of tiles is computed once.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.memory import block_bytes, free_bytes, with_smaller_chunks
from geomfeat.models.functional import Functional, Readout, functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.models.readouts.prefixes import sampled
from geomfeat.models.readouts.reading import reading_of
from geomfeat.numerics import WORKING, as_tensor
from geomfeat.tangent.jacobians._memory_budget import BUDGET
from geomfeat.tangent.jacobians.derivative_checks import require_batch_size, require_callable
from geomfeat.tangent.jacobians.rows import Columns, Identity, JacobianRows
from geomfeat.tangent.jacobians.tiles import by_tiles
from geomfeat.tangent.layerwise.coverage import parameter_group
from geomfeat.tangent.layerwise.kernel import by_layers
from geomfeat.tangent.layerwise.structured_kernel import Changed, structured
from geomfeat.tangent.layerwise.wide_head import WideHead, wide_head
from geomfeat.types import Kernel

logger = logging.getLogger(__name__)
# Multiplications below which Jacobian rows are faster: finding and verifying the rules would take longer.
SMALL = 2.0**27

Outputs = str | int | np.integer | Tensor | np.ndarray
Params = str | Sequence[str] | Callable[[str], bool] | None


def ntk(
    model: nn.Module | Functional,
    x: Any,
    x2: Any = None,
    *,
    outputs: Outputs = "trace",
    params: Params = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    readout: Readout | str | None = None,
    dtype: torch.dtype | None = None,
) -> Kernel:
    """Neural tangent kernel between the samples of `x` (n1) and of `x2` (n2; default `x` itself).

    The model is copied, put in evaluation mode and widened to float64; a `Functional` is used directly. A complex
    weight counts as two real ones. `meta` names the precision ("dtype"), what was read ("readout") and what must be
    known of the gradients ("notes").

    Args:
        outputs: "trace": the SUM over outputs, gram (n1, n2). "full": gram (n1 C, n2 C), sample-major (row i * C + c
            is output c of sample i), with `.blocks` (n1, n2, C, C). An int: that one output, gram (n1, n2).
            A (C, k) tensor P: the full kernel of the k projected outputs P' f, gram (n1 k, n2 k), with `.blocks`.
        params: which parameters count: name patterns (globs) or a predicate; default all that require grad.
        batch_size: samples per tile; default what fits in 1 GB of Jacobian entries.
        readout: what the outputs (n, C) are: "last", "mean", "cls", "token:i" or "masked" of the valid tokens,
            "tokens:k" k sampled tokens of each sequence as samples; a function (output, inputs) -> (n, C), or its name,
            "pkg.module:function". Default: the last token of a language model, see `output_matrix`. Logits read by
            name are taken less their mean, which no softmax sees.
        dtype: float64 (default) or float32, of the computation and the kernel.

    Raises BadInput for wrong outputs= or dtype=, random outputs, samples that interact within a batch, and a model
    without any gradient; and
    OutOfMemory, with the number of samples that would fit, when the smallest tiles do not fit either.

    >>> ntk(torch.nn.Linear(3, 2, bias=False), torch.eye(3)).gram.tolist()  # (a . a') times 2 outputs
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    require_batch_size(batch_size)
    readout, x, x2 = sampled_tokens(model, readout, x, x2)
    f = as_functional(model, params, device, readout, dtype)
    grams, meta = _grams(f, x, x2, outputs, dict.fromkeys(f.theta, ""), batch_size)
    return Kernel(grams[""], "ntk", meta)


def ntk_by_parameter_group(
    model: nn.Module | Functional,
    x: Any,
    x2: Any = None,
    *,
    outputs: Outputs = "trace",
    projection: Tensor | np.ndarray | None = None,
    params: Params = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    readout: Readout | str | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Kernel]:
    """The tangent kernel of each module's own parameters: module name -> Kernel; they sum to `ntk`.

    Parameters of the model itself (no module name) are groups under their own names; a shared parameter counts, with
    all its uses, in the module where it is met first. Arguments and errors as in `ntk`, and
        projection: (C, k), first replaces the outputs f by P' f; with outputs="trace" and E[P P'] = I the trace over
            the k projected outputs is an unbiased estimate of that over all C.

    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
    >>> list(ntk_by_parameter_group(net, torch.eye(3)))
    ['0', '1']
    """
    require_batch_size(batch_size)
    readout, x, x2 = sampled_tokens(model, readout, x, x2)
    f = as_functional(model, params, device, readout, dtype)
    groups = {name: parameter_group(name) for name in f.theta}
    grams, meta = _grams(f, x, x2, outputs, groups, batch_size, projection)
    return {group: Kernel(gram, "ntk", {**meta, "group": group}) for group, gram in grams.items()}


def sampled_tokens(model: nn.Module | Functional, readout: Any, x: Any, x2: Any) -> tuple[Any, Any, Any]:
    """The read-out and both inputs, where tokens are samples these tokens."""
    reading, x, _ = sampled(model, readout, x)
    return reading, x, None if x2 is None else sampled(model, readout, x2)[1]


def as_functional(
    model: nn.Module | Functional,
    params: Params,
    device: Any,
    readout: Readout | str | None = None,
    dtype: torch.dtype | None = None,
) -> Functional:
    """The model as a Functional; BadInput for options that belong to `functional` where it is one already."""
    if dtype not in (None, torch.float64, torch.float32):
        raise BadInput(f"dtype={dtype} must be torch.float64 (default) or torch.float32")
    if not isinstance(model, Functional):
        reading = reading_of(model, readout)
        return functional(model, params=params, device=device, readout=reading, dtype=dtype or WORKING)
    if any(option is not None for option in (params, device, readout, dtype)):
        raise BadInput(
            "model is a Functional already: give params=, device=, readout= and dtype= to functional() instead"
        )
    return model


def cotangents_of(
    engine: JacobianRows, outputs: Outputs, projection: Tensor | np.ndarray | None
) -> tuple[Columns, dict[str, Any]]:
    """(C, k) cotangents, and what goes into the kernel's meta."""
    if isinstance(outputs, Tensor | np.ndarray):
        outputs, projection = "full", outputs
    columns = engine.projection(None if projection is None else as_tensor(projection, "the output projection"))
    c = columns.shape[1]
    meta = {} if projection is None else {"projected_from": engine.n_outputs}
    if outputs in ("trace", "full"):
        return columns, {"outputs": outputs, "n_outputs": c, **meta}
    if isinstance(outputs, int | np.integer) and not isinstance(outputs, bool) and -c <= outputs < c:
        return columns[:, [int(outputs)]], {"outputs": int(outputs), "n_outputs": c, **meta}
    raise BadInput(f"outputs must be 'trace', 'full', an output from 0 to {c - 1} or a (C, k) tensor, got {outputs!r}")


def _grams(
    f: Functional,
    x: Any,
    x2: Any,
    outputs: Outputs,
    groups: Mapping[str, str],
    batch_size: int | None,
    projection: Tensor | np.ndarray | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The kernel of each group of parameters; `groups` gives every parameter its group."""
    x = f.inputs(x)
    x2 = None if x2 is None else f.inputs(x2)
    engine = JacobianRows(f, x)
    if x2 is not None:
        require_callable(f, x2)
    cotangents, meta = cotangents_of(engine, outputs, projection)
    n, k, summed = n_samples(x), cotangents.shape[1], meta["outputs"] != "full"
    head = wide_head(f, x, k) if isinstance(cotangents, Identity) and summed else None
    if head is not None:
        return _by_head(f, head, x, x2, groups, batch_size), _with_facts(meta, f, x)
    n2 = n if x2 is None else n_samples(x2)
    work = n * k * f.n_parameters * (2 + n2 * (1 if summed else k) / 2)
    layers = structured(f, x) if work > SMALL else None

    def remedy() -> str:
        return _remedy(f, n, k, summed)

    def attempt(budget: int) -> dict[str, Tensor]:
        width = 1 if summed else k
        shape = (n * width, n2 * width)
        grams = {group: torch.zeros(shape, dtype=f.dtype, device=f.device) for group in groups.values()}
        rest = engine
        if layers is not None:
            limit = 2 * budget if batch_size is None else batch_size * 2 * (engine.saved + k * layers.plan.delta_bytes)
            by_layers(layers, x, x2, cotangents, summed, grams, groups, engine.saved, min(limit, 2 * budget))
            rest = None if layers.rest is None else JacobianRows(layers.rest, x)
        if rest is not None:
            rows = budget // rest.row_bytes
            rest.budget = min(budget, block_bytes(BUDGET, f.device))
            by_tiles(rest, x, x2, cotangents, summed, grams, _ranges(rest, groups), rows)
        return grams

    meta = _with_facts(meta, f, x)
    _require_grams(f, len(set(groups.values())) * n * n2 * (1 if summed else k * k), remedy)
    budget = block_bytes(BUDGET, f.device) if batch_size is None else max(1, 2 * batch_size) * k * engine.row_bytes
    try:
        return with_smaller_chunks(attempt, budget, 2 * engine.row_bytes, remedy), meta
    except Changed as difference:
        logger.info("the layers' rules do not hold for all samples (%s): using the Jacobian", difference)
    layers = None
    return with_smaller_chunks(attempt, budget, 2 * engine.row_bytes, remedy), meta


def _with_facts(meta: Mapping[str, Any], f: Functional, x: Any) -> dict[str, Any]:
    """With the precision of the computation, what was read, and what must be known of the gradients."""
    words = f.words(x)
    return {**meta, "dtype": str(f.precision).removeprefix("torch."), "readout": words, "notes": f.notes}


def _by_head(
    f: Functional, head: WideHead, x: Any, x2: Any, groups: Mapping[str, str], batch_size: int | None
) -> dict[str, Tensor]:
    """The trace where a last linear layer has very many outputs."""
    shape = n_samples(x), n_samples(x if x2 is None else x2)
    grams = {group: torch.zeros(shape, dtype=f.dtype, device=f.device) for group in groups.values()}
    for name, own in head.own(x, x2).items():
        grams[groups[name]] += own
    if head.rest is not None:
        rest = {name: groups[name] for name in head.rest.theta}
        for group, gram in _grams(head.rest, x, x2, "trace", rest, batch_size)[0].items():
            grams[group] += gram
    return grams


def _require_grams(f: Functional, entries: int, remedy: Callable[[], str]) -> None:
    """OutOfMemory where the kernels themselves are more than what is free."""
    if entries * f.dtype.itemsize > free_bytes(f.device):
        raise OutOfMemory(remedy())


def _ranges(engine: JacobianRows, groups: Mapping[str, str]) -> dict[str, list[slice]]:
    """Columns of the Jacobian of each group; neighbours as one range, so that they are one matrix product."""
    out: dict[str, list[slice]] = {}
    for name, columns in engine.slices.items():
        ranges = out.setdefault(groups[name], [])
        if ranges and ranges[-1].stop == columns.start:
            ranges[-1] = slice(ranges[-1].start, columns.stop)
        else:
            ranges.append(columns)
    return out


def _remedy(f: Functional, n: int, k: int, summed: bool) -> str:
    free, itemsize = free_bytes(f.device), f.dtype.itemsize
    side = n * (1 if summed else k)
    most = max(1, int((free / (4 * itemsize)) ** 0.5) // (side // n))
    return (
        f"the tangent kernel of {n} samples x {k} outputs does not fit, also one gradient at a time: the kernel "
        f"takes {side * side * itemsize / 1e9:.2g} GB, a pair of gradients {2 * f.n_parameters * itemsize / 1e9:.2g} "
        f"GB, and {free / 1e9:.2g} GB are free. With batch_size=1 at most about {min(n, most)} samples would fit; or "
        "use outputs='trace', project the outputs, or restrict params="
    )
