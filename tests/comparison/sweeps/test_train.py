"""Trainings of a sweep: what becomes of them, and that the learning rate and the output scale mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geomfeat.comparison.sweeps.config import parse_config
from geomfeat.comparison.sweeps.grid import RunConfig, dataset_of, network_of, runs_of
from geomfeat.comparison.sweeps.outcomes import TrainedRun, log_spaced
from geomfeat.comparison.sweeps.train import train_run
from geomfeat.data.dataset import Dataset
from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions
from geomfeat.models.functional import functional
from tests.comparison.sweeps_on_disk import tiny


def one(**changes: Any) -> tuple[RunConfig, Dataset, TrainedRun]:
    (run,) = runs_of(parse_config(tiny(seeds=1, **changes)))
    data = dataset_of(run)
    return run, data, train_run(run, data)


def test_a_run_that_fits_is_matched_to_the_target_loss() -> None:
    _, _, found = one()
    assert (found.outcome, found.note, found.numbers["converged"]) == ("matched", "", True)
    assert 0.495 <= float(found.numbers["train_loss"] or 0) <= 0.5


def test_without_a_target_all_steps_are_taken() -> None:
    _, _, found = one(train={"target_loss": None, "max_steps": 7})
    assert (found.outcome, found.numbers["steps"]) == ("completed", 7)


@pytest.mark.parametrize(
    ("changes", "outcome", "note"),
    [
        ({"eta": 100.0}, "diverged", "diverged at step|above that of the start"),
        ({"eta": 1e-5}, "unmatched", "raise max_steps"),
        ({"eta": 0.1, "options": {"bias": False}, "sigma": 1e-4}, "stalled", "stalled"),
        ({"sigma": 1e13, "depth": 3}, "failed", "NaN or infinite"),
        ({"optimizer": "adam", "eta": 1e3}, "diverged", "above that of the start|diverged by"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_an_outcome_with_its_reason(changes: dict[str, Any], outcome: str, note: str) -> None:
    _, _, found = one(**changes)
    assert found.outcome == outcome, found.note
    assert found.usable == (outcome in ("unmatched", "stalled"))
    assert any(part in found.note for part in note.split("|")), found.note


def test_a_given_rate_is_gradient_descent_step_by_step() -> None:
    """Against a loop written from the definition, with the loss that rises at first: no step is undone."""
    gamma, steps = 0.5, 12
    common = {"sigma": 1.5, "gamma": gamma, "width": 16}
    _, _, first = one(**common, train={"target_loss": None, "max_steps": 1})
    eta = 2.5 / float(first.numbers["sharpness_initial"] or 0)  # above the edge of stability, 2
    run, data, found = one(**common, eta=eta, train={"target_loss": None, "max_steps": steps})
    assert data.labels is not None
    net = network_of(run, data).double()
    x, goal = data.inputs.double(), F.one_hot(data.labels, 10).double() - 0.1
    at_start, unit = net(x).detach(), float(goal.square().sum(1).mean())
    losses = []
    for _ in range(steps):
        f = (net(x) - at_start) / gamma
        loss = (f - goal).square().sum(1).mean() / unit
        losses.append(float(loss.detach()))
        slopes = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for w, slope in zip(net.parameters(), slopes, strict=True):
                w -= eta * gamma**2 * slope
    assert max(np.diff(losses)) > 0.01  # else back-off would have undone nothing
    assert found.trained is not None
    ours = torch.cat([p.detach().flatten() for p in found.trained.parameters()]).double()
    theirs = torch.cat([p.detach().flatten() for p in net.parameters()])
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def test_sharpness_is_the_largest_eigenvalue_of_the_gauss_newton_hessian() -> None:
    gamma = 2.0
    _, data, found = one(gamma=gamma, eta=0.01, width=4, train={"n": 20, "max_steps": 5}, measure={"n": 20})
    assert found.initial is not None
    assert data.labels is not None
    f = functional(found.initial, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda theta: f(theta, f.inputs(data.inputs)))(f.theta)  # (n, C, p)
    if isinstance(jacobian, dict):
        jacobian = torch.cat([j.flatten(2) for j in jacobian.values()], 2)
    flat = jacobian.flatten(0, 1)  # df/du = (1 / gamma) dnet/dw * gamma
    unit = float((F.one_hot(data.labels, 10) - 0.1).square().sum(1).mean())
    expected = 2 * float(torch.linalg.matrix_norm(flat, 2)) ** 2 / (20 * unit)
    assert found.numbers["sharpness_initial"] == pytest.approx(expected, rel=0.02)
    assert found.numbers["stability"] == pytest.approx(0.01 * expected, rel=0.02)


def test_snapshots_lie_evenly_in_log_step() -> None:
    assert log_spaced(100, 0) == []
    assert log_spaced(10_000, 4) == [1, 10, 100, 1000]
    steps = log_spaced(5, 20)
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1] < 6) == (1, True)
    _, _, found = one(train={"snapshots": 3, "target_loss": None, "max_steps": 27})
    assert list(found.snapshots) == [1, 3, 9]


def test_uncentred_training_starts_from_the_outputs_of_the_initial_network() -> None:
    _, data, found = one(sigma=2.0, train={"centered": False, "target_loss": None, "max_steps": 1}, eta=1e-9)
    assert found.initial is not None
    assert data.labels is not None
    goal = F.one_hot(data.labels, 10) - 0.1
    with torch.no_grad():
        loss = (found.initial(data.inputs) - goal).square().sum(1).mean() / goal.square().sum(1).mean()
    assert found.numbers["train_loss"] == pytest.approx(float(loss), rel=1e-4)
    assert float(loss) > 1.01
    assert found.outcome == "completed", found.note


def test_richness_does_not_depend_on_width_in_mup_and_falls_as_its_root_in_the_ntk_parameterization() -> None:
    """Slopes of R on log10 width, 0 and -1/2 (Yang and Hu 2021; Karkada 2024): few samples, so that these are wide."""
    widths, slopes = [64, 256], {}
    for scheme in ("mup", "ntk"):
        richness = []
        for width in widths:
            config = tiny(width=width, parameterization=scheme, seeds=2, options={"bias": False}, measure={"n": 10},
                          train={"n": 10, "target_loss": 0.1, "momentum": 0.9})  # fmt: skip
            for run in runs_of(parse_config(config)):
                data = dataset_of(run)
                found = train_run(run, data)
                assert found.outcome == "matched", found.note
                assert found.trained is not None
                where = locate(
                    found.trained,
                    data.inputs,
                    initial=found.initial,
                    progress=False,
                    options=LocateOptions(n_bootstrap=2),
                )
                richness.append(where.richness)
        slopes[scheme] = np.polyfit(np.log10(np.repeat(widths, 2)), richness, 1)[0]
    assert slopes["mup"] == pytest.approx(0, abs=0.1), slopes
    assert slopes["ntk"] == pytest.approx(-0.5, abs=0.1), slopes
