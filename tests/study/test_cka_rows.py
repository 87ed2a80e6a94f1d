"""CKA of all pairs from shared Gram matrices gives the numbers of the measures."""

from __future__ import annotations

import itertools

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.numerics import stream, tolerance
from geomfeat.registry import get
from geomfeat.study import cka_rows as alignment
from geomfeat.study.cka_rows import ESTIMATORS, cka_cells
from geomfeat.types import Representation


def places(n: int, *widths: int) -> dict[tuple[str, str], Representation]:
    common = torch.randn(n, 3, generator=stream(0, "common"))
    made = {}
    for i, d in enumerate(widths):
        noise = torch.randn(n, d, generator=stream(i, "noise"))
        mixed = common @ torch.randn(3, d, generator=stream(i, "mix")) + noise + 30.0  # a mean to be centred away
        made["init" if i % 2 else "trained", f"fc{i}"] = Representation(mixed, layer=f"fc{i}")
    return made


@pytest.mark.parametrize("n", [6, 25])
def test_the_numbers_are_those_of_the_measures(n: int) -> None:
    reps = places(n, 4, 50, 1, 25)
    pairs = list(itertools.product(reps, reps))
    found = dict(cka_cells(reps, pairs, list(ESTIMATORS.values())))
    assert set(found) == set(pairs)
    for (left, right), cells in found.items():
        for name, estimator in ESTIMATORS.items():
            expected, cell = get(name)(reps[left], reps[right]), cells[estimator]
            if cell is None:  # left to the measure: allowed where it is delicate, not in general
                assert n == 6
                continue
            torch.testing.assert_close(cell[0], expected.value, **tolerance(scale=100))
            assert (cell[1] is None) == (expected.stderr is None)
            if cell[1] is not None:
                torch.testing.assert_close(cell[1], expected.stderr, rtol=1e-6, atol=1e-9)


def test_forgetting_gram_matrices_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reps = places(12, 4, 5, 6, 7, 8, 9, 10)
    pairs = list(itertools.product(reps, reps))
    all_kept = dict(cka_cells(reps, pairs, ["unbiased"]))
    monkeypatch.setattr(alignment, "BUDGET", 1)
    assert dict(cka_cells(reps, pairs, ["unbiased"])) == all_kept


@pytest.mark.parametrize("features", [torch.ones(9, 3), torch.ones(9, 3) * 1e6 + 1e-9 * torch.eye(9, 3)])
def test_constant_features_are_left_to_the_measure(features: torch.Tensor) -> None:
    reps = {**places(9, 4), ("init", "dead"): Representation(features.double())}
    [(_, cells)] = cka_cells(reps, [tuple(reps)], list(ESTIMATORS.values()))  # type: ignore[list-item]
    assert cells == {"unbiased": None, "biased": None}


def test_different_samples_are_refused() -> None:
    reps = {**places(9, 4), ("init", "other"): Representation(torch.randn(8, 3))}
    with pytest.raises(BadInput, match=r"9 samples.*8"):
        list(cka_cells(reps, [tuple(reps)], ["unbiased"]))  # type: ignore[list-item]


def test_no_pairs_give_nothing() -> None:
    assert list(cka_cells({}, [], ["unbiased"])) == []


def test_precision_and_a_large_mean_leave_the_numbers_of_the_measures() -> None:
    reps = places(25, 4, 50)
    far = {
        place: Representation((rep.x.double() * 2**12).round() / 2**12 + 2.0**22, layer=rep.layer)
        for place, rep in reps.items()
    }
    for layers in (reps, far):
        [(pair, cells)] = cka_cells(layers, [tuple(layers)], list(ESTIMATORS.values()))
        for name, estimator in ESTIMATORS.items():
            expected = get(name).run(*(layers[place] for place in pair))[name]
            assert cells[estimator] == pytest.approx((expected.value, expected.stderr), rel=1e-8)


# Of data in single precision, so many samples have errors whose terms are in single precision too.
@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-8), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e25])
def test_many_samples_are_compared_by_features_with_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, off: float, size: float
) -> None:
    draws = torch.Generator().manual_seed(3)
    reps = {
        ("trained", name): Representation(size * torch.randn(60, d, generator=draws, dtype=dtype))
        for name, d in (("a", 5), ("b", 40))
    }
    pairs = [tuple(reps), (("trained", "a"), ("trained", "a"))]
    by_grams = dict(cka_cells(reps, pairs, ["unbiased", "biased"]))
    monkeypatch.setattr(alignment, "LARGE", 50)
    formed = []
    monkeypatch.setattr(alignment.Centred, "matrix", property(lambda _: formed.append(1)))
    by_features = dict(cka_cells(reps, pairs, ["unbiased", "biased"]))
    assert not formed
    for pair, cells in by_grams.items():
        for estimator, (value, error) in cells.items():
            found = by_features[pair][estimator]
            assert found == (pytest.approx(value, rel=1e-10), pytest.approx(error, rel=off, abs=1e-12))


@pytest.mark.parametrize("large", [50, 500])
def test_numbers_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr(alignment, "LARGE", large)
    reps = places(90, 4, 50, 1, 25)
    pairs = list(itertools.combinations(reps, 2))
    found = []
    for threads in (1, 2):
        with monkeypatch.context() as here:
            here.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            found.append(dict(cka_cells(reps, pairs, ["unbiased", "biased"])))
    assert found[0] == found[1]
