"""Sums over samples from which the linear HSIC of all pairs of layers follows exactly, in one pass over the data.

With x, y the features less a fixed point near their mean (that of the first block), a = |x|^2, b = |y|^2, and m, k the
means of x and y over all n samples, known only at the end:
    centred cross product   C = sum x y' - n m k',    sum_ij K_ij L_ij = |C|_F^2,
    squared norms           p_i = a_i - 2 m.x_i + |m|^2,    sum p = sum a - n |m|^2,
    their products          sum p q = sum a b - 2 k.sum(a y) - 2 m.sum(b x) + |k|^2 sum a + |m|^2 sum b
                                      + 4 m' sum(x y') k - 3 n |m|^2 |k|^2.
So these sums are stored: sum x, sum a, sum a b, sum a y of all pairs of layers, and sum x y' of all pairs.

Seen from another point and in another unit, x becomes s x + c, so that a becomes s^2 a + 2 s c.x + |c|^2: the sums of
one origin follow from those of another, and sums of several processes are added.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.geometry.similarity._cka_sums import ADDED
from geomfeat.geometry.similarity._hsic import hsic_of_sums
from geomfeat.numerics import WORKING
from geomfeat.precision import is_constant


def bytes_of_sums(widths: list[int]) -> int:
    """Memory of the sums of x y' of all pairs of layers."""
    return 8 * sum(width * sum(widths[i:]) for i, width in enumerate(widths))


@dataclass(frozen=True, eq=False)
class Origin:
    """A layer's fixed point (d,) and unit, taken of its first block, and the precision that it came in."""

    point: Tensor
    unit: float
    precision: torch.dtype

    @classmethod
    def of(cls, x: Tensor, precision: torch.dtype) -> "Origin":
        """The mean of a block and the root mean square around it, or around 0 where the block is constant."""
        x = x.to(WORKING)
        point = x.mean(0)
        largest = x.abs().max()  # whose square may be out of range
        around, raw = (
            float((y / largest).square().mean().sqrt() * largest) if largest > 0 else 0.0 for y in (x - point, x)
        )
        constant = bool(is_constant(torch.tensor(around), torch.tensor(raw), precision))
        return cls(point, (raw if constant else around) or 1.0, precision)

    def seen_from(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Features less the point, over the unit."""
        return ((x.to(WORKING) - self.point) / self.unit).to(dtype)

    def differs(self, variance: Tensor, mean: Tensor) -> bool:
        """Whether any of features of these variances (d,) and means (d,), as seen from here, is no constant."""
        spread = variance.clamp_min(0).sqrt()
        size = torch.hypot(spread, self.point / self.unit + mean)
        return not bool(is_constant(spread, size, self.precision).all())


class ExactSums:
    """The sums, growing with every block, whose products are formed in `dtype`."""

    def __init__(self, origins: list[Origin], dtype: torch.dtype) -> None:
        self.origins, self.dtype = origins, dtype
        self.widths = [len(o.point) for o in origins]
        self.starts = [sum(self.widths[:i]) for i in range(len(origins))]
        total, count, device = sum(self.widths), len(origins), origins[0].point.device
        self.n = 0
        self.x = torch.zeros(total, dtype=WORKING, device=device)
        self.a = torch.zeros(count, dtype=WORKING, device=device)
        self.ab = torch.zeros(count, count, dtype=WORKING, device=device)
        self.ax = torch.zeros(count, total, dtype=WORKING, device=device)
        self.xy = [
            torch.zeros(width, total - start, dtype=WORKING, device=device)
            for width, start in zip(self.widths, self.starts, strict=True)
        ]

    def add(self, block: list[Tensor]) -> None:
        """One block of every layer's features (m, d)."""
        parts = [origin.seen_from(x, self.dtype) for origin, x in zip(self.origins, block, strict=True)]
        norms = torch.stack([x.square().sum(1, dtype=WORKING) for x in parts], 1)
        joined = torch.cat(parts, 1)
        self.n += len(joined)
        self.x += joined.sum(0, dtype=WORKING)
        self.a += norms.sum(0)
        self.ab += norms.T @ norms
        self.ax += norms.to(self.dtype).T @ joined
        for first in range(0, len(joined), ADDED):
            rows = slice(first, first + ADDED)
            for part, start, total in zip(parts, self.starts, self.xy, strict=True):
                total += part[rows].T @ joined[rows, start:]

    @property
    def sums(self) -> list[Tensor]:
        """All that grows with the samples, for sums over several streams; the first is their number."""
        return [torch.tensor(self.n), self.x, self.a, self.ab, self.ax, *self.xy]

    def of_sums(self, sums: Sequence[Tensor]) -> "ExactSums":
        """The same layers with other sums."""
        out = ExactSums(self.origins, self.dtype)
        n, out.x, out.a, out.ab, out.ax, *out.xy = sums
        out.n = int(n)
        return out

    def _columns(self, i: int) -> slice:
        return slice(self.starts[i], self.starts[i] + self.widths[i])

    @property
    def blocks(self) -> int:
        """Blocks that the sums are kept apart by: none."""
        return 0

    def seen_from(self, origins: list[Origin], _: int = 0) -> "ExactSums":
        """The sums of the same samples from other points and in other units, see the module."""
        out, n, layers = ExactSums(origins, self.dtype), self.n, range(len(origins))
        out.n = n
        s = [own.unit / other.unit for own, other in zip(self.origins, origins, strict=True)]
        c = [(own.point - other.point) / other.unit for own, other in zip(self.origins, origins, strict=True)]
        x = [self.x[self._columns(i)] for i in layers]
        a, size, cx = self.a, [c[i] @ c[i] for i in layers], [c[i] @ x[i] for i in layers]
        for i in layers:
            out.x[self._columns(i)] = s[i] * x[i] + n * c[i]
            out.a[i] = s[i] ** 2 * a[i] + 2 * s[i] * cx[i] + n * size[i]
        for i, j in itertools.product(layers, layers):
            low, high = min(i, j), max(i, j)
            first = self.starts[high] - self.starts[low]
            xy = self.xy[low][:, first : first + self.widths[high]]
            xy = xy if i <= j else xy.T
            ay, bx = self.ax[i, self._columns(j)], self.ax[j, self._columns(i)]
            out.ax[i, self._columns(j)] = (
                s[j] * (s[i] ** 2 * ay + 2 * s[i] * c[i] @ xy + size[i] * x[j])
                + (s[i] ** 2 * a[i] + 2 * s[i] * cx[i] + n * size[i]) * c[j]
            )
            out.ab[i, j] = (
                s[i] ** 2 * (s[j] ** 2 * self.ab[i, j] + 2 * s[j] * c[j] @ ay + size[j] * a[i])
                + 2 * s[i] * (s[j] ** 2 * c[i] @ bx + 2 * s[j] * c[i] @ xy @ c[j] + size[j] * cx[i])
                + size[i] * (s[j] ** 2 * a[j] + 2 * s[j] * cx[j] + n * size[j])
            )
            if i <= j:
                out.xy[i][:, first : first + self.widths[j]] = (
                    s[i] * s[j] * xy
                    + s[i] * torch.outer(x[i], c[j])
                    + s[j] * torch.outer(c[i], x[j])
                    + n * torch.outer(c[i], c[j])
                )
        return out

    def hsic(self, estimator: str) -> Tensor:
        """HSIC of all pairs (L, L), each layer in its unit."""
        count = len(self.widths)
        means = [(self.x / self.n)[s : s + w] for s, w in zip(self.starts, self.widths, strict=True)]
        sizes = torch.stack([m @ m for m in means])
        sum_p = self.a - self.n * sizes
        products, pq = torch.zeros(2, count, count, dtype=WORKING, device=self.a.device)
        for i in range(count):
            for j in range(i, count):
                first = self.starts[j] - self.starts[i]
                xy = self.xy[i][:, first : first + self.widths[j]]
                products[i, j] = products[j, i] = (xy - self.n * torch.outer(means[i], means[j])).square().sum()
                with_y = self.ax[i, self.starts[j] : self.starts[j] + self.widths[j]] @ means[j]
                with_x = self.ax[j, self.starts[i] : self.starts[i] + self.widths[i]] @ means[i]
                pq[i, j] = pq[j, i] = self.ab[i, j] - 2 * with_y - 2 * with_x + 4 * means[i] @ xy @ means[j]
        pq += torch.outer(self.a, sizes) + torch.outer(sizes, self.a) - 3 * self.n * torch.outer(sizes, sizes)
        return hsic_of_sums(self.n, products, torch.outer(sum_p, sum_p), pq, estimator)

    def varies(self) -> list[bool]:
        """Whether a layer is more than rounding away from a constant."""
        found = []
        for i, (start, width, origin) in enumerate(zip(self.starts, self.widths, self.origins, strict=True)):
            mean = self.x[start : start + width] / self.n
            squares = self.xy[i][:, :width].diagonal() / self.n
            found.append(origin.differs(squares - mean.square(), mean))
        return found
