"""The cone problem as every method takes it: unit points sorted by manifold, targets, signs."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from geomfeat._numba.threads import in_threads, products
from geomfeat.numerics import WORKING

# Doubles in the largest intermediate over all draws: 256 MB.
CHUNK_DOUBLES = 2**25


@dataclass(frozen=True, eq=False)
class ConeProblem:
    """unit (k, r): points of unit length, sorted by owner (k,); t (draws, r); y (draws, P) signs; tol: of the KKT."""

    unit: Tensor
    owner: Tensor
    t: Tensor
    y: Tensor
    tol: float

    @property
    def rank(self) -> int:
        """Most points that can be linearly independent (1 at least, so that no array is empty)."""
        return max(1, min(self.unit.shape))

    @property
    def starts(self) -> Tensor:
        """(P + 1,) where the points of every manifold start, and where the last one's end."""
        sizes = torch.bincount(self.owner, minlength=self.y.shape[1])
        return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])

    @property
    def limit(self) -> Tensor:
        """(draws,) violation at which a method stops: well below what the certificate asks for."""
        # A method rounds in its own way; a tenth leaves room for the certificate's own products.
        return 0.1 * self.tol * torch.linalg.vector_norm(self.t, dim=1)

    def take(self, rows: slice | Tensor) -> "ConeProblem":
        """The same points, some of the draws."""
        return replace(self, t=self.t[rows], y=self.y[rows])

    def to(self, device: torch.device | str) -> "ConeProblem":
        """The same problem on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("unit", "owner", "t", "y")})

    def signs_of(self, index: Tensor) -> Tensor:
        """(draws, s) the sign y of every point of an index (draws, s)."""
        return torch.gather(self.y, 1, self.owner[index])

    def signed(self, index: Tensor) -> Tensor:
        """(draws, s, r) the points y x of an index (draws, s)."""
        return self.unit[index] * self.signs_of(index)[:, :, None]

    def combine(self, index: Tensor, weight: Tensor) -> Tensor:
        """(draws, r) the sums of weight y x over an index (draws, s); entries of weight 0 may be anything."""
        if not index.shape[1]:
            return torch.zeros_like(self.t)
        index = index.clamp_min(0)
        return torch.nn.functional.embedding_bag(
            index, self.unit, per_sample_weights=weight * self.signs_of(index), mode="sum"
        )

    def prices(self, v: Tensor) -> Tensor:
        """(draws, k) how far y x . v is above zero."""
        return (v @ self.unit.T).mul_(self.y[:, self.owner])

    def judged(self, v: Tensor, index: Tensor, weight: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(draws,) each: the highest and lowest price, the largest at the held points (those of weight above 0), and
        whether all other points that have a sign are below -near.
        """
        if v.device.type == "cpu":
            from geomfeat._numba.cone_certificate import judge

            given = (self.y, self.starts, index, weight, near)
            known = [products(v.numpy(), self.unit.numpy()), *(np.ascontiguousarray(a.numpy()) for a in given)]
            made = [np.empty(len(v)) for _ in range(3)] + [np.empty(len(v), np.bool_)]
            in_threads(lambda i, j: judge(*[*known, *made, i, j]), len(v))
            highest, lowest, held, alone = map(torch.from_numpy, made)
            return highest, lowest, held, alone
        price, used = self.prices(v), weight > 0
        held = torch.where(used, torch.gather(price, 1, index.clamp_min(0)).abs(), 0.0)
        others = price.masked_fill((self.y == 0)[:, self.owner], -torch.inf)
        row = torch.arange(len(v), device=v.device)[:, None].expand_as(index)
        others[row[used], index[used]] = -torch.inf
        largest = held.amax(1) if index.shape[1] else torch.zeros_like(near)
        return price.amax(1), price.amin(1), largest, others.amax(1) < -near


def members_of(problem: ConeProblem) -> Tensor:
    """(P, M) indices of the points of every manifold, -1 where it has fewer than the largest."""
    starts = problem.starts
    sizes = starts.diff()
    place = torch.arange(max(1, int(sizes.max())), device=starts.device)
    return torch.where(place < sizes[:, None], starts[:-1, None] + place, -1)


def in_chunks(problem: ConeProblem, doubles_each: int) -> list[slice]:
    """The draws in pieces that need, with `doubles_each`, at most CHUNK_DOUBLES together."""
    size = max(1, CHUNK_DOUBLES // max(1, doubles_each))
    return [slice(i, i + size) for i in range(0, len(problem.t), size)]


def joined(answers: list[tuple[Tensor, Tensor, Tensor | None]]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Answers of the pieces, one below the other."""
    width = max(index.shape[1] for index, _, _ in answers)
    pad = torch.nn.functional.pad
    index = torch.cat([pad(a[0], (0, width - a[0].shape[1]), value=-1) for a in answers])
    weight = torch.cat([pad(a[1], (0, width - a[1].shape[1])) for a in answers]).to(WORKING)
    residuals = [a[2] for a in answers if a[2] is not None]
    return index, weight, torch.cat(residuals) if residuals else None
