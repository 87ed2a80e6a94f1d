"""Trials as data: what is scored, as labels or as targets of every step, and shapes that do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from geomfeat.data.tasks import delayed_match, two_alternative_choice
from geomfeat.errors import BadInput
from geomfeat.models.recurrent import rate_rnn
from geomfeat.regimes.training import PlainOptions, TrainOptions, train_at_gamma, train_plainly

TRIALS = two_alternative_choice(24, stimulus=4, seed=1)


def test_as_data_they_are_answers_or_all_scored_steps() -> None:
    other = two_alternative_choice(6, stimulus=4, seed=2)
    data = TRIALS.dataset(other)
    assert torch.equal(data.inputs, TRIALS.inputs)
    assert data.goal is not None
    assert torch.equal(data.goal, TRIALS.choices)
    assert data.classes == ("left", "right")
    assert data.test_inputs.shape == (6, 8, 3)
    steps = TRIALS.dataset(every_step=True)
    assert set(steps.inputs) == {"x", "mask"}
    assert steps.goal is not None
    assert steps.goal.shape == (24, 8)
    assert torch.equal(steps.goal != 0, TRIALS.mask)
    assert steps.labels is not None
    assert torch.equal(steps.labels, TRIALS.choices)


@pytest.mark.parametrize("gamma", [None, 1.0])
def test_a_training_on_masked_targets_lowers_the_loss_of_scored_steps_alone(gamma: float | None) -> None:
    net, inputs = rate_rnn(3, 16, 1, every_step=True, seed=0).double(), TRIALS.inputs.double()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    where: Any = (TRIALS.masked_inputs, TRIALS.masked_targets)
    if gamma is None:
        found = train_plainly(net, *where, options=PlainOptions(optimizer="sgd", lr=1e-3, max_steps=1)).trained
    else:
        found = train_at_gamma(net, *where, gamma=gamma, lr=1e-3, max_steps=1, options=TrainOptions(momentum=0.0)).model
    centre = 0 if gamma is None else net(inputs).detach()
    error = ((net(inputs) - centre)[..., 0] - TRIALS.targets[..., 0])[TRIALS.mask]
    loss = error.square().sum() / TRIALS.n
    if gamma is not None:
        loss = loss / (TRIALS.targets.square().sum() / TRIALS.n)  # relative to that of outputs 0
    loss.backward()
    for name, p in net.named_parameters():
        assert p.grad is not None
        moved = dict(found.named_parameters())[name] - start[name]
        torch.testing.assert_close(moved, -1e-3 * p.grad, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("mask", TRIALS.mask.T, r"mask of task 'two-alternative-choice' have shape \(8, 24\), not \(24, 8\)"),
        ("labels", TRIALS.labels[:3], "labels of task"),
        ("channels", ("one",), "inputs of task"),
        ("targets", TRIALS.targets[..., 0], "targets of task"),
        ("mask", torch.zeros_like(TRIALS.mask), "without a scored step"),
        ("inputs", TRIALS.inputs / 0, "inputs of task"),
    ],
)
def test_shapes_that_do_not_fit_are_named(part: str, value: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        replace(TRIALS, **{part: value})


def test_a_text_says_what_the_task_is() -> None:
    text = str(delayed_match(8, seed=0))
    assert text == "Task delayed-match: 8 trials of 12 steps, 2 of them scored; 3 inputs, 1 outputs, 4 conditions"
