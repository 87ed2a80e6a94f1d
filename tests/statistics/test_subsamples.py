"""Samples are drawn only where there are too many, the same ones in every layer, and the note says so."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.registry import available, get
from geomfeat.statistics.subsamples import at_most, at_most_per_class
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def layer(n: int, classes: int = 3, seed: int = 0) -> Representation:
    labels = torch.arange(n) % classes
    return Representation(normal(n, 4, seed=seed) + labels[:, None], labels, groups=torch.arange(n) // 2)


def test_few_samples_are_left_as_they_are():
    rep = layer(30)
    for most in (30, None):
        some, note = at_most(rep, most)
        assert some is rep
        assert note == ""
    assert at_most_per_class(rep, 10)[0] is rep
    assert at_most_per_class(Representation(torch.eye(5)), 2)[0].n == 5


def test_layers_of_the_same_samples_keep_the_same_ones_with_all_that_belongs_to_them():
    one, other = layer(40), layer(40, seed=1)
    (a, note), (b, _) = at_most(one, 12, seed=3), at_most(other, 12, seed=3)
    assert note == "12 of 40 samples, drawn with seed 3 (most=None takes all)"
    rows = torch.tensor([int((one.x == x).all(1).nonzero()) for x in a.x])
    assert torch.equal(other.x[rows], b.x)
    assert rows.tolist() == sorted(set(rows.tolist()))
    for part in ("labels", "groups"):
        assert torch.equal(getattr(one, part)[rows], getattr(a, part))
    assert not torch.equal(at_most(one, 12, seed=4)[0].x, a.x)


def test_classes_are_cut_to_one_size_and_small_ones_are_whole():
    labels = torch.tensor([0] * 50 + [1] * 7 + [2] * 20)
    some, note = at_most_per_class(Representation(normal(77, 4), labels), 10)
    assert torch.bincount(some.labels).tolist() == [10, 7, 10]
    assert note == "at most 10 of each class, 27 of 77 samples, drawn with seed 0 (most_per_class=None takes all)"


def test_classes_keep_their_shares_and_rare_ones_enough_to_be_held_out():
    labels = torch.tensor([0] * 6000 + [1] * 3000 + [2] * 992 + [3] * 8)
    rep = Representation(normal(10_000, 2), labels)
    some, note = at_most(rep, 1000, keep_classes=True)
    assert torch.bincount(some.labels).tolist() == [600, 300, 99, 8]
    assert note.startswith("1007 of 10000 samples")
    runs = Representation(rep.x, labels, groups=torch.arange(10_000) // 4)
    assert torch.bincount(at_most(runs, 20, keep_classes=True)[0].labels).tolist() == [40, 40, 40, 8]


def test_a_probe_of_many_samples_can_still_hold_out_a_rare_class():
    labels = torch.tensor([0] * 400 + [1] * 5)
    found = get("linear_probe_accuracy").run(Representation(normal(405, 2) + labels[:, None], labels), most=40)
    assert found["linear_probe_accuracy"].ok


def test_every_sample_is_drawn_as_often_as_any_other():
    counts = torch.zeros(10)
    for seed in range(400):
        counts[at_most(Representation(torch.eye(10)), 3, seed=seed)[0].x.argmax(1)] += 1
    # Each is binomial(400, .3), of standard deviation 9.2.
    assert (counts - 120).abs().max() < 4 * 9.2


def test_fewer_than_two_are_refused():
    with pytest.raises(BadInput, match="most=1: at least 2"):
        at_most(layer(6), 1)
    with pytest.raises(BadInput, match="most_per_class=0: at least 2"):
        get("capacity")(layer(6), most_per_class=0)


LIMITED = {
    m.name: "most" if m.most is not None else "most_per_class" for m in available("layer") if m.most or m.most_per_class
}


@pytest.mark.parametrize("name", LIMITED)
def test_measures_take_some_and_say_so_and_all_when_asked_to(name):
    rep, key, measure = layer(90), LIMITED[name], get(name)
    limit = {key: 50 if key == "most" else 20}
    found = measure.run(rep, **limit)
    some, note = measure.sampled(rep, **limit)
    assert some.n < rep.n
    alone, whole = measure.run(some), measure.run(rep, **{key: None})
    for quantity, estimate in found.items():
        assert estimate.value == pytest.approx(alone[quantity].value, nan_ok=True)
        # Errors over groups are of the samples that were drawn: another draw without each group would add its own.
        assert estimate.stderr == (None if alone[quantity].stderr is None else pytest.approx(alone[quantity].stderr))
        assert estimate.note == "; ".join(filter(None, (alone[quantity].note, note)))
        assert "drawn with" not in whole[quantity].note
    assert measure.options[key] == getattr(measure, key)
    assert note


def test_many_measures_have_a_limit():
    assert {"two_nn", "gride", "linear_probe_accuracy", "capacity", "capacity_shuffled", "capacity_noise"} <= set(
        LIMITED
    )
