"""Ranks, flat kernels and whitened samples are judged by the precision that the data came in."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.numerics import stream
from geomfeat.regimes.linear_networks import balanced_factors, linear_task, mode_regimes, whitened
from geomfeat.regimes.training.series import kernel_path


def draw(*shape: int, name: str = "") -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, "task", name, *shape), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_product_of_low_rank_in_few_digits_still_fits_its_hidden_units(dtype: torch.dtype) -> None:
    product = (draw(20, 3) @ draw(3, 20)).to(dtype)
    w1, w2 = balanced_factors(product, 3, 0.0)
    torch.testing.assert_close(
        w2 @ w1, product.double(), rtol=0, atol=20 * torch.finfo(dtype).eps * float(product.abs().max())
    )
    with pytest.raises(BadInput, match="rank 3"):
        balanced_factors(product, 2, 0.0)
    with pytest.raises(BadInput, match="rank 4"):
        balanced_factors(draw(20, 3) @ draw(3, 20) + 1e-7 * draw(20, 1) @ draw(1, 20), 3, 0.0)


def test_samples_whitened_in_single_precision_are_white() -> None:
    x = whitened(draw(200, 60)).float()
    assert linear_task(x, torch.ones(200, 1)).correlation.shape == (1, 60)
    with pytest.raises(BadInput, match="not whitened"):
        linear_task(x.double() * 1.001, torch.ones(200, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_directions_of_rounding_are_not_whitened(dtype: torch.dtype) -> None:
    x = draw(60, 3) @ draw(3, 5)
    with pytest.raises(BadInput, match="x spans 3 of its 5 directions"):
        whitened(x.to(dtype))
    weak = draw(60, 3) * torch.tensor([1.0, 1.0, 1e-5])
    assert whitened(weak).shape == (60, 3)


def test_modes_below_the_rounding_of_single_precision_count_in_double() -> None:
    weights = torch.diag(torch.tensor([3.0, 1e-4], dtype=torch.float64))
    assert mode_regimes(weights, weights).strengths.tolist() == pytest.approx([9.0, 1e-8])
    assert len(mode_regimes(draw(4, 6).float(), (draw(5, 2) @ draw(2, 4)).float()).strengths) == 2


def test_a_flat_kernel_of_single_precision_has_no_path() -> None:
    flat = torch.full((8, 8), 3.0) * (
        1 + torch.finfo(torch.float32).eps * torch.randn(8, 8, generator=stream(0, "flat"))
    )
    flat = (flat + flat.T) / 2
    x = draw(8, 3)
    path = kernel_path([x @ x.T, flat, x @ x.T], torch.arange(8) % 2)
    assert path.turn[1] != path.turn[1]
    assert path.turn[2] == pytest.approx(0, abs=1e-7)
