"""Which precision data came in, and what its roundings can make of points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.numerics import WORKING, stream
from geomfeat.precision import Spread, coarser, is_constant, near_one, precision_of, roundings, unit_of
from geomfeat.types import Kernel, Representation, as_layer

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=stream(seed, "precision"), dtype=WORKING)


@pytest.mark.parametrize("dtype", DTYPES)
def test_data_have_the_precision_of_their_dtype_however_far_they_are_widened(dtype: torch.dtype) -> None:
    x = normal(300, 4).to(dtype)
    assert precision_of(x) == dtype
    assert precision_of(x.double()) == dtype
    assert precision_of(x.float()) == coarser(dtype, torch.float32)
    assert precision_of(x.double().relu()) == dtype
    assert precision_of(x.double().numpy()) == dtype
    assert precision_of(x[:0]) == dtype


@pytest.mark.parametrize(
    "exact",
    [
        torch.arange(60), torch.rand(9) > 0.5, [[1, 2], [3, 4]], torch.arange(300.0).double(),
        torch.eye(7, dtype=WORKING), torch.zeros(5, dtype=WORKING), 2.0 ** -torch.arange(40, dtype=WORKING),
        torch.arange(1000, dtype=WORKING) / 64, (64 * normal(90, 3)).round() / 64 + 2.0**16, np.arange(4),
    ],
)  # fmt: skip
def test_whole_numbers_and_grids_are_exact(exact: object) -> None:
    assert precision_of(exact) == WORKING  # pyright: ignore[reportArgumentType]


def test_one_entry_with_more_digits_is_enough() -> None:
    x = normal(100, 100).float().double()
    x[71, 3] += 1e-12
    assert precision_of(x) == WORKING


def test_arrays_of_numpy_have_their_precision_whatever_their_bytes() -> None:
    x = normal(20, 3).numpy()
    assert precision_of(x.astype(">f4")) == torch.float32
    assert precision_of(x.astype(np.float16)) == torch.float16
    assert precision_of(x.astype(np.longdouble)) == WORKING


def test_a_layer_knows_its_precision_after_widening_turning_and_taking() -> None:
    half = Representation(normal(30, 4).bfloat16() + 100)
    assert half.x.dtype == torch.float32
    assert half.precision == torch.bfloat16
    turned = half.with_(x=half.x.double() @ normal(4, 4, seed=1))
    assert turned.precision == torch.bfloat16
    assert turned.take([0, 5, 2]).precision == torch.bfloat16
    assert Representation(normal(30, 4).float()).with_(x=normal(30, 4)).precision == torch.float32
    assert "precision" not in Representation(normal(30, 4)).with_(x=normal(30, 2)).meta
    assert as_layer(normal(30, 4).half()).precision == torch.float16
    assert Kernel((normal(9, 9) + 40).half()).precision == torch.float16


def test_whole_numbers_become_double_precision() -> None:
    counts = torch.randint(0, 10, (60, 5), generator=stream(0, "counts")) + 2**27
    assert torch.equal(Representation(counts).x.long(), counts)
    assert torch.equal(Kernel(counts[:5]).gram.long(), counts[:5])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("mean", "inputs"), [(0.0, 16), (0.0, 1000), (30.0, 256)])
def test_noise_of_empty_directions_is_below_the_bound_and_not_far(dtype: torch.dtype, mean: float, inputs: int) -> None:
    """A linear map of a 2-dimensional code: all directions but two are rounding. Halves are summed in float32."""
    code, weights = normal(200, 2) @ normal(2, inputs, seed=1), normal(inputs, 80, seed=2) / inputs**0.5
    summed = WORKING if dtype == WORKING else torch.float32
    out = (code.to(summed) @ weights.to(summed) + mean).to(dtype)
    spread = Spread.of(out, dtype)
    values = torch.linalg.svdvals(spread.x)
    assert values[1] > spread.of_directions > values[2] > spread.of_directions / 300


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_with_noise_in_its_last_digit_is_constant(dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    last = torch.randint(0, 2, (50, 1), generator=stream(0, "last")) * eps
    x = torch.cat([1000 * (1 + last.double()), normal(50, 2)], 1)
    spread = Spread.of(x, dtype)
    assert not spread.x[:, 0].any()
    assert spread.varies
    assert Spread.of(x[:, :1], dtype).varies is False
    assert Spread.of(x[:, :1], dtype).of_directions == 0.0
    clear = torch.cat([1000 * (1 + 100 * last.double()), normal(50, 2)], 1)
    assert Spread.of(clear, dtype).x[:, 0].any()


def test_spread_is_centred_and_exact_at_any_size_and_mean() -> None:
    x = (normal(40, 3) * 2**12).round() / 2**12
    expected = x - x.mean(0)
    for scale, offset in ((1.0, 0.0), (1.0, 2.0**22), (2.0**300, 0.0), (2.0**-300, 0.0)):
        spread = Spread.of(scale * (x + offset), WORKING)
        torch.testing.assert_close(spread.x * (spread.unit / scale), expected, rtol=0, atol=1e-9)
        assert float(spread.x.abs().max()) <= 2.0


def test_rows_and_turns_of_a_spread_keep_what_rounding_can_do() -> None:
    wide = Spread.of(normal(20, 50), torch.float32)
    turned = wide.turned()
    assert turned.x.shape == (20, 20)
    torch.testing.assert_close(turned.x @ turned.x.T, wide.x @ wide.x.T)
    assert (turned.of_entry, turned.of_point) == (wide.of_entry, wide.of_point)
    some = turned.take(torch.arange(7))
    torch.testing.assert_close(some.x.mean(0), torch.zeros(20, dtype=WORKING), rtol=0, atol=1e-15)
    same = Spread.of(torch.cat([torch.full((5, 3), 0.1), torch.ones(1, 3)]), torch.float32)
    assert not same.take(torch.arange(5)).varies


def test_half_precisions_are_rounded_once() -> None:
    assert roundings(torch.bfloat16) == (0.0, torch.finfo(torch.bfloat16).eps)
    assert roundings(torch.float32)[0] > roundings(torch.float32)[1] > torch.finfo(torch.float32).eps
    assert bool(is_constant(torch.tensor(1e-7), torch.tensor(1.0), torch.float32))
    assert not bool(is_constant(torch.tensor(1e-7), torch.tensor(1.0), WORKING))


@pytest.mark.parametrize("size", [1e-310, 3e-5, 1.0, 7.0, 1e300])
def test_units_are_powers_of_two_at_the_largest_entry(size: float) -> None:
    x = size * torch.tensor([0.1, -1.0], dtype=WORKING)
    unit = float(unit_of(x))
    assert unit <= size < 2 * unit
    assert np.frexp(unit)[0] == 0.5
    assert 1 <= float(near_one(x).abs().max()) < 2
    assert float(unit_of(torch.zeros(3))) == 1.0
