"""Unbalanced layers at the small size, the closed forms behind them, and the flow that trains them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.lab.result import Findings
from geomfeat.lab.theory.two_layer_flow import gradient_flow
from geomfeat.lab.theory.unbalanced_layers import one_mode_kernel_demand, orthogonal_place, orthogonal_start
from geomfeat.numerics import WORKING
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("unbalanced")


def test_the_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 16
    assert set(found.table["net"]) == {"linear", "ReLU", "one mode"}


def test_rank_correlations_favour_the_kernel_demand(found: Findings) -> None:
    for net in ("linear", "ReLU"):
        rows: Any = found.table[found.table["net"] == net]
        for measured in ("kernel_change", "gap"):
            ranks = {of: rows[of].corr(rows[measured], method="spearman") for of in ("R", "kappa")}
            assert ranks["kappa"] > ranks["R"] + 0.05
            assert ranks["kappa"] > 0.85


def test_a_large_read_out_is_rich_in_relu_networks_only(found: Findings) -> None:
    """At the largest scale and imbalance: the first layer's features move, and the kernel too where units switch."""
    table: Any = found.table[found.table["scale"] == found.table["scale"].max()]
    change = table.groupby(["net", "ratio"])["kernel_change"].mean().to_dict()
    least, most = table["ratio"].min(), table["ratio"].max()
    assert change["linear", most] == pytest.approx(change["linear", least], rel=1e-3)
    assert change["ReLU", most] > 30 * change["ReLU", least]
    assert change["ReLU", most] > 30 * change["linear", most]


def test_the_closed_form_at_a_large_imbalance_is_that_of_lambda_balanced_networks() -> None:
    modes = torch.linspace(1, 3, 5, dtype=WORKING)
    for lam in (5.0, 20.0):
        known = math.log10(0.9 * float(modes.pow(4).mean()) ** 0.25 / (lam * math.sqrt(0.2)))
        for sizes in ((1e-4, math.sqrt(lam)), (math.sqrt(lam), 1e-4)):
            assert orthogonal_place(*sizes, modes).kernel_demand == pytest.approx(known, abs=1e-6)


def test_one_mode_crosses_on_its_way_down_where_it_shrinks_the_kernel_enough() -> None:
    assert one_mode_kernel_demand(1.0, 1.0, -0.3) == pytest.approx(math.log10(0.27 / (2 * (1 - math.sqrt(0.8)))))
    shrunk, grown = (one_mode_kernel_demand(0.1, 10.0, d) for d in (-0.3, 0.3))
    assert shrunk < grown, "without much of a mode, shrinking it costs less than what grows on the other side"


def test_the_flow_keeps_the_balance_and_says_where_it_did_not_arrive() -> None:
    q = torch.linalg.qr(torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=WORKING)).Q
    before = orthogonal_start(torch.tensor([0.5, 2.0]), torch.tensor([1.0, 0.1]), q)
    x, y = torch.eye(2, dtype=WORKING), torch.diag(torch.tensor([1.0, 2.0], dtype=WORKING))
    w, a = gradient_flow(*before, x, y, relu=False, share_left=1e-6)
    balance = [(a.mT @ a - w @ w.mT).numpy() for w, a in (before, (w, a))]
    assert np.abs(balance[1] - balance[0]).max() < 1e-3
    assert float((x @ w.mT @ a.mT - y).square().sum((1, 2)).max()) < 1e-6 * float(y.square().sum())
    with pytest.raises(RuntimeError, match="2 of 2 networks have more than"):
        gradient_flow(*before, x, y, relu=False, share_left=1e-6, max_steps=5)
