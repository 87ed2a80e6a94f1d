"""RDMs of all searchlights of a volume, in batches, here or on other processes and machines."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa._noise_precision import Residuals
from geomfeat.geometry.rsa.compare import compare_rdms
from geomfeat.geometry.rsa.crossnobis import FEWEST_RUNS, cell_means, gaps
from geomfeat.geometry.rsa.dissimilarity import levels_of
from geomfeat.geometry.rsa.given_precision import as_precision, whitened
from geomfeat.geometry.rsa.rdms import RDMs, Triangles
from geomfeat.geometry.rsa.searchlights.batch import VoxelPatterns, batch_distances
from geomfeat.geometry.rsa.searchlights.voxel_places import check_size, neighbourhoods, places_of
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.precision import precision_of
from geomfeat.types import Representation

DISSIMILARITIES = ("crossnobis", "squared_mahalanobis", "squared_euclidean", "correlation")
# Centres of a task: one step of the progress bar, and what an executor is handed at a time.
CHUNK = 500
# Tasks that an executor has at a time.
AHEAD = 64


@dataclass(frozen=True, eq=False, repr=False)
class Searchlights(BaseResult):
    """RDMs of c searchlights.

    Attributes:
        rdms: one RDM for each, named by the index of its centre among the voxels; `rdms.vectors` are (c, pairs).
        centres: (c,) these indices. places: (c, dimensions) coordinates of the centres.
        sizes: (c,) voxels in each.
        shape: of the volume, where a mask was given.
        notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each searchlight: centre, n_voxels, coordinates x, y, z and mean_distance.
    """

    rdms: RDMs
    centres: np.ndarray
    places: np.ndarray
    sizes: np.ndarray
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    def compare(self, models: RDMs, comparator: str = "cosine") -> Float[Tensor, "m c"]:
        """Similarity of each model with each searchlight; see `compare_rdms`."""
        return compare_rdms(models, self.rdms, comparator)

    def volume(self, values: Any) -> np.ndarray:
        """One value for each searchlight (c,) as a map of the volume, NaN elsewhere; BadInput without a mask."""
        if self.shape is None:
            raise BadInput("these searchlights have coordinates and no mask: place the values by `places`")
        numbers = np.asarray(as_tensor(values, "values", WORKING).cpu())
        if numbers.shape != self.centres.shape:
            raise BadInput(f"values has shape {numbers.shape}: give one for each of {len(self.centres)} searchlights")
        out = np.full(self.shape, np.nan)
        out[tuple(self.places.astype(int).T)] = numbers
        return out

    def _columns(self) -> dict[str, Any]:
        axes = dict(zip("xyz", self.places.T.tolist(), strict=False))
        mean = self.rdms.vectors.nanmean(1).tolist()
        return {"centre": self.centres.tolist(), "n_voxels": self.sizes.tolist()} | axes | {"mean_distance": mean}

    def __str__(self) -> str:
        head = (
            f"Searchlights: {len(self.centres)} of {int(self.sizes.min())} to {int(self.sizes.max())} voxels, "
            f"{self.rdms.dissimilarity} distances of {self.rdms.n_conditions} conditions"
        )
        return "\n".join([head, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__


def searchlight_rdms(
    x: Any,
    conditions: Any,
    voxels: Any,
    *,
    radius: float | None = None,
    n_voxels: int | None = None,
    dissimilarity: str = "crossnobis",
    runs: Any = None,
    precision: Any = None,
    centres: Any = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> Searchlights:
    """The RDM of the voxels around each voxel (Kriegeskorte et al. 2006).

    Args:
        x, conditions, runs: samples (samples, voxels) with their conditions and runs, as for `rdm`.
        voxels: where they are: the mask of the volume, with x in its order (`volume[:, mask]`), or coordinates (voxels,
            3), in mm for example.
        radius: voxels within it, its edge included, in the unit of the coordinates (of a mask: voxels); or
        n_voxels: as many, the nearest ones.
        dissimilarity: "crossnobis", "squared_mahalanobis", "squared_euclidean" or "correlation"; see `rdm`.
        precision: None; (voxels,), a diagonal precision; or `Residuals` of `condition_residuals`, from which each
            searchlight has a precision of its own, as from `noise_precision(estimator="shrinkage_diagonal")`.
        centres: indices of the voxels to put a searchlight around; default all.
        executor: runs the parts elsewhere, as a concurrent.futures.ProcessPoolExecutor, or `Client.get_executor()` of
            dask.distributed; default here.

    Distances are NaN, and counted in a note, where `rdm` would refuse: missing runs, patterns without variance over
    voxels ("correlation"). Raises BadInput as `rdm`, and for places that do not fit.

    >>> x = torch.randn(12, 27, generator=torch.Generator().manual_seed(0))
    >>> found = searchlight_rdms(
    ...     x, list("abc") * 4, np.ones((3, 3, 3)), radius=1, runs=[0] * 6 + [1] * 6, progress=False
    ... )
    >>> found.rdms.n_rdms, int(found.sizes.max()), found.volume(found.rdms.vectors.mean(1)).shape
    (27, 7, (3, 3, 3))
    """
    from scipy.spatial import KDTree

    patterns, levels, notes = _patterns(x, conditions, runs, dissimilarity, precision)
    places, shape = places_of(voxels, len(patterns.cells))
    check_size(radius, n_voxels, len(places))
    chosen = _centres(centres, len(places))
    tree = KDTree(places)
    parts = np.split(chosen, range(CHUNK, len(chosen), CHUNK))
    tasks = (_task(patterns, neighbourhoods(tree, part, radius, n_voxels)) for part in parts)
    done = list(tqdm(_results(tasks, executor), total=len(parts), desc="searchlights", disable=not progress))
    vectors = torch.cat([found for found, _ in done])
    undefined = int(vectors.isnan().any(1).sum())
    if undefined and not notes:
        notes.append(
            f"{undefined} of {len(vectors)} searchlights have conditions with the same value in all voxels: NaN"
        )
    names = tuple(map(str, chosen.tolist()))
    rdms = RDMs(Triangles(vectors), dissimilarity, names, levels)
    return Searchlights(rdms, chosen, places[chosen], np.concatenate([s for _, s in done]), shape, tuple(notes))


def _patterns(
    x: Any, conditions: Any, runs: Any, dissimilarity: str, precision: Any
) -> tuple[VoxelPatterns, tuple[Any, ...], list[str]]:
    """What searchlights take from the samples; the conditions; notes."""
    given = x.x if isinstance(x, Representation) else x
    known = x.precision if isinstance(x, Representation) else precision_of(x)
    data = as_tensor(given, "x", WORKING)
    if data.ndim != 2 or 0 in data.shape:
        raise BadInput(f"x must be (samples, voxels), got shape {tuple(data.shape)}")
    require_finite(data, "x")
    if dissimilarity not in DISSIMILARITIES:
        raise BadInput(f"dissimilarity={dissimilarity!r}: use one of {', '.join(map(repr, DISSIMILARITIES))}")
    if (dissimilarity == "crossnobis") != (runs is not None):
        raise BadInput("runs= belong to dissimilarity='crossnobis', and it needs them: give both or neither")
    mahalanobis = dissimilarity == "squared_mahalanobis"
    if mahalanobis != (precision is not None) and dissimilarity != "crossnobis":
        raise BadInput(f"dissimilarity={dissimilarity!r} {'needs' if mahalanobis else 'takes no'} precision=")
    levels, index = levels_of(conditions, data, "conditions")
    if len(levels) < 2:
        raise BadInput("an RDM needs at least 2 conditions, got one")
    folds, fold = levels_of([0] * len(data) if runs is None else runs, data, "runs")
    if runs is not None and len(folds) < FEWEST_RUNS:
        raise BadInput("crossnobis needs at least 2 runs, got one: give runs= of independent measurements")
    means, counts = cell_means(data, index, fold, len(levels), len(folds))
    noise, dof = None, 0
    if isinstance(precision, Residuals):
        means, noise, dof = _own_noise(means, precision)
    elif precision is not None:
        weights = as_precision(precision, data.shape[1], data.device)
        if weights.ndim == 2:
            raise BadInput("precision of all voxels at once: give (voxels,), or Residuals for one of each searchlight")
        means = whitened(means, weights)
    cells = means.permute(2, 0, 1).contiguous()
    return VoxelPatterns(cells, counts, dissimilarity, known, noise, dof), levels, gaps(counts, levels, folds)


def _own_noise(means: Tensor, residuals: Residuals) -> tuple[Tensor, Tensor, int]:
    """Means and residuals over the standard deviation of the noise in each voxel, and the degrees of freedom."""
    values = residuals.values.to(means.device)
    if values.ndim != 2 or values.shape[1] != means.shape[2]:
        raise BadInput(f"precision has residuals of shape {tuple(values.shape)}, not of {means.shape[2]} voxels")
    if residuals.dof < 1:
        raise BadInput(f"{len(values)} residuals leave {residuals.dof} degrees of freedom: give repeated samples")
    size = (values.square().sum(0) / residuals.dof).sqrt()
    silent = int((size <= 0).sum())
    if silent:
        raise BadInput(f"{silent} of {len(size)} voxels have no noise: leave them out of x and of the mask")
    return means / size, (values / size).T.contiguous(), residuals.dof


def _centres(given: Any, n: int) -> np.ndarray:
    if given is None:
        return np.arange(n)
    chosen = np.asarray(given)
    fine = chosen.ndim == 1 and len(chosen) and chosen.dtype.kind in "iu"
    if not fine or chosen.min() < 0 or chosen.max() >= n or len(np.unique(chosen)) < len(chosen):
        raise BadInput(f"centres must be different whole numbers from 0 to {n - 1}, at least one")
    return chosen.astype(np.int64)


def _task(patterns: VoxelPatterns, found: list[np.ndarray]) -> tuple[VoxelPatterns, list[Tensor]]:
    """Some searchlights with the patterns of their own voxels alone: little to send."""
    voxels, place = np.unique(np.concatenate(found), return_inverse=True)
    ends = np.cumsum([len(one) for one in found])[:-1]
    where = torch.from_numpy(voxels).to(patterns.cells.device)
    return patterns.take(where), list(map(torch.from_numpy, np.split(place, ends)))


def _results(tasks: Iterable[Any], executor: Executor | None) -> Iterator[tuple[Tensor, np.ndarray]]:
    """What comes of each task, in order; few wait at a time, since each holds patterns."""
    if executor is None:
        yield from map(_part, tasks)
        return
    waiting: deque[Future[Any]] = deque()
    for task in tasks:
        waiting.append(executor.submit(_part, task))
        if len(waiting) == AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _part(task: tuple[VoxelPatterns, list[Tensor]]) -> tuple[Tensor, np.ndarray]:
    patterns, searchlights = task
    return batch_distances(patterns, searchlights), np.array([len(one) for one in searchlights])
