"""Paired differences: the jackknife of the difference itself, recomputed group by group."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.numerics import stream
from geomfeat.registry import get
from geomfeat.statistics.group_errors import LeftOut, keeping, values_alone
from geomfeat.statistics.paired_numbers import combined, error_of, values_of_parts
from geomfeat.types import Representation

GROUPS = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 4, 5]).repeat_interleave(4)


def layer(seed: int) -> Representation:
    common = torch.randn(6, 1, generator=stream(9, "runs"), dtype=torch.float64)[GROUPS]
    x = torch.randn(40, 5, generator=stream(seed, "paired"), dtype=torch.float64)
    return Representation(x * (1 + common.abs()), groups=GROUPS)


def kept(rep: Representation) -> tuple[float, LeftOut]:
    with keeping() as found:
        value = get("participation_ratio")(rep).value
    return value, found[None]


def test_the_error_of_a_difference_is_that_of_recomputing_it_without_each_group() -> None:
    a = layer(0)
    b = a.with_(x=a.x + 0.3 * layer(1).x)
    ratio = get("participation_ratio").function

    def difference(rows: torch.Tensor) -> float:
        return ratio(Representation(a.x[rows])).value - ratio(Representation(b.x[rows])).value

    whole = difference(torch.arange(40))
    n, g = 40, 6
    sizes = [int((j == GROUPS).sum()) for j in range(g)]
    without = [difference(torch.nonzero(j != GROUPS)[:, 0]) for j in range(g)]
    # Busing et al. 1999, eq. 7, term by term.
    centre = g * whole - sum((1 - m / n) * v for m, v in zip(sizes, without, strict=True))
    terms = [
        ((n / m) * whole - (n / m - 1) * v - centre) ** 2 / (n / m - 1) for m, v in zip(sizes, without, strict=True)
    ]
    (one, left_a), (two, left_b) = kept(a), kept(b)
    found = combined([left_a, left_b], [1, -1])
    assert one - two == pytest.approx(whole)
    assert error_of(found) == pytest.approx((sum(terms) / g) ** 0.5)
    apart = (error_of(left_a) ** 2 + error_of(left_b) ** 2) ** 0.5
    assert abs(error_of(found) - apart) > 0.3 * apart


def test_draws_pair_where_they_are_the_same_and_add_up_where_they_are_not_known() -> None:
    draws = torch.randn(200, generator=stream(0, "draws"), dtype=torch.float64)
    still = torch.ones(5, 2, dtype=torch.float64)
    one, half = LeftOut(still, torch.ones(4), draws), LeftOut(still, torch.ones(4), 0.5 * draws)
    error = float(draws.std()) / 200**0.5
    assert error_of(one) == pytest.approx(error)
    assert error_of(combined([one, half], [1, -1])) == pytest.approx(0.5 * error)
    unknown = LeftOut(still, torch.ones(4), draws_variance=error**2)
    assert error_of(combined([one, unknown], [1, -1])) == pytest.approx(2**0.5 * error)


def test_noise_of_the_draws_is_not_counted_as_variation_of_the_data() -> None:
    """Two halves of the draws that do not agree about what leaving out a part does: no variance over the data."""
    values = torch.tensor([[1.0, 1.0], [0.9, 1.1], [1.1, 0.9], [0.9, 1.1], [1.1, 0.9]], dtype=torch.float64)
    assert error_of(LeftOut(values, torch.ones(4))) == 0.0
    assert error_of(LeftOut(values[:, :1], torch.ones(4))) > 0.1


def test_values_of_parts_of_a_mean_are_the_means_of_the_groups() -> None:
    x = torch.randn(40, generator=stream(0, "x"), dtype=torch.float64)
    part = GROUPS
    sizes = torch.bincount(part)
    without = (x.sum() - torch.bincount(part, x)) / (40 - sizes)
    found = values_of_parts(LeftOut(torch.cat([x.mean()[None], without])[:, None], sizes))
    np.testing.assert_allclose(found, torch.bincount(part, x) / sizes)


def test_numbers_of_other_parts_do_not_pair() -> None:
    with pytest.raises(BadInput, match="over 3 and 4 parts"):
        combined([LeftOut(torch.ones(5, 1), torch.ones(4)), LeftOut(torch.ones(4, 1), torch.ones(3))], [1, -1])


def test_nothing_is_kept_outside_and_where_errors_are_not_wanted() -> None:
    with keeping() as found:
        pass
    get("participation_ratio")(layer(0))
    with keeping() as unwanted, values_alone():
        get("participation_ratio")(layer(0))
    assert not found
    assert not unwanted
