"""Intrinsic dimensions as registered measures."""

from __future__ import annotations

import pytest
import torch

from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal

SCALES = ["dimension_2", "dimension_4", "dimension_8", "dimension_16", "dimension_32"]


@pytest.mark.parametrize("method", ["mle", "linear"])
def test_two_nn_of_a_plane_reads_two(method: str):
    found = get("two_nn").run(Representation(normal(800, 2) @ normal(2, 40, seed=1)), method=method)["two_nn"]
    assert abs(found.value - 2) < 4 * found.stderr
    assert found.note == ""


def test_two_nn_notes_copies():
    rep = Representation(normal(50, 3))
    twice = get("two_nn").run(rep.take(torch.arange(50).repeat(2)))["two_nn"]
    assert twice.value == get("two_nn").run(rep)["two_nn"].value
    assert "50 copies" in twice.note


def test_mle_of_a_plane_reads_two():
    flat = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = get("mle_dimension").run(Representation(flat @ normal(2, 30, seed=1)), k=8)["mle_dimension"]
    assert abs(found.value - 2) < 4 * found.stderr


def test_mle_notes_copies_and_fails_for_too_many_neighbours():
    rep = Representation(normal(30, 3).repeat(2, 1))
    assert "30 copies" in get("mle_dimension").run(rep)["mle_dimension"].note
    assert "needs at least 41" in get("mle_dimension").run(rep, k=40)["mle_dimension"].note


def test_gride_of_a_plane_reads_two_at_every_scale():
    flat = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = get("gride").run(Representation(flat @ normal(2, 30, seed=1)))
    assert list(found) == SCALES
    # Edges of the square take away up to a tenth of a dimension at 32 of 1000 neighbours.
    assert all(abs(e.value - 2) < 4 * e.stderr + 0.1 for e in found.values())


def test_gride_fails_scales_beyond_the_samples():
    found = get("gride").run(Representation(normal(20, 3).repeat(2, 1)))
    assert [found[s].ok for s in SCALES] == [True, True, True, True, False]
    assert "20 different samples have no 32 neighbours" in found["dimension_32"].note
    assert "20 copies" in found["dimension_2"].note


def test_gride_of_a_lattice_fails_where_all_distances_are_equal():
    angle = torch.arange(60, dtype=torch.float64) * 2 * torch.pi / 60
    found = get("gride").run(Representation(torch.stack([angle.cos(), angle.sin()], 1)))
    assert not found["dimension_2"].ok
    assert found["dimension_16"].ok


def test_correlation_dimension_of_a_plane_reads_two():
    flat = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = get("correlation_dimension").run(Representation(flat @ normal(2, 30, seed=1)), k=(4, 8))
    assert abs(found["correlation_dimension"].value - 2) < 4 * found["correlation_dimension"].stderr


def test_correlation_dimension_of_equal_distances_fails():
    found = get("correlation_dimension").run(Representation(torch.eye(40)))["correlation_dimension"]
    assert not found.ok
    assert "one median distance" in found.note
