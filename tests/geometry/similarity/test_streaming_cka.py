"""Streaming CKA: exact sums against all samples at once, blocks against the definition, batch sizes, dead layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import StreamingCKA, cka_matrix, linear_gram
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.geometry.clouds import normal
from tests.reference.kernels import cka_by_definition, hsic_by_definition

SINGLE = 1e-7


def layers(n: int, *widths: int, seed: int = 0) -> dict[str, Tensor]:
    """Layers that share a signal, each with a mean far from zero."""
    signal = torch.randn(n, 4, generator=stream(seed, "signal", n), dtype=torch.float64)
    found = {}
    for d in widths:
        noise = stream(seed, n, d)
        mix, own = (torch.randn(m, d, generator=noise, dtype=torch.float64) for m in (4, n))
        found[f"layer{d}"] = signal @ mix + own + 20 * torch.randn(d, generator=noise, dtype=torch.float64)
    return found


def streamed(reps: dict[str, Tensor], batch: int, **options: object) -> StreamingCKA:
    found = StreamingCKA(**options)
    for first in range(0, len(next(iter(reps.values()))), batch):
        found.update({name: x[first : first + batch] for name, x in reps.items()})
    return found


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_exact_equals_the_definition(estimator: str) -> None:
    reps = layers(10, 3, 5)
    grams = [linear_gram(x).numpy() for x in reps.values()]
    expected = [[cka_by_definition(k, l, estimator) for l in grams] for k in grams]
    found = streamed(reps, 3, estimator=estimator, block=4).result()
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=SINGLE)
    assert (found.method, found.n, found.stderr) == ("exact", 10, None)


def test_exact_is_the_number_of_all_samples_at_once_whatever_the_batches() -> None:
    reps = layers(700, 3, 40, 90)
    expected = cka_matrix(reps).values
    # A drift: the point taken of the first block is not the mean of all.
    drifted = {name: x + torch.arange(700)[:, None] / 100 for name, x in reps.items()}
    results = [streamed(reps, batch, block=256).result().values for batch in (8, 512, 700)]
    torch.testing.assert_close(results[0], expected, rtol=0, atol=SINGLE)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    torch.testing.assert_close(
        streamed(drifted, 50, block=64).result().values, cka_matrix(drifted).values, rtol=0, atol=SINGLE
    )


def test_minibatch_is_the_mean_of_blocks() -> None:
    reps = layers(25, 3, 9)
    found = streamed(reps, 7, method="minibatch", block=8).result()
    a, b = (x.numpy() for x in reps.values())
    blocks = [slice(i, i + 8) for i in (0, 8, 16)]  # the last sample alone has no unbiased HSIC

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([hsic_by_definition(x[s] @ x[s].T, y[s] @ y[s].T, "unbiased") for s in blocks]))

    assert float(found.values[0, 1]) == pytest.approx(mean(a, b) / (mean(a, a) * mean(b, b)) ** 0.5, abs=SINGLE)
    assert (found.method, found.n) == ("minibatch of 8", 24)
    again = streamed(reps, 25, method="minibatch", block=8).result()
    assert torch.equal(again.values, found.values)


def test_blocks_are_right_on_average_and_scatter_more_when_small() -> None:
    away: dict[int, list[float]] = {8: [], 100: []}
    inside = 0
    for seed in range(16):
        reps = layers(300, 3, 9, seed=seed)
        exact = float(streamed(reps, 300).result().values[0, 1])
        for block, seen in away.items():
            found = streamed(reps, 300, method="minibatch", block=block).result()
            seen.append(float(found.values[0, 1]) - exact)
            inside += block == 8 and abs(seen[-1]) < 2 * float(found.stderr[0, 1])
    for seen in away.values():
        assert abs(np.mean(seen)) < 4 * np.std(seen) / 16**0.5
    assert np.std(away[8]) > 2 * np.std(away[100])
    assert inside >= 11


def test_samples_sorted_by_class_mislead_blocks_but_not_exact_sums() -> None:
    g = stream(0, "sorted")
    classes = torch.arange(8).repeat_interleave(32)
    centers = 3 * torch.randn(8, 6, generator=g)
    reps = {k: centers[classes] + torch.randn(256, 6, generator=g) for k in "ab"}
    order = torch.randperm(256, generator=g)
    shuffled = {k: x[order] for k, x in reps.items()}
    exact = [streamed(r, 64, block=32).result().values[0, 1] for r in (reps, shuffled)]
    blocks = [streamed(r, 64, block=32, method="minibatch").result().values[0, 1] for r in (reps, shuffled)]
    assert abs(exact[0] - exact[1]) < SINGLE
    assert abs(blocks[1] - exact[0]) < 0.05
    assert blocks[0] < exact[0] - 0.5


def test_method_follows_the_memory() -> None:
    reps = layers(30, 3, 9)
    assert streamed(reps, 10, memory=8 * (3 * 12 + 9 * 9), block=8).result().method == "exact"
    assert streamed(reps, 10, memory=8 * (3 * 12 + 9 * 9) - 1, block=8).result().method == "minibatch of 8"
    with pytest.raises(BadInput, match="raise it, reduce the layers"):
        streamed(reps, 10, memory=100, block=8, method="exact")
    with pytest.raises(BadInput, match="raise it, reduce the layers"):
        streamed(reps, 10, memory=100, block=8, estimator="biased")


@pytest.mark.parametrize("method", ["exact", "minibatch"])
def test_asking_in_between_changes_nothing_and_dead_layers_are_reported(method: str) -> None:
    reps = {**layers(50, 3, 9), "dead": torch.full((50, 2), 0.1)}
    found = StreamingCKA(method=method, block=16)
    for first in range(0, 50, 10):
        found.update({name: Representation(x[first : first + 10]) for name, x in reps.items()})
        assert found.result().n <= first + 10
    expected = streamed(reps, 50, method=method, block=16).result()
    torch.testing.assert_close(found.result().values, expected.values, rtol=0, atol=SINGLE, equal_nan=True)
    assert expected.values[2].isnan().all()
    assert not expected.values[:2, :2].isnan().any()
    assert "dead or saturated" in expected.notes["dead"]


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_any_scale(scale: float) -> None:
    reps = layers(60, 3, 9)
    moved = {name: scale * x for name, x in reps.items()}
    for method in ("exact", "minibatch"):
        torch.testing.assert_close(
            streamed(moved, 60, method=method, block=16).result().values,
            streamed(reps, 60, method=method, block=16).result().values, rtol=0, atol=SINGLE,
        )  # fmt: skip


def test_devices_agree(device: str) -> None:
    reps = layers(40, 3, 9)
    there = streamed({k: x.to(device) for k, x in reps.items()}, 16).result()
    torch.testing.assert_close(there.values.cpu(), streamed(reps, 16).result().values, rtol=0, atol=SINGLE)


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([{}], "give all layers"),
        ([{"a": torch.ones(3, 2)}, {"b": torch.ones(3, 2)}], "after one of"),
        ([{"a": torch.ones(3, 2)}, {"a": torch.ones(3, 4)}], "in the first batch"),
        ([{"a": torch.ones(3, 2), "b": torch.ones(4, 2)}], "differ in samples"),
        ([{"a": torch.ones(3)}], "samples, features"),
        ([{"a": torch.full((3, 2), torch.inf)}], "6 infinite"),
        ([{"a": torch.ones(3, 2)}], "at least 4 samples, got 3"),
        ([], "at least 4 samples, got 0"),
    ],
)
def test_bad_input(batches: list[dict[str, Tensor]], text: str) -> None:
    def run() -> None:
        found = StreamingCKA()
        for batch in batches:
            found.update(batch)
        found.result()

    with pytest.raises(BadInput, match=text):
        run()


def test_bad_options() -> None:
    for options, text in [
        ({"method": "best"}, "method='best'"),
        ({"method": "minibatch", "estimator": "biased"}, "biased"),
    ]:
        with pytest.raises(BadInput, match=text):
            StreamingCKA(**options)


@pytest.mark.parametrize("method", ["exact", "minibatch"])
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_whose_squares_are_out_of_range(size: float, method: str) -> None:
    draws = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 4, generator=draws, dtype=torch.float64) for _ in range(2))
    found = []
    for factor in (1, size):
        streaming = StreamingCKA(method=method, block=32)
        streaming.update({"a": factor * a, "b": b})
        found.append(streaming.result())
    assert not found[1].notes
    torch.testing.assert_close(found[1].values, found[0].values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "minibatch"])
def test_a_mean_far_above_the_spread_is_no_dead_layer(method: str) -> None:
    reps = {name: (x * 1000).round().long() for name, x in layers(60, 3, 9).items()}
    far = {name: x + 2**40 for name, x in reps.items()}
    found, expected = (streamed(x, 20, method=method, block=16).result() for x in (far, reps))
    assert not found.notes
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=10 * SINGLE)


@pytest.mark.parametrize("method", ["exact", "minibatch"])
def test_rounding_of_a_constant_is_a_dead_layer(method: str) -> None:
    last = torch.randint(0, 2, (60, 4), generator=torch.Generator().manual_seed(0)) * 2.0**-23
    found = streamed({**layers(60, 3), "dead": 0.3 * (1 + last)}, 20, method=method, block=16).result()
    assert list(found.notes) == ["dead"]


@pytest.mark.parametrize(("options", "limit"), [
    ({"dtype": torch.float64}, 1e-12), ({}, 1e-6), ({"dtype": torch.float64, "estimator": "biased"}, 1e-12),
    ({"method": "minibatch", "block": 50}, 1e-6),
])  # fmt: skip
def test_merged_streams_are_that_of_all_samples(options: dict[str, Any], limit: float) -> None:
    """From other fixed points and units: the second part lies elsewhere and is wider."""
    x = normal(1000, 5, seed=1) + 20
    x[500:] = 4 * x[500:] + 30
    layers = {"a": x, "b": x[:, :3].square(), "flat": torch.ones(1000, 2)}

    def streamed(rows: slice) -> StreamingCKA:
        found = StreamingCKA(**options)
        for index in torch.arange(1000)[rows].split(100):
            found.update({name: layer[index] for name, layer in layers.items()})
        return found

    expected, parts, other = streamed(slice(None)).result(), streamed(slice(500)), streamed(slice(500, None))
    before = other.result().values
    parts.merge(other)
    found = parts.result()
    assert_close(found.values, expected.values, rtol=limit, atol=limit, equal_nan=True)
    assert (found.n, dict(found.notes)) == (1000, dict(expected.notes))
    assert_close(other.result().values, before, rtol=0, atol=0, equal_nan=True)
    if expected.stderr is not None:
        assert_close(found.stderr, expected.stderr, rtol=limit, atol=limit, equal_nan=True)
    empty = StreamingCKA(**options)
    empty.merge(StreamingCKA(**options))
    empty.merge(parts)
    assert_close(empty.all_reduce().result().values, found.values, rtol=0, atol=0, equal_nan=True)
    empty.update({name: layer[:100] for name, layer in layers.items()})
    assert parts.result().n == 1000


def test_streams_of_other_layers_or_settings_are_not_merged() -> None:
    stream, other = StreamingCKA(), StreamingCKA()
    stream.update({"a": normal(30, 3)})
    other.update({"a": normal(30, 4)})
    with pytest.raises(BadInput, match=r"widths is \[3\] in one, \[4\] in another"):
        stream.merge(other)
    with pytest.raises(BadInput, match="block is 1024 in one, 64 in another"):
        stream.merge(StreamingCKA(block=64))
    with pytest.raises(BadInput, match="no process has samples"):
        StreamingCKA().all_reduce()
    with pytest.raises(BadInput, match="float16"):
        StreamingCKA(dtype=torch.float16)
