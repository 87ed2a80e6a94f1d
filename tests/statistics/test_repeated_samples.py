"""Samples that stand in the data several times: values with groups, notes without, measures that leave copies out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import geomfeat as gf
from geomfeat import geometry
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import NoVariance
from geomfeat.geometry.rsa import rsa_estimates
from geomfeat.geometry.similarity import cka, cka_matrix, hsic, one_hot, target_alignment
from geomfeat.registry import get
from geomfeat.statistics.group_errors import values_alone
from geomfeat.statistics.repeated_samples import repeats_once, without_copies
from geomfeat.study.cka_rows import cka_cells
from geomfeat.types import Kernel, Representation
from tests.geometry.clouds import normal

# Measures of layers, or of two, that take samples for independent draws.
OF_PAIRS = ["cka_linear_unbiased", "cka_rbf_unbiased", "rsa_squared_euclidean", "rsa_correlation_distance"]
OF_LAYERS = ["label_alignment_unbiased", "participation_ratio_corrected"]
OF_NEIGHBOURS = ["mutual_knn", "neighbour_jaccard"]
COPIED = "60 of 120 samples are copies of"


def layers(n: int = 60) -> tuple[Representation, Representation]:
    labels = torch.arange(n) % 3
    return Representation(normal(n, 30), labels), Representation(normal(n, 20, seed=1), labels)


def doubled(rep: Representation, grouped: bool) -> Representation:
    twice = rep.take(torch.arange(rep.n).repeat(2))
    return replace(twice, groups=torch.arange(rep.n).repeat(2)) if grouped else twice


def measured(name: str, a: Representation, b: Representation) -> dict[str, gf.Estimate]:
    return get(name).run(a) if name in OF_LAYERS else get(name).run(a, b)


@pytest.mark.parametrize("name", OF_PAIRS + OF_LAYERS)
def test_repeats_in_one_group_count_once(name: str) -> None:
    a, b = layers()
    once, twice = measured(name, a, b), measured(name, doubled(a, True), doubled(b, True))
    for quantity, estimate in once.items():
        assert not estimate.note
        assert twice[quantity].value == pytest.approx(estimate.value, rel=1e-9, abs=1e-12)
        assert f"{COPIED} another one in their group, and left out" in twice[quantity].note
        assert twice[quantity].stderr is not None


@pytest.mark.parametrize("name", OF_PAIRS + OF_LAYERS)
def test_copies_without_groups_keep_the_definition_and_are_noted(name: str) -> None:
    a, b = (doubled(rep, False) for rep in layers())
    with values_alone():
        plain = measured(name, a, b)
    for quantity, estimate in measured(name, a, b).items():
        assert estimate.value == plain[quantity].value
        assert f"{COPIED} others, which the estimate takes for independent draws" in estimate.note
        assert "groups=" in estimate.note


@pytest.mark.parametrize("name", OF_NEIGHBOURS)
@pytest.mark.parametrize("grouped", [False, True])
def test_neighbours_are_among_different_samples(name: str, grouped: bool) -> None:
    a, b = layers()
    once, twice = measured(name, a, b)[name], measured(name, doubled(a, grouped), doubled(b, grouped))[name]
    assert twice.value == pytest.approx(once.value, rel=1e-12)
    assert f"{COPIED} others, and left out" in twice.note
    assert "copies" not in once.note


def test_copies_have_no_neighbours_of_their_own() -> None:
    a, b = layers()
    once = geometry.mutual_knn(a, b, k=5)
    rows = torch.cat([torch.arange(60), torch.tensor([3, 8, 3])])
    again = geometry.mutual_knn(a.take(rows), b.take(rows), k=5)
    assert (again.value, again.stderr) == (once.value, once.stderr)
    assert "3 of 63 samples are copies" in again.note


def test_few_different_samples_have_few_neighbours() -> None:
    x = normal(4, 3).repeat(5, 1)
    with pytest.raises(BadInput, match="4 different of 20 samples: 5 neighbours need at least 6"):
        geometry.mutual_knn(x, 2 * x, k=5)
    with pytest.raises(NoVariance, match="all 20 samples are copies"):
        geometry.mutual_knn(torch.ones(20, 2), torch.ones(20, 3), k=5)


def test_independent_layers_are_not_alike_for_being_there_twice() -> None:
    a, b = layers()
    apart = cka(a, b)
    assert abs(apart) < 0.1
    assert cka(doubled(a, False), doubled(b, False)) > apart + 0.1
    assert cka(doubled(a, True), doubled(b, True)) == pytest.approx(apart, abs=1e-12)
    assert hsic(doubled(a, True), doubled(b, True)) == pytest.approx(hsic(a, b), abs=1e-12)


def test_equal_rows_of_one_layer_alone_are_no_copies() -> None:
    a, b = layers()
    dead = Representation(torch.cat([normal(5, 3), torch.zeros(55, 3)]))
    assert not cka(a, dead).note
    assert not cka(one_hot(torch.arange(60) % 3), b).note
    assert not get("label_alignment_unbiased").run(a)["label_alignment_unbiased"].note


def test_rounding_makes_no_new_sample_and_another_group_does() -> None:
    a, b = layers()
    again = torch.nextafter(a.x.float(), torch.tensor(torch.inf))
    groups = torch.cat([torch.arange(60), torch.arange(60) + 1000 * (torch.arange(60) < 7)])
    left = Representation(torch.cat([a.x.float(), again]), groups=groups)
    right = torch.cat([b.x, b.x])
    (first, second), note = repeats_once(left, right)
    assert first.n == second.n == 67
    assert "53 of 120 samples are copies of another one in their group" in note
    assert "7 of 67 samples are copies of others, which" in note
    assert "give them one group" in note


@pytest.mark.parametrize("twice", [True, False])
def test_kernels_hold_copies_where_their_rows_are_equal(twice: bool) -> None:
    x, y = normal(30, 8), torch.arange(30) % 3
    rows = torch.arange(30).repeat(2) if twice else torch.arange(30)
    found = target_alignment(Kernel(x[rows] @ x[rows].T), y[rows])
    assert ("30 of 60 samples are copies" in found.note) == twice
    gram, grouped = Kernel(x[rows] @ x[rows].T), Representation(one_hot(y[rows]), groups=rows)
    assert cka(gram, grouped) == pytest.approx(cka(Kernel(x @ x.T), one_hot(y)), abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_a_matrix_notes_copies_once_and_counts_those_of_a_group_once(kernel: str) -> None:
    a, b = layers()
    once = cka_matrix([a, b], kernel=kernel, stderr=True)
    plain = cka_matrix([doubled(a, False), doubled(b, False)], kernel=kernel)
    grouped = cka_matrix([doubled(a, True), doubled(b, True)], kernel=kernel, stderr=True)
    assert once.note == ""
    assert not plain.notes
    assert COPIED in plain.note
    assert str(plain).count(COPIED) == 1
    assert torch.allclose(grouped.values, once.values, atol=1e-9)
    assert grouped.stderr is not None
    assert once.stderr is not None
    assert torch.allclose(grouped.stderr, once.stderr, atol=1e-9)
    assert not cka_matrix([doubled(a, False), doubled(b, False)], estimator="biased").note


def test_intervals_say_that_halves_hold_copies_and_take_groups_once() -> None:
    a, b = layers()
    once = gf.similarity_interval(a, b, "cka_linear_unbiased", n_bootstrap=60)
    plain = gf.similarity_interval(doubled(a, False), doubled(b, False), "cka_linear_biased", n_bootstrap=20)
    grouped = gf.similarity_interval(doubled(a, True), doubled(b, True), "cka_linear_unbiased", n_bootstrap=60)
    assert not once.note
    assert once.low < 0 < once.high
    assert f"{COPIED} others, which the halves take for independent draws" in plain.note
    assert grouped.value == pytest.approx(once.value, abs=1e-12)
    assert (grouped.low, grouped.high) == (pytest.approx(once.low, abs=1e-9), pytest.approx(once.high, abs=1e-9))
    assert "left out" in grouped.note
    assert grouped.n_groups == 60


def test_shared_gram_matrices_leave_copies_to_the_measure() -> None:
    a, b = (doubled(rep, False) for rep in layers())
    one = {("trained", "a"): a, ("trained", "b"): b}
    [(_, cells)] = cka_cells(one, [tuple(one)], ["unbiased", "biased"])  # type: ignore[list-item]
    assert cells["unbiased"] is None
    assert cells["biased"] is not None
    other = {("trained", "a"): a, ("trained", "b"): b.with_(x=normal(120, 20, seed=4))}
    [(_, cells)] = cka_cells(other, [tuple(other)], ["unbiased"])  # type: ignore[list-item]
    assert cells["unbiased"] is not None


def test_a_study_notes_copies() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 5), torch.nn.Tanh())
    x = normal(20, 6).float().repeat(2, 1)
    table = gf.analyze(
        net, x, torch.arange(20).repeat(2) % 2, measures=["cka_linear_unbiased", "label_alignment_unbiased"],
        progress=False,
    ).table  # fmt: skip
    notes = table.loc[table["measure"] == "label_alignment_unbiased", "note"].tolist()
    assert notes
    assert all("20 of 40 samples are copies of others" in note for note in notes)


@pytest.mark.parametrize("grouped", [True, False])
def test_a_comparison_notes_copies_once(grouped: bool) -> None:
    a, b = (doubled(rep, grouped) for rep in layers())
    found = gf.compare({"a": {"x": a}, "b": {"y": b}}, measures=["stable_rank"], progress=False)
    said = [note for note in found.settings["notes"] if COPIED in note]
    assert len(said) == 1
    assert ("one in their group" in said[0]) == grouped
    if grouped:
        assert found.similarity[0, 1] == pytest.approx(cka(*layers()), abs=1e-6)


def test_copies_are_left_out_of_all_sides_alike() -> None:
    x = normal(5, 2)[[0, 1, 0, 2, 1]]
    (a, k), note = without_copies(x, Kernel(x @ x.T))
    assert a.n == k.n == 3
    assert note == "2 of 5 samples are copies of others, and left out"
    # Products of matrices of other sizes may be summed in another order.
    torch.testing.assert_close(k.gram, a.x @ a.x.T, rtol=1e-14, atol=1e-14)
    given: list[Tensor] = [normal(4, 2), normal(5, 2)]
    assert without_copies(*given)[1] == repeats_once(*given)[1] == ""


def test_rsa_without_copies_has_no_note() -> None:
    a, b = layers()
    assert not any(estimate.note for estimate in rsa_estimates(a, b).values())
