"""Linear separability against a linear programme."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.datasets import load_digits

from geomfeat.geometry.manifolds import capacity, margins, separability
from geomfeat.geometry.manifolds.cones import separating_hyperplane as hull
from geomfeat.geometry.manifolds.cones._separability import distinct_dichotomies, lifted
from tests.geometry.clouds import normal, signs
from tests.reference import geometry as reference, separability as slow
from tests.shared_data import shared


@settings(deadline=None, max_examples=25)
@given(n_manifolds=st.integers(1, 4), points=st.integers(1, 4), n=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_answers_equal_the_linear_programme(n_manifolds: int, points: int, n: int, seed: int):
    x, y = normal(n_manifolds, points, n, seed=seed), signs(5, n_manifolds, seed=seed)
    owner = torch.arange(n_manifolds).repeat_interleave(points)
    found = separability(x.reshape(-1, n), owner, y)
    margin, certified = margins(x.reshape(-1, n), owner, y)
    assert bool(found.decided.all())
    assert bool(certified.all())
    for row in range(5):
        expected = reference.separable((x * y[row, :, None, None]).reshape(-1, n).numpy())
        assert bool(found.separable[row]) == expected
        assert (float(margin[row]) > 0) == expected


def test_margin_is_the_distance_of_the_hull_from_the_origin():
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    margin, _ = margins(x, torch.zeros(2, dtype=torch.long), torch.ones(1, 1))
    torch.testing.assert_close(margin, torch.tensor([0.5**0.5], dtype=torch.float64))


def test_real_classes_at_the_edge_of_separability():
    features, labels = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(labels == c)[:50] for c in range(10)])
    x, y = torch.as_tensor(features[rows]), signs(6, 10, seed=4)
    found = separability(x, torch.arange(10).repeat_interleave(50), y)
    expected = [reference.separable((x * y[i].repeat_interleave(50)[:, None]).numpy()) for i in range(6)]
    assert found.separable.tolist() == expected
    assert 0 < sum(expected) < 6  # both answers occur


def test_distinct_dichotomies_ignore_a_global_sign_and_keep_the_order():
    y = torch.tensor([[1.0, 1, -1], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [1, 1, -1]])
    rows, counts = distinct_dichotomies(y, 2)
    assert rows.tolist() == [[1, 1, -1], [1, -1, 1]]
    assert counts.tolist() == [3, 1]
    wide = torch.cat([torch.ones(5, 30), y, torch.ones(5, 40)], 1)  # more classes than bits in a word
    assert distinct_dichotomies(wide)[1].tolist() == [2, 1, 1, 1]


@settings(deadline=None, max_examples=40)
@given(
    n_manifolds=st.integers(1, 4),
    points=st.integers(1, 4),
    n=st.integers(1, 5),
    kind=st.sampled_from(["rounded", "duplicates", "collinear", "zeros", "offset"]),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_degenerate_answers_equal_the_linear_programme(
    n_manifolds: int, points: int, n: int, kind: str, bias: bool, seed: int
):
    x, y = (2 * normal(n_manifolds * points, n, seed=seed)).round(), signs(3, n_manifolds, seed=seed)
    if kind == "duplicates":
        x = x[torch.arange(len(x)) // 2]
    elif kind == "collinear":
        x = x[:1] * torch.arange(-1, len(x) - 1)[:, None] + (x[1:2] if bias and len(x) > 1 else 0)
    elif kind == "zeros":
        x[::2] = 0
    elif kind == "offset":
        x = x + 1000
    owner = torch.arange(n_manifolds).repeat_interleave(points)
    found = separability(x, owner, y, bias)
    sign = y.repeat_interleave(points, 1)
    assert bool(found.decided.all())
    assert found.separable.tolist() == [slow.separable(x.numpy(), row.numpy(), bias) for row in sign]


def test_a_bias_separates_what_the_origin_does_not():
    x, owner = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), torch.arange(3)
    y = torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, 1.0]])
    assert separability(x, owner, y).separable.tolist() == [False, False]
    assert separability(x, owner, y, bias=True).separable.tolist() == [True, False]


def test_the_constant_coordinate_is_as_large_as_the_points_wherever_they_are():
    x = normal(10, 4)
    for size, shift in ((1.0, 3.0), (1e-30, 0.0), (1e30, 0.0), (1.0, 1e6)):
        torch.testing.assert_close(lifted(size * x + shift), lifted(x), rtol=0, atol=1e-8)
    assert float(lifted(x)[:, :-1].norm(dim=1).max()) == pytest.approx(1.0)
    assert lifted(torch.full((3, 2), 0.1, dtype=torch.float64)).tolist() == [[0.0, 0.0, 1.0]] * 3


def test_answers_do_not_depend_on_rotation_and_scale():
    x, owner, y = normal(12, 6), torch.arange(12), signs(30, 12)
    turn = torch.linalg.qr(normal(6, 6, seed=2))[0]
    for bias in (False, True):
        plain = separability(x, owner, y, bias).separable
        assert torch.equal(plain, separability(1e-9 * x @ turn, owner, y, bias).separable)
        assert 0 < int(plain.sum()) < 30


def _rows(seed: int, k: int = 14, n: int = 5) -> np.ndarray:
    return torch.nn.functional.normalize(normal(k, n, seed=seed) + 0.5, dim=1).numpy()


def test_a_hull_is_decided_alike_by_its_two_methods(monkeypatch: pytest.MonkeyPatch):
    answers = [hull.separates(_rows(seed)) for seed in range(30)]
    assert answers == [slow.separable(_rows(seed), np.ones(14)) for seed in range(30)]
    assert {True, False} == set(answers)
    many = torch.nn.functional.normalize(normal(400, 6) + torch.tensor([2.0, 0, 0, 0, 0, 0]), dim=1).numpy()
    assert hull.separates(many) == slow.separable(many, np.ones(400))

    def no_convergence(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(hull, "nnls", no_convergence)
    assert [hull.separates(_rows(seed)) for seed in range(30)] == answers


def test_witnesses_are_checked_whatever_the_method_says(monkeypatch: pytest.MonkeyPatch):
    """Multipliers that prove nothing, and a programme without a witness: undecided, not an answer."""
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert hull.separates(opposite) is False
    assert not hull._meets(opposite, np.array([1.0, 0.0, 0.0]))
    assert not hull._meets(opposite, np.zeros(3))
    assert not hull._clears(opposite, np.array([1.0, 1.0]))
    empty = SimpleNamespace(x=np.zeros(3), ineqlin=SimpleNamespace(marginals=np.zeros(3)))
    monkeypatch.setattr(hull, "linprog", lambda *args, **options: empty)
    assert hull._by_linear_programme(opposite) is None
    monkeypatch.setattr(hull, "nnls", lambda a, b, **options: (np.ones(a.shape[1]), 0.0))
    assert hull.separates(opposite) is None


def test_what_the_cones_do_not_certify_is_decided_row_by_row_or_marked(monkeypatch: pytest.MonkeyPatch):
    x, owner, y = normal(12, 6), torch.arange(12), signs(30, 12)
    honest = separability(x, owner, y).separable
    home = __import__("sys").modules["geomfeat.geometry.manifolds.cones._separability"]
    nothing = torch.zeros(30, dtype=x.dtype)
    monkeypatch.setattr(home, "margins", lambda x, owner, y: (nothing[: len(y)], nothing[: len(y)].bool()))
    found = separability(x, owner, y)
    assert bool(found.decided.all())
    assert torch.equal(found.separable, honest)
    y[0, ::2] = 0  # manifolds left out
    assert bool(separability(x, owner, y).decided.all())
    assert separability(x, owner, y).separable[0] == slow.separable(x[1::2].numpy(), y[0, 1::2].numpy())
    y[0] = y[1]
    monkeypatch.setattr(home, "separates", lambda rows: None)
    marked = separability(x, owner, y)
    assert 0 < int(marked.decided.sum()) < 30
    assert bool(marked.separable[marked.decided].all())


def test_points_at_the_origin_ask_for_nothing():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert separability(x, torch.arange(2), torch.ones(1, 2)).separable.tolist() == [True]
    assert separability(x[:1], torch.zeros(1, dtype=torch.long), torch.ones(1, 1)).separable.tolist() == [True]


def test_real_labels_that_nearly_separate_are_decided_by_witness():
    """Margins of 1e-8 came from rounding: a linear programme finds 31 of these 50 dichotomies not separable."""
    data = np.load(shared("refs/capacity/digits_M50_iid.npz"))
    points, t, y = (torch.as_tensor(data[key]) for key in ("X", "t", "y"))
    x, owner = points.reshape(-1, points.shape[2]), torch.arange(len(points)).repeat_interleave(points.shape[1])
    found = separability(x, owner, y)
    assert bool(found.decided.all())
    unit = torch.nn.functional.normalize(x, dim=1)
    expected = [hull.separates((unit * row[owner, None]).numpy()) for row in y]
    assert found.separable.tolist() == expected
    assert expected.count(False) == 31
    assert capacity(points, draws=(t, y)).frac_nonseparable == pytest.approx(31 / 50)
