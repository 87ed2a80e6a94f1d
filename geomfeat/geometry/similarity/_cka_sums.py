"""The sums over pairs of samples that the CKA of many layers is made of, each Gram entry formed once and then dropped.

All are of centred kernels with zeroed diagonals, formed in single precision and summed so over at most `SUMMED`
products, in double precision from there on: rounding errors are independent, some 1e-8 of the result is left of them.

Off the diagonal, a centred kernel of many features is a constant and small differences, which single precision would
lose. So the entries that are formed are those of the U-centred kernel (Szekely & Rizzo 2014, eq. 2.6), whose rows sum
to zero without the diagonal p:    U_ij = K_ij + u_i + u_j,    u = p / (n-2) - sum(p) / (2 (n-1) (n-2)),
and what u adds is taken off the sums again in double precision.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geomfeat._numba.threads import in_pieces
from geomfeat.geometry.similarity._gram_tiles import SUMMED, Entries, products_of_entries
from geomfeat.geometry.similarity._hsic import GRAM_UNITS
from geomfeat.numerics import WORKING, double_centred, matmul, row_sums
from geomfeat.precision import is_constant

ADDED = 256  # samples in one product X'Y of a stream
ADDED_ONCE = 64  # the same here: products of narrow layers are few, so that their errors do not average out
MOST_STORED = 2**22  # numbers of a layer whose centred copy is stored beside it
AT_ONCE = 1024  # samples, a multiple of these, whose products with X'Y are formed at once, and stay in a cache
ROWS = 128  # rows of the Gram matrices held at a time
# Mean squares of centred features beyond which single precision may lose some, so that they get another unit first, and
# sizes (their roots) whose fourth powers are near enough to 1.
SQUARES, NEAR_ONE = (1e-20, 1e20), (1e-3, 1e3)


@dataclass(frozen=True, eq=False)
class Side:
    """A centred kernel between n samples, scaled to entries near 1: features (n, d), or a Gram matrix (n, n).

    Attributes:
        source: what the features are formed of, a few samples at a time, where they are too many to be stored twice.
        diagonal: (n,), in float64.
        varies: whether more than rounding is left after centring.
        unit: what the kernel was divided by.
    """

    diagonal: Tensor
    varies: bool
    unit: float
    features: Tensor | None = None
    gram: Tensor | None = None
    source: "_Source | None" = None

    @classmethod
    def of_features(cls, x: Tensor, precision: torch.dtype) -> "Side":
        """From features (n, d) that came in a precision, for the linear kernel."""
        n, unit = len(x), 1.0
        points = _Points.centred(x)
        if not SQUARES[0] < float(points.by_sample.sum()) / n < SQUARES[1]:
            unit = _positive(max(map(abs, map(float, x.aminmax()))))
            x = x / unit
            points = _Points.centred(x)
        spread = points.by_feature.sqrt()
        constant = is_constant(spread, torch.hypot(spread, points.mean * n**0.5), precision)
        if bool((constant & (spread > 0)).any()):
            points = points.without(constant)
        size = _positive(float(points.by_sample.sum() / n) ** 0.5)
        if NEAR_ONE[0] < size < NEAR_ONE[1]:
            size = 1.0
        else:
            points.features.div_(size)
        # A product, since powers of floats raise where products are infinite.
        scale = (unit * size) * (unit * size)
        diagonal, varies = points.by_sample / (size * size), not bool(constant.all())
        if x.numel() <= MOST_STORED:
            return cls(diagonal, varies, scale, features=points.features)
        zeros = constant if bool(constant.any()) else None
        source = _Source(x, points.mean.to(x.dtype), points.rest, zeros, size)
        return cls(diagonal, varies, scale, source=source)

    @classmethod
    def of_gram(cls, gram: Tensor, precision: torch.dtype = WORKING) -> "Side":
        """From a symmetric Gram matrix that came in a precision."""
        largest = _positive(float(gram.abs().max()))
        gram = gram / largest
        centered = double_centred(gram)
        varies = bool(centered.norm() > GRAM_UNITS * torch.finfo(precision).eps * gram.norm())
        size = _positive(float(centered.abs().max()))
        scaled = centered / size
        return cls(scaled.diagonal().clone(), varies, largest * size, gram=scaled.float())

    @classmethod
    def dead(cls, n: int, device: torch.device) -> "Side":
        """Of features that are equal for all samples."""
        return cls(torch.zeros(n, dtype=WORKING, device=device), False, 1.0, gram=torch.zeros(n, n, device=device))

    @property
    def width(self) -> int:
        """Multiplications that an entry of the Gram matrix costs."""
        return 0 if self.gram is not None else self.of_samples(0, 0).shape[1]

    def of_samples(self, first: int, last: int) -> Tensor:
        """Features of some of the samples."""
        if self.features is not None:
            return self.features[first:last]
        assert self.source is not None
        return self.source.rows(first, last)

    @cached_property
    def shift(self) -> Tensor:
        """u (n,), see the module."""
        n = len(self.diagonal)
        if n < 4:  # too few for the unbiased estimator, and for digits to matter
            return torch.zeros_like(self.diagonal)
        return self.diagonal / (n - 2) - self.diagonal.sum() / (2 * (n - 1) * (n - 2))

    def rows(self, first: int, last: int, out: Tensor) -> None:
        """Entries [first:last, first:] of the U-centred kernel into `out`."""
        u = self.shift.float()
        torch.add(u[first:last, None], u[first:], out=out)
        if self.gram is None:
            out.addmm_(self.of_samples(first, last), self.of_samples(first, len(u)).T)
        else:
            out += self.gram[first:last, first:]

    def times(self, vectors: Tensor) -> Tensor:
        """The kernel times the columns of (n, m), in float64."""
        if self.gram is not None:
            return self.gram.to(WORKING) @ vectors
        x = self.of_samples(0, len(vectors)).to(WORKING)
        return x @ (x.T @ vectors)

    @property
    def entries(self) -> Entries:
        """What the entries of the U-centred kernel are made of, on the CPU."""
        u = self.shift.float().numpy()
        if self.gram is not None:
            return Entries(None, self.gram.numpy(), u)
        return Entries(self.of_samples(0, len(u)).numpy(), None, u)


class _Source(NamedTuple):
    """Features x (n, d), and what makes them those of a `Side`: less their mean and what rounding left of it, over a
    size; those that are constant are 0."""

    x: Tensor
    mean: Tensor
    rest: Tensor
    constant: Tensor | None
    size: float

    def rows(self, first: int, last: int) -> Tensor:
        """Those of some samples, in float32."""
        some = (self.x[first:last] - self.mean).float().sub_(self.rest)
        if self.constant is not None:
            some[:, self.constant] = 0
        return some if self.size == 1 else some.div_(self.size)


class _Points(NamedTuple):
    """Features less their mean in float32, and what was taken; sums of squares by sample and by feature in float64.

    rest: of the mean, what rounding had left, which is taken too.
    """

    features: Tensor
    mean: Tensor
    rest: Tensor
    by_sample: Tensor
    by_feature: Tensor

    @classmethod
    def centred(cls, x: Tensor) -> "_Points":
        """Of features (n, d); twice, since rounding of the mean is left at first."""
        if x.device.type != "cpu":
            mean = x.mean(0)
            features = (x - mean).float()
            rest = features.mean(0)
            features -= rest
            return cls.of(features, mean, rest)
        # By numpy, which stays on the thread that calls it.
        given, found = x.numpy(), np.empty(x.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = given.mean(0)
            np.subtract(given, mean, out=found, casting="same_kind")
            rest = found.mean(0)
            found -= rest
        return cls.of(torch.from_numpy(found), torch.from_numpy(mean), torch.from_numpy(rest))

    @classmethod
    def of(cls, features: Tensor, mean: Tensor, rest: Tensor) -> "_Points":
        """With the sums of squares."""
        if features.device.type == "cpu":
            x = features.numpy()
            with np.errstate(over="ignore", invalid="ignore"):
                sums = [torch.from_numpy(np.einsum(which, x, x)) for which in ("ij,ij->i", "ij,ij->j")]
        else:
            squares = features.square()
            sums = [squares.sum(1), squares.sum(0)]
        return cls(features, mean.to(WORKING), rest, sums[0].to(WORKING), sums[1].to(WORKING))

    def without(self, constant: Tensor) -> "_Points":
        """With 0 in some features."""
        self.features[:, constant] = 0
        return self.of(self.features, self.mean, self.rest)


def _positive(size: float) -> float:
    return size if size > 0 else 1.0


def products(sides: list[Side], pairs: set[tuple[int, int]], times: Tensor | None) -> Tensor:
    """sum_j K_ij L_ij over j != i, for the pairs of kernels: (1, L, L), summed over i too, or (n, L, L) with `times`.

    times: (n, L, L), K_a times the diagonal of K_b, which the sums of every single sample take.
    Each the cheaper way: through X'Y, or through the entries of both Gram matrices. Other pairs are 0, or come along.
    """
    n, count, first = len(sides[0].diagonal), len(sides), sides[0].diagonal
    by_sample = times is not None
    found = torch.zeros(n if by_sample else 1, count, count, dtype=WORKING, device=first.device)
    wide = by_gram(sides, pairs)
    if wide:
        index = torch.tensor(wide, device=first.device)
        part = None if times is None else times[:, index[:, None], index]
        found[:, index[:, None], index] = _gram_products([sides[i] for i in wide], part)
    others = [(i, j) for i, j in sorted(pairs) if i not in wide or j not in wide]

    def one(k: int, _: int) -> None:
        i, j = others[k]
        found[:, i, j] = found[:, j, i] = _feature_products(sides[i], sides[j], by_sample)

    in_pieces(one, len(others), first.device)
    return found


def by_gram(sides: list[Side], pairs: set[tuple[int, int]]) -> list[int]:
    """The kernels whose entries are worth forming: all where one is a Gram matrix, else the cheapest choice.

    An entry costs n^2 d / 2 multiplications, which all pairs of a layer share; X'Y costs n d1 d2 for this pair alone.
    So the m widest layers go through entries among themselves, all other pairs through X'Y, for the best m.
    """
    if any(side.gram is not None for side in sides):
        return list(range(len(sides)))
    n = len(sides[0].diagonal)
    order = sorted(range(len(sides)), key=lambda i: -sides[i].width)
    rank = {i: place for place, i in enumerate(order)}
    # A pair goes through X'Y until both of its layers are among the m widest.
    through_features = [0.0] * (len(sides) + 1)
    for i, j in pairs:
        through_features[max(rank[i], rank[j])] += n * sides[i].width * sides[j].width
    entries = [n**2 / 2 * sum(sides[i].width + m for i in order[:m]) for m in range(len(sides) + 1)]
    best = min(range(len(sides) + 1), key=lambda m: entries[m] + sum(through_features[m:]))
    return sorted(order[:best])


def _gram_products(sides: list[Side], times: Tensor | None) -> Tensor:
    """`products` of all pairs; rows of all Gram matrices are formed right of the diagonal, a few at a time."""
    n, count, device = len(sides[0].diagonal), len(sides), sides[0].diagonal.device
    by_sample = times is not None
    if device.type == "cpu" and not by_sample:
        total = torch.from_numpy(products_of_entries([side.entries for side in sides]))
        return total + _without_shift(sides, None)
    total = torch.zeros(n if by_sample else 1, count, count, dtype=WORKING, device=device)
    room = torch.empty(count * min(ROWS, n) * n, device=device)
    for first in range(0, n, ROWS):
        last = min(n, first + ROWS)
        rows = room[: count * (last - first) * (n - first)].view(count, last - first, n - first)
        for side, out in zip(sides, rows, strict=True):
            side.rows(first, last, out)
        # Pairs with both samples among these rows occur twice, all others once.
        square = rows[:, :, : last - first]
        square.diagonal(dim1=1, dim2=2).zero_()
        if by_sample:
            total[first:last] += torch.bmm(rows.transpose(0, 1), rows.permute(1, 2, 0))
            rest = rows[:, :, last - first :].permute(2, 0, 1).contiguous()
            total[last:] += torch.bmm(rest, rest.transpose(1, 2))
        else:
            total += 2 * _inner(rows.flatten(1)) - _inner(square.flatten(1))
    return total + _without_shift(sides, times)


def _without_shift(sides: list[Side], times: Tensor | None) -> Tensor:
    """What turns the sums of U-centred kernels U, V into those of centred ones.

    With U = K + u_i + u_j: sum_j K_ij L_ij = sum_j U_ij V_ij - (U v)_i - (V u)_i + sum_j (u_i + u_j)(v_i + v_j), all
    over j != i. Over all i, the middle terms are zero.
    """
    n = len(sides[0].diagonal)
    u = torch.stack([side.shift for side in sides], 1)
    sums, products = u.sum(0), u.T @ u
    if times is None:
        return (2 * (n - 2) * products + 2 * torch.outer(sums, sums))[None]
    p = torch.stack([side.diagonal for side in sides], 1)
    left, right = u[:, :, None], u[:, None, :]
    squares = (n - 4) * left * right + left * sums + right * sums[:, None] + products
    applied = times / max(n - 2, 1) - p[:, :, None] * right + left * sums - 2 * left * right + products
    return squares - applied - applied.transpose(1, 2)


def _inner(rows: Tensor) -> Tensor:
    """rows rows' with sums in single precision over at most SUMMED products."""
    whole = rows.shape[1] // SUMMED * SUMMED
    total = (rows[:, whole:] @ rows[:, whole:].T).to(WORKING)
    if whole:
        pieces = rows[:, :whole].unflatten(1, (-1, SUMMED)).transpose(0, 1)
        total += torch.bmm(pieces, pieces.transpose(1, 2)).sum(0, dtype=WORKING)
    return total


def _feature_products(a: Side, b: Side, by_sample: bool) -> Tensor:
    """`products` of one pair of linear kernels from X'Y: (n,) `by_sample`, or (1,).

    sum_ij K_ij L_ij = |X'Y|_F^2 and sum_j K_ij L_ij = x_i' (X'Y) y_i, both less the diagonals.
    """
    n = len(a.diagonal)
    cross = torch.zeros(a.width, b.width, dtype=WORKING, device=a.diagonal.device)
    for first in range(0, n, AT_ONCE):
        x, y = (side.of_samples(first, first + AT_ONCE).split(ADDED_ONCE) for side in (a, b))
        for some, others in zip(x, y, strict=True):
            cross += some.T @ others
    total, middle = cross.square().sum(), cross.float()
    if not by_sample:
        return (total - a.diagonal @ b.diagonal)[None]
    dots = torch.empty_like(a.diagonal)
    for first in range(0, n, AT_ONCE):
        part = first, first + AT_ONCE
        dots[slice(*part)] = row_sums(matmul(a.of_samples(*part), middle), b.of_samples(*part))
    # Each is off by rounding in single precision, which the error of their sum must not grow with.
    return dots + (total - dots.sum()) / len(dots) - a.diagonal * b.diagonal
