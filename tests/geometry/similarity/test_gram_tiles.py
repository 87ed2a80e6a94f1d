"""Sums of products of Gram matrices by tiles, against whole matrices in float64."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

import geomfeat as gf
from geomfeat.geometry.similarity._gram_tiles import COLUMNS, ROWS, Entries, products_of_entries, tiles_of
from geomfeat.numerics import stream

# Within a tile; one beyond it; several rows of tiles, of which the last columns are cut.
SIZES = [3, ROWS, ROWS + 1, ROWS + COLUMNS + 5, 3 * ROWS + 2 * COLUMNS - 7]


def kernels(n: int) -> list[Entries]:
    draw = np.random.default_rng(n)
    features = [draw.standard_normal((n, d)).astype(np.float32) for d in (2, 9)]
    shifts = [0.1 * draw.standard_normal(n).astype(np.float32) for _ in range(3)]
    gram = features[1][:, :4] @ features[1][:, :4].T
    return [
        Entries(features[0], None, shifts[0]),
        Entries(features[1], None, shifts[1]),
        Entries(None, gram, shifts[2]),
    ]


@pytest.mark.parametrize("n", SIZES)
def test_tiles_are_each_pair_of_samples_once(n: int) -> None:
    seen = np.zeros((n, n), int)
    for rows, columns in tiles_of(n):
        seen[rows, columns] += 1
    np.testing.assert_array_equal(np.triu(seen), np.triu(np.ones((n, n), int)))


@pytest.mark.parametrize("n", SIZES)
def test_sums_are_those_of_whole_matrices(n: int) -> None:
    own = kernels(n)
    whole = []
    for kernel in own:
        entries = np.empty((n, n))
        kernel.tile(slice(0, n), slice(0, n), entries)
        np.fill_diagonal(entries, 0)
        whole.append(entries.ravel())
    expected = np.array([[a @ b for b in whole] for a in whole])
    sizes = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert np.abs(products_of_entries(own) - expected).max() < 1e-6 * sizes.min() + 1e-6 * np.abs(expected).max()


def test_pairs_of_layers_of_several_tiles_are_those_of_two_alone() -> None:
    n = ROWS + COLUMNS + 5
    draws = torch.randn(n, 40, generator=stream(0, "tiles"), dtype=torch.float64)
    layers = [draws[:, :20], draws[:, 10:35].tanh(), (draws[:, :30] ** 2)]
    found = gf.cka_matrix(layers).values
    for i, j in combinations(range(3), 2):
        assert float(found[i, j]) == pytest.approx(float(gf.cka(layers[i], layers[j])), abs=2e-7)
