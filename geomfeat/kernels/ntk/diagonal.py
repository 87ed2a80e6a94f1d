"""The diagonal of the tangent kernel: what each sample's own gradients are worth, without the pairs of samples."""

from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.kernels._memory import BUDGET, free_bytes, with_smaller_chunks
from geomfeat.kernels.jacobians import JacobianRows
from geomfeat.kernels.ntk.kernel import Outputs, Params, _as_functional, _cotangents
from geomfeat.kernels.ntk.tiles import by_tiles
from geomfeat.models.functional import Functional, batches, n_samples
from geomfeat.numerics import WORKING, require_finite


def ntk_diagonal(
    model: nn.Module | Functional,
    x: Any,
    *,
    outputs: Outputs = "trace",
    params: Params = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
) -> Tensor:
    """Tangent kernel of each sample with itself, in float64: (n,), or (n, C, C) blocks for outputs="full".

    The diagonal of `ntk(model, x).gram` (Jacot, Gabriel and Hongler 2018, eq. 7) in the memory of one tile of
    Jacobian rows and in time proportional to n. Its mean is the speed at which a step along the gradient of a
    sample's own outputs moves them.

    Args:
        outputs: "trace": the squared norms of the gradients, summed over outputs. An int: of that one output.
            "full": the (C, C) kernel between the outputs of each sample, as `ntk(...).blocks` has on its diagonal.
            A (C, k) tensor: the (k, k) blocks of the projected outputs.
        params, device: as in `ntk`. batch_size: samples per tile; default what fits in 1 GB of Jacobian entries.

    Raises BadInput and OutOfMemory as `ntk` does.

    >>> ntk_diagonal(torch.nn.Linear(2, 3), torch.tensor([[1.0, 2.0], [0.0, 0.0]])).tolist()  # (|a|^2 + 1) times 3
    [18.0, 3.0]
    """
    f = _as_functional(model, params, device)
    x = f.inputs(x)
    engine = JacobianRows(f, x)
    cotangents, meta = _cotangents(engine, outputs, None)
    n, k, summed = n_samples(x), cotangents.shape[1], meta["outputs"] != "full"
    width = 1 if summed else k

    def attempt(budget: int) -> Tensor:
        engine.budget = min(budget, BUDGET)
        rows = budget // engine.row_bytes
        out = torch.zeros(n, width, width, dtype=f.dtype, device=f.device)
        for part, inputs in batches(x, rows // k):
            if rows >= k:
                out[part] = _own_products(engine(inputs, cotangents), k, summed)
            else:  # one sample, whose outputs do not fit a tile together
                by_tiles(engine, inputs, None, cotangents, summed, {"": out[part.start]}, {"": [slice(None)]}, rows)
        return out.to(WORKING)

    def remedy() -> str:
        return (
            f"two gradients take {2 * engine.row_bytes / 1e9:.2g} GB, the diagonal {n * width**2 * 8 / 1e9:.2g} GB, "
            f"and {free_bytes(f.device) / 1e9:.2g} GB are free: restrict params=, or project the outputs"
        )

    budget = BUDGET if batch_size is None else max(1, batch_size) * k * engine.row_bytes
    blocks = require_finite(with_smaller_chunks(attempt, budget, 2 * engine.row_bytes, remedy), "the tangent kernel")
    return blocks[:, 0, 0] if summed else blocks


def _own_products(jacobian: Tensor, k: int, summed: bool) -> Tensor:
    """(samples, k, k) products of each sample's own rows; (samples, 1, 1) for their trace."""
    rows = jacobian.view(-1, 1, k * jacobian.shape[1]) if summed else jacobian.view(-1, k, jacobian.shape[1])
    return rows @ rows.mT
