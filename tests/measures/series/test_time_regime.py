"""The verdict over time on runs whose truth is known, against slow definitions, and what it says of bad input."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.measures.series.time_regime import time_regime
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from geomfeat.regimes.grokking import PolynomialTask, polynomial_grokking, transitions
from geomfeat.regimes.grokking.polynomial import _descend, _draw
from geomfeat.regimes.training.series import log_spaced_steps
from geomfeat.snapshots import SnapshotSeries
from geomfeat.types import Estimate, Snapshot
from tests.location.runs import LAZY_GAMMA, RICH_GAMMA, at_gamma, digits_series, grokking_series, parts
from tests.reference import time_regime as reference
from tests.reference.grokking import PolynomialNetwork

X = torch.randn(12, 3, generator=stream(0, "x"))
Y = torch.arange(12) % 2
FEW = 20  # probes where what is asserted does not depend on how many there are


def verdict(rows: dict[str, Estimate]) -> str:
    return rows["furthest_turn"].note.split(";")[0]


@cache
def rich() -> dict[str, Estimate]:
    """The run at a large output scale, which many tests look at."""
    return time_regime(digits_series(RICH_GAMMA))


def nets(n: int = 3) -> list[Snapshot]:
    return [Snapshot(mlp(3, (8,), 2, seed=i), 10 * i) for i in range(n)]


def test_small_output_scale_is_lazy_throughout() -> None:
    found = time_regime(digits_series(LAZY_GAMMA))
    assert verdict(found) == "lazy throughout"
    assert found["furthest_turn"].value < 0.05
    # A kernel that stays as it was has no time at which it aligned.
    assert [name for name, e in found.items() if not e.ok] == ["silent_log_ratio"]
    assert "from the start" in found["silent_log_ratio"].note


def test_large_output_scale_is_rich_from_the_start() -> None:
    found = rich()
    assert verdict(found) == "rich from the start"
    assert found["late_share"].value < 0.4
    assert found["turn_at_fit"].value > 0.2


def test_sums_from_a_large_start_with_decay_are_lazy_then_rich_and_grok() -> None:
    found = time_regime(grokking_series(), probes=48)
    assert verdict(found) == "lazy-then-rich, grokked"
    assert found["delay"].value > 3
    assert found["test_time"].value > found["fit_time"].value
    assert found["late_share"].value > 0.5
    assert found["delay"].value == pytest.approx(found["test_time"].value / found["fit_time"].value)


@pytest.mark.parametrize(("alpha", "truth"), [(0.25, "rich from the start"), (8.0, "lazy throughout")])
def test_polynomial_networks_are_read_as_their_own_closed_form_reads_them(alpha: float, truth: str) -> None:
    task = PolynomialTask(test_samples=200)
    run = polynomial_grokking((alpha,), (0,), steps=500, rate=5.0, task=task, per_decade=5)
    x, y, z, target, w = _draw(task, 0)
    steps = log_spaced_steps(500, 5)
    path = _descend(x[None], y[None], w[None], torch.tensor([alpha], dtype=w.dtype), task.eps, 5.0, steps)
    snapshots = [Snapshot(PolynomialNetwork(path[i, 0, :, 0], alpha, task.eps), step) for i, step in enumerate(steps)]
    found = time_regime(SnapshotSeries(snapshots, x, y[:, None], (z, target[:, None]), gamma=1.0), probes=150)
    expected = transitions(run.series[0, alpha])
    assert verdict(found) == truth == expected.verdict
    for name in ("fit_time", "test_time", "fastest_time", "turn_at_fit", "furthest_turn", "late_share"):
        there = getattr(expected, name)
        assert found[name].ok == math.isfinite(there), name
        assert not found[name].ok or found[name].value == pytest.approx(there, rel=1e-6), name


@pytest.mark.parametrize("centered", [True, False])
def test_numbers_are_those_of_the_slow_definitions(centered: bool) -> None:
    (x, y), (z, w) = parts()
    run = at_gamma(RICH_GAMMA)
    train, test = (x[:30], y[:30]), (z[:40], w[:40])
    steps = list(run.snapshots)
    expected = reference.numbers(list(run.snapshots.values()), steps, train, test, centered=centered)
    series = SnapshotSeries(run.snapshots_list, *train, test, "mse", RICH_GAMMA if centered else None)
    found = time_regime(series)
    for name, value in expected.items():
        assert found[name].ok == math.isfinite(value), (name, found[name])
        if math.isfinite(value):
            assert found[name].value == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_classes_do_not_depend_on_the_output_scale_only_on_the_start_being_taken_away() -> None:
    series = digits_series(RICH_GAMMA)
    one, other = (time_regime(replace(series, gamma=gamma), probes=FEW) for gamma in (RICH_GAMMA, 1.0))
    for name in ("fit_time", "test_time", "furthest_turn", "late_share"):
        assert one[name].value == pytest.approx(other[name].value, rel=1e-9)
    assert "over gamma = 1" in other["fit_time"].note


def test_without_test_samples_the_training_side_is_judged() -> None:
    whole, found = rich(), time_regime(digits_series(RICH_GAMMA, test=None))
    assert verdict(found) == verdict(whole)
    assert found["fit_time"].value == whole["fit_time"].value
    for name in ("test_time", "delay"):
        assert not found[name].ok
        assert "no test samples" in found[name].note
    assert "only the training side is judged" in found["late_share"].note


def test_without_the_loss_nothing_is_timed_against_it() -> None:
    found = time_regime(digits_series(RICH_GAMMA, loss=None), probes=FEW)
    assert not found["silent_log_ratio"].ok
    assert "loss" in found["silent_log_ratio"].note
    assert all(e.ok for name, e in found.items() if name != "silent_log_ratio")


def test_fewer_probes_are_reported() -> None:
    assert "kernel of 20 of 80 inputs" in time_regime(digits_series(RICH_GAMMA), probes=FEW)["late_share"].note


def test_a_run_that_was_cut_short_has_no_transition() -> None:
    series = digits_series(RICH_GAMMA)
    found = time_regime(replace(series, snapshots=series.snapshots[:4]))
    assert verdict(found) == "no transition"
    assert "train longer" in found["furthest_turn"].note
    for name in ("fit_time", "delay", "turn_at_fit", "late_share"):
        assert not found[name].ok
        assert "never fitted" in found[name].note, name


def test_copies_of_one_network_are_flagged() -> None:
    net = mlp(3, (8,), 2, seed=0)
    found = time_regime(SnapshotSeries([Snapshot(net, i) for i in (0, 5, 9)], X, Y))
    assert "copies of one network" in found["furthest_turn"].note
    assert found["furthest_turn"].value == 0
    assert not found["fastest_time"].ok


def test_a_diverged_run_is_judged_up_to_there() -> None:
    series = digits_series(RICH_GAMMA)
    broken = copy.deepcopy(series.snapshots[-1].model)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.inf)
    found = time_regime(replace(series, snapshots=[*series.snapshots, Snapshot(broken, 9999)]))
    whole = rich()
    assert "not finite from step 9999 on" in found["late_share"].note
    assert found["late_share"].value == pytest.approx(whole["late_share"].value, rel=1e-12)


@pytest.mark.parametrize(
    ("series", "error", "message"),
    [
        (
            lambda: SnapshotSeries(nets(1), X, Y),
            BadInput,
            "1 snapshots are too few for an order of events: give 3 or more",
        ),
        (lambda: SnapshotSeries(nets(2), X, Y), BadInput, "2 snapshots"),
        (lambda: SnapshotSeries([], X, Y), BadInput, "0 snapshots"),
        (lambda: SnapshotSeries(nets(), X, None), BadInput, "targets is None"),
        (lambda: SnapshotSeries(nets(), X, Y[:5]), BadInput, "5 entries"),
        (lambda: SnapshotSeries(nets(), X, torch.arange(len(Y)) % 3 + 7), BadInput, "classes 0..1"),
        (lambda: SnapshotSeries([replace(s, at="trained") for s in nets()], X, Y), BadInput, "is not a time"),
        (lambda: SnapshotSeries(nets()[::-1], X, Y), BadInput, "increasing"),
        (lambda: SnapshotSeries([*nets(2), Snapshot(mlp(3, (9,), 2), 50)], X, Y), CheckpointMismatch, "at 50 differ"),
        (lambda: SnapshotSeries(nets(), X, Y, loss="hinge"), BadInput, "loss='hinge'"),
        (lambda: SnapshotSeries(nets(), X[:1], Y[:1]), BadInput, "needs 4"),
        (lambda: SnapshotSeries([Snapshot(nn.ReLU(), i) for i in range(3)], X, Y), BadInput, "no trainable parameters"),
    ],
)
def test_bad_input_is_refused_and_becomes_failed_rows(series, error, message: str) -> None:
    with pytest.raises(error, match=message):
        time_regime(series())
    rows = time_regime.run(series())
    assert set(rows) == set(time_regime.quantities)
    assert all(not e.ok and "measure 'time_regime'" in e.note for e in rows.values())


@pytest.mark.parametrize("kind", ["floats", "column", "integers"])
def test_signs_for_one_output_are_fitted_where_they_agree(kind: str) -> None:
    x = torch.randn(40, 6, generator=stream(0, "signs"))
    y = torch.sign(x[:, 0] + 0.5 * x[:, 1])
    start = mlp(6, (32,), 1, seed=0)
    net, kept = copy.deepcopy(start), [Snapshot(copy.deepcopy(start), 0)]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(1, 201):
        optimizer.zero_grad()
        (net(x)[:, 0] - y).square().mean().backward()
        optimizer.step()
        if step in (5, 15, 40, 100, 200):
            kept.append(Snapshot(copy.deepcopy(net), step))
    with torch.no_grad():
        right = [float((s.model(x)[:, 0].sign() == y).double().mean()) for s in kept]
    goal = {"floats": y, "column": y[:, None], "integers": y.long()}[kind]
    found = time_regime(SnapshotSeries(kept, x, goal, loss="mse"))["fit_time"]
    first = next(i for i, share in enumerate(right) if share >= 0.99)
    assert found.ok
    assert kept[first - 1].at <= found.value <= kept[first].at


def test_flags_of_the_snapshots_change_no_number() -> None:
    series = digits_series(RICH_GAMMA)
    held = [replace(s, model=copy.deepcopy(s.model).requires_grad_(False)) for s in series.snapshots]
    assert time_regime(replace(series, snapshots=held)) == rich()


def test_a_trained_head_turns_no_kernel() -> None:
    series = digits_series(RICH_GAMMA)
    kept = [Snapshot(copy.deepcopy(series.snapshots[0].model), step) for step in (0, 10, 100)]
    for snapshot in kept[1:]:
        with torch.no_grad():
            snapshot.model[-1].weight.add_(snapshot.at)
    found = time_regime(replace(series, snapshots=kept, gamma=None))
    assert found["furthest_turn"].value == pytest.approx(0, abs=1e-7)


def _binary_run(outputs: int) -> tuple[Tensor, Tensor, list[Snapshot]]:
    """Inputs, truth values, and snapshots of a network that learned them."""
    x = torch.randn(40, 6, generator=stream(0, "binary"))
    y = x[:, 0] + 0.5 * x[:, 1] > 0
    wanted = y.float()[:, None] if outputs == 1 else torch.stack([~y, y], 1).float()
    net = mlp(6, (32,), outputs, seed=0)
    kept = [Snapshot(copy.deepcopy(net), 0)]
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(1, 201):
        optimizer.zero_grad()
        (net(x) - wanted).square().mean().backward()
        optimizer.step()
        if step in (5, 15, 40, 100, 200):
            kept.append(Snapshot(copy.deepcopy(net), step))
    return x, y, kept


@pytest.mark.parametrize(
    "code",
    [
        lambda y: y, lambda y: y.long(), lambda y: y.float(), lambda y: y.double().numpy(), lambda y: y.long()[:, None],
        lambda y: y.float()[:, None], lambda y: y.tolist(), lambda y: ["y" if one else "n" for one in y.tolist()],
    ],
)  # fmt: skip
def test_two_values_for_one_output_are_fitted_on_their_side_of_the_middle(code) -> None:
    x, y, kept = _binary_run(1)
    with torch.no_grad():
        right = [float(((s.model(x)[:, 0] > 0.5) == y).double().mean()) for s in kept]
    first = next(i for i, share in enumerate(right) if share >= 0.99)
    series = SnapshotSeries(kept, x, code(y), (x[y], code(y)[y.numpy()] if not isinstance(code(y), list) else None))
    found = time_regime(replace(series, test=None if series.test[1] is None else series.test))
    assert kept[first - 1].at <= found["fit_time"].value <= kept[first].at
    assert "0 and 1 divided at 0.5" in found["fit_time"].note
    assert series.test[1] is None or found["test_time"].ok


@pytest.mark.parametrize("pair", [(1, 2), (-1, 1), (10, 20)])
def test_as_many_classes_as_outputs_are_numbered_in_sorted_order(pair: tuple[int, int]) -> None:
    x, y, kept = _binary_run(2)
    coded = torch.tensor(pair)[y.long()]
    plain = time_regime(SnapshotSeries(kept, x, y.long(), (x, y.long())))
    found = time_regime(SnapshotSeries(kept, x, coded, (x, coded)))
    assert {name: e.value for name, e in found.items() if e.ok} == {n: e.value for n, e in plain.items() if e.ok}
    assert f"classes {pair[0]}, {pair[1]} numbered in sorted order" in found["fit_time"].note
