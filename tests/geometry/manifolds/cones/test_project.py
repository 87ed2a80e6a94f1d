"""The cone solver against enumeration, independent references, and the laws every projection obeys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import ConeProjections, project_on_cones
from geomfeat.geometry.manifolds.cones import column_generation, problem as problem_module
from geomfeat.geometry.manifolds.cones.problem import ConeProblem
from geomfeat.geometry.manifolds.cones.solvers import order_of_methods
from geomfeat.numerics import WORKING
from tests.geometry.clouds import normal, signs, spheres
from tests.reference import geometry as reference
from tests.shared_data import shared

REFERENCES = [
    "digits_M50_iid", "points_P20_N50_iid", "seg_R0.3_iid", "sph_R0.5_D5_iid", "sph_R0.5_D5_rho0.5_ovr",
]  # fmt: skip


def solve(x: Tensor, t: Tensor, y: Tensor, **options: Any) -> ConeProjections:
    """Projections for (P, M, N) points."""
    owner = torch.arange(x.shape[0], device=x.device).repeat_interleave(x.shape[1])
    return project_on_cones(x.reshape(-1, x.shape[2]), owner, t, y, **options)


def problem(x: Tensor, t: Tensor, y: Tensor) -> ConeProblem:
    """What the methods get, for (P, M, N) points."""
    owner = torch.arange(x.shape[0]).repeat_interleave(x.shape[1])
    return ConeProblem(torch.nn.functional.normalize(x.reshape(-1, x.shape[2]), dim=1), owner, t, y, 1e-10)


def check_kkt(x: Tensor, t: Tensor, y: Tensor, found: ConeProjections) -> None:
    """The conditions, from the multipliers, without any code of the solver."""
    k = x.shape[0] * x.shape[1]
    for d in range(len(t)):
        rows = (x * y[d, :, None, None]).reshape(k, -1)
        l = torch.zeros(k, dtype=WORKING)
        used = found.support[d] >= 0
        l[found.support[d][used]] = found.multipliers[d][used]
        v = t[d] - l @ rows
        unit = torch.nn.functional.normalize(rows, dim=1)
        size = t[d].norm()
        assert (l >= 0).all()
        assert (unit @ v).max() <= 1e-9 * size
        assert (unit @ v)[l > 0].abs().max() <= 1e-9 * size if bool((l > 0).any()) else True
        torch.testing.assert_close(l @ rows, found.projection[d], rtol=0, atol=1e-9 * float(size))


@pytest.mark.parametrize("method", ["gram", "columns", "orthogonal", "batched"])
def test_draws_are_alone_where_no_other_point_touches_the_plane(method: str, device: str):
    """A copy of a point touches wherever the point carries; a class without a sign never does."""
    x, t, y = spheres(5, 6, 12, 0.8, 4), normal(40, 12, seed=3), signs(40, 5, seed=3)
    x[1, 1], y[::3, 4] = 2 * x[1, 0], 0.0
    found = solve(x.to(device), t.to(device), y.to(device), method=method)
    expected = []
    for d in range(40):
        unit = torch.nn.functional.normalize((x * y[d, :, None, None]).reshape(30, 12), dim=1)
        others = torch.ones(30, dtype=torch.bool)
        support = found.support[d].cpu()
        others[support[support >= 0]] = False
        expected.append(bool(((unit @ found.residual[d].cpu())[others & unit.any(1)] < -1e-9 * t[d].norm()).all()))
    assert found.alone[found.certified].tolist() == [
        e for e, sure in zip(expected, found.certified, strict=True) if sure
    ]
    assert 0 < sum(expected) < 40


@pytest.mark.parametrize("name", REFERENCES)
def test_squared_norms_equal_the_reference_per_draw(name: str, device: str):
    data = np.load(shared(f"refs/capacity/{name}.npz"))
    x, t, y = (torch.as_tensor(data[key], device=device) for key in ("X", "t", "y"))
    found = solve(x, t, y)
    assert bool(found.certified.all())
    torch.testing.assert_close(found.norms2.cpu(), torch.as_tensor(data["p2"]), rtol=1e-8, atol=0)


@settings(deadline=None, max_examples=40)
@given(
    n_manifolds=st.integers(1, 4), points=st.integers(1, 2), n=st.integers(1, 5), seed=st.integers(0, 10**6),
    whole=st.booleans(),
)  # fmt: skip
def test_projections_equal_those_by_enumeration(n_manifolds: int, points: int, n: int, seed: int, whole: bool):
    x = normal(n_manifolds, points, n, seed=seed)
    x = x.round() if whole else x  # whole numbers: zeros, copies, opposite and collinear points
    t, y = normal(4, n, seed=seed + 1), signs(4, n_manifolds, seed=seed)
    found = solve(x, t, y)
    assert bool(found.certified.all())
    for d in range(4):
        rows = (x * y[d, :, None, None]).reshape(-1, n).numpy()
        expected = reference.cone_projection(rows, t[d].numpy())
        np.testing.assert_allclose(found.projection[d].numpy(), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "x",
    [
        spheres(5, 20, 30, 0.7, 5), spheres(5, 20, 12, 0.7, 5), normal(1, 40, 10), normal(6, 1, 10), normal(2, 1, 1),
        normal(30, 1, 8),
    ],
    ids=["N > rank", "crowded", "P = 1", "M = 1", "two points on a line", "more points than units"],
)  # fmt: skip
def test_kkt_holds_for_every_draw(x: Tensor):
    t, y = normal(30, x.shape[2], seed=5), signs(30, x.shape[0], seed=5)
    found = solve(x, t, y)
    assert bool(found.certified.all())
    assert (found.norms2.sqrt() <= t.norm(dim=1) * (1 + 1e-12)).all()
    check_kkt(x, t, y, found)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6), crowded=st.booleans())
def test_laws_per_draw(seed: int, crowded: bool):
    n_manifolds, points, n = 4, 6, 8 if crowded else 30
    x, t, y = normal(n_manifolds, points, n, seed=seed), normal(6, n, seed=seed + 1), signs(6, n_manifolds, seed=seed)
    p2 = solve(x, t, y).norms2
    lengths = torch.exp(5 * normal(n_manifolds, points, 1, seed=seed + 2))
    q = torch.linalg.qr(normal(n, n, seed=seed + 3))[0]
    order = torch.randperm(n_manifolds, generator=torch.Generator().manual_seed(seed))
    mixture = normal(n_manifolds, 3, points, seed=seed + 4).abs() @ x
    same = {
        "rescaled points": solve(lengths * x, t, y),
        "rotation": solve(x @ q, t @ q, y),
        "manifold order": solve(x[order], t, y[:, order]),
        "copies": solve(torch.cat([x, x], 1), t, y),
        "interior points": solve(torch.cat([x, mixture], 1), t, y),
        "points at the origin": solve(torch.cat([x, torch.zeros_like(x[:, :1])], 1), t, y),
        "all signs and t flipped": solve(x, -t, -y),
    }
    for what, found in same.items():
        assert bool(found.certified.all()), what
        torch.testing.assert_close(found.norms2, p2, rtol=1e-9, atol=1e-9, msg=what)
    more = solve(torch.cat([x, normal(n_manifolds, 1, n, seed=seed + 5)], 1), t, y).norms2
    assert (more >= p2 - 1e-9).all()


@pytest.mark.parametrize("size", [1e-6, 1e-8, 1e-10])
def test_nearly_dependent_points_are_certified(size: float):
    """Five near copies of each point, and dimensions that only the jitter fills."""
    base = torch.cat([spheres(4, 6, 10, 1.0, 4), torch.zeros(4, 6, 4, dtype=WORKING)], 2).repeat_interleave(5, 1)
    x = base + size * normal(*base.shape, seed=9)
    found = solve(x, normal(20, 14, seed=3), signs(20, 4))
    assert bool(found.certified.all())
    plain = solve(base, normal(20, 14, seed=3), signs(20, 4)).norms2
    assert (found.norms2 >= plain - 1e-4).all()


def test_a_zero_sign_leaves_a_manifold_out():
    x, t, y = normal(4, 5, 12), normal(10, 12, seed=1), signs(10, 4)
    y[:, 2] = 0
    kept = [0, 1, 3]
    torch.testing.assert_close(solve(x, t, y).norms2, solve(x[kept], t, y[:, kept]).norms2)


def test_faces_count_the_independent_points_that_carry_the_projection():
    # A square cone has four edges, but a point inside it is carried by three at most; interior points carry nothing.
    x = torch.tensor([[[1.0, 1, 1], [1, -1, 1], [-1, 1, 1], [-1, -1, 1], [0, 0, 1]]], dtype=WORKING)
    t = torch.tensor([[0.1, 0.2, 3.0], [5.0, 0.3, 1.0], [5.0, 5.0, 0.0], [0.0, 0.1, -9.0]], dtype=WORKING)
    found = solve(x, t, torch.ones(4, 1, dtype=WORKING))
    assert found.faces.tolist() == [3, 2, 1, 0]
    assert found.inside.tolist() == [True, False, False, False]


METHODS = ["gram", "columns", "orthogonal", "batched", "patient", "daqp"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_same_projections(method: str, device: str):
    for x in (spheres(10, 20, 60, 0.7, 5), spheres(3, 40, 200, 2.0, 10), normal(30, 1, 8), normal(1, 40, 10)):
        x, t, y = x.to(device), normal(20, x.shape[2], seed=3).to(device), signs(20, len(x)).to(device)
        expected = solve(x, t, y)
        found = solve(x, t, y, method=method)
        done = found.certified
        # The batched method gives crowded draws up unless it is patient; the others finish every draw.
        assert method == "batched" or bool(done.all())
        torch.testing.assert_close(found.norms2[done], expected.norms2[done], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.residual[done], expected.residual[done], rtol=0, atol=1e-8)
        assert found.n_fallback == 0


@pytest.mark.parametrize("method", METHODS)
def test_dependent_points_never_carry_a_projection_together(method: str):
    """Points on an affine line span a plane: no face has more than two dimensions."""
    faces = []
    for seed in (82, 95, 115, 185, 321, 372, 418, 686):  # a Cholesky diagonal of 1e-7, by rounding alone
        base, along = normal(2, 6, seed=seed)
        x = (base + normal(6, 1, seed=seed + 500) * along).reshape(3, 2, 6)
        found = solve(x, normal(8, 6, seed=seed + 900), signs(8, 3, seed=seed), method=method)
        faces.append(found.faces[found.certified])
    assert int(torch.cat(faces).max()) == 2


def test_a_problem_too_large_for_a_gram_matrix_goes_to_column_generation(monkeypatch: pytest.MonkeyPatch):
    x, t, y = spheres(20, 60, 90, 0.7, 8), normal(16, 90, seed=3), signs(16, 20)
    large, small = order_of_methods(problem(x, t, y)), order_of_methods(problem(x[:, :5], t, y))
    assert (large[0], small[0]) == ("columns", "gram")
    by_columns, by_gram = solve(x, t, y), solve(x, t, y, method="gram")
    torch.testing.assert_close(by_columns.norms2, by_gram.norms2, rtol=1e-10, atol=0)
    assert (by_columns.support.sort(1).values[:, -1] == by_gram.support.sort(1).values[:, -1]).all()


def test_violations_below_the_noise_of_pricing_are_followed_in_double(monkeypatch: pytest.MonkeyPatch):
    x, t, y = spheres(10, 20, 60, 0.7, 5), normal(20, 60, seed=3), signs(20, 10)
    expected = solve(x, t, y, method="gram")
    monkeypatch.setattr(column_generation, "NOISE", 0.05)
    found = solve(x, t, y, method="columns")
    assert bool(found.certified.all())
    torch.testing.assert_close(found.norms2, expected.norms2, rtol=1e-10, atol=0)


def test_draws_that_the_first_method_cannot_finish_go_to_the_next():
    """Units that only jitter fills: a Gram matrix cannot tell their points apart, an orthonormal basis can."""
    x = torch.cat([spheres(6, 15, 12, 1.0, 6), torch.zeros(6, 15, 3, dtype=WORKING)], 2)
    x = x + 1e-8 * normal(*x.shape, seed=4)
    t, y = normal(30, 15, seed=3), signs(30, 6)
    alone = solve(x, t, y, method="gram")
    assert not bool(alone.certified.all())
    found = solve(x, t, y)
    assert bool(found.certified.all())
    assert found.n_fallback == int((~alone.certified).sum())
    torch.testing.assert_close(found.norms2, solve(x, t, y, method="orthogonal").norms2, rtol=1e-9, atol=0)


def test_the_number_of_threads_does_not_change_the_result():
    x, t, y = spheres(10, 80, 60, 0.7, 5), normal(40, 60, seed=3), signs(40, 10)
    for method in ("gram", "columns", "orthogonal"):
        one = solve(x, t, y, method=method)
        torch.set_num_threads(2)
        try:
            two = solve(x, t, y, method=method)
        finally:
            torch.set_num_threads(1)
        torch.testing.assert_close(two.norms2, one.norms2, rtol=1e-12, atol=0)
        torch.testing.assert_close(two.multipliers, one.multipliers, rtol=1e-9, atol=1e-12)


def test_what_cannot_be_certified_is_marked_not_hidden():
    found = solve(normal(3, 4, 9), normal(5, 9, seed=1), signs(5, 3), tol=1e-40)
    assert not bool(found.certified.any())
    assert (found.violation < 1e-10).all()


def test_points_all_at_the_origin_project_to_nothing():
    found = solve(torch.zeros(2, 3, 4, dtype=WORKING), normal(5, 4), signs(5, 2))
    assert found.norms2.tolist() == [0.0] * 5
    assert found.faces.tolist() == [0] * 5


@pytest.mark.parametrize("method", ["columns", "batched"])
def test_many_draws_in_chunks_equal_one_by_one(method: str, monkeypatch: pytest.MonkeyPatch):
    x, t, y = spheres(4, 8, 20, 1.0, 4), normal(9, 20, seed=2), signs(9, 4)
    at_once = solve(x, t, y, method=method)
    monkeypatch.setattr(problem_module, "CHUNK_DOUBLES", 1)
    apart = solve(x, t, y, method=method)
    torch.testing.assert_close(apart.norms2, at_once.norms2)
    torch.testing.assert_close(apart.multipliers.sum(1), at_once.multipliers.sum(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": normal(3, 5)}, "shapes do not fit"),
        ({"y": signs(4, 2)}, "shapes do not fit"),
        ({"owner": torch.tensor([0, 1, 7])}, "owner must lie"),
        ({"points": torch.full((3, 4), torch.nan, dtype=WORKING)}, "points holds 12 NaN"),
        ({"t": torch.zeros(0, 4, dtype=WORKING)}, "at least one vector"),
        ({"y": torch.full((3, 2), 0.5, dtype=WORKING)}, r"y must be \+1, -1 or 0"),
        ({"method": "newton"}, "use 'auto' or one of 'gram'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Tensor], message: str):
    inputs = {"points": normal(3, 4), "owner": torch.tensor([0, 1, 1]), "t": normal(3, 4), "y": signs(3, 2)} | change
    # The function itself, where the suite runs with shape annotations checked: they would speak first.
    function = getattr(project_on_cones, "__wrapped__", project_on_cones)
    with pytest.raises(BadInput, match=message):
        function(**inputs)


def test_arrays_that_grow_again_and_again_hold_what_those_of_full_size_do(monkeypatch: pytest.MonkeyPatch) -> None:
    x, t, y = spheres(4, 60, 120, 3.0, 80), normal(60, 120, seed=3), signs(60, 4, seed=3)
    grown = []
    grow = column_generation.Columns._grow

    def counted(columns: column_generation.Columns, needed: int, live: np.ndarray) -> None:
        before = columns.slot.shape[1]
        grow(columns, needed, live)
        if columns.slot.shape[1] > before:
            grown.append(len(live))

    monkeypatch.setattr(column_generation.Columns, "_grow", counted)
    monkeypatch.setattr(column_generation, "GROWTH", 1000)
    whole = solve(x, t, y, method="columns")
    assert not grown
    monkeypatch.setattr(column_generation, "GROWTH", 1)
    found = solve(x, t, y, method="columns")
    assert len(grown) > 1
    assert 0 < min(grown) < max(grown) == 60  # some draws were done before
    assert torch.equal(found.support, whole.support)
    torch.testing.assert_close(found.multipliers, whole.multipliers, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.projection, whole.projection, rtol=1e-12, atol=1e-12)
