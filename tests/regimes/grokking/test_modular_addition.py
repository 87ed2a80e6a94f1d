"""Modular addition: the task, reproducible runs, and the three regimes of one network distinguished."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.regimes.grokking import modular_addition, modular_network, train_at_alpha, train_with_decay, transitions
from geomfeat.regimes.grokking._transitions import LAZY, LAZY_THEN_RICH, RICH

TASK = modular_addition(23, seed=7)  # no run of this seed was used to set the limits of the verdicts


def test_the_task_is_the_addition_table_split_in_two() -> None:
    task = modular_addition(11, 0.3, seed=1)
    inputs, sums = torch.cat([task.inputs, task.test_inputs]), torch.cat([task.targets, task.test_targets])
    first, second = inputs[:, :11].argmax(1), inputs[:, 11:].argmax(1)
    assert inputs.sum(1).eq(2).all()
    assert len({*zip(first.tolist(), second.tolist(), strict=True)}) == 121
    assert torch.equal((first + second) % 11, sums)
    assert len(task.targets) == round(0.3 * 121)


def test_squared_units_can_add() -> None:
    """cos(w (a + b - c)) from squares of cos(w a + s) + cos(w b + s), four phases each (Gromov 2023, section 3)."""
    p = 7
    angle = 2 * torch.pi * torch.arange(p) / p
    rows, read = [], []
    for frequency in range(1, (p + 1) // 2):
        for phase in torch.arange(4) * torch.pi / 4:
            rows.append(torch.cat([torch.cos(frequency * angle + phase)] * 2))
            read.append(torch.cos(frequency * angle + 2 * phase))
    net = modular_network(p, len(rows))
    with torch.no_grad():
        net.fc1.weight.copy_(torch.stack(rows))
        net.head.weight.copy_(torch.stack(read, 1))
    task = modular_addition(p)
    assert torch.equal(net(task.inputs).argmax(1), task.targets)


def test_runs_are_reproducible_and_leave_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    task = modular_addition(5)
    ends = [train_with_decay(task, width=8, steps=20).snapshots[-1].model.fc1.weight for _ in range(2)]
    assert torch.equal(*ends)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_large_start_with_decay_groks_as_its_kernel_turns() -> None:
    run = train_with_decay(TASK, steps=1500, seed=7)
    assert [s.at for s in run.snapshots][-1] == 1500
    found = transitions(run.series())
    assert found.verdict == LAZY_THEN_RICH
    assert found.grokked
    assert found.late_share > 0.7
    assert found.fit_time < found.fastest_time < found.test_time


def test_without_decay_it_stays_lazy_and_does_not_generalise() -> None:
    series = train_with_decay(TASK, decay=0.0, lr=0.006, steps=800, seed=7).series()
    found = transitions(series)
    assert found.verdict == LAZY
    assert series.train_accuracy[-1] == 1
    assert series.test_accuracy[-1] < 0.15


def test_a_small_start_is_rich_from_the_start() -> None:
    found = transitions(train_with_decay(TASK, init_scale=0.1, steps=900, seed=7).series())
    assert found.verdict == RICH
    assert found.late_share < 0.2


def test_alpha_delays_the_test_transition_without_decay() -> None:
    task = modular_addition(23, 0.7, seed=7)
    found = [transitions(train_at_alpha(task, alpha, steps=700, seed=7).series()) for alpha in (0.5, 2.0)]
    assert found[0].test_time < found[1].test_time / 1.5
    assert found[0].late_share < found[1].late_share


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modular_addition(1), "modulus=1"),
        (lambda: modular_addition(5, 1.0), "share=1.0"),
        (lambda: modular_addition(2, 0.1), "none to train"),
        (lambda: modular_network(5, 8, activation="tanh"), "square, relu"),
        (lambda: modular_network(0, 8), "modulus=0"),
        (lambda: modular_network(5, 8, init_scale=0.0), "init_scale"),
        (lambda: train_with_decay(modular_addition(5), decay=-1.0), "decay"),
        (lambda: train_at_alpha(modular_addition(5), 0.0), "alpha"),
        (lambda: train_at_alpha(modular_addition(5), 1.0, lr=-1.0), "lr=-1.0"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()
