"""Noise precision: published values, definitions, and the truth recovered from samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import condition_residuals, noise_precision, noise_precision_by_run
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference.rsa import shrunk_to_diagonal, shrunk_to_identity
from tests.shared_data import shared


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "noise", *shape), dtype=torch.float64)


def test_published_values() -> None:
    """The other package divides by (conditions - 1) x repeats, 44, where 36 degrees of freedom are left."""
    data, expected = (np.load(shared(f"refs/kernels/{n}.npz")) for n in ("similarity_inputs", "rsa_expected"))
    residuals, dof = condition_residuals(data["M"], data["cond"])
    assert dof == 36
    for ours, theirs in (("sample", "full"), ("shrinkage_identity", "shrinkage_eye")):
        found = noise_precision(residuals, estimator=ours, dof=44).numpy()
        np.testing.assert_allclose(found, expected[f"prec_{theirs}_M"], rtol=1e-9, atol=1e-9)
    variances = noise_precision(residuals, estimator="variances", dof=44)
    np.testing.assert_allclose(variances, np.diag(expected["prec_diag_M"]), rtol=1e-12)


def test_shrinkage_to_the_diagonal_is_the_published_one_but_for_its_share() -> None:
    """The other package takes correlations over n - 1 where the variances are over dof, which shrinks more."""
    data, expected = (np.load(shared(f"refs/kernels/{n}.npz")) for n in ("similarity_inputs", "rsa_expected"))
    residuals, _ = condition_residuals(data["M"], data["cond"])
    sample = (residuals.T @ residuals / 44).numpy()
    off = ~np.eye(15, dtype=bool)
    kept = []
    for precision in (expected["prec_shrinkage_diag_M"], noise_precision(residuals, dof=44).numpy()):
        covariance = np.linalg.inv(precision)
        np.testing.assert_allclose(np.diag(covariance), np.diag(sample), rtol=1e-9)
        shares = covariance[off] / sample[off]
        np.testing.assert_allclose(shares, shares.mean(), rtol=1e-6)
        kept.append(shares.mean())
    assert kept[0] < kept[1]
    unit = residuals.numpy() / np.sqrt(np.diag(sample))
    mean, mean_of_square = unit.T @ unit / 47, (unit**2).T @ unit**2 / 47
    theirs = 48 / 44**2 * (mean_of_square - mean**2)[off].sum() / (mean[off] ** 2).sum()
    assert kept[0] == pytest.approx(1 - theirs, rel=1e-9)


@pytest.mark.parametrize("dof", [None, 15])
def test_estimators_equal_their_definitions(dof: int | None, device: str) -> None:
    r = draw(20, 6) @ draw(6, 6, seed=1)
    degrees = dof or 19
    for name, covariance in (
        ("shrinkage_diagonal", shrunk_to_diagonal(r.numpy(), degrees)),
        ("shrinkage_identity", shrunk_to_identity(r.numpy(), degrees)),
        ("sample", (r.T @ r).numpy() / degrees),
    ):
        found = noise_precision(r.to(device), estimator=name, dof=dof).cpu().numpy()
        np.testing.assert_allclose(found @ covariance, np.eye(6), atol=1e-9, err_msg=name)


def test_white_noise_is_shrunk_all_the_way_and_strong_correlations_hardly() -> None:
    white = draw(40, 30)
    off = ~torch.eye(30, dtype=torch.bool)
    sample, shrunk = (
        torch.linalg.inv(noise_precision(white, estimator=e))[off] for e in ("sample", "shrinkage_diagonal")
    )
    assert float(shrunk.norm()) < 0.2 * float(sample.norm())
    mixing = draw(30, 30, seed=1)
    truth = mixing @ mixing.T
    found = torch.linalg.inv(noise_precision(draw(5000, 30) @ mixing.T))
    assert float((found - truth).norm() / truth.norm()) < 0.1


def test_more_units_than_samples_are_no_obstacle_to_shrinkage() -> None:
    for name in ("shrinkage_diagonal", "shrinkage_identity"):
        assert bool(torch.linalg.eigvalsh(noise_precision(draw(10, 50), estimator=name)).min() > 0)


def test_residuals_are_about_condition_means() -> None:
    x, conditions, runs = draw(12, 3) + 5, list("aabbccaabbcc"), [0] * 6 + [1] * 6
    left, dof = condition_residuals(Representation(x), conditions)
    assert dof == 9
    for c in "abc":
        rows = [i for i, v in enumerate(conditions) if v == c]
        torch.testing.assert_close(left[rows], x[rows] - x[rows].mean(0))
    left, dof = condition_residuals(x, conditions, runs)
    assert dof == 6
    torch.testing.assert_close(left[:2], x[:2] - x[:2].mean(0))


def test_degrees_of_freedom_are_those_that_the_residuals_know() -> None:
    """S = R'R / dof with dof = samples minus means, whichever way the residuals are handed on."""
    x, conditions = draw(12, 3) + 5, list("aabbccaabbcc")
    residuals = condition_residuals(x, conditions)
    right = torch.linalg.inv(residuals.values.T @ residuals.values / 9)
    torch.testing.assert_close(noise_precision(residuals, estimator="sample"), right)
    torch.testing.assert_close(noise_precision(residuals, estimator="sample", dof=11), right * 11 / 9)
    # Means that are gone show in the rank where there are units enough, in single precision too.
    for dtype in (torch.float64, torch.float32):
        wide = condition_residuals(draw(12, 40).to(dtype), conditions).values.to(dtype)
        torch.testing.assert_close(
            noise_precision(wide, estimator="variances"), noise_precision(wide, estimator="variances", dof=9)
        )


def test_precision_of_runs_has_the_degrees_of_freedom_of_each() -> None:
    """Samples minus conditions, of those that the run has: by hand, and unbiased on white noise."""
    conditions, runs = list("aabbccaab") + list("aabb" * 3), [0] * 9 + [1] * 12
    x = draw(21, 2)
    found = noise_precision_by_run(x, conditions, runs, estimator="sample")
    for run, rows, dof in ((0, slice(0, 9), 6), (1, slice(9, 21), 10)):
        left = x[rows].clone()
        for c in set(conditions[rows]):
            mine = torch.tensor([v == c for v in conditions[rows]])
            left[mine] -= left[mine].mean(0)
        torch.testing.assert_close(found[run], torch.linalg.inv(left.T @ left / dof))
    variances = torch.stack([
        1 / noise_precision_by_run(draw(21, 2, seed=s), conditions, runs, estimator="variances")[0] for s in range(400)
    ])  # fmt: skip
    assert abs(float(variances.mean()) - 1) < 4 * float(variances.mean(1).std()) / 20


def test_a_run_without_repeats_is_named() -> None:
    with pytest.raises(BadInput, match="run 1: 2 residuals leave 0 degrees of freedom"):
        noise_precision_by_run(draw(6, 2), list("aabbab"), [0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_a_unit_that_is_constant_up_to_rounding_has_no_noise(dtype: torch.dtype) -> None:
    x = draw(40, 4) + 3
    x[:, 2] = 1000 * (1 + 0.5 * torch.finfo(dtype).eps * draw(40, 1)[:, 0])
    conditions = list("abcd") * 10
    for held in (x.to(dtype), x.to(dtype).double()):
        left = condition_residuals(held, conditions)
        assert left.values[:, 2].eq(0).all()
        for estimator in ("sample", "variances", "shrinkage_diagonal"):
            with pytest.raises(BadInput, match="1 of 4 units have no noise"):
                noise_precision(left, estimator=estimator)


def test_small_noise_far_from_the_origin_is_noise() -> None:
    left = condition_residuals(1e-6 * draw(40, 3) + 1000, list("abcd") * 10)
    right = condition_residuals(1e-6 * draw(40, 3), list("abcd") * 10)
    torch.testing.assert_close(noise_precision(left), noise_precision(right), rtol=1e-5, atol=1e3)


def test_units_of_very_different_sizes_are_no_singular_covariance() -> None:
    scale = torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)
    r = draw(50, 3) @ draw(3, 3, seed=1)
    for estimator in ("sample", "shrinkage_diagonal"):
        found = noise_precision(r * scale, estimator=estimator)
        torch.testing.assert_close(
            found * scale[:, None] * scale, noise_precision(r, estimator=estimator), rtol=1e-8, atol=0
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_unit_and_its_copy_up_to_rounding_are_singular(dtype: torch.dtype) -> None:
    x = draw(60, 3) + 5
    x = torch.cat([x.to(dtype), (3 * x[:, :1]).to(dtype) / 3], 1)
    with pytest.raises(BadInput, match="singular, as far as the precision of the data shows"):
        noise_precision(condition_residuals(x, list("abc") * 20), estimator="sample")
    assert noise_precision(condition_residuals(x[:, :3], list("abc") * 20), estimator="sample").isfinite().all()


def test_residuals_unpack_as_before() -> None:
    found = condition_residuals(draw(12, 3), list("abc") * 4)
    values, dof = found
    assert values is found.values
    assert dof == found.dof == 9
    assert found.rounding.shape == (3,)
