"""The neural tangent kernel by several processes, each of which computes some of its rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.distributed import failing_together, rank, require_alike, share, summed, together, world_size
from geomfeat.models.functional import Functional, Readout
from geomfeat.models.nested_inputs import n_samples, take
from geomfeat.tangent._ntk import Outputs, Params, as_functional, ntk, sampled_tokens
from geomfeat.types import Kernel


def ntk_by_rank(
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
    """`ntk` by the ranks of a process group, which all must call this with the same arguments; all get all of it.

    Each rank computes some rows, of a kernel of `x` with itself those right of the diagonal, as much as the others. A
    rank holds the whole kernel. Without a process group this is `ntk`.

    Arguments and errors as in `ntk`. Raises BadInput where ranks differ in weights or samples, RankLost where one has
    ended.

    >>> ntk_by_rank(torch.nn.Linear(3, 2, bias=False), torch.eye(3)).gram.tolist()
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    readout, x, x2 = sampled_tokens(model, readout, x, x2)
    f = as_functional(model, params, device, readout, dtype)
    if not together():
        return ntk(f, x, x2, outputs=outputs, batch_size=batch_size)
    from geomfeat.activations.stored_representations import fingerprint  # brings zarr, which a single process needs not

    x, x2 = f.inputs(x), None if x2 is None else f.inputs(x2)
    facts = {"x": fingerprint(x), "x2": None if x2 is None else fingerprint(x2), "weights": fingerprint(dict(f.theta))}
    require_alike(facts, "ntk_by_rank()")
    n = n_samples(x)
    parts: list[tuple[range, int, Kernel]] = []
    with failing_together():
        for rows in _strips(n) if x2 is None else [share(n)]:
            first = rows.start if x2 is None else 0
            columns = take(x, slice(first, n)) if x2 is None else x2
            own = take(x, slice(rows.start, rows.stop))
            if len(rows):
                parts.append((rows, first, ntk(f, own, columns, outputs=outputs, batch_size=batch_size)))
        if not parts:  # more ranks than samples: this one knows the shape and the facts, and adds nothing
            one = take(x, slice(0, 1))
            parts.append((range(0), 0, ntk(f, one, one, outputs=outputs, batch_size=batch_size)))
    return Kernel(_joined(parts, n, None if x2 is None else n_samples(x2)), "ntk", parts[0][2].meta)


def _strips(n: int) -> list[range]:
    """Two strips of rows for this rank, one from each end: right of the diagonal all ranks have as many entries."""
    world = world_size()
    return [share(n, of=(k, 2 * world)) for k in (rank(), 2 * world - 1 - rank())]


def _joined(parts: list[tuple[range, int, Kernel]], n: int, n2: int | None) -> Tensor:
    """The kernel of all strips; where it is of samples with themselves (n2 is None), the left half from the right."""
    rows, _, kernel = parts[0]
    width = kernel.gram.shape[0] // max(1, len(rows))
    gram = kernel.gram.new_zeros(n * width, (n if n2 is None else n2) * width)
    for rows, first, kernel in parts:
        if len(rows):
            gram[rows.start * width : rows.stop * width, first * width :] = kernel.gram
    gram = summed([gram])[0]
    return gram if n2 is not None else gram.triu() + gram.triu(1).T
