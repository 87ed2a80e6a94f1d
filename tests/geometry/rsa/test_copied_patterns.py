"""Copies of patterns up to the rounding of their precision: their distances, and the ranks that rest on them."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import compare_rdms, rdm
from geomfeat.geometry.rsa.copied_patterns import distances_apart
from geomfeat.numerics import stream

COMMON = {"squared_euclidean": {}, "euclidean": {}, "correlation": {}, "mahalanobis": {"precision": torch.ones(30)}}


def patterns(*, offset: float = 0.0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight patterns and copies of five of them, exact and up to rounding."""
    g = stream(0, "alike")
    x = torch.randn(8, 30, generator=g, dtype=torch.float64) + offset
    exact = torch.cat([x, x[:5]]).to(dtype)
    unit = torch.finfo(dtype).eps
    moved = exact.double() * (1 + unit * torch.randn(exact.shape, generator=g, dtype=torch.float64))
    near = torch.cat([exact[:8], moved[8:].to(dtype)])
    assert not torch.equal(exact, near)
    return exact, near


@pytest.mark.parametrize("how", COMMON)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_near_copies_have_the_distances_of_copies(how: str, dtype: torch.dtype) -> None:
    exact, near = (rdm(x, dissimilarity=how, **COMMON[how]) for x in patterns(dtype=dtype))
    torch.testing.assert_close(near.vectors, exact.vectors, rtol=1e-9, atol=1e-12)
    assert bool((near.matrices[0][torch.arange(5), torch.arange(8, 13)] == 0).all())
    model = rdm(
        torch.randn(13, 4, generator=stream(1, "model"), dtype=torch.float64),
        dissimilarity=how.split("_")[-1] if how == "euclidean" else "squared_euclidean",
    )
    for comparator in ("spearman", "kendall_tau_a", "rho_a"):
        assert float(compare_rdms(near, model, comparator)) == float(compare_rdms(exact, model, comparator))


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_the_precision_is_seen_in_widened_arrays_and_far_from_the_origin(offset: float) -> None:
    exact, near = patterns(offset=offset)
    # Numbers of one size lie on one grid, where none can see what they were widened from.
    found = [rdm(x) for x in (exact, near, *([] if offset else [near.double()]))]
    for other in found[1:]:
        torch.testing.assert_close(other.vectors, found[0].vectors, rtol=1e-9, atol=1e-12)


def test_small_distances_in_double_precision_keep_their_digits() -> None:
    x = torch.randn(6, 10, generator=stream(2, "close"), dtype=torch.float64)
    close = torch.cat([x, x + 1e-10 * torch.randn(6, 10, generator=stream(3, "close"), dtype=torch.float64)])
    apart = (close[:6] - close[6:]).square().mean(1)
    for how, options in (("squared_euclidean", {}), ("squared_mahalanobis", {"precision": torch.eye(10)})):
        found = rdm(close, dissimilarity=how, **options).matrices[0]
        torch.testing.assert_close(found[torch.arange(6), torch.arange(6, 12)], apart, rtol=1e-4, atol=0)


def test_a_chain_of_neighbours_within_rounding_does_not_become_one_pattern() -> None:
    x = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None].to(torch.float16)
    found = rdm(x).matrices[0]
    torch.testing.assert_close(found, (x.double() - x.double().T).square(), rtol=0, atol=4e-3)
    assert float(found[0, -1]) == pytest.approx(1, abs=2e-3)


def test_a_constant_unit_far_away_makes_no_differences() -> None:
    exact, near = patterns()
    beside = 1e4 * (1 + torch.finfo(torch.float32).eps * torch.randn(13, 1, generator=stream(4, "unit")))
    found = rdm(torch.cat([near, beside], 1)).vectors * 31 / 30
    torch.testing.assert_close(found, rdm(exact).vectors, rtol=1e-6, atol=1e-9)


def test_a_flat_pattern_up_to_rounding_has_no_correlation_distance() -> None:
    x = torch.randn(5, 40, generator=stream(5, "flat")) + 3
    x[2] = 700 * (1 + 0.5 * torch.finfo(torch.float32).eps * torch.randn(40, generator=stream(6, "flat")))
    with pytest.raises(BadInput, match=r"1 conditions .* same value"):
        rdm(x, dissimilarity="correlation")


def test_copies_take_the_distances_of_the_first() -> None:
    x = torch.tensor([[0.0], [3.0], [3.0 + 1e-9], [5.0]], dtype=torch.float64)
    squared = torch.tensor([9.0, 9.1, 25.0, 0.0, 4.0, 4.1], dtype=torch.float64)
    found = distances_apart(x, squared, torch.full((6,), 50.0).double(), torch.full((4,), 1e-8).double())
    assert found.tolist() == [9.0, 9.0, 25.0, 0.0, 4.0, 4.0]
