"""Registration, scopes, lookup, and how a measure that cannot be taken becomes failed rows."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from geomfeat import registry
from geomfeat.errors import BadInput, GeomfeatError, LayerDidNotFire, OutOfMemory
from geomfeat.registry import NEEDS, SCOPES, Measure, Quantity, available, get, measure
from geomfeat.snapshots import SnapshotPair, SnapshotSeries
from geomfeat.types import Estimate, Kernel, Representation

REP = Representation(torch.eye(4), torch.tensor([0, 1, 0, 1]), "fc1", outputs=torch.ones(4, 2))
SOURCE = "a test"


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    available()
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))


# scope and facts


def test_the_scope_is_read_from_the_annotations() -> None:
    @measure(source=SOURCE)
    def of_layer(rep: Representation, cut: float = 1.0, *, seed: int = 0) -> Estimate:
        return Estimate(cut)

    @measure(source=SOURCE)
    def of_pair(a: Representation, b: Representation) -> Estimate:
        return Estimate(0)

    @measure(source=SOURCE)
    def of_kernels(a: Kernel, b: Kernel) -> Estimate:
        return Estimate(0)

    @measure(source=SOURCE)
    def of_network(pair: SnapshotPair) -> dict:
        return {"": {"of_network": Estimate(0)}}

    @measure(source=SOURCE)
    def of_series(series: SnapshotSeries) -> Estimate:
        return Estimate(0)

    made = [of_layer, of_pair, of_kernels, of_network, of_series]
    assert [m.scope for m in made] == list(SCOPES)
    assert of_layer.options == {"cut": 1.0}  # the seed is no option: runs set it


def test_a_function_that_takes_something_else_is_refused() -> None:
    def of_number(x: float) -> Estimate:
        return Estimate(x)

    def unannotated(x):
        return Estimate(x)

    def of_three(a: Representation, b: Representation, c: Representation) -> Estimate:
        return Estimate(0)

    for function in (of_number, unannotated, of_three):
        with pytest.raises(BadInput, match=f"measure '{function.__name__}' takes .*annotate it as"):
            measure(source=SOURCE)(function)
        assert function.__name__ not in registry._REGISTERED


def test_declared_facts_are_kept() -> None:
    @measure(
        source=SOURCE, bounds=(0, 1), unit="share", direction="higher = more", invariant_to={"scale"},
        needs={"labels"}, stochastic=True, min_samples=7,
    )  # fmt: skip
    def kept(rep: Representation, *, seed: int = 0) -> Estimate:
        """A summary.

        More.
        """
        return Estimate(0.5)

    assert kept.quantities == {"kept": Quantity((0, 1), "share", "higher = more")}
    assert (kept.invariant_to, kept.needs) == (frozenset({"scale"}), frozenset({"labels"}))
    assert (kept.stochastic, kept.min_samples, kept.source) == (True, 7, SOURCE)
    assert (str(kept), kept.summary) == ("kept", "A summary.")
    assert kept.__doc__ == kept.function.__doc__
    assert kept(REP) == Estimate(0.5)
    assert isinstance(kept, Measure)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"invariant_to": {"rotatoin"}}, r"unknown facts \['rotatoin'\]: invariant_to from"),
        ({"needs": {"label"}}, r"unknown facts \['label'\].*needs from"),
        ({"quantities": {"a": Quantity()}, "unit": "m"}, "either quantities= or"),
        ({"quantities": {"a": Quantity()}, "bounds": (0, 1)}, "either quantities= or"),
    ],
)
def test_unknown_and_contradictory_facts_are_refused(facts: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        measure(source=SOURCE, **facts)


def test_a_name_belongs_to_one_module() -> None:
    def twice(rep: Representation) -> Estimate:
        return Estimate(1)

    def elsewhere(rep: Representation) -> Estimate:
        return Estimate(2)

    measure(source=SOURCE)(twice)
    again = measure(source=SOURCE)(twice)  # a reload of the same file
    assert get("twice") is again
    elsewhere.__name__, elsewhere.__module__ = "twice", "another.package"
    with pytest.raises(BadInput, match=f"measure 'twice' is registered twice, in {__name__} too"):
        measure(source=SOURCE)(elsewhere)
    assert get("twice") is again


# lookup


def test_available_measures_are_sorted_and_filtered() -> None:
    everything = available()
    assert [m.name for m in everything] == sorted(m.name for m in everything)
    assert {m.scope for m in everything} <= set(SCOPES)
    for scope in SCOPES:
        assert available(scope=scope) == [m for m in everything if m.scope == scope]
    assert available(needs=set()) == [m for m in everything if not m.needs]
    assert available(needs={"labels"}) == [m for m in everything if m.needs <= {"labels"}]
    assert available(needs=NEEDS) == everything
    assert all(get(m.name) is m for m in everything)


def test_a_filter_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="scope='layers' is not one of layer, pair, kernels, network, series"):
        available(scope="layers")
    with pytest.raises(BadInput, match=r"needs=\['label'\] must be from"):
        available(needs={"label"})


def test_an_unknown_measure_comes_with_near_names() -> None:
    with pytest.raises(BadInput, match=r"'participation_ration'; near: participation_ratio.*: geomfeat measures"):
        get("participation_ration")


def test_every_file_of_the_packages_is_loaded() -> None:
    for package in registry.PACKAGES:
        files = [path.stem for path in Path(sys.modules[package].__path__[0]).glob("*.py") if path.stem != "__init__"]
        assert {f"{package}.{name}" for name in files} <= set(sys.modules)


# run


def made(function, **facts) -> Measure:
    return measure(source=SOURCE, **facts)(function)


def test_a_single_number_is_keyed_by_the_measure() -> None:
    def single(rep: Representation, *, seed: int = 0) -> Estimate:
        return Estimate(rep.n + seed)

    assert made(single).run(REP, seed=3) == {"single": Estimate(7)}


def test_several_numbers_keep_their_keys() -> None:
    def several(rep: Representation) -> dict[str, Estimate]:
        return {"n": Estimate(rep.n), "d": Estimate(rep.d)}

    assert made(several, quantities={"n": Quantity(), "d": Quantity()}).run(REP) == {"n": Estimate(4), "d": Estimate(4)}


@pytest.mark.parametrize("fact", ["labels", "outputs"])
def test_what_is_needed_and_missing_is_reported(fact: str) -> None:
    def needy(rep: Representation) -> Estimate:
        return Estimate(1)

    m = made(needy, needs={fact})
    assert m.run(REP)["needy"].ok
    (row,) = m.run(REP.with_(**{fact: None})).values()
    assert not row.ok
    assert math.isnan(row.value)
    assert row.note.startswith(f"measure 'needy' needs {fact}; layer 'fc1' was captured without them: ")
    (row,) = m.run(REP.with_(layer="", **{fact: None})).values()
    assert "the data were captured without them" in row.note


def test_one_of_a_pair_with_labels_is_enough() -> None:
    def needy_pair(a: Representation, b: Representation) -> Estimate:
        return Estimate(1)

    m = made(needy_pair, needs={"labels"})
    bare = REP.with_(labels=None)
    assert m.run(bare, REP)["needy_pair"].ok
    assert not m.run(bare, bare)["needy_pair"].ok


def test_too_few_samples_are_reported() -> None:
    def counting(a: Representation, b: Representation) -> Estimate:
        return Estimate(1)

    def counting_kernels(a: Kernel, b: Kernel) -> Estimate:
        return Estimate(1)

    m = made(counting, min_samples=4)
    assert m.run(REP, REP)["counting"].ok
    (row,) = m.run(REP, REP.take([0, 1, 2])).values()
    assert row.note == "measure 'counting' needs at least 4 samples, got 3: give more inputs"
    (row,) = made(counting_kernels, min_samples=3).run(Kernel(torch.eye(2)), Kernel(torch.eye(3))).values()
    assert "at least 3 samples, got 2" in row.note


@pytest.mark.parametrize(
    "error",
    [
        BadInput("every class has one sample: give more"),
        LayerDidNotFire("layer 'fc9' was not called"),
        OutOfMemory("the Jacobian takes 9 GB: use fewer samples"),
        GeomfeatError("message clearly"),
        ZeroDivisionError("float division by zero"),
        OverflowError("too large"),
        torch.linalg.LinAlgError("the algorithm failed to converge"),
        np.linalg.LinAlgError("singular matrix"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_errors_that_data_can_cause_become_failed_rows(error: Exception) -> None:
    def failing(rep: Representation) -> dict[str, Estimate]:
        raise error

    def failing_network(pair: SnapshotPair) -> dict:
        raise error

    m = made(failing, quantities={"a": Quantity(), "b": Quantity()})
    rows = m.run(REP)
    assert list(rows) == ["a", "b"]
    assert all(not e.ok and e.note == f"measure 'failing': {error}" for e in rows.values())
    with pytest.raises(type(error)):
        m(REP)
    rows = made(failing_network).run(object())
    assert rows[""]["failing_network"].note == f"measure 'failing_network': {error}"


def test_a_number_that_is_not_one_becomes_a_failed_row() -> None:
    def undefined(rep: Representation) -> Estimate:
        return Estimate(math.nan)

    (row,) = made(undefined).run(REP).values()
    assert not row.ok
    assert "cannot be ok=True" in row.note


@pytest.mark.parametrize("error", [TypeError("a bug"), KeyError("a bug"), KeyboardInterrupt()])
def test_bugs_and_interruptions_are_not_hidden(error: BaseException) -> None:
    def buggy(rep: Representation) -> Estimate:
        raise error

    with pytest.raises(type(error)):
        made(buggy).run(REP)
