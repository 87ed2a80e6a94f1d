"""Kernel regression: closed forms, ridge regression in feature space, scikit-learn, refits without each sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import linear_gram
from geomfeat.numerics import stream
from geomfeat.tangent import kernel_regression, ntk
from geomfeat.types import Kernel
from tests.reference.kernel_regression import fit_by_solving, leave_one_out_by_loop


def draw(n: int, d: int, name: str) -> Tensor:
    return torch.randn(n, d, generator=stream(0, name), dtype=torch.float64)


def assert_near(got: Tensor, expected: object, tol: float = 1e-8) -> None:
    np.testing.assert_allclose(got.cpu().numpy(), np.asarray(expected), rtol=tol, atol=tol)


def full_kernel(rank: int, n: int = 7, c: int = 3) -> Tensor:
    return linear_gram(draw(n * c, rank, "full"))


@pytest.mark.parametrize("ridge", [0.3, 5.0])
def test_values_equal_those_of_scikit_learn(ridge: float, device: str) -> None:
    x, x2, y, y2 = draw(12, 20, "x"), draw(5, 20, "x2"), draw(12, 3, "y"), draw(5, 3, "y2")
    got = kernel_regression(Kernel(linear_gram(x).to(device)), y, (x2 @ x.T).to(device), y2, ridge)
    peer = KernelRidge(alpha=ridge, kernel="precomputed").fit(linear_gram(x).numpy(), y.numpy())
    assert_near(got.coefficients, peer.dual_coef_)
    assert got.test is not None
    assert_near(got.test.values, peer.predict((x2 @ x.T).numpy()))
    assert_near(got.train.values, peer.predict(linear_gram(x).numpy()))
    assert got.test.mean_squared_error == pytest.approx(np.mean((peer.predict((x2 @ x.T).numpy()) - y2.numpy()) ** 2))
    assert got.test.accuracy is None
    assert (got.rank, got.size, got.note) == (12, 12, "")


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("d", [4, 30])
def test_the_linear_kernel_is_ridge_regression(d: int, ridge: float) -> None:
    x, x2, y = draw(10, d, "x"), draw(6, d, "x2"), draw(10, 2, "y")
    weights = np.linalg.pinv(x.numpy()) @ y.numpy()  # least squares, or least norm
    if ridge:
        weights = np.linalg.solve(x.numpy().T @ x.numpy() + ridge * np.eye(d), x.numpy().T @ y.numpy())
    got = kernel_regression(linear_gram(x), y, x2 @ x.T, ridge=ridge)
    assert got.test is not None
    assert_near(got.test.values, x2.numpy() @ weights)
    assert got.test.mean_squared_error is None
    assert got.rank == min(d, 10)
    assert ("rank 4 of 10" in got.note) == (ridge == 0 and d == 4)


@pytest.mark.parametrize(("rank", "ridge"), [(40, 0.0), (40, 0.5), (4, 0.0), (4, 0.5)])
def test_leave_one_out_equals_refitting(rank: int, ridge: float, device: str) -> None:
    gram, y = linear_gram(draw(10, rank, "loo")), draw(10, 2, "y")
    got = kernel_regression(gram.to(device), y, ridge=ridge)
    assert_near(got.leave_one_out.values, leave_one_out_by_loop(gram.numpy(), y.numpy(), ridge))
    assert_near(got.coefficients, fit_by_solving(gram.numpy(), y.numpy(), ridge))


@pytest.mark.parametrize(("rank", "ridge"), [(40, 0.0), (40, 0.5), (19, 0.0), (10, 0.0), (19, 0.5)])
def test_a_full_kernel_leaves_out_all_outputs_of_a_sample(rank: int, ridge: float) -> None:
    # At rank 19 of 21 the two null directions are fewer than the three outputs of a sample.
    gram, y = full_kernel(rank), draw(7, 3, "y")
    got = kernel_regression(gram, y, gram[:6], y[:2], ridge=ridge)
    assert_near(got.leave_one_out.values, leave_one_out_by_loop(gram.numpy(), y.numpy(), ridge), 1e-7)
    assert_near(got.coefficients.reshape(-1, 1), fit_by_solving(gram.numpy(), y.numpy().reshape(-1, 1), ridge), 1e-7)
    assert got.test is not None
    assert_near(got.test.values, got.train.values[:2])


def test_a_sample_that_alone_spans_a_direction_is_predicted_by_nothing() -> None:
    # Rank 2 of 4: samples 1-3 repeat one another, sample 0 is orthogonal to them.
    gram = torch.tensor([[2.0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]], dtype=torch.float64)
    got = kernel_regression(gram, torch.tensor([5.0, 1.0, 2.0, 6.0]))
    assert_near(got.train.values[:, 0], [5, 3, 3, 3])
    assert_near(got.leave_one_out.values[:, 0], [0, 4, 3.5, 1.5])
    assert got.rank == 2


def test_the_identity_shrinks_each_target() -> None:
    got = kernel_regression(2 * torch.eye(5), torch.arange(5.0), ridge=3.0)
    assert_near(got.train.values[:, 0], 0.4 * np.arange(5))
    assert got.leave_one_out.mean_squared_error == pytest.approx(6)  # it predicts 0: mean of 0, 1, 4, 9, 16


def test_labels_and_one_hot_targets_are_classified() -> None:
    labels, test_labels = torch.tensor([3, 3, 7, 7]), torch.tensor([3, 7, 3, 9])
    x = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    got = kernel_regression(linear_gram(x), labels, torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]]) @ x.T, test_labels)
    assert got.test is not None
    assert got.train.accuracy == 1
    assert got.test.accuracy == 0.5  # a class that training never saw is missed, and not refused
    again = kernel_regression(linear_gram(x), torch.eye(2)[[0, 0, 1, 1]])
    assert again.train.accuracy == 1
    assert_near(again.train.values, got.train.values[:, :2])
    assert kernel_regression(linear_gram(x), labels.double()).train.accuracy is None


def test_full_and_trace_tangent_kernels_of_a_linear_model_agree() -> None:
    # Every block of a linear model's kernel is a multiple of the identity.
    model, x, labels = nn.Linear(6, 3).double(), draw(12, 6, "x"), torch.arange(12) % 3
    full, trace = ntk(model, x, outputs="full"), ntk(model, x, outputs="trace")
    scale = float(trace.gram[0, 0] / full.gram[0, 0])
    one = kernel_regression(full, labels, ridge=0.1)
    two = kernel_regression(trace, labels, ridge=0.1 * scale)
    assert_near(one.train.values, two.train.values)
    assert_near(one.leave_one_out.values, two.leave_one_out.values)
    assert one.leave_one_out.accuracy == two.leave_one_out.accuracy


def test_rounding_of_single_precision_is_no_rank() -> None:
    gram = linear_gram(draw(20, 4, "single")).float()
    assert kernel_regression(gram, draw(20, 1, "y")).rank == 4
    assert "within the rounding" in kernel_regression(gram, draw(20, 1, "y"), ridge=1e-9).note


def test_bad_input_is_refused() -> None:
    gram, y = torch.eye(4, dtype=torch.float64), torch.arange(4.0)
    for arguments, message in [
        ((gram, y[:3]), "for a kernel of 4 rows"),
        ((gram, y[:2]), "fits neither"),
        ((gram, torch.tensor([0, 5])), "labels must be from 0 to 1"),
        ((gram, y, torch.ones(2, 3)), "test has shape"),
        ((gram, y, torch.ones(2, 4), y), "test_targets are"),
        ((gram, y, torch.ones(2, 4), torch.tensor([0, 1])), "give both in one form"),
        ((0 * gram, y), "nothing can be fitted"),
        ((gram - 0.5, y), "positive semi-definite"),
        ((gram, y * float("nan")), "NaN"),
    ]:
        with pytest.raises(BadInput, match=message):
            kernel_regression(*arguments)
    with pytest.raises(BadInput, match="ridge"):
        kernel_regression(gram, y, ridge=-1.0)


def test_the_rank_of_a_kernel_is_that_of_the_precision_it_came_in() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gram = (x @ x.T).float()
    targets = torch.randn(30, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for kernel in (gram, gram.double(), Kernel(gram), Kernel(gram.double())):
        assert kernel_regression(kernel, targets, ridge=0.0).rank == 4
