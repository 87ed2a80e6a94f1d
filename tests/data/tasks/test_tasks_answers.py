"""The built-in tasks: answers follow from the inputs, conditions are balanced, and the response is what counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.data.tasks import (
    TaskTrials,
    context_dependent_choice,
    delayed_match,
    two_alternative_choice,
    working_memory,
)
from geomfeat.errors import BadInput

TASKS: list[Callable[..., TaskTrials]] = [
    two_alternative_choice, delayed_match, context_dependent_choice, working_memory,
]  # fmt: skip


def answer(name: str, x: np.ndarray) -> int:
    """The right answer to one trial's inputs (T, C), from the rule of the task in words."""
    if name == "two-alternative-choice":
        return int(x[:, 2].sum() > x[:, 1].sum())
    if name == "context-dependent-choice":
        return int(x[:, 1 if x[0, 3] == 1 else 2].sum() > 0)
    seen = x[:, 1:]
    shown = [row for row in seen if np.abs(row).sum() > 0.5]
    if name == "delayed-match":
        return int(np.argmax(shown[0]) == np.argmax(shown[-1]))
    return round(float(np.arctan2(shown[0][1], shown[0][0])) / (np.pi / 2)) % 4


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 60), st.integers(0, 2**31))
@pytest.mark.parametrize("make", TASKS)
def test_without_noise_the_inputs_give_the_answer_and_the_targets_are_it(make: Any, n: int, seed: int) -> None:
    trials = make(n, noise_size=0.0, seed=seed)
    right = [answer(trials.name, x) for x in trials.inputs.numpy()]
    assert trials.choices.tolist() == right
    for y, mask, choice in zip(trials.targets.numpy(), trials.mask.numpy(), right, strict=True):
        wanted = [2 * choice - 1] if y.shape[1] == 1 else [np.cos(choice * np.pi / 2), np.sin(choice * np.pi / 2)]
        np.testing.assert_allclose(y[mask], np.tile(wanted, (mask.sum(), 1)), atol=1e-6)
        assert (y[~mask] == 0).all()


@pytest.mark.parametrize("make", TASKS)
def test_conditions_are_balanced_and_each_has_one_answer(make: Any) -> None:
    kinds = len(make(1).conditions)
    trials = make(6 * kinds, seed=3)
    assert trials.labels.bincount().tolist() == [6] * kinds
    by_condition = [trials.choices[trials.labels == k].unique().tolist() for k in range(kinds)]
    assert all(len(found) == 1 for found in by_condition)
    assert trials.choices.bincount().tolist() == [6 * kinds // len(trials.answers)] * len(trials.answers)


@pytest.mark.parametrize("make", TASKS)
def test_the_response_ends_the_trial_and_ends_fixation(make: Any) -> None:
    trials = make(20, response=3)
    first, last = trials.periods["response"]
    assert (last, last - first) == (trials.inputs.shape[1], 3)
    assert trials.mask[:, first:].all()
    assert not trials.mask[:, :first].any()
    assert torch.equal(trials.inputs[..., 0] == 1, ~trials.mask)
    if trials.name != "context-dependent-choice":
        assert (trials.inputs[trials.mask] == 0).all()


def test_noise_has_its_size_and_seeds_their_own() -> None:
    trials = two_alternative_choice(400, noise_size=0.7, coherences=(0.4,))
    first, last = trials.periods["stimulus"]
    shown = trials.inputs[:, first:last, 1:]
    sign = 2 * trials.choices[:, None] - 1
    for side, mean in ((0, 0.5 - 0.2 * sign), (1, 0.5 + 0.2 * sign)):
        rest = shown[..., side] - mean
        assert float(rest.std()) == pytest.approx(0.7, rel=0.05)
        assert abs(float(rest.mean())) < 0.05
    assert torch.equal(two_alternative_choice(10, seed=5).inputs, two_alternative_choice(10, seed=5).inputs)
    assert not torch.equal(two_alternative_choice(10, seed=5).inputs, two_alternative_choice(10, seed=6).inputs)


@pytest.mark.parametrize("make", [two_alternative_choice, delayed_match, working_memory])
def test_delays_are_drawn_from_their_range_and_lengthen_fixation_alone(make: Any) -> None:
    trials = make(200, delay=(1, 4), noise_size=0.0)
    assert trials.inputs.shape[1] == make(1, delay=4).inputs.shape[1]
    assert "delay" in make(5, delay=4).periods
    assert "delay" not in trials.periods
    assert trials.mask[:, -2:].all()
    assert not trials.mask[:, :-2].any()
    assert torch.equal(trials.inputs[..., 0] == 1, ~trials.mask)
    silent = []
    for x, mask in zip(trials.inputs, trials.mask, strict=True):
        on = (x[:, 1:].abs().sum(1) > 0).nonzero().flatten()
        gaps = on.diff() - 1
        silent.append(int(gaps.max()) if make is delayed_match else int(mask.nonzero()[0]) - int(on[-1]) - 1)
    assert sorted(set(silent)) == [1, 2, 3, 4]


def test_of_three_items_half_of_the_trials_match() -> None:
    trials = delayed_match(120, items=3)
    assert len(trials.conditions) == 9
    assert trials.choices.double().mean() == 0.5
    assert trials.to_frame()["condition"].iloc[0] == trials.conditions[int(trials.labels[0])]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: two_alternative_choice(0), "n=0 trials"),
        (lambda: two_alternative_choice(coherences=(0.0,)), "coherences="),
        (lambda: context_dependent_choice(coherences=()), "coherences="),
        (lambda: delayed_match(items=1), "items=1"),
        (lambda: working_memory(directions=1), "directions=1"),
        (lambda: working_memory(delay=(4, 1)), r"delay=\(4, 1\) steps"),
        (lambda: working_memory(response=0), "response=0 steps: at least 1"),
        (lambda: delayed_match(noise_size=-1.0), "noise_size=-1.0"),
    ],
)
def test_what_is_no_task_is_refused(call: Callable[[], TaskTrials], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        call()
