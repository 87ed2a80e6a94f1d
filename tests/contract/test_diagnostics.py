"""What every registered diagnostic on (initial, trained) must keep, read from its declared facts alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from geomfeat.numerics import stream
from geomfeat.registry import Measure, available
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate
from tests.contract.facts import assert_examples_run, assert_facts_are_reported
from tests.measures.network.pairs import pair_of
from tests.zoo import Case, nudged, zoo

DIAGNOSTICS = available(scope="network")
# Those that need no initial weights read where the trained network stands; the others how far it moved.
MOVEMENT = [m for m in DIAGNOSTICS if "init" in m.needs]
STATE = [m for m in DIAGNOSTICS if "init" not in m.needs]
Rows = dict[str, dict[str, Estimate]]

CLASSES = [0, 1, 0, 1, 0, 1]


def make(case: Case, trained: nn.Module, **fields) -> SnapshotPair:
    n = len(case.inputs[0] if isinstance(case.inputs, tuple) else case.inputs)
    return pair_of(case.model, trained, case.inputs, labels=torch.tensor(CLASSES[:n]), **fields)


def assert_honest(m: Measure, rows: Rows) -> None:
    """A row for the network; declared quantities only; each finite and within bounds, or failed with a reason."""
    assert "" in rows, m.name
    for layer, row in rows.items():
        assert row, (m.name, layer)
        assert set(row) <= set(m.quantities), (m.name, layer)
        for name, estimate in row.items():
            where = (m.name, layer, name, estimate)
            if not estimate.ok:
                assert len(estimate.note) > 20, where
                continue
            low, high = m.quantities[name].bounds
            assert math.isfinite(estimate.value), where
            assert low - 1e-12 <= estimate.value <= high + 1e-12, where
            assert estimate.stderr is None or (math.isfinite(estimate.stderr) and estimate.stderr >= 0), where
    assert set(rows[""]) == set(m.quantities), m.name


def same(a: Rows, b: Rows, rel: float = 0.0) -> bool:
    def close(x: float | None, y: float | None) -> bool:
        if x is None or y is None:
            return x is y
        return (math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=rel, abs_tol=rel)

    return a.keys() == b.keys() and all(
        a[layer].keys() == b[layer].keys()
        and all(a[layer][q].ok == b[layer][q].ok and close(a[layer][q].value, b[layer][q].value) for q in a[layer])
        for layer in a
    )


@pytest.mark.parametrize("case", zoo(), ids=str)
@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_honest_on_every_kind_of_network(m: Measure, case: Case) -> None:
    assert_honest(m, m.run(make(case, nudged(case.model, 0.2))))


@pytest.mark.parametrize("case", zoo(), ids=str)
@pytest.mark.parametrize("m", MOVEMENT, ids=str)
def test_equal_snapshots_read_nothing_moved(m: Measure, case: Case) -> None:
    rows = m.run(make(case, copy.deepcopy(case.model)))
    assert_honest(m, rows)
    for row in rows.values():
        for name, estimate in row.items():
            # "1 = ..." in the direction says that this quantity reads 1 where nothing moved.
            still = 1.0 if m.quantities[name].direction.startswith("1 =") else 0.0
            assert not estimate.ok or abs(estimate.value - still) < 1e-12, (m.name, name, estimate)


@pytest.mark.parametrize("case", zoo(), ids=str)
@pytest.mark.parametrize("m", STATE, ids=str)
def test_without_need_of_initial_weights_they_do_not_matter(m: Measure, case: Case) -> None:
    trained = nudged(case.model, 0.2)
    assert same(m.run(make(case, trained)), m.run(make(Case("", trained, case.inputs, case.layer), trained)))


@pytest.mark.parametrize("m", MOVEMENT, ids=str)
def test_the_further_the_weights_the_larger_the_movement(m: Measure) -> None:
    case = zoo()[0]
    near, far = (m.run(make(case, nudged(case.model, size)))[""] for size in (1e-3, 0.3))
    for name in m.quantities:
        if m.quantities[name].unit.startswith("share of squares"):
            continue  # what the movement is made of, not how large it is
        falls = m.quantities[name].direction.startswith("1 =")
        assert (near[name].value > far[name].value) == falls, (m.name, name)


@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_deterministic_and_blind_to_global_generators(m: Measure) -> None:
    case = zoo()[2]
    trained = nudged(case.model, 0.2)
    torch.manual_seed(1)
    first = m.run(make(case, trained, seed=3))
    state = torch.get_rng_state()
    assert torch.equal(state, torch.manual_seed(1).get_state())
    torch.manual_seed(2)
    assert same(first, m.run(make(case, trained, seed=3)))


@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_models_and_inputs_are_left_alone(m: Measure) -> None:
    for case in zoo():
        trained = nudged(case.model, 0.2)
        models = (case.model, trained)
        for model in models:
            model.train()
        before = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
        inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
        held = [t.clone() for t in inputs]
        m.run(make(case, trained))
        for model, old in zip(models, before, strict=True):
            assert model.training
            assert all(torch.equal(v, old[k]) for k, v in model.state_dict().items())
            assert not any(s._forward_hooks or s._forward_pre_hooks for s in model.modules())
            assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(a, b) for a, b in zip(inputs, held, strict=True))


@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_order_of_samples_does_not_matter(m: Measure) -> None:
    case = zoo()[2]
    trained = nudged(case.model, 0.2)
    order = torch.randperm(5, generator=stream(0, "order"))
    shuffled = pair_of(case.model, trained, case.inputs[order], labels=torch.tensor(CLASSES)[order])
    assert same(m.run(make(case, trained)), m.run(shuffled), rel=1e-5)


@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_devices_agree(m: Measure, device: str) -> None:
    for case in (zoo()[0], zoo()[3]):
        trained = nudged(case.model, 0.2)
        there = pair_of(
            copy.deepcopy(case.model).to(device), copy.deepcopy(trained).to(device), case.inputs, device=device,
            labels=torch.tensor(CLASSES[: len(case.inputs)]),
        )  # fmt: skip
        assert same(m.run(make(case, trained)), m.run(there), rel=1e-5)


DEGENERATE = {
    "one sample": lambda: (zoo()[0].model, nudged(zoo()[0].model, 0.1), torch.ones(1, 4)),
    "equal samples": lambda: (zoo()[0].model, nudged(zoo()[0].model, 0.1), torch.ones(7, 4)),
    "zero inputs": lambda: (zoo()[0].model, nudged(zoo()[0].model, 0.1), torch.zeros(7, 4)),
    "zero weights": lambda: (zeroed(zoo()[0].model), zoo()[0].model, torch.randn(7, 4, generator=stream(0, "x"))),
    "to zero": lambda: (zoo()[0].model, zeroed(zoo()[0].model), torch.randn(7, 4, generator=stream(0, "x"))),
    "no hidden layer": lambda: (nn.Linear(4, 2), nn.Linear(4, 2), torch.randn(7, 4, generator=stream(0, "x"))),
    "other widths": lambda: (nn.Linear(4, 2), nn.Linear(4, 3), torch.randn(7, 4, generator=stream(0, "x"))),
}


def zeroed(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    return model


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_degenerate_pairs_give_numbers_or_reasons(m: Measure, name: str) -> None:
    initial, trained, x = DEGENERATE[name]()
    assert_honest(m, m.run(pair_of(initial, trained, x, labels=torch.zeros(len(x), dtype=torch.long))))


@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_examples_run(m: Measure) -> None:
    assert_examples_run(m)


@pytest.mark.parametrize("m", DIAGNOSTICS, ids=str)
def test_facts_are_reported(m: Measure) -> None:
    assert_facts_are_reported(m)
