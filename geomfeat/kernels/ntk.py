"""The neural tangent kernel K = J J', exact, in memory-bounded tiles.

K[(x, i), (x', j)] = sum_theta df_i(x)/dtheta df_j(x')/dtheta (Jacot, Gabriel and Hongler 2018, eq. 7). Tiles of
Jacobian rows are multiplied pair by pair, so the Jacobian is never stored whole when it exceeds the budget; for
x2=None each pair of tiles is computed once.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.kernels._memory import BUDGET, free_bytes, with_smaller_chunks
from geomfeat.kernels.jacobians import JacobianRows
from geomfeat.models.functional import Functional, functional, n_samples, take
from geomfeat.types import Kernel

Outputs = str | int | Tensor
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
) -> Kernel:
    """Neural tangent kernel between the samples of `x` (n1) and of `x2` (n2; default `x` itself), in float64.

    The model is copied, put in evaluation mode and widened to float64; a `Functional` is taken as it is.

    Args:
        outputs: "trace": the SUM over outputs, gram (n1, n2). "full": gram (n1 C, n2 C), sample-major (row i * C + c
            is output c of sample i), with `.blocks` (n1, n2, C, C). An int: that one output, gram (n1, n2).
            A (C, k) tensor P: the full kernel of the k projected outputs P' f, gram (n1 k, n2 k), with `.blocks`.
        params: which parameters count: name patterns (globs) or a predicate; default all that require grad.
        batch_size: samples per tile; default what fits in 1 GB of Jacobian entries.

    Raises BadInput for wrong outputs=, for samples that interact within a batch, and OutOfMemory, with the number of
    samples that would fit, when the smallest tiles do not fit either.

    >>> ntk(torch.nn.Linear(3, 2, bias=False), torch.eye(3)).gram.tolist()  # (a . a') times 2 outputs
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    f = _as_functional(model, params, device)
    whole = slice(0, f.n_parameters)
    gram, meta = _grams(f, x, x2, outputs, {"": whole}, batch_size)
    return Kernel(gram[""], "ntk", meta)


def ntk_by_parameter_group(
    model: nn.Module | Functional,
    x: Any,
    x2: Any = None,
    *,
    outputs: Outputs = "trace",
    projection: Tensor | None = None,
    params: Params = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
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
    f = _as_functional(model, params, device)
    columns: dict[str, list[slice]] = {}
    start = 0
    for name, value in f.theta.items():
        columns.setdefault(parameter_group(name), []).append(slice(start, start + value.numel()))
        start += value.numel()
    pieces = {f"{group}\0{i}": c for group, slices in columns.items() for i, c in enumerate(_joined(slices))}
    grams, meta = _grams(f, x, x2, outputs, pieces, batch_size, projection)
    out: dict[str, Tensor] = {}
    for key, gram in grams.items():
        group = key.split("\0")[0]
        out[group] = out[group] + gram if group in out else gram
    return {group: Kernel(gram, "ntk", {**meta, "group": group}) for group, gram in out.items()}


def parameter_group(name: str) -> str:
    """The module that owns a parameter; the parameter's own name where that is the model itself.

    A parameter under torch.nn.utils.parametrize belongs to the module that it parametrises.

    >>> parameter_group("encoder.fc1.weight"), parameter_group("class_token")
    ('encoder.fc1', 'class_token')
    """
    owner, _, _ = name.partition(".parametrizations.") if ".parametrizations." in name else name.rpartition(".")
    return owner or name


def _joined(slices: list[slice]) -> list[slice]:
    """Neighbouring column ranges as one, so that a layer's weight and bias are one matrix product."""
    out: list[slice] = []
    for s in slices:
        if out and out[-1].stop == s.start:
            out[-1] = slice(out[-1].start, s.stop)
        else:
            out.append(s)
    return out


def _as_functional(model: nn.Module | Functional, params: Params, device: Any) -> Functional:
    if not isinstance(model, Functional):
        return functional(model, params=params, device=device)
    if params is not None or device is not None:
        raise BadInput("model is a Functional already: give params= and device= to functional() instead")
    return model


def _cotangents(engine: JacobianRows, outputs: Outputs, projection: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
    """(C, k) cotangents, and what goes into the kernel's meta."""
    if isinstance(outputs, Tensor):
        outputs, projection = "full", outputs
    columns = engine.projection(projection)
    c = columns.shape[1]
    meta = {} if projection is None else {"projected_from": engine.n_outputs}
    if outputs in ("trace", "full"):
        return columns, {"outputs": outputs, "n_outputs": c, **meta}
    if isinstance(outputs, int) and -c <= outputs < c:
        return columns[:, [outputs]], {"outputs": int(outputs), "n_outputs": c, **meta}
    raise BadInput(f"outputs must be 'trace', 'full', an output from 0 to {c - 1} or a (C, k) tensor, got {outputs!r}")


@dataclasses.dataclass(frozen=True)
class _Tile:
    """Some samples and some output columns, as slices: the rows of one block of the Jacobian."""

    rows: slice
    columns: slice

    def of(self, engine: JacobianRows, x: Any, cotangents: Tensor) -> Tensor:
        return engine(take(x, self.rows), cotangents[:, self.columns])


def _grams(
    f: Functional,
    x: Any,
    x2: Any,
    outputs: Outputs,
    pieces: dict[str, slice],
    batch_size: int | None,
    projection: Tensor | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The kernel of each range of Jacobian columns, in one pass over the tiles."""
    x = f.inputs(x)
    x2 = None if x2 is None else f.inputs(x2)
    engine = JacobianRows(f, x)
    cotangents, meta = _cotangents(engine, outputs, projection)
    k = cotangents.shape[1]
    row, summed = engine.row_bytes, meta["outputs"] != "full"
    budget = BUDGET if batch_size is None else max(1, 2 * batch_size) * k * row

    def attempt(budget: int) -> dict[str, Tensor]:
        engine.budget = min(budget, BUDGET)
        return _by_tiles(engine, x, x2, cotangents, summed, pieces, budget // row)

    def remedy() -> str:
        free, n = free_bytes(f.device), n_samples(x)
        side = n * (1 if summed else k)
        most = max(1, int((free / (4 * f.dtype.itemsize)) ** 0.5) // (side // n))
        return (
            f"the tangent kernel of {n} samples x {k} outputs does not fit, also one gradient at a time: the kernel "
            f"takes {side * side * f.dtype.itemsize / 1e9:.2g} GB, a pair of gradients {2 * row / 1e9:.2g} GB, and "
            f"{free / 1e9:.2g} GB are free. With batch_size=1 at most about {min(n, most)} samples would fit; or "
            "use outputs='trace', project the outputs, or restrict params="
        )

    return with_smaller_chunks(attempt, budget, 2 * row, remedy), meta


def _by_tiles(
    engine: JacobianRows,
    x: Any,
    x2: Any,
    cotangents: Tensor,
    summed: bool,
    pieces: dict[str, slice],
    rows_held: int,
) -> dict[str, Tensor]:
    """Accumulate J J' over pairs of tiles; `rows_held` Jacobian rows may be alive at a time."""
    n, k = n_samples(x), cotangents.shape[1]
    n2 = n if x2 is None else n_samples(x2)
    width = 1 if summed else k
    new = lambda: torch.zeros(n * width, n2 * width, dtype=engine.f.dtype, device=engine.f.device)  # noqa: E731
    grams = {piece: new() for piece in pieces}
    if x2 is None and n * k <= rows_held:
        first = second = [_Tile(slice(0, n), slice(0, k))]
    else:
        first = _tiles(n, k, max(1, rows_held // 2), summed)
        second = first if x2 is None else _tiles(n2, k, max(1, rows_held // 2), summed)
    for i, tile in enumerate(first):
        a = tile.of(engine, x, cotangents)
        for other in second[i:] if x2 is None else second:
            if summed and other.columns != tile.columns:
                continue
            b = a if other is tile else other.of(engine, x if x2 is None else x2, cotangents)
            for piece, parameters in pieces.items():
                block = _product(a[:, parameters], b[:, parameters], tile.columns, other.columns, summed)
                _put(grams[piece], block, tile, other, width)
                if x2 is None and other is not tile:
                    _put(grams[piece], block.permute(1, 0, 3, 2), other, tile, width)
    return grams


def _tiles(n: int, k: int, rows: int, summed: bool) -> list[_Tile]:
    """Tiles of at most `rows` Jacobian rows. For a trace only equal outputs meet: many samples, few outputs."""
    columns = max(1, min(k, rows // n if summed else rows))
    samples = max(1, rows // columns)
    return [
        _Tile(slice(i, min(i + samples, n)), slice(c, min(c + columns, k)))
        for c in range(0, k, columns)
        for i in range(0, n, samples)
    ]


def _product(a: Tensor, b: Tensor, a_columns: slice, b_columns: slice, summed: bool) -> Tensor:
    """(samples, samples', outputs, outputs') products of Jacobian rows; (samples, samples', 1, 1) for a trace."""
    ka, kb = a_columns.stop - a_columns.start, b_columns.stop - b_columns.start
    if summed:
        # One product per output, on strided views: no copy of the tile.
        total = sum(a[c::ka] @ b[c::ka].T for c in range(ka))
        assert isinstance(total, Tensor)
        return total[:, :, None, None]
    return (a @ b.T).reshape(a.shape[0] // ka, ka, b.shape[0] // kb, kb).permute(0, 2, 1, 3)


def _put(gram: Tensor, block: Tensor, tile: _Tile, other: _Tile, width: int) -> None:
    """Add a block at the rows and columns of its tiles."""
    view = gram.view(gram.shape[0] // width, width, gram.shape[1] // width, width)
    rows = slice(0, 1) if width == 1 else tile.columns
    columns = slice(0, 1) if width == 1 else other.columns
    view[tile.rows, rows, other.rows, columns] += block.permute(0, 2, 1, 3)
