"""Gradients of many samples and outputs for one weight, stored as factors and multiplied without forming them.

A sample's gradient is the outer product sum_t delta_t a_t' over its positions t, so that
    <G_i, G_j> = sum_tt' (a_it . a_jt') (delta_it . delta_jt').
With one position that is (a.a')(delta.delta'); with few positions the products of positions are cheaper, with many
the gradients themselves are: `Outer.add` counts the multiplications of both and takes the fewer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SCRATCH = 2**26  # bytes of an intermediate product; larger ones are computed in blocks
PARTS = 16  # a symmetric kernel is computed in this many bands, each from its diagonal on: 17/32 of the work
Region = tuple[int, tuple[int, ...], tuple[int, ...]]  # offset, shape and strides of a part of a parameter
Where = tuple[str, Region]


@dataclass(frozen=True, eq=False)
class Rows:
    """Gradients themselves: (n, k, p)."""

    g: Tensor

    def take(self, rows: slice | Tensor) -> "Rows":
        """Some of the samples."""
        return Rows(self.g[rows])

    def trimmed(self) -> "Rows":
        """Itself: gradients have no positions."""
        return self

    def total(self, weights: Tensor) -> Tensor:
        """(p,) sum over samples, weighted, for the first output."""
        return weights @ self.g[:, 0]

    def combined(self, coefficients: Tensor, *, flipped: bool = False) -> Tensor:
        """(p,) sum over samples and outputs with coefficients (n, k)."""
        return coefficients.reshape(-1) @ self.g.reshape(-1, self.g.shape[2])

    def add(self, out: Tensor, other: "Rows", symmetric: bool) -> None:
        """Add all products with `other` to `out` (n, k, n2, k), or (n, 1, n2, 1) for the sum over outputs."""
        add_rows(out, self.g, other.g, symmetric)

    def add_own(self, out: Tensor) -> None:
        """Add each sample's products with itself to `out` (n, k, k), or (n, 1, 1) for the sum over outputs."""
        add_own_products(out, self.g, self.g)


@dataclass(frozen=True, eq=False)
class Outer:
    """Factors of gradients: parts (inputs, deltas), one a use of the weight.

    Attributes:
        parts: functions that return inputs (n, groups, in, positions), or whole numbers (n, positions) that stand for
            one-hot inputs; with deltas (n, k, groups, out, positions). width: entries of the (one-hot) inputs.
        with_bias: whether the last of these is 1, for a bias.
    """

    parts: tuple[tuple[Callable[[], Tensor], Tensor], ...]
    width: int
    with_bias: bool = False

    def take(self, rows: slice | Tensor) -> "Outer":
        """Some of the samples."""
        return Outer(tuple((lambda a=a: a()[rows], d[rows]) for a, d in self.parts), self.width, self.with_bias)

    def trimmed(self) -> "Outer":
        """Without positions at which all deltas are zero, as most of a read-out are where one token is read."""
        return Outer(tuple(_trimmed(a, d) for a, d in self.parts), self.width, self.with_bias)

    def inputs(self) -> Tensor:
        """Over all uses: more positions."""
        return self.parts[0][0]() if len(self.parts) == 1 else torch.cat([a() for a, _ in self.parts], -1)

    def deltas(self) -> Tensor:
        """Over all uses."""
        return self.parts[0][1] if len(self.parts) == 1 else torch.cat([d for _, d in self.parts], -1)

    def total(self, weights: Tensor) -> Tensor:
        """(groups out in,) sum over samples, weighted, for the first output; without the bias."""
        g = self._summed(self.deltas()[:, 0] * weights[:, None, None, None])
        return (g[..., :-1] if self.with_bias else g).reshape(-1)

    def combined(self, coefficients: Tensor, *, flipped: bool = False) -> Tensor:
        """(groups, out, in) sum over samples and outputs with coefficients (n, k); in includes the bias's 1.

        `flipped`: stored input by input, where that saves a copy.
        """
        return self._summed(torch.einsum("nk,nkgot->ngot", coefficients, self.deltas()), flipped)

    def _summed(self, d: Tensor, flipped: bool = False) -> Tensor:
        """(groups, out, in) sum over samples of the gradients with these deltas (n, groups, out, positions)."""
        together = self.inputs().movedim(0, -2).flatten(-2)[None]
        if flipped and together.is_floating_point():
            return (together[0] @ d.movedim(0, -2).flatten(-2).mT).mT
        return gradients(together, d[:, None].movedim(0, -2).flatten(-2)[None], self.width)[0, 0]

    def add(self, out: Tensor, other: "Outer", symmetric: bool) -> None:
        """Add all products with `other` to `out` (n, k, n2, k), or (n, 1, n2, 1) for the sum over outputs."""
        a, d = self.inputs(), self.deltas()
        b, e = (a, d) if other is self else (other.inputs(), other.deltas())
        n, k, groups, size, t = d.shape
        summed = out.shape[1] == 1 and out.shape[3] == 1
        if (
            _positions_cost(k, self.width, size, t, summed) * groups
            > _gradients_cost(k, self.width, size, t, min(n, len(e)), summed) * groups
        ):
            return self._add_gradients(out, a, d, b, e, symmetric)
        for group in range(groups):
            left, right = (x[:, group] if x.is_floating_point() else x for x in (a, b))
            add = _add_flat if summed or t == 1 else _add_positions
            add(out, left, right, d[:, :, group], e[:, :, group], symmetric)
        return None

    def add_own(self, out: Tensor) -> None:
        """Add each sample's products with itself to `out` (n, k, k), or (n, 1, 1) for the sum over outputs."""
        n, k, groups, size, t = self.deltas().shape
        through_gradients = k * size * self.width < t * (self.width + k * size)
        each = k * groups * size * (self.width if through_gradients else t)
        step = max(1, SCRATCH // (each * out.element_size()))
        for start in range(0, n, step):
            rows = slice(start, min(n, start + step))
            a, d = self.inputs()[rows], self.deltas()[rows]
            if through_gradients:
                g = gradients(a, d, self.width).flatten(2)
                add_own_products(out[rows], g, g)
            else:
                same = a.mT @ a if a.is_floating_point() else (a[:, :, None] == a[:, None]).to(d.dtype)[:, None]
                add_own_products(out[rows], (d @ same[:, None]).flatten(2), d.flatten(2))

    def _add_gradients(self, out: Tensor, a: Tensor, d: Tensor, b: Tensor, e: Tensor, symmetric: bool) -> None:
        """By the gradients, some of the weight's outputs at a time."""
        k, groups, size = d.shape[1:4]
        each = (len(d) + (0 if e is d else len(e))) * k * groups * self.width * d.element_size()
        step = max(1, 4 * SCRATCH // each)
        for start in range(0, size, step):
            part = slice(start, start + step)
            g = gradients(a, d[:, :, :, part], self.width).flatten(2)
            h = g if e is d else gradients(b, e[:, :, :, part], self.width).flatten(2)
            add_rows(out, g, h, symmetric)


def _trimmed(inputs: Callable[[], Tensor], deltas: Tensor) -> tuple[Callable[[], Tensor], Tensor]:
    live = live_positions(deltas)
    if live.all():
        return inputs, deltas
    live[0] |= not live.any()
    kept = torch.nonzero(live).flatten()
    return (lambda: inputs()[..., kept]), deltas[..., kept]


def live_positions(deltas: Tensor) -> Tensor:
    """(positions,) whether any delta (n, ..., positions) is not zero there."""
    live = torch.zeros(deltas.shape[-1], dtype=torch.bool, device=deltas.device)
    for sample in deltas:  # mostly the first one tells that all are
        live |= (sample != 0).flatten(0, -2).any(0)
        if live.all():
            break
    return live


def add_own_products(out: Tensor, g: Tensor, h: Tensor) -> None:
    """Products (n, k, k) within samples of g and h (n, k, p); (n, 1, 1) for the sum over outputs."""
    out += (g * h).sum((1, 2))[:, None, None] if out.shape[1] == 1 else g @ h.mT


def _positions_cost(k: int, width: int, size: int, t: int, summed: bool) -> float:
    """Multiplications for a pair of samples through products of positions."""
    if summed or t == 1:
        return t * t * (width + (k if summed else k * k) * size)
    return t * t * (width + k * size) + k * k * size * t


def _gradients_cost(k: int, width: int, size: int, t: int, n: int, summed: bool) -> float:
    """Multiplications for a pair of samples through gradients, whose own cost is shared by n pairs."""
    return (k if summed else k * k) * width * size + 2 * k * t * width * size / n


def gradients(a: Tensor, d: Tensor, width: int) -> Tensor:
    """(n, k, groups, out, in): sum_t delta_t a_t'."""
    if a.is_floating_point():
        if a.shape[1] == 1:  # one product a sample
            n, k, _, size, t = d.shape
            return (d.reshape(n, k * size, t) @ a[:, 0].mT).view(n, k, 1, size, width)
        return d @ a.mT[:, None]
    n, k, groups, size, t = d.shape
    out = d.new_zeros(n, width, k * groups * size)
    out.scatter_add_(1, a[..., None].expand(-1, -1, k * groups * size), d.reshape(n, -1, t).mT)
    return out.mT.reshape(n, k, groups, size, width)


def _bands(n: int, bytes_of_one: int, symmetric: bool) -> Iterator[slice]:
    """Bands of samples whose products fit the scratch memory."""
    step = max(1, min(-(-n // PARTS) if symmetric else n, SCRATCH // max(1, bytes_of_one)))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def add_rows(out: Tensor, g: Tensor, h: Tensor, symmetric: bool) -> None:
    """Products of gradients (n, k, p) and (n2, k2, p)."""
    n, k, p = g.shape
    n2, k2 = h.shape[:2]
    summed = out.shape[1] == 1 and out.shape[3] == 1
    for band in _bands(n, n2 * (1 if summed else k * k2) * g.element_size(), symmetric):
        start = band.start if symmetric else 0
        if summed:
            out[band, 0, start:, 0] += g[band].reshape(-1, k * p) @ h[start:].reshape(-1, k * p).T
        else:
            product = g[band].reshape(-1, p) @ h[start:].reshape(-1, p).T
            out[band, :, start:] += product.view(-1, k, n2 - start, k2)


def _same(a: Tensor, b: Tensor) -> Tensor:
    """(n, positions, n2, positions2) products of inputs (n, in, positions); of tokens, whether they are equal."""
    if not a.is_floating_point():
        return a[:, :, None, None] == b[None, None]
    left, right = a.mT.reshape(-1, a.shape[1]), b.mT.reshape(-1, b.shape[1])
    return (left @ right.T).view(a.shape[0], a.shape[2], b.shape[0], b.shape[2])


def _add_flat(out: Tensor, a: Tensor, b: Tensor, d: Tensor, e: Tensor, symmetric: bool) -> None:
    """All positions against all, entry by entry: for the sum over outputs, or for one position.

    a (n, in, positions) and b inputs or tokens, d (n, k, out, positions) and e deltas.
    """
    n, k, _, t = d.shape
    n2, k2 = e.shape[:2]
    summed = out.shape[1] == 1 and out.shape[3] == 1
    columns = 1 if summed else k
    left = d.permute(0, 3, 1, 2).reshape(n, t * columns, -1)
    right = left if e is d else e.permute(0, 3, 1, 2).reshape(n2, t * (1 if summed else k2), -1)
    for band in _bands(n, n2 * left.shape[1] * right.shape[1] * d.element_size(), symmetric):
        start = band.start if symmetric else 0
        inputs = _same(a[band], b[start:])
        across = right[start:]
        products = left[band].reshape(-1, left.shape[2]) @ across.reshape(-1, left.shape[2]).T
        if summed:
            out[band, 0, start:, 0] += products.view(inputs.shape).mul_(inputs).sum((1, 3))
        else:
            products = products.view(-1, k, n2 - start, k2)
            out[band, :, start:] += products.mul_(inputs)


def _add_positions(out: Tensor, a: Tensor, b: Tensor, d: Tensor, e: Tensor, symmetric: bool) -> None:
    """One sample against all: its deltas pass through the products of inputs, then meet the others' deltas."""
    n, k, size, t = d.shape
    n2, k2, _, t2 = e.shape
    right = e.reshape(n2, k2, size * t2).mT
    step = max(1, SCRATCH // (k * size * t2 * d.element_size()))
    for i in range(n):
        mine = d[i].reshape(k * size, t)
        for start in range(i if symmetric else 0, n2, step):
            part = slice(start, min(n2, start + step))
            count = part.stop - part.start
            inputs = _same(a[i : i + 1], b[part])[0].transpose(0, 1).to(d.dtype)
            passed = torch.bmm(mine.expand(count, -1, -1), inputs).view(count, k, size * t2)
            out[i, :, part] += torch.bmm(passed, right[part]).transpose(0, 1)
