"""Distances in many searchlights of one size at once: the patterns of their voxels, gathered into a batch."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geomfeat.geometry.rsa._noise_precision import shrunk_correlation
from geomfeat.geometry.rsa.crossnobis import crossnobis_distances
from geomfeat.geometry.rsa.products import gram, squared_distances
from geomfeat.precision import is_constant

# Entries of the patterns and residuals of a batch: a few megabytes, which stay near the processor.
HELD = 2**20


@dataclass(frozen=True, eq=False)
class VoxelPatterns:
    """What the distances in any searchlight are made of.

    Attributes:
        cells: (voxels, runs, conditions) mean patterns. counts: (runs, conditions) of how many samples.
        dissimilarity: as for `rdm`. precision: the dtype that the data came in.
        noise: (voxels, samples) residuals over their standard deviation, which the cells are divided by then too, for a
            noise precision of each searchlight; or None. dof: their degrees of freedom.
    """

    cells: Float[Tensor, "voxels runs conditions"]
    counts: Float[Tensor, "runs conditions"]
    dissimilarity: str
    precision: torch.dtype
    noise: Float[Tensor, "voxels samples"] | None = None
    dof: int = 0

    def take(self, voxels: Int[Tensor, "v"]) -> "VoxelPatterns":
        """Of some voxels."""
        noise = None if self.noise is None else self.noise[voxels]
        return replace(self, cells=self.cells[voxels], noise=noise)

    def per_voxel(self) -> int:
        """Entries of a voxel."""
        return self.cells[0].numel() + (0 if self.noise is None else 2 * self.noise.shape[1])


def batch_distances(patterns: VoxelPatterns, searchlights: list[Tensor]) -> Float[Tensor, "b pairs"]:
    """Distances of all pairs of conditions in each searchlight, a list of voxels; NaN where undefined."""
    n = patterns.counts.shape[1]
    out = patterns.cells.new_empty(len(searchlights), n * (n - 1) // 2)
    by_size: dict[int, list[int]] = {}
    for i, voxels in enumerate(searchlights):
        by_size.setdefault(len(voxels), []).append(i)
    for size, members in by_size.items():
        step = max(1, HELD // (size * patterns.per_voxel()))
        for part in torch.tensor(members).split(step):
            voxels = torch.stack([searchlights[i] for i in part.tolist()]).to(out.device)
            out[part.to(out.device)] = _of_one_size(patterns, voxels)
    return out


def _of_one_size(patterns: VoxelPatterns, voxels: Int[Tensor, "b size"]) -> Float[Tensor, "b pairs"]:
    cells = patterns.cells[voxels]
    if patterns.noise is not None:
        correlation = shrunk_correlation(patterns.noise[voxels].mT, patterns.dof)
        factor = torch.linalg.cholesky(correlation)
        cells = torch.linalg.solve_triangular(factor, cells.flatten(2), upper=False).reshape(cells.shape)
    means = cells.permute(0, 2, 3, 1)
    if patterns.dissimilarity == "crossnobis":
        return crossnobis_distances(means, patterns.counts)
    means = means[:, 0]
    if patterns.dissimilarity == "correlation":
        return _correlation(means, patterns.precision)
    moved = (means - means.mean(1, keepdim=True)).contiguous()
    return squared_distances(gram(moved[:, :, None]))[0].clamp_min(0) / voxels.shape[1]


def _correlation(means: Float[Tensor, "b n size"], precision: torch.dtype) -> Float[Tensor, "b pairs"]:
    """NaN for conditions that have the same value in every voxel."""
    centred = means - means.mean(2, keepdim=True)
    norms = centred.norm(dim=2, keepdim=True)
    flat = is_constant(norms, means.norm(dim=2, keepdim=True), precision)
    unit = centred / torch.where(flat, torch.nan, norms)
    return squared_distances(unit @ unit.mT)[0].clamp_min(0) / 2
