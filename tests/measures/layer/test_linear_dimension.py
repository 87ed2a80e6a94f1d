"""Numbers of the spectrum as registered measures: known answers, with errors."""

from __future__ import annotations

import pytest
import torch

from geomfeat import geometry
from geomfeat.errors import BadInput
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal

PLAIN = ("effective_rank", "participation_ratio", "stable_rank")


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("d", [1, 2, 7])
def test_even_variance_in_d_directions_reads_d(name: str, d: int):
    cross = torch.cat([torch.eye(d), -torch.eye(d)]).double() @ torch.linalg.qr(normal(9, 9))[0][:d]
    assert get(name).run(Representation(3 * cross + 1))[name].value == pytest.approx(d, rel=1e-9)


@pytest.mark.parametrize("name", PLAIN)
def test_error_covers_a_second_sample(name: str):
    a, b = (get(name).run(Representation(normal(300, 10, seed=s)))[name] for s in (0, 1))
    assert 0 < a.stderr < 0.5
    assert abs(a.value - b.value) < 4 * (a.stderr**2 + b.stderr**2) ** 0.5


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("grouped", [False, True])
def test_the_function_and_the_measure_give_the_same(name: str, grouped: bool):
    rep = Representation(normal(40, 60), groups=torch.arange(40) // 4 if grouped else None)
    assert getattr(geometry, name)(rep) == get(name)(rep)


@pytest.mark.parametrize("estimator", ["wishart", "unbiased"])
def test_reads_the_population_within_its_error(estimator: str):
    found = get("participation_ratio_corrected").run(Representation(normal(60, 30)), estimator=estimator)
    found = found["participation_ratio_corrected"]
    assert abs(found.value - 30) < 4 * found.stderr
    assert found.stderr < 5
    assert get("participation_ratio").run(Representation(normal(60, 30)))["participation_ratio"].value < 23


def test_unknown_estimator_is_named_by_the_call_and_fails_the_row():
    rep = Representation(normal(20, 5))
    with pytest.raises(BadInput, match="estimator='jackknife'"):
        get("participation_ratio_corrected")(rep, estimator="jackknife")
    row = get("participation_ratio_corrected").run(rep, estimator="jackknife")["participation_ratio_corrected"]
    assert not row.ok
    assert "estimator='jackknife'" in row.note


def test_a_simplex_of_samples_has_no_finite_value():
    """Four samples with an even spectrum: what noise of any dimension would give."""
    corners = normal(4, 4).new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    row = get("participation_ratio_corrected").run(Representation(corners))["participation_ratio_corrected"]
    assert not row.ok
    assert "too few" in row.note


def test_components_of_an_exact_spectrum_are_counted():
    x = torch.diag(torch.tensor([80.0, 8.0, 5.0, 4.0, 2.0, 1.0], dtype=torch.float64).sqrt())
    found = get("pca_components").run(Representation(torch.cat([x, -x])))
    assert [int(e.value) for e in found.values()] == [1, 3, 4, 5]


def test_components_of_a_constant_layer_fail_with_a_reason():
    found = get("pca_components").run(Representation(torch.ones(5, 3)))
    assert all(not e.ok and "coincide" in e.note for e in found.values())


def test_exact_power_law_with_range_and_quality():
    x = torch.diag(torch.arange(1, 101, dtype=torch.float64) ** -0.75)
    found = get("power_law_exponent").run(Representation(torch.cat([x, -x])))
    assert found["exponent"].value == pytest.approx(1.5, abs=1e-9)
    assert found["r2"].value == pytest.approx(1.0)
    assert (found["first_rank"].value, found["last_rank"].value) == (5, 50)


def test_gaussian_samples_read_the_exponent_within_their_error():
    x = normal(2000, 100) * torch.arange(1, 101, dtype=torch.float64) ** -0.5
    found = get("power_law_exponent").run(Representation(x))
    assert abs(found["exponent"].value - 1.0) < 4 * found["exponent"].stderr + 0.05  # .05: bias of n = 20 d
    assert found["r2"].value > 0.98


def test_too_few_eigenvalues_fail_every_quantity():
    found = get("power_law_exponent").run(Representation(normal(30, 3)))
    assert all(not e.ok and "at least 5 ranks" in e.note for e in found.values())


def test_rankme_counts_the_mean_as_a_direction_of_its_own():
    # Centred singular values 1, 1, 1; with the mean, a fourth one of 1.
    ball = torch.cat([torch.eye(3), -torch.eye(3)]).double() / 2**0.5
    found = get("rankme").run(Representation(torch.cat([ball, torch.full((6, 1), 6**-0.5)], 1)))
    assert found["centred"].value == pytest.approx(3, rel=1e-6)
    assert found["uncentred"].value == pytest.approx(4, rel=1e-6)


def test_rankme_of_a_dead_layer_fails_with_a_reason():
    found = get("rankme").run(Representation(torch.zeros(5, 3)))
    assert all(not e.ok and "zero" in e.note for e in found.values())
