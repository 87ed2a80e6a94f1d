"""Tasks as a SPEC of data: options, splits, and what is wrong in them."""

from __future__ import annotations

import pytest
import torch

import geomfeat as gf
from geomfeat.data.content_hash import contents
from geomfeat.data.tasks import delayed_match, two_alternative_choice
from geomfeat.data.tasks.by_name import TASKS
from geomfeat.errors import BadInput


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_is_data_for_a_sequence_model(name: str) -> None:
    data = gf.load_data(f"task:{name}:n=16")
    assert data.inputs.shape[0] == 16
    assert data.test_inputs.shape[0] == 8
    assert not torch.equal(data.inputs[:8], data.test_inputs)
    assert contents(f"task:{name}:n=16") == []
    assert gf.load_data(f"task:{name}", split="test", n=10).n == 10


def test_options_are_those_of_the_function() -> None:
    data = gf.load_data("task:two-alternative-choice:n=10,seed=4,coherences=0.3+0.9,noise_size=0.2,stimulus=5")
    wanted = two_alternative_choice(10, seed=4, coherences=(0.3, 0.9), noise_size=0.2, stimulus=5)
    assert torch.equal(data.inputs, wanted.inputs)
    ranged = gf.load_data("task:delayed-match:n=10,delay=1+4")
    assert torch.equal(ranged.inputs, delayed_match(10, delay=(1, 4)).inputs)
    assert torch.equal(gf.load_data("task:delayed-match:n=10,delay=2").inputs, delayed_match(10, delay=2).inputs)


def test_every_scored_step_can_be_learned() -> None:
    data = gf.load_data("task:two-alternative-choice:n=10,learn=steps")
    wanted = two_alternative_choice(10)
    assert torch.equal(data.inputs["mask"], wanted.mask)
    assert data.targets is not None
    assert torch.equal(data.targets, wanted.masked_targets)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("task:", "no task ''"),
        ("task:delayed-mach", "no task 'delayed-mach'; near: delayed-match"),
        ("task:delayed-match:itmes=3", "no option 'itmes'; near: items"),
        ("task:delayed-match:items=x", "items='x' must be whole numbers"),
        ("task:delayed-match:items=2+3", "items='2[+]3' must be one number"),
        ("task:delayed-match:noise_size=a", "noise_size='a' must be numbers"),
        ("task:delayed-match:learn=all", "learn='all' must be one of choice, steps"),
        ("task:delayed-match:items=1", "items=1"),
        ("tasks", "near: task:"),
    ],
)
def test_what_is_wrong_is_named(spec: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        gf.load_data(spec)
