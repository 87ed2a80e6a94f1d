"""The early warnings on trainings whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from geomfeat.monitoring import MonitorOptions
from geomfeat.monitoring.events import events_of
from geomfeat.monitoring.row import Row
from tests.monitoring.trainings import data, network, scalar_network, squares, trained


def kinds(monitor: object) -> list[str]:
    return [event.kind for event in monitor.events]  # pyright: ignore


@pytest.mark.parametrize(("a", "w", "target"), [(1.0, 1.0, 1.4), (2.0, 0.5, 2.0), (3.0, 3.0, 9.2)])
def test_a_product_of_two_numbers_leaves_its_linear_regime_when_its_kernel_has_changed_by_a_fifth(
    a: float, w: float, target: float, tmp_path: Path
) -> None:
    """f = a w x on x = 1 has the kernel a^2 + w^2: descent by hand says when it has changed by a fifth, if ever."""
    rate, steps, found = 0.05, 24, None
    size = a * a + w * w
    u, v = a, w
    for step in range(1, steps + 1):
        error = u * v - target
        u, v = u - rate * error * v, v - rate * error * u
        if found is None and abs(u * u + v * v - size) >= 0.2 * size:
            found = step
    one = torch.ones(4, 1, dtype=torch.float64)
    monitor = trained(
        scalar_network(a, w), one, target * one, tmp_path, steps, lr=rate, loss=squares, layers=["0"],
        options=MonitorOptions(max_share=None, n_probes=4, kernel="change"),
    )  # fmt: skip
    left = [event.step for event in monitor.events if event.kind == "left the linear regime"]
    assert left == ([] if found is None else [found])
    assert (found is None) == (target == 9.2)


class Wide(nn.Module):
    """f = u'v x / sqrt(m): the model of Lewkowycz et al. 2020, section 2."""

    def __init__(self, m: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(1, m, bias=False), nn.Linear(m, 1, bias=False)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=draws)
        self.m = m

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x)) / self.m**0.5


@pytest.mark.parametrize(("share", "catapults"), [(0.5, False), (1.5, True)])
def test_beyond_the_stable_rate_a_wide_linear_network_catapults(share: float, catapults: bool, tmp_path: Path) -> None:
    """With kernel lambda the loss f^2 / 2 falls at rates below 2 / lambda, and catapults between 2 and 4 / lambda."""
    net = Wide(64).double()
    one = torch.ones(4, 1, dtype=torch.float64)
    kernel = sum(float(p.detach().square().sum()) for p in net.parameters()) / 64
    monitor = trained(
        net, one, torch.zeros_like(one), tmp_path, 24, lr=share * 2 / kernel, loss=squares, layers=["first"],
        options=MonitorOptions(max_share=None, n_probes=4, kernel="change"),
    )  # fmt: skip
    assert ("catapult" in kinds(monitor)) == catapults
    assert monitor.rows[-1].get("loss") < 0.1 * monitor.rows[1].get("loss")


@pytest.mark.parametrize(("size", "catapults"), [(0.5, True), (1.0, False)])
def test_a_loss_that_leaps_and_comes_back_is_a_catapult_only_where_the_kernel_shrank(
    size: float, catapults: bool
) -> None:
    losses, sizes = [1.0, 0.9, 5.0, 0.5], [1.0, 1.0, 1.0, size]
    rows = [
        Row(step, 0, {"loss": loss, "kernel_size": kernel, "weight_change": 0.1 * step}, {})
        for step, (loss, kernel) in enumerate(zip(losses, sizes, strict=True))
    ]
    assert [event.kind for event in events_of(rows)] == ["catapult"] * catapults


@pytest.mark.parametrize(("shares", "dies"), [((0.95, 0.95), False), ((0.95, 0.996), True), ((0.2, 0.93), True)])
def test_a_layer_dies_by_the_features_that_were_alive_at_the_start(shares: tuple[float, float], dies: bool) -> None:
    rows = [Row(step, 0, {}, {"1": {"dead": share}}) for step, share in enumerate(shares)]
    assert [event.kind for event in events_of(rows)] == ["dead layer"] * dies


def test_features_that_become_the_same_for_all_inputs_collapse(tmp_path: Path) -> None:
    """From step 3 on the second layer has no weights but a bias; the layers before and after keep theirs."""
    net, (x, y) = network(), data()

    def cut(step: int) -> None:
        if step == 3:
            net[2].weight.data.zero_()  # pyright: ignore
            net[2].bias.data.fill_(1.0)  # pyright: ignore

    monitor = trained(net, x, y, tmp_path, 4, after=cut)
    (found,) = [event for event in monitor.events if event.kind == "features collapse"]
    assert (found.step, found.layer) == (3, "2")


def test_a_layer_behind_which_no_unit_is_active_is_dead(tmp_path: Path) -> None:
    """From step 2 on every unit of the second layer is below zero for all probes, so no output depends on it."""
    net, (x, y) = network(), data()

    def kill(step: int) -> None:
        if step == 2:
            net[2].bias.data.fill_(-100.0)  # pyright: ignore

    monitor = trained(net, x, y, tmp_path, 3, after=kill)
    dead = {(event.step, event.layer) for event in monitor.events if event.kind == "dead layer"}
    assert dead == {(2, "0"), (2, "2")}


def test_units_in_another_order_moved_without_demand(tmp_path: Path) -> None:
    """After a tiny step the hidden units change places: the function is the same, the features are all others."""
    net, (x, y) = network(width=64), data(64)

    def shuffle(step: int) -> None:
        if step == 2:
            order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
            net[0].weight.data, net[0].bias.data = net[0].weight.data[order], net[0].bias.data[order]  # pyright: ignore
            net[2].weight.data = net[2].weight.data[:, order]  # pyright: ignore
            again = torch.randperm(64, generator=torch.Generator().manual_seed(2))
            net[2].weight.data, net[2].bias.data = net[2].weight.data[again], net[2].bias.data[again]  # pyright: ignore
            net[4].weight.data = net[4].weight.data[:, again]  # pyright: ignore

    monitor = trained(
        net, x, y, tmp_path, 2, lr=1e-3, after=shuffle, options=MonitorOptions(max_share=None, kernel="demand")
    )
    (found,) = [event for event in monitor.events if event.kind == "excess without demand"]
    assert found.step == 2
    quiet = trained(network(width=64), x, y, tmp_path / "quiet", 2, lr=1e-3)
    assert "excess without demand" not in kinds(quiet)


def test_labels_that_cannot_be_generalised_lag(tmp_path: Path) -> None:
    """Random labels are learned by heart: the training loss gets low, that of other samples does not."""
    x, _ = data(32, 8)
    draws = torch.Generator().manual_seed(3)
    y, other = torch.randint(0, 2, (2, 32), generator=draws)
    held = (torch.randn(32, 8, generator=draws), other)
    options = MonitorOptions(max_share=None, kernel="none", held_out=held, n_probes=16)
    monitor = trained(network(d=8, width=64), x, y, tmp_path, 300, lr=0.5, every=30, options=options)
    assert monitor.rows[-1].get("loss") < 0.02
    assert kinds(monitor).count("grokking-like lag") == 1


def turning(turns: list[float], losses: list[float]) -> list[Row]:
    return [
        Row(i, 0, {"loss": loss, "kernel_turn": turn}) for i, (turn, loss) in enumerate(zip(turns, losses, strict=True))
    ]


LOSSES = [1.0, 0.5, 0.05, 0.04, 0.03, 0.02]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([0, 0.02, 0.05, 0.1, 0.2, 0.6], [5]),  # it turned after the fit
        ([0, 0.02, 0.05, 0.06, 0.07, 0.08], []),  # it is lazy to the end
        ([0, 0.3, 0.5, 0.6, 0.9, 1.2], []),  # it had turned by the fit
    ],
)
def test_a_kernel_that_turns_long_after_the_fit_lags(turns: list[float], expected: list[int]) -> None:
    found = [event.step for event in events_of(turning(turns, LOSSES)) if event.kind == "grokking-like lag"]
    assert found == expected


def test_a_loss_that_is_no_number_is_said_once_in_its_row_and_as_an_event(tmp_path: Path) -> None:
    net, (x, y) = network(), data()

    def break_it(step: int) -> None:
        if step == 4:
            net[0].weight.data.fill_(math.nan)  # pyright: ignore

    monitor = trained(net, x, y, tmp_path, 8, every=5, after=break_it)
    found = [event.step for event in monitor.events if event.kind == "loss is not finite"]
    assert found == [5]  # the loss of step 5 is the first of these weights, whatever the schedule
    assert math.isnan(monitor.rows[-1].get("loss"))
    assert "NaN" in monitor.rows[-1].note
    assert monitor.rows[-1].step == 8


def test_a_model_that_was_replaced_by_another_object_no_longer_moves(tmp_path: Path) -> None:
    rows = [Row(s, 0, {"loss": 1 / (s + 1), "weight_change": w}) for s, w in enumerate((0.1, 0.2, 0.2, 0.2))]
    assert [(e.kind, e.step) for e in events_of(rows)] == [("weights do not move", 3)]
    assert events_of(rows[:3]) == []


def test_quiet_rows_have_no_events() -> None:
    layers = {"fc": {"spread": 0.9, "dead": 0.0, "movement": -2.0}}
    rows = [
        Row(
            s,
            0,
            {"loss": 1.0 - 0.1 * s, "kernel_change": 0.01 * s, "weight_change": 0.01 * s, "movement": -2.0},
            layers,
        )
        for s in range(5)
    ]
    assert events_of(rows) == []
