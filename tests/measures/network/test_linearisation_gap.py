"""Linearisation gap: linear and quadratic models by hand, the Jacobian one gradient at a time."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from torch import nn

from geomfeat.measures.network.linearisation_gap import linearisation_gap
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from tests.measures.network.pairs import pair_of
from tests.reference.kernels import gradients_by_loop, jackknife_by_loop
from tests.zoo import nudged, zoo

X = torch.randn(12, 6, generator=stream(0, "probes"))


def gap(initial: nn.Module, trained: nn.Module, inputs=X, **options):
    return linearisation_gap(pair_of(initial, trained, inputs, layers=()), **options)[""]["gap"]


def test_equal_snapshots_have_no_gap() -> None:
    model = mlp(6, (8,), 3)
    estimate = gap(model, copy.deepcopy(model))
    assert (estimate.value, estimate.ok) == (0.0, True)
    assert "did not change" in estimate.note


def test_a_model_linear_in_its_parameters_has_no_gap() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    assert gap(model, nudged(model, 1.0)).value == pytest.approx(0, abs=1e-12)


class Square(nn.Module):
    """f(x) = w^2 x."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w.square() * x


@pytest.mark.parametrize("step", [0.5, 2.0, 100.0, -1.0])
def test_a_quadratic_model_by_hand(step: float) -> None:
    # f_T - f_0 = (2 w d + d^2) x, f_lin - f_0 = 2 w d x: gap |d| / |2 w + d|.
    expected = abs(step) / abs(2 * 1.5 + step)
    assert gap(Square(1.5), Square(1.5 + step), X[:, :1]).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("case", [c for c in zoo() if c.name != "frozen"], ids=str)
def test_equals_the_definition(case) -> None:
    trained = nudged(case.model, 0.1)
    j = gradients_by_loop(case.model, case.inputs)
    old, new = (dict(m.named_parameters()) for m in (case.model, trained))
    step = torch.cat([(new[k].detach().double() - old[k].detach().double()).reshape(-1) for k in old])
    x = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
    x = tuple(t.double() if t.is_floating_point() else t for t in x)
    nets = [copy.deepcopy(m).double().eval() for m in (trained, case.model)]
    change = (nets[0](*x) - nets[1](*x)).detach()  # with gradients on, transformers do not take their fused path

    def definition(rows: list[int]) -> float:
        return float((change - j @ step)[rows].norm() / change[rows].norm())

    estimate = gap(case.model, trained, case.inputs)
    assert estimate.value == pytest.approx(definition(list(range(len(change)))), rel=1e-9)
    if len(change) >= 6:
        assert estimate.stderr == pytest.approx(jackknife_by_loop(definition, len(change)), rel=1e-7)


def test_small_steps_have_a_gap_in_proportion() -> None:
    model = mlp(6, (8,), 3, activation="tanh")
    gaps = [gap(model, nudged(model, size)).value for size in (1e-2, 1e-3)]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.1)


def test_changed_buffers_and_frozen_parameters_are_named() -> None:
    case = next(c for c in zoo() if c.name == "residual")
    trained = nudged(case.model, 0.1)
    assert gap(case.model, trained, case.inputs).note == ""
    trained.norm.running_mean += 1
    assert "1 buffers or frozen parameters changed" in gap(case.model, trained, case.inputs).note


def test_outputs_that_stayed_although_the_parameters_moved_are_a_failed_row() -> None:
    estimate = gap(Square(1.5), Square(-1.5), X[:, :1])
    assert not estimate.ok
    assert "0/0" in estimate.note


def test_a_heavy_network_gets_fewer_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("geomfeat.measures.network._probe_samples"), "WORK", 1)
    model = mlp(6, (8,), 3)
    assert "32 of 60 probes" in gap(model, nudged(model, 0.1), X.repeat(5, 1)).note


def test_many_probes_are_thinned_and_the_note_says_so() -> None:
    model = mlp(6, (8,), 3)
    trained = nudged(model, 0.1)
    thinned = gap(model, trained, X, probes=4)
    assert thinned.value == gap(model, trained, X[::3]).value
    assert "4 of 12 probes" in thinned.note
