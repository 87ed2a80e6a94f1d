"""A kernel over training: angle, velocity, alignment with the targets, and whether it aligns before the loss falls."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import kernel_angle, kernel_distance, linear_gram, one_hot, target_alignment
from geomfeat.numerics import stream
from geomfeat.tangent import kernel_velocity, silent_alignment_lag
from geomfeat.types import Kernel
from tests.reference.kernel_regression import angle_by_definition, first_time_by_search
from tests.reference.kernels import cka_by_definition, jackknife_by_loop


def draw(n: int, d: int, name: str) -> Tensor:
    return torch.randn(n, d, generator=stream(0, name), dtype=torch.float64)


def gram(name: str, n: int = 10) -> Tensor:
    return linear_gram(draw(n, 12, name))


def turned(angle: float) -> Tensor:
    """A kernel at this angle to the first of two orthogonal ones of one size."""
    first, second = torch.zeros(2, 8, 8, dtype=torch.float64)
    first[:4, :4], second[4:, 4:] = 1, 1
    return math.cos(angle) * first + math.sin(angle) * second


# --- angle ---


def test_the_angle_and_its_error_equal_the_definition(device: str) -> None:
    k, k0 = gram("k"), gram("k0")
    got = kernel_angle(Kernel(k.to(device)), k0.to(device))
    assert got.value == pytest.approx(angle_by_definition(k.numpy(), k0.numpy()), rel=1e-10)
    expected = jackknife_by_loop(
        lambda rows: angle_by_definition(k.numpy()[np.ix_(rows, rows)], k0.numpy()[np.ix_(rows, rows)]), 10
    )
    assert got.stderr == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 0.3, math.pi / 2, math.pi - 1e-6])
def test_known_angles_are_read_to_the_last_digits(angle: float) -> None:
    assert kernel_angle(5 * turned(angle), turned(0)).value == pytest.approx(angle, rel=1e-9, abs=1e-15)


def test_the_error_of_a_tiny_angle_is_resolved_too() -> None:
    # Both are proportional to the step, so their ratio is the same at every size.
    k0, step = gram("k0"), gram("step")
    large, small = (kernel_angle(k0 + size * step, k0) for size in (1e-4, 1e-9))
    assert large.stderr is not None
    assert small.stderr is not None
    assert small.stderr / small.value == pytest.approx(large.stderr / large.value, rel=1e-3)
    assert kernel_angle(k0, k0).stderr == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_angle_is_a_metric_of_directions(seed: int) -> None:
    a, b, c = (linear_gram(torch.randn(6, 3, generator=stream(seed, i), dtype=torch.float64)) for i in range(3))
    assert kernel_angle(a, b).value == pytest.approx(kernel_angle(b, 7 * a).value, rel=1e-10)
    assert kernel_angle(a, c).value <= kernel_angle(a, b).value + kernel_angle(b, c).value + 1e-12
    assert 0 <= kernel_angle(a, b).value <= math.pi / 2
    assert 1 - math.cos(kernel_angle(a, b).value) == pytest.approx(kernel_distance(a, b).value, rel=1e-9)


# --- velocity ---


def test_a_kernel_that_turns_evenly_has_constant_velocity() -> None:
    at = [0, 10, 20, 30]
    got = kernel_velocity([turned(0.03 * t) for t in at], at)
    assert got.at == (5, 15, 25)
    assert [v.value for v in got.angular_velocity] == pytest.approx([0.03] * 3, rel=1e-9)
    assert [v.value for v in got.velocity] == pytest.approx([(1 - math.cos(0.3)) / 10] * 3, rel=1e-9)


def test_a_kernel_that_turns_with_log_time_has_constant_velocity_per_log_time() -> None:
    at = [1, 4, 16, 20]
    got = kernel_velocity([turned(0.2 * math.log(t)) for t in at], at, per="log")
    assert got.at == pytest.approx([2, 8, 320**0.5])
    assert [v.value for v in got.angular_velocity] == pytest.approx([0.2] * 3, rel=1e-9)
    assert got.per == "log"


def test_only_the_angular_velocity_has_a_limit_for_dense_checkpoints() -> None:
    sparse, dense = (kernel_velocity([turned(0.1 * t) for t in at], at) for at in ([0, 1.0], [0, 0.01]))
    assert dense.angular_velocity[0].value == pytest.approx(sparse.angular_velocity[0].value, rel=1e-9)
    assert dense.velocity[0].value == pytest.approx(0.01 * sparse.velocity[0].value, rel=1e-2)


def test_velocities_and_their_errors_equal_the_definition() -> None:
    kernels, at = [gram("1"), gram("2"), gram("3")], np.array([1.0, 3, 4])
    got = kernel_velocity([Kernel(k) for k in kernels], at, per="log")
    for i, (old, new) in enumerate(itertools.pairwise(kernels)):
        length = math.log(at[i + 1] / at[i])
        for estimate, movement in ((got.velocity[i], kernel_distance), (got.angular_velocity[i], kernel_angle)):
            assert estimate.value == pytest.approx(movement(new, old).value / length)
            assert estimate.stderr == pytest.approx(movement(new, old).stderr / length)


def test_intervals_without_a_velocity_say_so_and_leave_the_others() -> None:
    got = kernel_velocity([turned(0), turned(0.1), turned(0.2)], [0, 1, 2], per="log")
    assert [v.ok for v in got.velocity] == [False, True]
    assert "no logarithm" in got.angular_velocity[0].note
    got = kernel_velocity([turned(0), turned(0.1), 0 * turned(0)], [0, 1, 2])
    assert [v.ok for v in got.velocity] == [True, False]
    assert "no direction" in got.velocity[1].note


def test_bad_series_of_kernels_are_refused() -> None:
    for kernels, at, per, message in [
        ([turned(0)] * 3, [0, 1], "step", "one for each"),
        ([turned(0)] * 2, [1, 1], "step", "increasing"),
        ([turned(0)] * 2, [-1, 1], "step", "increasing"),
        ([turned(0)], [1], "step", "two or more"),
        ([turned(0)] * 2, [0, 1], "epoch", "per must be"),
        ([turned(0), torch.eye(3)], [0, 1], "step", "same samples"),
    ]:
        with pytest.raises(BadInput, match=message):
            kernel_velocity(kernels, at, per=per)


# --- alignment with targets ---


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_target_alignment_equals_the_definition(estimator: str, device: str) -> None:
    labels, k = torch.arange(10) % 3, gram("k")
    expected = cka_by_definition(k.numpy(), linear_gram(one_hot(labels)).numpy(), estimator)
    got = target_alignment(Kernel(k.to(device)), labels, estimator=estimator)
    assert got.value == pytest.approx(expected, rel=1e-9)
    assert got.stderr is not None
    assert target_alignment(k, one_hot(labels), estimator=estimator).value == pytest.approx(expected, rel=1e-9)
    values = draw(10, 1, "values")
    assert target_alignment(k, values[:, 0]).value == target_alignment(k, values).value


def test_a_kernel_blind_to_the_labels_aligns_with_them_by_nothing() -> None:
    # Many features of few samples: the biased estimator reads the same independence as a large alignment.
    labels = torch.arange(20) % 4
    kernels = [linear_gram(draw(20, 50, f"independent {i}")) for i in range(200)]
    values = [target_alignment(kernel, labels).value for kernel in kernels]
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    assert target_alignment(kernels[0], labels, estimator="biased").value > 0.3


def test_a_full_tangent_kernel_is_refused_with_the_remedy() -> None:
    full = Kernel(gram("full", 8), meta={"outputs": "full", "n_outputs": 2})
    with pytest.raises(BadInput, match="trace"):
        target_alignment(full, torch.arange(4) % 2)


def test_targets_and_kernels_without_geometry_are_refused() -> None:
    with pytest.raises(BadInput, match="at least two classes"):
        target_alignment(gram("k"), torch.zeros(10, dtype=torch.long))
    with pytest.raises(BadInput, match="constant"):
        target_alignment(torch.ones(10, 10), torch.arange(10) % 2)
    with pytest.raises(BadInput, match="NaN"):
        target_alignment(gram("k"), torch.arange(10.0) / 0 * 0)


# --- silent alignment ---


def test_a_kernel_that_aligns_first_has_a_negative_lag() -> None:
    at = np.arange(0, 101.0)
    rise, fall = np.minimum(at / 20, 1), np.clip(1 - (at - 50) / 40, 0, 1)
    got = silent_alignment_lag(at, 0.8 * rise, 3 * fall)
    assert (got.alignment_time, got.loss_time, got.lag) == pytest.approx((18, 70, -52))
    assert got.log_ratio == pytest.approx(math.log(18 / 70))
    assert got.note == ""
    late = silent_alignment_lag(at, np.minimum(at / 100, 1), np.clip(1 - at / 20, 0, 1))
    assert (late.alignment_time, late.loss_time, late.lag) == pytest.approx((90, 10, 80))


def test_exponential_curves_give_their_known_times() -> None:
    at = np.linspace(0, 60, 6001)
    got = silent_alignment_lag(at, 1 - np.exp(-at), np.exp(-at / 4))
    assert got.alignment_time == pytest.approx(math.log(10), abs=1e-4)
    assert got.loss_time == pytest.approx(4 * math.log(2), abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_times_equal_a_search_along_the_curves(seed: int, unit: float) -> None:
    random = np.random.default_rng(seed)
    at = np.sort(random.choice(np.arange(1, 100), 8, replace=False)).astype(float)
    alignment, loss = np.r_[0, random.uniform(0.1, 1, 7)], np.r_[2, random.uniform(0, 2, 6), 0.5]
    got = silent_alignment_lag(at, alignment, loss)
    step = (at[-1] - at[0]) / 200_000
    assert got.alignment_time == pytest.approx(first_time_by_search(at, alignment, 0.9 * alignment[-1]), abs=2 * step)
    assert got.loss_time == pytest.approx(first_time_by_search(at, -loss, -1.0), abs=2 * step)
    scaled = silent_alignment_lag(unit * at, 3 * alignment, 5 * loss)
    assert scaled.lag == pytest.approx(unit * got.lag)
    assert scaled.log_ratio == pytest.approx(got.log_ratio)


def test_levels_never_reached_are_nan_with_a_note() -> None:
    got = silent_alignment_lag([0, 1, 2], [0, 0.5, 1], [1, 0.9, 0.8])
    assert got.alignment_time == pytest.approx(1.8)
    assert math.isnan(got.loss_time)
    assert math.isnan(got.lag)
    assert math.isnan(got.log_ratio)
    assert "never halves" in got.note
    got = silent_alignment_lag([0, 1, 2], [0.5, 0.5, 0.5], [1, 0.5, 0.2])
    assert got.loss_time == 1
    assert "from the start" in got.note
    assert "not positive" in silent_alignment_lag([0, 1], [0, -0.1], [1, 0]).note


def test_bad_series_are_refused() -> None:
    for alignment, message in [([0, 1], "alignment has shape"), ([0, float("nan"), 1], "NaN")]:
        with pytest.raises(BadInput, match=message):
            silent_alignment_lag([0, 1, 2], alignment, [3, 2, 1])
    with pytest.raises(BadInput, match="increasing"):
        silent_alignment_lag([0, 2, 1], [0, 1, 1], [3, 2, 1])
