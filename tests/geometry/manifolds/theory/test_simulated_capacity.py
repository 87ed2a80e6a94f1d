"""Simulated capacity against counting, exact curves, and a linear programme at every dimension."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import simulated_capacity
from geomfeat.geometry.manifolds.theory import _simulated_capacity as module
from geomfeat.numerics import WORKING
from tests.geometry.clouds import normal, segments, signs, simplices, spheres
from tests.reference import separability as reference


def shares_agree(found: module.SimulatedCapacity, expected: list[float]) -> bool:
    """Every share within 4 binomial standard errors of the exact one, or two trials where hardly any is expected."""
    p = torch.tensor(expected, dtype=WORKING)
    spread = (p * (1 - p) / found.n_trials).sqrt()
    return bool(((found.shares - p).abs() <= torch.maximum(4 * spread, 2.001 / p.new_tensor(found.n_trials))).all())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", ["clouds", "rounded", "correlated"])
def test_critical_dimensions_equal_a_linear_programme_at_every_dimension(case: str, bias: bool):
    for seed in range(6):
        x = normal(12, 5, seed=seed)
        x = x.round() if case == "rounded" else x + 2 * normal(1, 5, seed=9) if case == "correlated" else x
        x, sign = x[(x != 0).any(1)].numpy(), signs(4, seed=seed).numpy().repeat(3)[: int((x != 0).any(1).sum())]
        noise = normal(5, 5, seed=seed + 100).numpy()
        expected = reference.critical_dimension(x, sign, noise, bias)
        if math.isfinite(expected):  # else the trial never gets here
            assert {module._critical(x, sign, noise, guess, bias) for guess in range(6)} == {expected}


@pytest.mark.parametrize("n_manifolds", [1, 2, 9])
def test_independent_points_follow_cover(n_manifolds: int, device: str):
    found = simulated_capacity(normal(n_manifolds, 1, 12).to(device), n_trials=300)
    assert shares_agree(found, [reference.cover(n_manifolds, n) for n in range(n_manifolds + 1)])
    assert abs(found.capacity - 2) < 4 * found.capacity_se
    assert found.frac_nonseparable == found.n_undecided == 0


def test_a_bias_is_worth_one_dimension():
    found = simulated_capacity(normal(9, 1, 12), n_trials=300, bias=True)
    assert shares_agree(found, [reference.cover(9, n + 1) for n in range(9)])
    assert abs(found.capacity - 9 / 3.5) < 4 * found.capacity_se
    assert found.rank == 8


def test_more_points_than_dimensions_are_never_separable_by_cover_s_share():
    found = simulated_capacity(normal(12, 1, 7), n_trials=300)
    assert shares_agree(found, [reference.cover(12, n) for n in range(8)])
    never = 1 - reference.cover(12, 7)
    assert abs(found.frac_nonseparable - never) < 4 * math.sqrt(never * (1 - never) / 300)
    assert int(found.critical.isinf().sum()) == round(300 * found.frac_nonseparable)


@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_orthogonal_segments_follow_the_exact_curve(radius: float):
    found, expected = simulated_capacity(segments(6, radius), n_trials=300), reference.segment_shares(6, radius)
    assert shares_agree(found, expected.tolist())
    assert abs(found.capacity - 6 / reference.half_crossing(expected)) < 4 * found.capacity_se


@pytest.mark.parametrize("dichotomies", ["random", "one-vs-rest"])
def test_orthogonal_simplices_have_two_over_m(dichotomies: str):
    found = simulated_capacity(simplices(4, 3), n_trials=300, dichotomies=dichotomies)
    assert shares_agree(found, [reference.cover(12, n) for n in range(13)])
    assert abs(found.capacity - 2 / 3) < 4 * found.capacity_se


def test_the_error_is_the_spread_over_seeds():
    x = spheres(6, 3, 15, 0.7, 3)
    found = [simulated_capacity(x, n_trials=40, seed=seed) for seed in range(24)]
    value, error = (torch.tensor([getattr(f, name) for f in found]) for name in ("capacity", "capacity_se"))
    assert 0.6 < float(value.std() / error.mean()) < 1.6


def test_nothing_depends_on_rotation_scale_order_copies_and_with_a_bias_on_the_origin():
    x, labels = normal(20, 8).reshape(20, 8) + 0.3, torch.arange(20) % 5
    turn, order = torch.linalg.qr(normal(8, 8, seed=3))[0], torch.randperm(20, generator=torch.Generator())
    for bias in (False, True):
        plain = simulated_capacity(x, labels, n_trials=30, bias=bias)
        moved = 1e-3 * (x @ turn + (5.0 if bias else 0.0))
        for other, names in ((moved, labels), (x[order], labels[order]), (x.repeat(2, 1), labels.repeat(2))):
            again = simulated_capacity(other, names, n_trials=30, bias=bias)
            assert torch.equal(plain.critical, again.critical)
    shifted = simulated_capacity(x + 5.0, labels, n_trials=30)
    assert not torch.equal(shifted.critical, simulated_capacity(x, labels, n_trials=30).critical)


def test_mostly_inseparable_classes_have_no_number_but_a_bound():
    found = simulated_capacity(torch.cat([normal(4, 3, 5), -normal(4, 3, 5)], 1))
    assert math.isnan(found.capacity)
    assert found.n_half == math.inf
    assert found.frac_nonseparable == 1
    assert "at most P / rank = 0.8" in found.notes[0]


def test_degenerate_points():
    with_zero = torch.cat([normal(4, 2, 9), torch.zeros(4, 1, 9)], 1)
    assert torch.equal(simulated_capacity(with_zero).critical, simulated_capacity(normal(4, 2, 9)).critical)
    with pytest.raises(BadInput, match="origin"):
        simulated_capacity(torch.zeros(3, 2, 4))
    equal = simulated_capacity(torch.full((3, 2, 4), 0.1), bias=True)  # separable if all three labels agree
    assert equal.rank == 0
    assert abs(equal.frac_nonseparable - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 100)
    constant = simulated_capacity(normal(3, 1, 5), bias=True, n_trials=10, dichotomies=torch.ones(10, 3))
    assert constant.n_half <= 0
    assert math.isnan(constant.capacity)
    assert "the bias alone" in constant.notes[0]


def test_undecided_trials_are_counted_and_left_out(monkeypatch: pytest.MonkeyPatch):
    x = spheres(5, 4, 15, 0.7, 3)
    honest = simulated_capacity(x, n_trials=40)
    calls = iter(range(10**6))
    decide = module.separates
    monkeypatch.setattr(module, "separates", lambda rows: None if next(calls) % 20 == 0 else decide(rows))
    found = simulated_capacity(x, n_trials=40)
    assert 0 < found.n_undecided == int(found.critical.isnan().sum()) < 40
    known = ~found.critical.isnan()
    assert torch.equal(found.critical[known], honest.critical[known])
    assert f"{found.n_undecided} of 40 trials not decided" in found.notes[0]
    monkeypatch.setattr(module, "separates", lambda rows: None)
    with pytest.raises(ArithmeticError, match="none of 40"):
        simulated_capacity(x, n_trials=40)


def test_options_that_do_not_fit_are_refused():
    x = normal(4, 2, 6)
    with pytest.raises(BadInput, match="n_trials=1"):
        simulated_capacity(x, n_trials=1)
    with pytest.raises(BadInput, match="need \\(m, 4\\)"):
        simulated_capacity(x, n_trials=20, dichotomies=np.ones((10, 5)))
    given = simulated_capacity(x, n_trials=20, dichotomies=signs(10, 4))
    assert given.dichotomies == "given"
