"""The linear HSIC of all pairs of layers as a mean over blocks of samples (Nguyen, Raghu & Kornblith 2021, eq. 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from geomfeat.geometry.similarity._cka_matrix import PairTable
from geomfeat.geometry.similarity._cka_sums import Side
from geomfeat.geometry.similarity._streaming_sums import Origin
from geomfeat.numerics import WORKING

GROUPS = 32  # groups of blocks, left out in turn for the standard error


class BlockMeans:
    """Means over blocks of their unbiased HSIC, in groups of blocks."""

    def __init__(self, origins: list[Origin]) -> None:
        self.origins = origins
        count, device = len(origins), origins[0].point.device
        self.n, self.blocks = 0, 0
        self.by_group = torch.zeros(GROUPS, count, count, dtype=WORKING, device=device)
        self.alive = [False] * count

    @property
    def sums(self) -> list[Tensor]:
        """All that grows with the samples, for sums over several streams; the first is their number."""
        return [torch.tensor(self.n), torch.tensor(self.blocks), self.by_group, torch.tensor(self.alive).long()]

    def of_sums(self, sums: Sequence[Tensor]) -> "BlockMeans":
        """The same layers with other sums."""
        out = BlockMeans(self.origins)
        n, blocks, out.by_group, alive = sums
        out.n, out.blocks, out.alive = int(n), int(blocks), alive.bool().tolist()
        return out

    def seen_from(self, origins: list[Origin], blocks_before: int = 0) -> "BlockMeans":
        """The sums of the same samples in other units, in the groups that they have after so many other blocks."""
        factors = [(own.unit / other.unit) ** 2 for own, other in zip(self.origins, origins, strict=True)]
        scale = torch.tensor(factors, dtype=WORKING, device=self.by_group.device)
        n, blocks, by_group, alive = self.sums
        moved = (by_group * torch.outer(scale, scale)).roll(blocks_before, 0)
        return BlockMeans(origins).of_sums([n, blocks, moved, alive])

    def add(self, block: list[Tensor]) -> None:
        """One block of every layer's features (m, d), weighted by m."""
        parts = [origin.seen_from(x) for origin, x in zip(self.origins, block, strict=True)]
        sides = [Side.of_features(x, o.precision) for x, o in zip(parts, self.origins, strict=True)]
        count = len(sides)
        units = torch.tensor([side.unit for side in sides], dtype=WORKING, device=self.by_group.device)
        i, j = torch.cartesian_prod(*[torch.arange(count, device=units.device)] * 2).view(-1, 2).T
        hsic = PairTable.of(sides, count, slice(0, count), False).moments(i, j).hsic_of_pairs("unbiased")
        self.by_group[self.blocks % GROUPS] += len(block[0]) * hsic.view(count, count) * torch.outer(units, units)
        self.n += len(block[0])
        self.blocks += 1
        self.alive = [
            was or origin.differs(x.double().var(0, correction=0), x.double().mean(0))
            for was, origin, x in zip(self.alive, self.origins, parts, strict=True)
        ]

    def hsic(self) -> Tensor:
        """The mean over samples."""
        return self.by_group.sum(0) / self.n

    def varies(self) -> list[bool]:
        """Whether a layer was no constant in some block."""
        return self.alive

    def stderr(self) -> Tensor | None:
        """Jackknife over groups of blocks; None for a single one."""
        groups = min(GROUPS, self.blocks)
        if groups < 2:
            return None
        without = normalised(self.by_group.sum(0) - self.by_group[:groups])
        return (without.var(0, correction=0) * (groups - 1)).sqrt()


def normalised(hsic: Tensor) -> Tensor:
    own = hsic.diagonal(dim1=-2, dim2=-1)
    return hsic / (own[..., :, None] * own[..., None, :]).sqrt()
