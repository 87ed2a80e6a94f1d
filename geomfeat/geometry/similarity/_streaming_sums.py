"""Sums over samples from which the linear HSIC of all pairs of layers follows exactly, in one pass over the data.

With x, y the features less a fixed point near their mean (that of the first block), a = |x|^2, b = |y|^2, and m, k the
means of x and y over all n samples, known only at the end:
    centred cross product   C = sum x y' - n m k',    sum_ij K_ij L_ij = |C|_F^2,
    squared norms           p_i = a_i - 2 m.x_i + |m|^2,    sum p = sum a - n |m|^2,
    their products          sum p q = sum a b - 2 k.sum(a y) - 2 m.sum(b x) + |k|^2 sum a + |m|^2 sum b
                                      + 4 m' sum(x y') k - 3 n |m|^2 |k|^2.
So these sums are stored: sum x, sum a, sum a b, sum a y of all pairs of layers, and sum x y' of all pairs.
"""

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

    def seen_from(self, x: Tensor) -> Tensor:
        """Features less the point, over the unit, in single precision."""
        return ((x.to(WORKING) - self.point) / self.unit).float()

    def differs(self, variance: Tensor, mean: Tensor) -> bool:
        """Whether any of features of these variances (d,) and means (d,), as seen from here, is no constant."""
        spread = variance.clamp_min(0).sqrt()
        size = torch.hypot(spread, self.point / self.unit + mean)
        return not bool(is_constant(spread, size, self.precision).all())


class ExactSums:
    """The sums, growing with every block."""

    def __init__(self, origins: list[Origin]) -> None:
        self.origins = origins
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
        parts = [origin.seen_from(x) for origin, x in zip(self.origins, block, strict=True)]
        norms = torch.stack([x.square().sum(1, dtype=WORKING) for x in parts], 1)
        joined = torch.cat(parts, 1)
        self.n += len(joined)
        self.x += joined.sum(0, dtype=WORKING)
        self.a += norms.sum(0)
        self.ab += norms.T @ norms
        self.ax += norms.float().T @ joined
        for first in range(0, len(joined), ADDED):
            rows = slice(first, first + ADDED)
            for part, start, total in zip(parts, self.starts, self.xy, strict=True):
                total += part[rows].T @ joined[rows, start:]

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
