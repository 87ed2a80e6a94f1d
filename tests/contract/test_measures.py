"""What every registered measure of one layer or two must keep, read from its declared facts alone."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from geomfeat.numerics import WORKING, stream, tolerance
from geomfeat.registry import TRANSFORMS, Measure, available, get
from geomfeat.statistics.group_errors import values_alone
from geomfeat.types import Estimate, Representation
from tests.contract.facts import assert_examples_run

MEASURES = [*available(scope="layer"), *available(scope="pair")]
LABELLED = [m for m in MEASURES if "labels" in m.needs]
# Labels of these name stimuli that are repeated a few times each, and not classes.
OF_STIMULI, STIMULI = ("participation_ratio_of_trials", "cross_validated_spectrum"), 16
WITH_OUTPUTS = [m for m in MEASURES if "outputs" in m.needs]

# How much larger intermediates may be than results: condition numbers of generic data, squared.
CONDITION = 1e4


def example(seed: int, n: int = 48, d: int = 10) -> Representation:
    """Generic labelled features: classes with different means, correlated units, no symmetry of any kind."""
    noise = stream(seed, "contract")
    labels = torch.arange(n) % 3
    means = torch.randn(3, d, generator=noise, dtype=WORKING)
    mixing = torch.randn(d, d, generator=noise, dtype=WORKING) * torch.linspace(1.5, 0.2, d, dtype=WORKING)
    x = 0.3 * means[labels] + torch.randn(n, d, generator=noise, dtype=WORKING) @ mixing / d**0.5 + 0.3
    outputs = x @ torch.randn(d, 3, generator=noise, dtype=WORKING)
    return Representation(x, labels, "fc1", outputs=outputs.tanh())


def arguments(m: Measure, rep: Representation) -> list[Representation]:
    """`rep`, and for a pair measure a second layer that is partly like it; labels of many stimuli where these count."""
    if m.scope == "layer":
        return [of_stimuli(rep) if m.name in OF_STIMULI else rep]
    noise = torch.randn(rep.x.shape, generator=stream(7, "second"), dtype=WORKING).to(rep.x)
    size = float(rep.x.abs().max())
    return [rep, rep.with_(x=rep.x + 0.4 * (size if math.isfinite(size) else 1.0) * noise)]


def of_stimuli(rep: Representation) -> Representation:
    """The same samples as trials of many stimuli, each with a pattern of its own."""
    labels = torch.arange(rep.n) % STIMULI
    size = float(rep.x.abs().max())
    patterns = torch.randn(STIMULI, rep.d, generator=stream(8, "stimuli"), dtype=WORKING).to(rep.x)
    return rep.with_(x=rep.x + 2 * (size if math.isfinite(size) else 1.0) * patterns[labels], labels=labels)


def result(m: Measure, *reps: Representation) -> dict[str, Estimate]:
    return m.run(*reps, seed=3) if m.stochastic else m.run(*reps)


def rotation(rep: Representation) -> Representation:
    q = torch.linalg.qr(torch.randn(rep.d, rep.d, generator=stream(1, "rotation"), dtype=WORKING))[0]
    return rep.with_(x=rep.x @ q)


def shift(rep: Representation) -> Representation:
    return rep.with_(x=rep.x + torch.randn(rep.d, generator=stream(1, "shift"), dtype=WORKING))


def unit_order(rep: Representation) -> Representation:
    return rep.with_(x=rep.x[:, torch.randperm(rep.d, generator=stream(1, "units"))])


def sample_order(rep: Representation) -> Representation:
    return rep.take(torch.randperm(rep.n, generator=stream(1, "samples")))


TRANSFORMATIONS: dict[str, Callable[[Representation], Representation]] = {
    "rotation": rotation,
    "scale": lambda rep: rep.with_(x=3.7 * rep.x),
    "shift": shift,
    "sample order": sample_order,
    "unit order": unit_order,
    "duplication": lambda rep: rep.take(torch.arange(rep.n).repeat(2)),
}


def same(
    a: dict[str, Estimate], b: dict[str, Estimate], dtype: torch.dtype = WORKING, scale: float = CONDITION
) -> bool:
    tol = tolerance(dtype, scale)
    return all(
        a[q].ok == b[q].ok
        and (
            (math.isnan(a[q].value) and math.isnan(b[q].value))
            or abs(a[q].value - b[q].value) <= tol["atol"] + tol["rtol"] * abs(a[q].value)
        )
        for q in a
    )


def assert_honest(m: Measure, estimates: dict[str, Estimate]) -> None:
    """Exactly the declared quantities; each finite and within bounds, or failed with a reason."""
    assert set(estimates) == set(m.quantities)
    for name, estimate in estimates.items():
        if not estimate.ok:
            assert len(estimate.note) > 20, (m.name, name)
            continue
        low, high = m.quantities[name].bounds
        slack = tolerance(WORKING, CONDITION)["atol"] * max(1.0, abs(estimate.value))
        assert math.isfinite(estimate.value), (m.name, name)
        assert low - slack <= estimate.value <= high + slack, (m.name, name, estimate)
        assert estimate.stderr is None or (math.isfinite(estimate.stderr) and estimate.stderr >= 0), (m.name, name)


def test_the_transformations_tested_are_the_ones_measures_can_declare():
    assert set(TRANSFORMATIONS) == TRANSFORMS


@cache
def untransformed(name: str, seed: int) -> tuple[list[Representation], dict[str, Estimate]]:
    """Generic layers and what a measure reads of them, for all transformations; no errors, which are not compared."""
    m = get(name)
    reps = arguments(m, example(seed))
    with values_alone():
        before = result(m, *reps)
    assert all(e.ok for e in before.values()), before
    return reps, before


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_invariances_are_exactly_the_declared_ones(m: Measure, transform: str):
    change = TRANSFORMATIONS[transform]
    pairs = []
    for seed in range(3):
        reps, before = untransformed(m.name, seed)
        with values_alone():
            after = result(m, *[change(r) for r in reps])
        pairs.append(same(before, after))
    # Declared: kept on every data set. Not declared: broken on one at least (a count can agree by chance).
    assert all(pairs) == (transform in m.invariant_to), pairs


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_results_are_honest_on_generic_data(m: Measure):
    assert_honest(m, result(m, *arguments(m, example(5))))


@pytest.mark.parametrize("m", MEASURES, ids=str)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(2, 30),
    d=st.integers(1, 12),
    classes=st.integers(1, 5),
    kind=st.sampled_from(["normal", "rounded", "heavy", "rank one", "sparse"]),
    size=st.sampled_from([1e-12, 1.0, 1e12]),
    seed=st.integers(0, 10**6),
)
def test_results_are_honest_on_any_data(m: Measure, n: int, d: int, classes: int, kind: str, size: float, seed: int):
    noise = stream(seed, "any")
    x = torch.randn(n, d, generator=noise, dtype=WORKING)
    if kind == "rounded":
        x = x.round()
    elif kind == "heavy":
        x = x**5
    elif kind == "rank one":
        x = x[:, :1] * torch.randn(1, d, generator=noise, dtype=WORKING)
    elif kind == "sparse":
        x = x * (torch.rand(n, d, generator=noise) < 0.2)
    labels = torch.randint(0, classes, (n,), generator=noise)
    rep = Representation(size * x, labels, "fc1", outputs=torch.randn(n, 2, generator=noise, dtype=WORKING))
    assert_honest(m, result(m, *arguments(m, rep)))


def _constant(rep: Representation) -> Representation:
    return rep.with_(x=torch.full_like(rep.x, 0.1))


DEGENERATE: dict[str, Callable[[Representation], Representation]] = {
    "all zero": lambda rep: rep.with_(x=torch.zeros_like(rep.x)),
    "constant": _constant,
    "constant in float32": lambda rep: _constant(rep.with_(x=rep.x.float())),
    "one constant unit": lambda rep: rep.with_(x=torch.cat([rep.x[:, :-1], torch.ones_like(rep.x[:, :1])], 1)),
    "every point five times": lambda rep: rep.take(torch.arange(rep.n) // 5 * 5),
    "one class": lambda rep: rep.with_(labels=torch.zeros_like(rep.labels)),
    "a class with one sample": lambda rep: rep.with_(labels=(torch.arange(rep.n) == 0).long()),
    "every class has one sample": lambda rep: rep.with_(labels=torch.arange(rep.n)),
    "two samples": lambda rep: rep.take(torch.arange(2)),
    "one sample": lambda rep: rep.take(torch.arange(1)),
    "one unit": lambda rep: rep.with_(x=rep.x[:, :1]),
    "tiny": lambda rep: rep.with_(x=1e-30 * rep.x),
    "huge": lambda rep: rep.with_(x=1e30 * rep.x),
    "half precision": lambda rep: rep.with_(x=rep.x.half()),
    "far from the origin": lambda rep: rep.with_(x=rep.x + 1e6),
    "constant outputs": lambda rep: rep.with_(outputs=torch.ones_like(rep.outputs)),
    "identical class means": lambda rep: rep.with_(x=torch.cat([rep.x, -rep.x]), labels=None, outputs=None).with_(
        labels=torch.cat([rep.labels, rep.labels])
    ),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_degenerate_data_give_numbers_or_reasons(m: Measure, case: str):
    rep = DEGENERATE[case](example(2))
    reps = arguments(m, rep)
    assert_honest(m, result(m, *reps))
    if reps != [rep]:
        assert_honest(m, result(m, *[rep] * len(reps)))


@pytest.mark.parametrize("m", LABELLED, ids=str)
def test_missing_labels_are_a_failed_row_that_names_the_layer(m: Measure):
    out = result(m, *[r.with_(labels=None) for r in arguments(m, example(0))])
    assert set(out) == set(m.quantities)
    assert all(not e.ok and "needs labels" in e.note and "'fc1'" in e.note for e in out.values())


@pytest.mark.parametrize("m", WITH_OUTPUTS, ids=str)
def test_missing_outputs_are_a_failed_row(m: Measure):
    out = result(m, *[r.with_(outputs=None) for r in arguments(m, example(0))])
    assert all(not e.ok and "needs outputs" in e.note for e in out.values())


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_too_few_samples_are_a_failed_row_that_says_how_many(m: Measure):
    assert m.min_samples >= 2
    few = m.min_samples - 1
    out = result(m, *[r.take(torch.arange(few)) for r in arguments(m, example(0))])
    assert all(not e.ok and f"at least {m.min_samples} samples, got {few}" in e.note for e in out.values())


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_results_depend_on_the_seed_alone(m: Measure):
    reps = arguments(m, example(4))
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  (the global generator is what must not matter)
    first = result(m, *reps)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert result(m, *reps) == first
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    result(m, *reps)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    if m.stochastic:
        assert m.run(*reps, seed=4) != first


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_single_precision_agrees_with_double(m: Measure):
    reps = [r.with_(x=r.x.float()) for r in arguments(m, example(6))]
    double = [r.with_(x=r.x.double()) for r in reps]
    assert same(result(m, *double), result(m, *reps), torch.float32, 1.0)


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_devices_agree(m: Measure, device: str):
    reps = arguments(m, example(1))
    there = [r.with_(x=r.x.to(device), labels=r.labels.to(device), outputs=r.outputs.to(device)) for r in reps]
    assert same(result(m, *reps), result(m, *there))


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_inputs_are_left_alone(m: Measure):
    reps = arguments(m, example(1))
    copies = [r.x.clone() for r in reps]
    result(m, *reps)
    assert all(torch.equal(r.x, c) for r, c in zip(reps, copies, strict=True))


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_facts_are_reported(m: Measure):
    assert len(m.source) > 10
    assert len(m.summary) > 20
    assert m.summary.endswith(".")
    for name, quantity in m.quantities.items():
        assert quantity.bounds[0] < quantity.bounds[1], name
    if m.stochastic:
        assert "seed" in inspect.signature(m.function).parameters


@pytest.mark.parametrize("m", MEASURES, ids=str)
def test_examples_run(m: Measure):
    assert_examples_run(m)
