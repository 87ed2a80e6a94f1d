"""Searchlights of voxels: spheres and nearest voxels by brute force, masks, errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import KDTree

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa.searchlights.voxel_places import check_size, neighbourhoods, places_of

PLACES = np.random.default_rng(0).standard_normal((50, 3))
DISTANCES = np.linalg.norm(PLACES[:, None] - PLACES[None], axis=2)


def test_spheres_and_nearest_voxels_are_those_of_all_distances() -> None:
    centres = np.array([3, 40, 7])
    for found, centre in zip(neighbourhoods(KDTree(PLACES), centres, 0.8, None), centres, strict=True):
        assert found.tolist() == np.flatnonzero(DISTANCES[centre] <= 0.8).tolist()
    for count in (1, 6, 50):
        for found, centre in zip(neighbourhoods(KDTree(PLACES), centres, None, count), centres, strict=True):
            assert found.tolist() == sorted(np.argsort(DISTANCES[centre])[:count])


def test_the_edge_belongs_to_a_sphere_and_what_is_outside_the_mask_does_not() -> None:
    mask = np.ones((3, 3, 3), dtype=bool)
    mask[0] = False
    places, shape = places_of(mask, 18)
    assert shape == (3, 3, 3)
    middle = int(np.flatnonzero((places == [1, 1, 1]).all(1))[0])
    found = neighbourhoods(KDTree(places), np.array([middle]), 1, None)[0]
    assert {tuple(p) for p in places[found]} == {(1, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)}
    # Steps of a third of a voxel add up to a little more than one.
    assert len(neighbourhoods(KDTree(places * (0.1 * 3)), np.array([middle]), 0.3, None)[0]) == 6


def test_places_that_do_not_fit_are_refused() -> None:
    for call, words in (
        (lambda: places_of(np.ones((2, 2, 2)), 7), "the mask has 8 voxels that are not zero, x has 7"),
        (lambda: places_of(np.ones((4, 3)), 5), "voxels has 4 coordinates, x has 5"),
        (lambda: places_of(np.full((5, 3), np.nan), 5), "finite"),
        (lambda: places_of(np.ones(5), 5), r"shape \(5,\)"),
        (lambda: check_size(None, None, 9), "give one of them"),
        (lambda: check_size(1.0, 3, 9), "give one of them"),
        (lambda: check_size(-1.0, None, 9), "radius=-1.0"),
        (lambda: check_size(None, 10, 9), "give 1 to 9"),
    ):
        with pytest.raises(BadInput, match=words):
            call()
