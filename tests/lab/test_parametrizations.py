"""One trajectory in four forms at the small size: same outputs, same place; `locate` with the optimizer's groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.lab.parametrizations import FORMS, LAYERS, task, train, written
from geomfeat.lab.result import Findings
from geomfeat.location import LocateOptions, locate
from tests.lab.small_runs import small_run


@pytest.fixture(scope="module")
def found() -> Findings:
    return small_run("parametrizations")


def test_the_checks_hold(found: Findings) -> None:
    assert found.failed == []
    assert len(found.checks) == 11
    assert set(found.table["form"]) == set(FORMS)


def test_without_the_optimizer_forms_of_one_trajectory_lie_decades_apart(found: Findings) -> None:
    first: Any = found.table[found.table["draw"] == 0]
    for _, rows in first.groupby("width"):
        assert np.ptp(rows["R_plain"]) > 2
        assert np.ptp(rows["kappa_plain"]) > 0.5
        assert np.ptp(rows["gap"]) < 1e-9, "what happened does not depend on the metric"
    one_rate = first[first["form"] == "multipliers"]
    assert one_rate["R_plain"].tolist() == pytest.approx(one_rate["R"].tolist(), abs=1e-9)


def test_forms_start_and_move_alike_and_learn() -> None:
    x, y = task(3)
    paths = {name: train(start, x, y)[2] for name, start in written(32, 3).items()}
    for path in paths.values():
        torch.testing.assert_close(path, paths["multipliers"], rtol=1e-10, atol=1e-12)
    assert float((paths["rates"][-1] - y[:, 0]).square().mean()) < 1e-3


def test_building_networks_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    written(16, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_locate_takes_the_groups_of_any_form() -> None:
    x, y = task(1)
    options = LocateOptions(n_bootstrap=2, n_probes=8)
    places = []
    for start in written(48, 1).values():
        model, optimizer, _ = train(start, x, y)
        place = locate(model, x, initial=start.model, layers=list(LAYERS), optimizer=optimizer, progress=False,
                       options=options)  # fmt: skip
        assert place.metric == "given rates"
        places.append([place.richness, place.kernel_demand, place.kernel_change, place.movement])
    assert np.ptp(np.array(places), axis=0).max() < 1e-6
