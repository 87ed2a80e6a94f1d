"""Trials of an environment that has what neurogym's have."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.data.tasks import from_neurogym
from geomfeat.errors import BadInput


class Environment:
    """Trials of 3 to 5 steps, two inputs; the right action is 0 until the last step, and there 1 or 2."""

    action_space = SimpleNamespace(n=4)

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def new_trial(self) -> None:
        steps, action = int(self.rng.integers(3, 6)), int(self.rng.integers(1, 3))
        self.ob = np.full((steps, 2), float(action))
        self.gt = np.zeros(steps, dtype=int)
        self.gt[-1] = action
        if self.wrong == "kind":
            self.gt = self.gt / 2
        if self.wrong == "sign":
            self.gt = self.gt - 1


def test_trials_are_padded_and_scored_while_they_last() -> None:
    trials = from_neurogym(Environment(), 40, seed=1)
    again = Environment()
    again.seed(1)
    assert trials.inputs.shape == (40, 5, 2)
    assert trials.targets.shape == (40, 5, 4)
    for x, y, mask, choice in zip(trials.inputs, trials.targets, trials.mask, trials.choices, strict=True):
        again.new_trial()
        steps = len(again.gt)
        assert mask.tolist() == [True] * steps + [False] * (5 - steps)
        assert torch.equal(x[:steps], torch.tensor(again.ob, dtype=x.dtype))
        assert y.argmax(1)[:steps].tolist() == again.gt.tolist()
        assert y.sum(1).tolist() == [1.0] * steps + [0.0] * (5 - steps)
        assert int(choice) == again.gt[-1]
    assert trials.name == "Environment"


def test_an_environment_by_name_is_made_by_neurogym(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def make(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return SimpleNamespace(unwrapped=Environment())

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "neurogym")
    monkeypatch.setitem(sys.modules, "neurogym", SimpleNamespace(make=make))  # type: ignore[misc]
    trials = from_neurogym("PerceptualDecisionMaking-v0", 4, dt=20)
    assert asked == [("PerceptualDecisionMaking-v0", {"dt": 20})]
    assert trials.name == "PerceptualDecisionMaking-v0"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_neurogym(object(), 3), r"has no seed\(\) and new_trial\(\)"),
        (lambda: from_neurogym(Environment(), 0), "n=0 trials"),
        (lambda: from_neurogym(Environment(), 3, dt=20), "dt: options are for"),
        (lambda: from_neurogym(Environment("kind"), 3), "whole numbers"),
        (lambda: from_neurogym(Environment("sign"), 3), "below 0"),
    ],
)
def test_other_environments_are_refused(call: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        call()


def test_without_neurogym_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="neurogym, which is not installed"):
        from_neurogym("PerceptualDecisionMaking-v0")
