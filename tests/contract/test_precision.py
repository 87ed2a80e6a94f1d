"""What the precision and the mean of the data may change in a measure: nothing but digits that they do not have."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from geomfeat.numerics import WORKING, stream
from geomfeat.registry import Measure
from geomfeat.types import Estimate, Representation
from tests.contract.test_measures import MEASURES, arguments, example, result

# Cones go through the origin, so that their span is decided by other code, on points that are not centred.
SPREADS = [m for m in MEASURES if "capacity" not in m.name]
SHIFTED = [m for m in SPREADS if "shift" in m.invariant_to]
# Ranks of equal dissimilarities: copies that were rounded apart are tied no more.
RANKED = {"rsa_correlation_distance", "rsa_squared_euclidean"}

Change = Callable[[Representation], Representation]


def again(rep: Representation, x: torch.Tensor) -> Representation:
    """The features x as somebody hands them over, who knows nothing of where they came from."""
    return Representation(x, rep.labels, rep.layer, outputs=rep.outputs)


def in_few_directions(rep: Representation) -> Representation:
    """Three directions of 30 units, as behind a bottleneck."""
    code = torch.randn(3, 30, generator=stream(2, "bottleneck"), dtype=WORKING)
    return again(rep, rep.x[:, :3] @ code)


def on_a_grid(rep: Representation, step: float) -> Representation:
    return again(rep, (rep.x / step).round() * step)


def assert_alike(m: Measure, reps: list[Representation], change: Change, tolerance: float) -> None:
    """Every number, and its error, within a relative tolerance; what fails, fails both times."""
    before, after = result(m, *reps), result(m, *[change(rep) for rep in reps])
    for name in before:
        one, two = before[name], after[name]
        assert one.ok == two.ok, (name, one, two)
        if not one.ok:
            continue
        assert two.value == pytest.approx(one.value, rel=tolerance, abs=1e-2 * tolerance), name
        assert_errors_alike(one, two, tolerance)


def assert_errors_alike(one: Estimate, two: Estimate, tolerance: float) -> None:
    assert (one.stderr is None) == (two.stderr is None)
    if one.stderr is not None and two.stderr is not None:
        assert math.isclose(one.stderr, two.stderr, rel_tol=20 * tolerance, abs_tol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("m", SPREADS, ids=str)
def test_rounding_of_a_bottleneck_makes_no_directions(m: Measure, dtype: torch.dtype, tolerance: float) -> None:
    reps = [in_few_directions(rep) for rep in arguments(m, example(3))]
    assert_alike(m, reps, lambda rep: again(rep, rep.x.to(dtype)), tolerance)


@pytest.mark.parametrize("m", SPREADS, ids=str)
def test_widening_adds_no_digits(m: Measure) -> None:
    single = [again(rep, in_few_directions(rep).x.float()) for rep in arguments(m, example(3))]
    assert_alike(m, single, lambda rep: again(rep, rep.x.double()), 1e-6)
    assert_alike(m, single, lambda rep: rep.with_(x=rep.x.double() * 1.5), 1e-4 if "scale" in m.invariant_to else 9.0)


@pytest.mark.parametrize(("step", "offset"), [(2.0**-12, 2.0**22), (2.0**-6, 2.0**16)])
@pytest.mark.parametrize("m", SHIFTED, ids=str)
def test_a_mean_far_above_the_spread_costs_only_the_digits_it_takes(m: Measure, step: float, offset: float) -> None:
    reps = [on_a_grid(rep, step) for rep in arguments(m, example(3))]
    assert_alike(m, reps, lambda rep: again(rep, rep.x + offset), 1e-6)


@pytest.mark.parametrize("m", SHIFTED, ids=str)
def test_a_large_mean_in_single_precision_is_no_constant(m: Measure) -> None:
    reps = [on_a_grid(rep, 2.0**-10) for rep in arguments(m, example(3))]
    assert_alike(m, reps, lambda rep: again(rep, (rep.x + 2.0**11).float()), 1e-3)


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_whole_numbers_are_exact(m: Measure) -> None:
    reps = [on_a_grid(rep.with_(x=1000 * rep.x), 1.0) for rep in arguments(m, example(3))]
    assert_alike(m, reps, lambda rep: again(rep, rep.x.long()), 1e-12)
    if m in SHIFTED:
        assert_alike(m, reps, lambda rep: again(rep, rep.x.long() + 2**40), 1e-6)


@pytest.mark.parametrize("m", [m for m in SPREADS if m.name not in RANKED], ids=str)
def test_copies_that_were_rounded_apart_are_copies(m: Measure) -> None:
    rows = torch.cat([torch.arange(48), torch.arange(12)])
    reps = [again(rep, rep.x.float()).take(rows) for rep in arguments(m, example(3))]

    def rounded_apart(rep: Representation) -> Representation:
        steps = torch.randint(-1, 2, (12, rep.d), generator=stream(3, "last digits"))
        return again(rep, torch.cat([rep.x[:48], rep.x[48:] * (1 + 6e-8 * steps)]))

    # Order among equally near samples is arbitrary, which the errors of shares of neighbours see.
    assert_alike(m, reps, rounded_apart, 1e-2 if "neighbour" in m.name or "knn" in m.name else 1e-4)


@pytest.mark.parametrize("m", SHIFTED, ids=str)
def test_a_unit_that_is_constant_up_to_rounding_says_nothing(m: Measure) -> None:
    """A large constant unit with noise in its last digit, beside units in the ordinary range."""
    reps = [again(rep, torch.nn.functional.pad(rep.x.float(), (0, 1), value=1000)) for rep in arguments(m, example(3))]

    def with_noise(rep: Representation) -> Representation:
        last = torch.randint(0, 2, (rep.n, 1), generator=stream(3, "constant")) * 2.0**-23
        return again(rep, torch.cat([rep.x[:, :-1], 1000 * (1 + last)], 1))

    assert_alike(m, reps, with_noise, 1e-4)
