"""Overlap of neighbours: published values, the definition, chance, invariances, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import mutual_knn, neighbour_jaccard
from geomfeat.numerics import stream
from tests.reference import similarity as reference
from tests.shared_data import shared

METRICS = ("cosine", "euclidean")


def draw(n: int, d: int, *names: object) -> Tensor:
    return torch.randn(n, d, generator=stream(0, n, d, *names), dtype=torch.float64)


@pytest.mark.parametrize("pair", ["X-Y", "X-Z"])
def test_published_values(pair: str) -> None:
    data = np.load(shared("refs/kernels/similarity_inputs.npz"))
    expected = json.loads(shared("refs/kernels/similarity_expected.json").read_text())["other"][pair]
    a, b = (torch.from_numpy(data[name]) for name in pair.split("-"))
    assert neighbour_jaccard(a, b) == pytest.approx(expected["JaccardSimilarity"], rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [3, 30])
def test_equals_the_definition(metric: str, d: int) -> None:
    a, b = draw(15, d, "a") + 1, draw(15, d + 1, "b")
    left, right = (reference.neighbours(x.numpy(), 4, metric) for x in (a, b))
    jaccard = [len(p & q) / len(p | q) for p, q in zip(left, right, strict=True)]
    shared_ones = [len(p & q) / 4 for p, q in zip(left, right, strict=True)]
    assert neighbour_jaccard(a, b, k=4, metric=metric) == pytest.approx(np.mean(jaccard), rel=1e-12)
    assert mutual_knn(a, b, k=4, metric=metric) == pytest.approx(np.mean(shared_ones), rel=1e-12)


def test_independent_layers_share_neighbours_by_chance() -> None:
    values = [mutual_knn(draw(40, 5, "a", s), draw(40, 5, "b", s)).value for s in range(60)]
    assert abs(np.mean(values) - 10 / 39) < 4 * np.std(values) / 60**0.5


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(4, 25), d=st.integers(2, 8), k=st.integers(1, 3), metric=st.sampled_from(METRICS),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_properties(n: int, d: int, k: int, metric: str, seed: int) -> None:
    g = stream(seed, "neighbours")
    a, b = (torch.randn(n, d, generator=g, dtype=torch.float64) for _ in range(2))
    q = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    found = neighbour_jaccard(a, b, k=k, metric=metric)
    assert 0 <= found <= 1
    assert neighbour_jaccard(b, a, k=k, metric=metric) == found
    assert neighbour_jaccard(2 * a @ q, b, k=k, metric=metric) == found
    assert mutual_knn(a, a, k=k, metric=metric).value == 1
    assert mutual_knn(a, b, k=k, metric=metric) >= found


def test_distance_ignores_a_shift_and_cosine_does_not() -> None:
    a, b = draw(30, 4, "a"), draw(30, 4, "b")
    assert mutual_knn(a + 5, b, metric="euclidean") == mutual_knn(a, b, metric="euclidean")
    assert mutual_knn(a + 5, b).value != mutual_knn(a, b).value


def test_devices_agree(device: str) -> None:
    a, b = draw(30, 4, "a"), draw(30, 4, "b")
    assert mutual_knn(a.to(device), b.to(device)) == mutual_knn(a, b)


@pytest.mark.parametrize(
    ("a", "b", "options", "text"),
    [
        (draw(5, 2), draw(6, 2), {"k": 2}, "a has 5 samples"),
        (draw(5, 2), draw(5, 2), {"k": 5}, "k=5 neighbours of 5 points"),
        (draw(5, 2), draw(5, 2), {"k": 0}, "k=0"),
        (draw(5, 2), draw(5, 2), {"k": 2, "metric": "l1"}, "metric='l1'"),
        (draw(5, 2), draw(5, 2) * torch.tensor([[1.0]] * 4 + [[0.0]]), {"k": 2}, "1 samples are zero"),
    ],
)
def test_bad_input(a: Tensor, b: Tensor, options: dict[str, object], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        mutual_knn(a, b, **options)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_constant_layer_has_no_neighbours(metric: str) -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    flat = x[:1].expand(30, 4)
    for function in (mutual_knn, neighbour_jaccard):
        with pytest.raises(BadInput, match="copies"):
            function(flat, x, metric=metric)
        with pytest.raises(BadInput, match="copies"):
            function(x, flat, metric=metric)
