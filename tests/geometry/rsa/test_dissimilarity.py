"""RDMs: published values, definitions, known answers, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, condition_residuals, noise_precision, rdm, stack_rdms
from geomfeat.geometry.rsa.files import load_rdms
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference.rsa import correlation_by_pairs, crossnobis_by_products, distances_by_pairs
from tests.shared_data import shared


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "rdm", *shape), dtype=torch.float64)


@pytest.mark.parametrize(
    ("key", "dissimilarity", "noise"),
    [
        ("euclidean", "squared_euclidean", False), ("correlation", "correlation", False),
        ("mahalanobis", "squared_mahalanobis", True), ("crossnobis", "crossnobis", True),
        ("crossnobis_I", "crossnobis", False),
    ],
)  # fmt: skip
def test_published_values(key: str, dissimilarity: str, noise: bool) -> None:
    data, expected = (np.load(shared(f"refs/kernels/{n}.npz")) for n in ("similarity_inputs", "rsa_expected"))
    precision = expected["prec_shrinkage_diag_M"] if noise else None
    runs = data["run"] if dissimilarity == "crossnobis" else None
    found = rdm(data["M"], data["cond"], dissimilarity=dissimilarity, precision=precision, runs=runs)
    np.testing.assert_allclose(found.vectors[0], expected[f"rdm_{key}_M"], rtol=1e-10)


@pytest.mark.parametrize("per_cell", [1, 3])
def test_every_dissimilarity_equals_its_definition(per_cell: int, device: str) -> None:
    n, n_runs, d = 6, 4, 7
    conditions = np.tile(np.repeat(list("fbdcae"), per_cell), n_runs)
    runs = np.repeat(np.arange(n_runs), n * per_cell)
    x = draw(len(runs), d) + 30
    root = draw(d, d)
    precision = (root @ root.T).numpy()
    means = np.stack([x.numpy()[conditions == c].mean(0) for c in sorted(set(conditions))])
    expected = {
        "squared_euclidean": distances_by_pairs(means, np.eye(d)),
        "euclidean": distances_by_pairs(means, np.eye(d)) ** 0.5,
        "squared_mahalanobis": distances_by_pairs(means, precision),
        "mahalanobis": distances_by_pairs(means, precision) ** 0.5,
        "correlation": correlation_by_pairs(means),
        "crossnobis": crossnobis_by_products(x.numpy(), conditions, runs, precision),
    }
    for name, values in expected.items():
        given = {"precision": precision} if "nobis" in name else {}
        given |= {"runs": runs} if name == "crossnobis" else {}
        found = rdm(x.to(device), conditions, dissimilarity=name, **given)
        assert found.conditions == tuple("abcdef")
        assert found.dissimilarity == name
        assert found.vectors.device.type == device
        np.testing.assert_allclose(found.vectors[0].cpu(), values, rtol=1e-8, atol=1e-12, err_msg=name)
    diagonal = rdm(x, conditions, dissimilarity="crossnobis", runs=runs, precision=np.diag(precision))
    full = rdm(x, conditions, dissimilarity="crossnobis", runs=runs, precision=np.diag(np.diag(precision)))
    torch.testing.assert_close(diagonal.vectors, full.vectors)


def test_crossnobis_of_noise_is_zero_on_average_and_the_plain_distance_is_not() -> None:
    conditions, runs = np.tile(np.arange(8), 5), np.repeat(np.arange(5), 8)
    crossed, plain = [], []
    for seed in range(200):
        x = draw(40, 10, seed=seed)
        crossed.append(rdm(x, conditions, dissimilarity="crossnobis", runs=runs).vectors.mean())
        plain.append(rdm(x, conditions).vectors.mean())
    crossed, plain = torch.stack(crossed), torch.stack(plain)
    assert abs(crossed.mean()) < 4 * crossed.std() / 200**0.5
    assert abs(plain.mean() - 2 / 5) < 4 * plain.std() / 200**0.5  # two means of 5, variance 1 / 5 each


def test_objects_differ_in_a_recording_and_shuffled_conditions_do_not() -> None:
    data = np.load(shared("data/haxby-1slice.npz"))
    x, category, runs = data["responses"], data["category"], data["run"]
    residuals, dof = condition_residuals(x, category, runs)
    precision = noise_precision(residuals, dof=dof, estimator="variances")
    found = rdm(x, category, dissimilarity="crossnobis", runs=runs, precision=precision)
    assert float(found.vectors.min()) > 0
    shuffled = []
    for seed in range(20):
        orders = np.stack([torch.randperm(8, generator=stream(seed, "shuffled", r)).numpy() for r in range(12)])
        swapped = orders[np.unique(runs, return_inverse=True)[1], category]
        other = rdm(x, swapped, dissimilarity="crossnobis", runs=runs, precision=precision)
        shuffled.append(float(other.vectors.mean()))
    assert abs(np.mean(shuffled)) < 4 * np.std(shuffled) / 20**0.5
    assert abs(np.mean(shuffled)) < 0.1 * float(found.vectors.mean())


def test_noiseless_runs_give_the_plain_distance() -> None:
    patterns = draw(5, 3)
    found = rdm(patterns.repeat(3, 1), list(range(5)) * 3, dissimilarity="crossnobis", runs=np.repeat(range(3), 5))
    torch.testing.assert_close(found.vectors, rdm(patterns).vectors)


def test_equal_patterns_have_distance_zero_exactly() -> None:
    n, d = 33, 37  # sizes at which rounding makes more than zero of some of them
    x, root = draw(n, d)[torch.arange(2 * n) % n] + 1e3, draw(d, d)
    for name in ("squared_euclidean", "euclidean", "correlation", "mahalanobis"):
        matrix = rdm(x, dissimilarity=name, precision=root @ root.T if name == "mahalanobis" else None).matrices[0]
        assert bool((matrix[:n, n:].diagonal() == 0).all()), name
        assert int((matrix == 0).sum()) == 4 * n


@settings(deadline=None, max_examples=25)
@given(n=st.integers(3, 12), d=st.integers(2, 15), seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_laws(n: int, d: int, seed: int, scale: float) -> None:
    x = draw(n, d, seed=seed)
    rotation = torch.linalg.qr(draw(d, d, seed=seed + 1)).Q
    euclidean = rdm(x, dissimilarity="euclidean").matrices[0]
    moved = rdm(scale * x @ rotation + 3, dissimilarity="euclidean").matrices[0]
    torch.testing.assert_close(moved, scale * euclidean, rtol=1e-8, atol=1e-8 * scale)
    assert bool((euclidean[:, None] <= euclidean[:, :, None] + euclidean[None] + 1e-9).all())
    correlation = rdm(x, dissimilarity="correlation").vectors
    assert 0 <= float(correlation.min()) <= float(correlation.max()) <= 2 + 1e-12
    torch.testing.assert_close(rdm(scale * x + 5, dissimilarity="correlation").vectors, correlation)


def test_errors_and_notes_travel() -> None:
    a = RDMs(torch.arange(1.0, 7.0), conditions="abcd", stderr=torch.arange(1.0, 7.0) / 10, notes=("few",))
    b = RDMs(torch.ones(6), names=["b"], conditions="abcd")
    both = stack_rdms([a, b])
    assert both.notes == ("0: few",)
    torch.testing.assert_close(both.stderr[0], a.stderr[0])
    assert bool(both.stderr[1].isnan().all())
    torch.testing.assert_close(both.select("0").stderr, a.stderr)
    taken = both.take("db")
    torch.testing.assert_close(taken.stderr[0] * 10, taken.vectors[0])
    assert a.to_frame()["stderr"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert "stderr" not in b.to_frame()
    assert "note: few" in str(a)


def test_names_of_layers_and_conditions_travel() -> None:
    a = rdm(Representation(draw(4, 3), layer="fc1"))
    both = stack_rdms([a, rdm(draw(4, 6), name="V1")])
    assert both.names == ("fc1", "V1")
    assert (both.n_rdms, both.n_conditions) == (2, 4)
    torch.testing.assert_close(both.select("fc1").vectors, a.vectors)
    torch.testing.assert_close(both.take([2, 0]).vectors[0], a.matrices[0, 2, 0][None])
    again = RDMs.of_matrices(both.matrices, conditions="abcd")
    torch.testing.assert_close(again.vectors, both.vectors)
    assert again.conditions == tuple("abcd")


X, C = draw(6, 3), [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rdm(X, dissimilarity="cosine"), "dissimilarity='cosine'"),
        (lambda: rdm(X, C, dissimilarity="mahalanobis"), "needs precision"),
        (lambda: rdm(X, C, precision=torch.eye(3)), "takes no precision"),
        (lambda: rdm(X, C, dissimilarity="crossnobis"), "runs= belong"),
        (lambda: rdm(X, C, runs=[0] * 6), "runs= belong"),
        (lambda: rdm(X[0]), "samples, units"),
        (lambda: rdm(X * float("nan")), "NaN"),
        (lambda: rdm(X, [0] * 6), "at least 2 conditions"),
        (lambda: rdm(X, [0, 1]), "conditions has 2 entries, but there are 6"),
        (lambda: rdm(X, [0.0, 1, 2, 3, 4, float("nan")]), "1 of 6 conditions are missing"),
        (lambda: rdm(X, C, dissimilarity="crossnobis", runs=[0] * 6), "at least 2 runs"),
        (
            lambda: rdm(X, C, dissimilarity="crossnobis", runs=[0, 0, 1, 1, 1, 1]),
            "no two conditions share 2 runs: 3 of 6",
        ),
        (lambda: rdm(X, C, errors=True), "errors=True needs dissimilarity='crossnobis'"),
        (
            lambda: rdm(X, C, dissimilarity="crossnobis", runs=[0, 1] * 3, precision={0: torch.ones(3)}),
            "precision has none for run 1",
        ),
        (
            lambda: rdm(X, C, dissimilarity="crossnobis", runs=[0, 1] * 3, precision={0: [1, 1], 1: [1, 1]}),
            r"precision\[0\] must be",
        ),
        (lambda: RDMs(torch.ones(3), stderr=torch.ones(6)), "stderr has shape"),
        (lambda: rdm(X, C, dissimilarity="mahalanobis", precision=torch.eye(4)), "precision must be"),
        (lambda: rdm(X, C, dissimilarity="mahalanobis", precision=draw(3, 3).abs()), "not symmetric"),
        (lambda: rdm(X, C, dissimilarity="mahalanobis", precision=-torch.eye(3)), "negative entries"),
        (
            lambda: rdm(X, dissimilarity="mahalanobis", precision=torch.ones(3, 3) - 0.9 * torch.eye(3)),
            "inverse of no covariance",
        ),
        (lambda: rdm(X[:, :1], dissimilarity="correlation"), "same value in every unit"),
        (lambda: RDMs(torch.ones(2, 4)), "not an upper triangle"),
        (lambda: RDMs(torch.ones(3) / 0), "infinite"),
        (lambda: RDMs(torch.ones(3), names=("a", "b")), "2 names for 1"),
        (lambda: RDMs(torch.ones(0)), "matrices, pairs"),
        (lambda: RDMs.of_matrices(draw(3, 3)), "not dissimilarities"),
        (lambda: RDMs.of_matrices(draw(3, 4)), "matrices, conditions, conditions"),
        (lambda: rdm(X).select("fc9"), "no RDM 'fc9'"),
        (lambda: rdm(X).take([0, 9]), "not there"),
        (lambda: stack_rdms([]), "empty"),
        (lambda: stack_rdms([rdm(X), rdm(X[:4])]), "different conditions"),
        (lambda: stack_rdms([rdm(X), rdm(X, dissimilarity="correlation")]), "compute all with one dissimilarity"),
        (lambda: noise_precision(X[0]), "samples, units"),
        (lambda: noise_precision(X, estimator="ledoit"), "estimator='ledoit'"),
        (lambda: noise_precision(draw(3, 9), estimator="sample"), "9 units from 2 degrees of freedom is singular"),
        (lambda: noise_precision(X[:1]), "0 degrees of freedom"),
        (lambda: noise_precision(X * torch.tensor([1.0, 0, 1])), "1 of 3 units have no noise"),
        (lambda: condition_residuals(X[0], C), "samples, units"),
    ],
)
def test_bad_input_is_refused_clearly(call: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        call()


def test_square_matrices_are_not_taken_for_many_vectors() -> None:
    """A 10 x 10 matrix has as many columns as 5 conditions have pairs."""
    square = torch.cdist(*[torch.randn(10, 3, generator=torch.Generator().manual_seed(0))] * 2)
    for wrong in (square, square[:4, :4]):
        with pytest.raises(BadInput, match="of_matrices"):
            RDMs(wrong)
    assert RDMs.of_matrices(square).n_conditions == 10


def wrong_matrices(n: int) -> dict[str, torch.Tensor]:
    """Square arrays of n conditions that are matrices, with whether they are dissimilarities."""
    full = torch.cdist(*[torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).double()] * 2)
    gap, rounded, nearly = full.clone(), full.clone(), full.clone()
    gap[0, 1] = gap[1, 0] = torch.nan
    rounded[0, 1] += 1e-9
    nearly[0, 1] *= 1 + 1e-3
    below = torch.full_like(full, torch.nan).tril(-1)
    return {
        "of_matrices: NaN diagonal": full.clone().fill_diagonal_(torch.nan), "of_matrices: gap": gap,
        "of_matrices: rounded": rounded, "correlation": 1 - full / full.max(), "nearly": nearly, "upper": full.triu(),
        "lower": full.tril(), "upper and NaN": full.triu() + below,
    }  # fmt: skip


@pytest.mark.parametrize("n", [3, 6, 10])
def test_what_looks_like_a_matrix_is_never_many_triangles(n: int, tmp_path: Path) -> None:
    for name, matrix in wrong_matrices(n).items():
        np.savez(tmp_path / "a.npz", rdm_a=matrix)
        with pytest.raises(BadInput, match=r"of_matrices"):
            RDMs(matrix)
        if name.startswith("of_matrices"):
            assert RDMs.of_matrices(matrix).n_conditions == n
            assert load_rdms(tmp_path / "a.npz")["a"].n_conditions == n
        else:
            with pytest.raises(BadInput, match=r"rdm_a of .*are no dissimilarities"):
                load_rdms(tmp_path / "a.npz")


def test_triangles_that_look_like_a_matrix_are_stacked() -> None:
    """Of 3 conditions that are equally far apart, in 3 subjects."""
    for made in (RDMs.of_matrices(1 - torch.eye(3).repeat(3, 1, 1)), stack_rdms([RDMs(torch.ones(3))] * 3, "abc")):
        assert (made.n_rdms, made.n_conditions) == (3, 3)
    assert made.select(["c", "a", "b"]).n_rdms == 3
    assert RDMs(torch.rand(6, 6, generator=torch.Generator().manual_seed(0))).n_conditions == 4


def test_names_that_are_there_twice_and_too_few_conditions_are_refused() -> None:
    found = stack_rdms([RDMs(torch.ones(3)), RDMs(torch.zeros(3))])
    with pytest.raises(BadInput, match="2 RDMs are named '0'"):
        found.select("0")
    for conditions in ([], [1]):
        with pytest.raises(BadInput, match="at least 2"):
            found.take(conditions)


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index, pd.Series])
def test_names_and_conditions_come_in_any_sequence(kind: Callable[[list[str]], Any]) -> None:
    found = RDMs(np.arange(1.0, 13.0).reshape(2, 6), names=kind(["ann", "ben"]), conditions=kind(["a", "b", "c", "d"]))
    assert found.names == ("ann", "ben")
    assert found.conditions == ("a", "b", "c", "d")
    assert found.select(kind(["ben"])).vectors.tolist() == [[7, 8, 9, 10, 11, 12]]
    assert found.take(kind(["d", "a"])).vectors.tolist() == [[3], [9]]
    assert (
        RDMs.of_matrices(found.matrices, names=kind(["x", "y"]), conditions=kind(["a", "b", "c", "d"])).names[1] == "y"
    )
    assert stack_rdms([found, found], kind(["p", "q", "r", "s"])).names == ("p", "q", "r", "s")


@pytest.mark.parametrize("numbers", [torch.arange(4), np.arange(4), range(4)])
def test_numbered_conditions_are_plain_numbers(numbers: Any) -> None:
    assert RDMs(torch.arange(1.0, 7.0), conditions=numbers).conditions == (0, 1, 2, 3)
