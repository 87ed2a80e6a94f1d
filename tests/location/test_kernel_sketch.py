"""The kernel of many outputs through random sums of them: entry by entry, and in the mean over draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import geomfeat.location.kernel_sketch as kernel_sketch_module
from geomfeat.location.kernel_forms import compact_kernel
from geomfeat.location.kernel_sketch import kernel_sketch
from geomfeat.models.functional import Functional, functional
from geomfeat.numerics import WORKING, stream
from geomfeat.tangent import ntk
from tests.geometry.clouds import normal

X = normal(5, 3, seed=1)
SUMS = 2


def network() -> Functional:
    torch.manual_seed(0)
    return functional(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 7)))


def whole(parts: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum(0)


def sketched(f: Functional, seed: int) -> Tensor:
    found = kernel_sketch(f, X, seed, SUMS)
    assert found is not None
    return whole(found[1])


def test_entries_are_sums_of_the_kernel_less_those_of_a_sum_with_itself() -> None:
    f = network()
    v = torch.randn(5, 7, SUMS, generator=stream(3, "kernel sketch"), dtype=WORKING)
    blocks = ntk(f, X, outputs="full").gram.view(5, 7, 5, 7)
    entries = torch.einsum("ica,icjd,jdb->iajb", v, blocks, v)
    for i in range(5):
        entries[i, :, i] *= math.sqrt(SUMS / (SUMS - 1))
        entries[i, range(SUMS), i, range(SUMS)] = 0
    torch.testing.assert_close(sketched(f, 3), entries.reshape(10, 10), rtol=1e-10, atol=1e-10)


def test_squares_and_products_are_those_of_the_kernel_in_the_mean() -> None:
    f = network()
    moved = f.at({name: value + 0.3 * normal(*value.shape, seed=4) for name, value in f.theta.items()})
    before, after = (ntk(at, X, outputs="full").gram for at in (f, moved))
    squares, products = [], []
    for seed in range(400):
        found = kernel_sketch(f, X, seed, SUMS)
        assert found is not None
        first, last = whole(found[1]), whole(found[0](moved, None))
        squares.append(float(first.square().sum()) / SUMS**2)
        products.append(float((first * (last - first)).sum()) / SUMS**2)
    for numbers, truth in ((squares, before.square().sum()), (products, (before * (after - before)).sum())):
        draws = torch.tensor(numbers)
        assert abs(float(draws.mean() - truth)) < 4 * float(draws.std()) / 20


def test_parts_are_those_of_modules_and_the_sums_are_the_same_at_all_weights() -> None:
    f = network()
    found = kernel_sketch(f, X, 0, SUMS)
    assert found is not None
    at, first = found
    assert set(first) == {"0", "2"}
    for name, part in at(f.at(f.theta), None).items():
        assert torch.equal(part, first[name])
    assert not torch.equal(sketched(f, 0), sketched(f, 1))


def test_of_some_samples_it_is_their_part_of_the_whole() -> None:
    f, some = network(), torch.tensor([0, 2, 3])
    found = kernel_sketch(f, X, 0, SUMS)
    assert found is not None
    moved = f.at({name: value + 0.3 * normal(*value.shape, seed=4) for name, value in f.theta.items()})
    places = (some[:, None] * SUMS + torch.arange(SUMS)).flatten()
    part = whole(found[0](moved, some))
    torch.testing.assert_close(part, whole(found[0](moved, None))[places][:, places], rtol=1e-12, atol=1e-12)
    rough = compact_kernel(f, X, 0).rough
    of_some, of_all = rough(moved, some), rough(moved, None)
    kept = (some[:, None] * kernel_sketch_module.SUMS + torch.arange(kernel_sketch_module.SUMS)).flatten()
    expected = torch.zeros_like(of_all)
    expected[kept[:, None], kept] = of_all[kept][:, kept]
    torch.testing.assert_close(of_some, expected, rtol=1e-12, atol=1e-12)
    assert not rough(moved, torch.arange(0)).any()


def test_none_where_rules_do_not_cover_the_network() -> None:
    class Einsum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(normal(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("ni,oi->no", x, self.weight)

    assert kernel_sketch(functional(Einsum()), X, 0) is None


def test_devices_agree(device: str) -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 7))
    one, other = (sketched(functional(net, device=d), 2).cpu() for d in (device, "cpu"))
    assert one.norm() == pytest.approx(float(other.norm()))
