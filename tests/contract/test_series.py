"""What every registered diagnostic over time must keep, read from its declared facts alone."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from geomfeat.models.nested_inputs import as_inputs, n_samples, take
from geomfeat.numerics import stream
from geomfeat.registry import Measure, available
from geomfeat.snapshots import SnapshotSeries
from geomfeat.types import Estimate, Snapshot
from tests.contract.facts import assert_examples_run, assert_facts_are_reported
from tests.location.runs import RICH_GAMMA, digits_series
from tests.zoo import Case, nudged, zoo

SERIES = available(scope="series")
CLASSES = [0, 1, 0, 1, 0, 1]
Rows = dict[str, Estimate]


def of_case(case: Case, **fields) -> SnapshotSeries:
    """A case's network, three times nudged further."""
    n = n_samples(as_inputs(case.inputs))
    models = [case.model, *(nudged(case.model, size) for size in (0.1, 0.2, 0.4))]
    snapshots = [Snapshot(model, "init" if i == 0 else 10**i) for i, model in enumerate(models)]
    return SnapshotSeries(snapshots, case.inputs, torch.tensor(CLASSES[:n]), **fields)


@cache
def trained() -> SnapshotSeries:
    """A rich run on digits: every third of its snapshots, on some samples, of which kernels take little time."""
    whole = digits_series(RICH_GAMMA)
    return replace(whole, snapshots=whole.snapshots[::3], inputs=whole.inputs[:30], targets=whole.targets[:30])


def assert_honest(m: Measure, rows: Rows) -> None:
    """All declared quantities; each finite and within bounds, or failed with a reason."""
    assert set(rows) == set(m.quantities), m.name
    for name, estimate in rows.items():
        if not estimate.ok:
            assert len(estimate.note) > 20, (name, estimate)
            continue
        low, high = m.quantities[name].bounds
        assert math.isfinite(estimate.value), (name, estimate)
        assert low - 1e-12 <= estimate.value <= high + 1e-12, (name, estimate)
        assert estimate.note, "the verdict is in the note"


def same(a: Rows, b: Rows, rel: float = 0.0) -> bool:
    return all(
        a[name].ok == b[name].ok and (not a[name].ok or math.isclose(a[name].value, b[name].value, rel_tol=rel))
        for name in a
    )


@pytest.mark.parametrize("case", zoo(), ids=str)
@pytest.mark.parametrize("m", SERIES, ids=str)
def test_honest_on_every_kind_of_network(m: Measure, case: Case) -> None:
    rows = m.run(of_case(case))
    assert_honest(m, rows)
    assert any(e.ok for e in rows.values()), rows


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_on_a_run_that_was_trained_every_number_exists(m: Measure) -> None:
    rows = m.run(trained())
    assert_honest(m, rows)
    assert all(e.ok for e in rows.values()), rows


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_deterministic_and_blind_to_global_generators(m: Measure) -> None:
    torch.manual_seed(1)
    first = m.run(of_case(zoo()[2]))
    assert torch.equal(torch.get_rng_state(), torch.manual_seed(1).get_state())
    torch.manual_seed(2)
    assert same(first, m.run(of_case(zoo()[2])))


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_models_and_inputs_are_left_alone(m: Measure) -> None:
    for case in zoo():
        series = of_case(case)
        models = [s.model.train() for s in series.snapshots]
        before = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
        inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
        held = [t.clone() for t in inputs]
        m.run(series)
        for model, old in zip(models, before, strict=True):
            assert model.training
            assert all(torch.equal(v, old[k]) for k, v in model.state_dict().items())
            assert not any(s._forward_hooks or s._forward_pre_hooks for s in model.modules())
            assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(a, b) for a, b in zip(inputs, held, strict=True))


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_order_of_samples_does_not_matter(m: Measure) -> None:
    few = trained()
    order = torch.randperm(len(few.inputs), generator=stream(0, "order"))
    assert same(m.run(few), m.run(replace(few, inputs=take(few.inputs, order), targets=few.targets[order])), rel=1e-7)


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_needs_declared_are_needs(m: Measure) -> None:
    rows = m.run(replace(trained(), targets=None))
    assert_honest(m, rows)
    assert any(e.ok for e in rows.values()) == ("labels" not in m.needs)


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_devices_agree(m: Measure, device: str) -> None:
    series = trained()
    assert same(m.run(series), m.run(replace(series, device=device)), rel=1e-5)


DEGENERATE = {
    "one sample": lambda s: replace(s, inputs=s.inputs[:1], targets=s.targets[:1]),
    "equal samples": lambda s: replace(s, inputs=torch.ones_like(s.inputs)),
    "zero inputs": lambda s: replace(s, inputs=torch.zeros_like(s.inputs)),
    "no sample": lambda s: replace(s, inputs=s.inputs[:0], targets=s.targets[:0]),
    "one class": lambda s: replace(s, targets=torch.zeros_like(s.targets)),
    "no snapshot": lambda s: replace(s, snapshots=[]),
    "one snapshot": lambda s: replace(s, snapshots=s.snapshots[:1]),
    "copies": lambda s: replace(s, snapshots=[replace(s.snapshots[0], at=i) for i in range(4)]),
    "no steps": lambda s: replace(s, snapshots=[replace(x, at="trained") for x in s.snapshots]),
    "no test sample": lambda s: replace(s, test=(s.inputs[:0], s.targets[:0])),
    "other networks": lambda s: replace(s, snapshots=[*s.snapshots, Snapshot(nn.Linear(64, 10), 10**6)]),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("m", SERIES, ids=str)
def test_degenerate_series_give_numbers_or_reasons(m: Measure, name: str) -> None:
    assert_honest(m, m.run(DEGENERATE[name](trained())))


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_examples_run(m: Measure) -> None:
    assert_examples_run(m)


@pytest.mark.parametrize("m", SERIES, ids=str)
def test_facts_are_reported(m: Measure) -> None:
    assert_facts_are_reported(m)
