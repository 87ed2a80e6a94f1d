"""Which voxels belong to each searchlight: those within a radius of its centre, or the nearest ones."""

from typing import Any

import numpy as np

from geomfeat.errors import BadInput


def places_of(voxels: Any, n: int) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Coordinates (n, dimensions) of n voxels, and the shape of the volume where `voxels` is its mask.

    >>> places_of(np.array([[[0, 1], [1, 0]]]), 2)[0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    given = np.asarray(voxels)
    if given.dtype.kind not in "biuf" or given.ndim not in (2, 3):
        raise BadInput(
            f"voxels has shape {given.shape} and type {given.dtype}: give a mask of 3 axes, or coordinates (voxels, 3)"
        )
    if given.ndim == 3:
        places = np.argwhere(given)
        if len(places) != n:
            raise BadInput(f"the mask has {len(places)} voxels that are not zero, x has {n}: give the mask of x")
        return places.astype(float), given.shape
    if len(given) != n or not np.isfinite(given).all():
        raise BadInput(f"voxels has {len(given)} coordinates, x has {n} voxels: give finite ones for each, in order")
    return given.astype(float), None


def check_size(radius: float | None, n_voxels: int | None, n: int) -> None:
    """BadInput unless one of the two says how large a searchlight is."""
    if (radius is None) == (n_voxels is None):
        raise BadInput(f"radius={radius} and n_voxels={n_voxels}: give one of them")
    if radius is not None and not 0 < radius < np.inf:
        raise BadInput(f"radius={radius}: give a positive distance, in the unit of the coordinates")
    if n_voxels is not None and not 1 <= n_voxels <= n:
        raise BadInput(f"n_voxels={n_voxels}: give 1 to {n}, the number of voxels")


def neighbourhoods(tree: Any, centres: np.ndarray, radius: float | None, n_voxels: int | None) -> list[np.ndarray]:
    """Voxels of each searchlight, in rising order; `tree` is scipy's KDTree of all coordinates.

    Those at exactly the radius belong to it. Of equally near ones at the edge of n_voxels any may be taken.
    """
    places = tree.data[centres]
    if radius is not None:
        # A share of the radius that rounding of coordinates may add to a distance.
        found = tree.query_ball_point(places, radius * (1 + 1e-9), return_sorted=True)
        return [np.asarray(one, dtype=np.int64) for one in found]
    nearest = tree.query(places, k=[*range(1, (n_voxels or 1) + 1)])[1]
    return list(np.sort(nearest, axis=1))
