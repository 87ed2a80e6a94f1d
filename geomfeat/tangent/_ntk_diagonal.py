"""The diagonal of the tangent kernel: the kernel of every sample with itself, without the pairs of samples."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import OutOfMemory
from geomfeat.memory import block_bytes, free_bytes, with_smaller_chunks
from geomfeat.models.functional import Functional, Readout
from geomfeat.models.nested_inputs import batches, n_samples
from geomfeat.models.readouts.prefixes import sampled
from geomfeat.numerics import WORKING, require_finite
from geomfeat.tangent._ntk import SMALL, Outputs, Params, as_functional, cotangents_of
from geomfeat.tangent.jacobians._memory_budget import BUDGET
from geomfeat.tangent.jacobians.derivative_checks import require_batch_size
from geomfeat.tangent.jacobians.rows import Columns, Identity, JacobianRows
from geomfeat.tangent.jacobians.tiles import by_tiles
from geomfeat.tangent.layerwise.structured_kernel import Changed, Structured, structured
from geomfeat.tangent.layerwise.wide_head import wide_head

logger = logging.getLogger(__name__)


def ntk_diagonal(
    model: nn.Module | Functional,
    x: Any,
    *,
    outputs: Outputs = "trace",
    params: Params = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    readout: Readout | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Tangent kernel of each sample with itself, in float64: (n,), or (n, C, C) blocks for outputs="full".

    The diagonal of `ntk(model, x).gram` (Jacot, Gabriel and Hongler 2018, eq. 7) in the memory of one tile of
    samples and in time proportional to n. Its mean is the speed at which a step along the gradient of a
    sample's own outputs moves them.

    Args:
        outputs: "trace": the squared norms of the gradients, summed over outputs. An int: of that one output.
            "full": the (C, C) kernel between the outputs of each sample, as `ntk(...).blocks` has on its diagonal.
            A (C, k) tensor: the (k, k) blocks of the projected outputs.
        params, device, readout, dtype (of the computation): as in `ntk`.
        batch_size: samples per tile; default what fits in 1 GB of Jacobian entries.

    Raises BadInput and OutOfMemory as `ntk` does.

    >>> ntk_diagonal(torch.nn.Linear(2, 3), torch.tensor([[1.0, 2.0], [0.0, 0.0]])).tolist()  # (|a|^2 + 1) times 3
    [18.0, 3.0]
    """
    require_batch_size(batch_size)
    readout, x, _ = sampled(model, readout, x)
    f = as_functional(model, params, device, readout, dtype)
    x = f.inputs(x)
    engine = JacobianRows(f, x)
    cotangents, meta = cotangents_of(engine, outputs, None)
    n, k, summed = n_samples(x), cotangents.shape[1], meta["outputs"] != "full"
    head = wide_head(f, x, k) if summed and isinstance(cotangents, Identity) else None
    if head is not None:
        own = head.own_diagonal(x).to(WORKING)
        return own if head.rest is None else own + ntk_diagonal(head.rest, x, batch_size=batch_size)
    width = 1 if summed else k

    layers = structured(f, x) if 2 * n * k * f.n_parameters > SMALL else None

    def attempt(budget: int) -> Tensor:
        out = torch.zeros(n, width, width, dtype=f.dtype, device=f.device)
        rest = engine
        if layers is not None:
            _add_layers(out, layers, x, cotangents, engine.saved, budget)
            rest = None if layers.rest is None else JacobianRows(layers.rest, x)
        if rest is not None:
            _add_rows(out, rest, x, cotangents, budget)
        return out.to(WORKING)

    def remedy() -> str:
        return (
            f"two gradients take {2 * engine.row_bytes / 1e9:.2g} GB, the diagonal {n * width**2 * 8 / 1e9:.2g} GB, "
            f"and {free_bytes(f.device) / 1e9:.2g} GB are free: restrict params=, or project the outputs"
        )

    if n * width**2 * f.dtype.itemsize > free_bytes(f.device):
        raise OutOfMemory(remedy())
    budget = block_bytes(BUDGET, f.device) if batch_size is None else max(1, batch_size) * k * engine.row_bytes
    try:
        blocks = with_smaller_chunks(attempt, budget, 2 * engine.row_bytes, remedy)
    except Changed as difference:
        logger.info("the layers' rules do not hold for all samples (%s): using the Jacobian", difference)
        layers = None
        blocks = with_smaller_chunks(attempt, budget, 2 * engine.row_bytes, remedy)
    require_finite(blocks, "the tangent kernel")
    return blocks[:, 0, 0] if summed else blocks


def _add_layers(out: Tensor, layers: Structured, x: Any, cotangents: Columns, saved: int, budget: int) -> None:
    """From the factors of each covered weight; for a sum over outputs, some outputs of some samples at a time."""
    k, each = cotangents.shape[1], max(1, layers.plan.delta_bytes)
    width = k if out.shape[1] > 1 else max(1, min(k, (budget - saved) // each))
    for start in range(0, k, width):
        columns = cotangents[:, start : start + width]
        for part, inputs in batches(x, budget // (saved + columns.shape[1] * each)):
            for factor in layers(inputs, columns).values():
                factor.add_own(out[part])


def _add_rows(out: Tensor, engine: JacobianRows, x: Any, cotangents: Columns, budget: int) -> None:
    """From Jacobian rows, of which `budget` bytes are held."""
    engine.budget = min(budget, block_bytes(BUDGET, engine.f.device))
    k, width, held = cotangents.shape[1], out.shape[1], budget // engine.row_bytes
    for part, inputs in batches(x, held // k):
        if held >= k:
            rows = engine(inputs, cotangents)
            rows = rows.view(-1, width, rows.shape[1] * k // width)
            out[part] += rows @ rows.mT
        else:  # one sample, whose outputs do not fit a tile together
            by_tiles(engine, inputs, None, cotangents, width == 1, {"": out[part.start]}, {"": [slice(None)]}, held)
