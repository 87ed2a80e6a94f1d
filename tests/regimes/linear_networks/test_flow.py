"""Exact linear dynamics: against an ODE solver, autograd, gradient descent and what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import (
    LinearTask,
    aligned_mode,
    balanced_factors,
    balanced_network,
    learn_in_sequence,
    linear_flow,
    linear_task,
    whitened,
)
from geomfeat.tangent import ntk
from tests.reference import linear as reference


def task_of(inputs: int, outputs: int, seed: int = 0, low: float = 1.0, high: float = 3.0) -> LinearTask:
    """Random directions, singular values evenly from `low` to `high`."""
    m = min(inputs, outputs)
    draw = stream(seed, "task", inputs, outputs)
    u, _ = torch.linalg.qr(torch.randn(outputs, m, generator=draw, dtype=WORKING))
    v, _ = torch.linalg.qr(torch.randn(inputs, m, generator=draw, dtype=WORKING))
    return LinearTask((u * torch.linspace(low, high, m, dtype=WORKING)) @ v.mT)


# inputs, hidden, outputs, lambda: square, funnel, anti-funnel, narrow (bottleneck), wide, one hidden unit.
CASES = [
    (5, 5, 5, 0.0), (5, 5, 5, 3.0), (5, 5, 5, -3.0),
    (8, 4, 4, 0.0), (8, 4, 4, 2.0), (8, 4, 4, -5.0),
    (4, 4, 8, 0.0), (4, 4, 8, 5.0), (4, 4, 8, -2.0),
    (6, 2, 5, 0.0), (6, 2, 5, 1.0), (6, 2, 5, -1.0), (6, 1, 3, 0.5),
    (3, 7, 4, 0.0), (3, 5, 6, 1.0), (6, 5, 3, -1.0),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "hidden", "outputs", "balance"), CASES)
def test_equals_an_ode_solver(inputs: int, hidden: int, outputs: int, balance: float) -> None:
    w1, w2 = balanced_network(inputs, hidden, outputs, balance, 0.1, seed=1)
    task = task_of(inputs, outputs)
    times = torch.tensor([0.0, 0.3, 1.0, 2.5, 6.0], dtype=WORKING)
    path = linear_flow(w1, w2, task, times)
    a, b = (torch.from_numpy(w) for w in reference.flow(w1, w2, task.correlation, times.numpy()))
    q = torch.cat([a.mT, b], -2)
    assert_close(path.product, b @ a, rtol=1e-8, atol=1e-8)
    assert_close(path.gram, q @ q.mT, rtol=1e-8, atol=1e-8)
    x = torch.randn(4, inputs, generator=stream(0, "x"), dtype=WORKING)
    assert_close(path.similarity(x), (x @ a.mT) @ (x @ a.mT).mT, rtol=1e-8, atol=1e-7)
    assert_close(path.balance, (balance * torch.eye(hidden, dtype=WORKING)).expand(5, -1, -1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("inputs", "hidden", "outputs", "balance"), [(6, 2, 5, 0.0), (4, 4, 4, 10.0), (6, 2, 5, -1.0)])
def test_stays_exact_for_400_time_constants(inputs: int, hidden: int, outputs: int, balance: float) -> None:
    w1, w2 = balanced_network(inputs, hidden, outputs, balance, 0.05, seed=2)
    task = task_of(inputs, outputs)
    rate = (balance**2 / 4 + 9) ** 0.5
    times = np.array([0.0, 1.0, 20.0, 100.0, 400.0]) / rate
    path = linear_flow(w1, w2, task, torch.from_numpy(times))
    a, b = (torch.from_numpy(w) for w in reference.flow(w1, w2, task.correlation, times))
    assert_close(path.product, b @ a, rtol=1e-8, atol=1e-8)
    u, s, vh = torch.linalg.svd(task.correlation, full_matrices=False)
    best = (u[:, :hidden] * s[:hidden]) @ vh[:hidden]  # the best map of rank `hidden` (Eckart and Young)
    assert_close(path.product[-1], best, rtol=1e-9, atol=1e-9)


def test_steps_do_not_matter() -> None:
    w1, w2 = balanced_network(6, 3, 5, -1.0, 0.1, seed=3)
    task = task_of(6, 5)
    once = linear_flow(w1, w2, task, [40.0])
    often = linear_flow(w1, w2, task, torch.linspace(0, 40, 1001))
    assert_close(once.gram[-1], often.gram[-1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("balance", [0.0, -2.0, 2.0])
def test_kernel_is_that_of_autograd(balance: float, device: str) -> None:
    w1, w2 = (w.to(device) for w in balanced_network(4, 3, 3, balance, 0.3, seed=4))
    x = torch.randn(5, 4, generator=stream(1, "x"), dtype=WORKING).to(device)
    path = linear_flow(w1, w2, task_of(4, 3), [0.0, 0.7])
    for k in range(2):
        net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 3, bias=False)).to(device, WORKING)
        net.load_state_dict({"0.weight": path.w1[k], "1.weight": path.w2[k]})
        assert_close(path.ntk(x)[k], ntk(net, x, outputs="full").gram, rtol=1e-12, atol=1e-12)


def test_gradient_descent_nears_the_flow_in_proportion_to_its_step() -> None:
    w1, w2 = balanced_network(4, 3, 4, 1.0, 0.1, seed=5)
    task = task_of(4, 4)
    flow = linear_flow(w1, w2, task, [1.0]).product[0]
    gaps = []
    for rate in (0.01, 0.005):
        a, b = w1, w2
        for _ in range(round(1 / rate)):
            error = task.correlation - b @ a
            a, b = a + rate * b.mT @ error, b + rate * error @ a.mT
        gaps.append(float((b @ a - flow).norm() / flow.norm()))
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05)
    assert gaps[0] < 0.02


def test_loss_is_that_of_the_samples() -> None:
    draw = stream(2, "samples")
    x = whitened(torch.randn(30, 4, generator=draw))
    y = torch.randn(30, 3, generator=draw, dtype=WORKING)
    path = linear_flow(*balanced_network(4, 3, 3, 0.0, 0.2), linear_task(x, y), [0.0, 1.0, 3.0])
    for product, value in zip(path.product, path.loss, strict=True):
        assert float(value) == pytest.approx(reference.loss(product.numpy(), x.numpy(), y.numpy()), rel=1e-12)
    assert_close(path.outputs(x)[1], x @ path.product[1].mT)


def aligned(start: list[float], target: list[float], balance: float, times) -> torch.Tensor:
    """Singular values along training whose directions are those of the task from the start."""
    u, _ = torch.linalg.qr(torch.randn(3, 3, generator=stream(3, "u"), dtype=WORKING))
    w1, w2 = balanced_factors((u * torch.tensor(start, dtype=WORKING)) @ u.mT, 3, balance)
    path = linear_flow(w1, w2, LinearTask((u * torch.tensor(target, dtype=WORKING)) @ u.mT), times)
    return torch.einsum("ik,tij,jk->tk", u, path.product, u)


@pytest.mark.parametrize("balance", [0.0, 0.3, -0.3, 10.0])
def test_aligned_modes_follow_the_closed_form(balance: float) -> None:
    start, target, times = [0.01, 0.2, 1.0], [1.0, 3.0, 0.5], torch.linspace(0, 4, 9, dtype=WORKING)
    seen = aligned(start, target, balance, times)
    for k in range(3):
        known = aligned_mode(start[k], target[k], balance, times)
        assert_close(
            known, torch.from_numpy(reference.mode(start[k], target[k], balance, times.numpy())), rtol=1e-8, atol=1e-9
        )
        assert_close(seen[:, k], known, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("start", "target", "balance"),
    [(0.5, -1.0, 0.5), (-0.5, 1.0, 0.5), (1e-9, 2.0, 1e-3), (0.3, 0.0, 0.0), (1.0, -1.0, 0.0)],
)
def test_modes_through_zero_and_from_almost_nothing(start: float, target: float, balance: float) -> None:
    times = np.linspace(0, 8, 9)
    known = aligned_mode(start, target, balance, torch.from_numpy(times))
    assert_close(known, torch.from_numpy(reference.mode(start, target, balance, times)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("start", "target"), [(1e-12, 1.0), (1e-12, -1.0), (1.0, 1e-12)])
@pytest.mark.parametrize("balance", [10.0, -300.0])
def test_modes_far_below_lambda_keep_their_digits(start: float, target: float, balance: float) -> None:
    # There the mode is linear, ds/dt = |lambda| (target - s), up to terms of relative size s^2 / lambda^2.
    times = torch.tensor([0.0, 1e-13, 1e-12, 40.0], dtype=WORKING) / abs(balance)
    kept, gained = start * torch.exp(-abs(balance) * times), -target * torch.expm1(-abs(balance) * times)
    seen = aligned_mode(start, target, balance, times)
    if max(start, abs(target)) > 1e-3:
        seen, kept, gained = seen[:3], kept[:3], gained[:3]
    # Where the two terms cancel, each keeps its own rounding: an error relative to the sum has no bound there.
    relative = 3 * max(start, abs(target)) ** 2 / balance**2 + 1e-14
    error = (seen - (kept + gained)).abs()
    assert bool((error <= relative * (kept.abs() + gained.abs())).all()), error.tolist()


def test_a_mode_at_zero_without_balance_stays_there() -> None:
    assert aligned_mode(0.0, 1.0, 0.0, [0.0, 1.0, 1e4]).tolist() == [0.0, 0.0, 0.0]
    assert aligned_mode(0.0, 0.0, 0.0, [0.0, 1e4]).tolist() == [0.0, 0.0]
    assert aligned_mode(0.0, 0.0, 3.0, [0.0, 1e4]).tolist() == [0.0, 0.0]


def test_modes_at_both_ends_of_lambda() -> None:
    t = torch.linspace(0, 5, 11, dtype=WORKING)
    s0, s = 0.01, 2.0
    grown = torch.exp(2 * s * t)
    assert_close(aligned_mode(s0, s, 0.0, t), s * grown / (grown - 1 + s / s0))  # Saxe et al. 2014, eq. 8
    lazy = aligned_mode(s0, s, 1e5, t / 1e5)
    assert_close(lazy, s + (s0 - s) * torch.exp(-t), rtol=1e-8, atol=1e-8)


def movements(shape: tuple[int, int, int], balance: float, seeds: int) -> torch.Tensor:
    x = torch.eye(shape[0], dtype=WORKING)
    # The wide side's directions turn at the rate s^2 / |lambda| only.
    end = 200 if abs(balance) > 10 else 40
    found = []
    for seed in range(seeds):
        start = balanced_network(*shape, balance, 1e-6, seed=seed)
        found.append(linear_flow(*start, task_of(shape[0], shape[2], seed), [0, end]).ntk_movement(x)[-1])
    return torch.stack(found)


def expected_movement(shape: tuple[int, int, int], balance: float) -> float:
    """Mean over random directions of the final movement from a vanishing product, at lambda != 0.

    The start has weight |lambda| on `hidden` random directions of the wide side only, the end has the balanced
    factors of the task; random and wanted directions share hidden / width on average.
    """
    inputs, hidden, outputs = shape
    s = np.linspace(1, 3, hidden)
    first, second = (np.sqrt(balance**2 + 4 * s**2) - balance) / 2, (np.sqrt(balance**2 + 4 * s**2) + balance) / 2
    size = np.sqrt(outputs * (first**2).sum() + inputs * (second**2).sum() + 2 * first.sum() * second.sum())
    own, other = (second, first) if balance > 0 else (first, second)
    width, far = (outputs, inputs) if balance > 0 else (inputs, outputs)
    overlap = far * hidden / width * own.sum() + hidden * other.sum()  # <K0, K> / |lambda|
    return float(1 - overlap / (np.sqrt(far * hidden) * size))


# Last column: one draw, or a few, of the table of formulas; the spread over draws is .08 where directions turn.
@pytest.mark.parametrize(
    ("shape", "balance", "tabled"),
    [
        ((5, 5, 5), -20, 0.0), ((5, 5, 5), -5, 0.004), ((5, 5, 5), 5, 0.004), ((5, 5, 5), 20, 0.0),
        ((10, 5, 5), -20, 0.484), ((10, 5, 5), -5, 0.446), ((10, 5, 5), 5, 0.006), ((10, 5, 5), 20, 0.0),
        ((5, 5, 10), -20, 0.0), ((5, 5, 10), -5, 0.006), ((5, 5, 10), 5, 0.453), ((5, 5, 10), 20, 0.495),
    ],
)  # fmt: skip
def test_movement_of_square_funnel_and_anti_funnel(shape: tuple[int, int, int], balance: float, tabled: float) -> None:
    seen = movements(shape, balance, 8 if tabled > 0.1 else 2)
    stderr = float(seen.std()) / len(seen) ** 0.5
    assert abs(float(seen.mean()) - expected_movement(shape, balance)) < 4 * stderr + 1e-5
    assert abs(expected_movement(shape, balance) - tabled) < (0.04 if tabled > 0.1 else 6e-4)


def signs_agree(start: tuple[torch.Tensor, torch.Tensor], task: LinearTask) -> bool:
    return bool(torch.det(start[1] @ start[0]) * torch.det(task.correlation) > 0)


def test_square_networks_at_balance_zero_keep_the_sign_of_their_determinant() -> None:
    # Singular values cannot cross zero at lambda = 0: with the wrong sign the weakest mode, s = 1, is never learned.
    shape, seen = (5, 5, 5), set()
    for seed in range(6):
        start, task = balanced_network(*shape, 0.0, 0.05, seed=seed), task_of(5, 5, seed)
        agree = signs_agree(start, task)
        path = linear_flow(*start, task, [8.0])
        assert float(path.loss[0]) == pytest.approx(0.0 if agree else 0.5, abs=1e-3)
        seen.add(agree)
    assert seen == {True, False}


def test_rich_movement_at_balance_zero() -> None:
    # Equal small singular values in a square net: K0 is a multiple of the identity, so the angle is that of K's trace.
    s = np.linspace(1, 3, 5)
    known = 1 - 10 * s.sum() / (5 * np.sqrt(10 * (s**2).sum() + 2 * s.sum() ** 2))
    starts = ((balanced_network(5, 5, 5, 0.0, 1e-6, seed=k), task_of(5, 5, k)) for k in range(9))
    start, task = next(pair for pair in starts if signs_agree(*pair))
    moved = linear_flow(*start, task, [0, 40]).ntk_movement(torch.eye(5))[-1]
    assert float(moved) == pytest.approx(known, abs=1e-6)
    assert min(movements(shape, 0.0, 2).min() for shape in ((10, 5, 5), (5, 5, 10))) > 0.05


def test_movement_is_small_for_large_balance_and_largest_near_zero() -> None:
    seen = [float(movements((5, 5, 5), b, 1)[0]) for b in (0.0, 1.0, 5.0, 20.0)]
    assert seen == sorted(seen, reverse=True)


def test_tasks_in_sequence_restart_the_flow() -> None:
    w1, w2 = balanced_network(6, 3, 4, -1.0, 0.1, seed=6)
    tasks = [task_of(6, 4, 1), task_of(6, 4, 2)]
    times = torch.tensor([0.0, 0.5, 2.0], dtype=WORKING)
    seen = learn_in_sequence(w1, w2, tasks, times)
    a, b = reference.flow(w1, w2, tasks[0].correlation, times.numpy())
    c, d = reference.flow(a[-1], b[-1], tasks[1].correlation, times.numpy())
    product = torch.from_numpy(np.concatenate([b @ a, d @ c]))
    assert_close(seen.product, product, rtol=1e-8, atol=1e-8)
    assert seen.times.tolist() == [0.0, 0.5, 2.0, 2.0, 2.5, 4.0]
    for k, task in enumerate(tasks):
        assert_close(seen.losses[k], task.loss(product), rtol=1e-7, atol=1e-7)
    gained = seen.losses[0, 5] - seen.losses[0, 2]
    assert_close(seen.forgetting, torch.tensor([[0.0, gained], [float("nan"), 0.0]], dtype=WORKING), equal_nan=True)


def test_forgetting_of_tasks_that_share_nothing_is_their_distance() -> None:
    tasks = [task_of(4, 4, 1), task_of(4, 4, 2)]
    seen = learn_in_sequence(*balanced_network(4, 4, 4, 2.0, 0.1), tasks, [0, 30])
    known = 0.5 * (tasks[0].correlation - tasks[1].correlation).square().sum()
    assert_close(seen.forgetting[0, 1], known, rtol=1e-8, atol=1e-8)


def test_reversal_sticks_at_the_saddle_only_when_rich() -> None:
    s, times = 2.0, torch.linspace(0, 5, 6, dtype=WORKING)
    rich, lazy = (
        learn_in_sequence(torch.full((1, 1), a), torch.full((1, 1), b), [LinearTask(torch.full((1, 1), s))], times)
        for a, b in ((0.1, 0.1), (1.0, 2.0))
    )
    for seen, saddle in ((rich, True), (lazy, False)):
        back = linear_flow(seen.paths[0].w1[-1], seen.paths[0].w2[-1], seen.paths[0].task.reversed(), times)
        assert float(back.loss[-1]) == pytest.approx(0.5 * s**2 if saddle else 0.0, abs=1e-4)


def test_a_new_item_is_answered_by_the_map_learned() -> None:
    # Generalisation: the map learned on three items, asked about a mixture of them, is linear in the mixture.
    task = task_of(3, 3, 5)
    path = linear_flow(*balanced_network(3, 3, 3, 0.0, 0.1), task, [0.0, 40.0])
    item = torch.tensor([[0.2, -1.0, 3.0]], dtype=WORKING)
    assert_close(path.outputs(item)[-1], item @ task.correlation.mT, rtol=1e-8, atol=1e-8)


def test_bad_input_is_refused() -> None:
    task = task_of(3, 3)
    w1, w2 = balanced_network(3, 3, 3, 0.0)
    with pytest.raises(BadInput, match=r"not balanced.*balanced_network"):
        linear_flow(w1 + torch.eye(3), w2, task, [1.0])
    with pytest.raises(BadInput, match="ascending"):
        linear_flow(w1, w2, task, [1.0, 0.5])
    with pytest.raises(BadInput, match="the task is"):
        linear_flow(w1, w2, task_of(4, 3), [1.0])
    with pytest.raises(BadInput, match="width of the inputs"):
        linear_flow(w1, w2, task, [1.0]).outputs(torch.ones(2, 4))
    with pytest.raises(BadInput, match="x holds 3 NaN"):
        linear_flow(w1, w2, task, [1.0]).ntk(torch.full((1, 3), float("nan")))
    with pytest.raises(BadInput, match="tasks is empty"):
        learn_in_sequence(w1, w2, [], [1.0])
    with pytest.raises(BadInput, match="finite"):
        aligned_mode(0.1, float("nan"), 0.0, [1.0])
    x = torch.randn(20, 3, generator=stream(0, "raw"))
    with pytest.raises(BadInput, match=r"not whitened.*whitened\(x\)"):
        linear_task(x, x)
    with pytest.raises(BadInput, match="spans 2 of its 3"):
        whitened(torch.cat([x[:, :2], x[:, :1]], 1))
    with pytest.raises(BadInput, match="target_power"):
        LinearTask(torch.eye(3), 1.0)
