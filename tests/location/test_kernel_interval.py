"""Errors of the kernel's numbers: what resampling by hand gives, groups, and the coverage of the population's value."""

import math

import pytest
import torch

from geomfeat.location.kernel_interval import (
    Resample,
    ResampledResponse,
    Squares,
    along_response,
    log_change,
    measured,
    pair_squares,
    standard_errors,
)
from geomfeat.numerics import stream
from tests.geometry.clouds import normal


def test_weights_count_pairs_as_often_as_repeated_probes_would() -> None:
    before, after = (normal(8, 8, seed=s) for s in (1, 2))
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    squares = pair_squares(before, 2), pair_squares(after - before, 2)
    rows = torch.tensor([0, 1, 0, 1, 4, 5, 6, 7])
    repeated = [k[rows][:, rows] for k in (before, after)]
    want = float(torch.log10((repeated[1] - repeated[0]).norm() / repeated[0].norm()))
    assert log_change(squares, torch.arange(4), weights) == pytest.approx(want, abs=1e-12)


def of_size(response: ResampledResponse) -> Squares:
    return torch.ones(3), response.direction["w"].square() * torch.ones(3)


def test_a_demand_goes_by_the_response_of_its_resample() -> None:
    responses = [
        ResampledResponse(torch.ones(3, 1), torch.arange(3), lambda size=size: {"w": torch.tensor(size)})
        for size in (1.0, 100.0)
    ]
    drawn = [Resample(torch.ones(3), response) for response in responses]
    errors = standard_errors({"kernel_demand": along_response(of_size, torch.arange(3), slope=2.0)}, drawn)
    assert errors["kernel_demand"] == pytest.approx(math.sqrt(0.5))


def test_a_response_is_computed_once_for_all_numbers_and_then_let_go() -> None:
    taken: list[int] = []
    responses = [
        ResampledResponse(torch.ones(3, 1), torch.arange(3), lambda: taken.append(1) or {"w": torch.tensor(2.0)})
    ]
    of = {name: along_response(of_size, torch.arange(3)) for name in ("one", "other")}
    standard_errors(of, [Resample(torch.ones(3), response) for response in responses])
    assert len(taken) == 1
    assert responses[0].direction["w"] == 2.0
    assert len(taken) == 2


def test_resamples_without_a_response_are_left_out_of_a_demand() -> None:
    of = along_response(of_size, torch.arange(3))
    assert math.isnan(standard_errors({"x": of}, [Resample(torch.ones(3))] * 3)["x"])


def test_one_resample_knows_no_error() -> None:
    of = measured((torch.ones(3), torch.ones(3)), torch.arange(3))
    assert math.isnan(standard_errors({"gap": of}, [Resample(torch.ones(3))])["gap"])


def drawn(rows: int, seed: int) -> Squares:
    """Squares of a change whose size differs from probe to probe."""
    size = torch.exp(torch.randn(rows, generator=stream(seed, "probes"), dtype=torch.float64))
    return torch.ones(rows, dtype=torch.float64), size


def test_intervals_hold_the_value_of_the_population() -> None:
    truth = 0.5 * math.log10(math.exp(0.5))  # mean of exp(N(0, 1))
    inside, every = 0, torch.ones(80, dtype=torch.float64)
    for seed in range(60):
        of, g = measured(drawn(80, seed), torch.arange(80)), stream(seed, "resamples")
        resamples = [
            Resample(torch.bincount(torch.randint(80, (80,), generator=g), minlength=80).double()) for _ in range(40)
        ]
        error = standard_errors({"x": of}, resamples)["x"]
        inside += abs(of(Resample(every)) - truth) < 1.645 * error
    assert 45 <= inside <= 59  # 90 % of 60 is 54; the few large probes make them a little narrow
