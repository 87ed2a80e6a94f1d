"""Fitted models: planted weights, held-out numbers by a loop, ceiling, honesty on noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, fit_rdm_model
from geomfeat.geometry.rsa.compare import COMPARATORS
from geomfeat.geometry.rsa.model_weights import FITTED, fitted_weights
from geomfeat.numerics import stream
from tests.reference.rsa import similarity, whitened_pairs

PLANTED = torch.tensor([0.6, 0.3, 0.1, 0.0], dtype=torch.float64)


def study(n: int = 16, k: int = 6, noise: float = 0.2, seed: int = 0) -> tuple[RDMs, RDMs]:
    """Four models, and subjects whose RDMs are the planted sum of them with noise."""
    g = stream(seed, "flexible", n, k)
    pairs = n * (n - 1) // 2
    models = torch.rand(4, pairs, generator=g, dtype=torch.float64)
    data = PLANTED @ models + noise * torch.randn(k, pairs, generator=g, dtype=torch.float64)
    return RDMs(models, names="abcd"), RDMs(data)


def cosine_of(a: np.ndarray, b: np.ndarray, criterion: str, n: int) -> float:
    if criterion == "whitened_cosine":
        return whitened_pairs(a, b, list(itertools.combinations(range(n), 2)), n)
    return similarity(a, b, criterion)


@pytest.mark.parametrize("comparator", ["cosine", "correlation", "whitened_cosine", "rho_a"])
def test_planted_weights_are_recovered(comparator: str, device: str) -> None:
    models, data = study()
    found = fit_rdm_model(RDMs(models.vectors.to(device), names="abcd"), RDMs(data.vectors.to(device)), comparator)
    assert float(found.weights.sum()) == pytest.approx(1)
    assert bool(((found.weights.cpu() - PLANTED).abs() < 4 * found.weight_stderr.cpu() + 0.02).all())
    # Better than each model alone on what was held out, and no better than any model can be.
    assert float(found.mean[0]) > float(found.mean[1:].max())
    assert bool((found.p_fitted[1:] < 0.05).all())
    assert float(found.mean[0]) < found.ceiling.upper
    assert found.n_folds == 4


@pytest.mark.parametrize("criterion", FITTED)
def test_no_weights_are_better_than_the_fitted_ones(criterion: str) -> None:
    models, data = study(7, 3, noise=0.4)
    conditions = torch.tensor([0, 2, 3, 5, 6])
    found = fitted_weights(models.vectors, data.vectors, criterion, conditions, 7)
    x, y = (r.take(conditions.tolist()).vectors.numpy() for r in (models, data))

    def loss(w: np.ndarray) -> float:
        return -float(np.mean([cosine_of(w @ x, subject, criterion, 5) for subject in y]))

    best = min(
        (minimize(loss, start, bounds=[(0, None)] * 4, tol=1e-12) for start in (*np.eye(4) + 0.01, np.ones(4))),
        key=lambda result: result.fun,
    )
    assert loss(found.numpy()) == pytest.approx(best.fun, abs=1e-7)
    np.testing.assert_allclose(found, best.x / best.x.sum(), atol=2e-3)


@pytest.mark.parametrize("comparator", ["correlation", "rho_a"])
def test_held_out_numbers_are_those_of_a_loop(comparator: str) -> None:
    models, data = study(8, 3)
    found = fit_rdm_model(models, data, comparator, n_folds=2, seed=3)
    order = torch.randperm(8, generator=stream(3, "flexible rdm model")).tolist()
    expected = np.zeros((5, 3))
    for part in (0, 1):
        test = [c for place, c in enumerate(order) if place % 2 == part]
        train = torch.tensor([c for c in range(8) if c not in test])
        tested = [r.take(sorted(test)).vectors.numpy() for r in (models, data)]
        for k in range(3):
            rest = data.vectors[[i for i in range(3) if i != k]]
            weights = fitted_weights(models.vectors, rest, "correlation", train, 8).numpy()
            for row, prediction in enumerate((weights @ tested[0], *tested[0])):
                expected[row, k] += similarity(prediction, tested[1][k], comparator) / 2
    np.testing.assert_allclose(found.per_subject, expected, rtol=1e-8)


def test_a_fit_to_noise_is_worth_nothing_on_held_out_conditions() -> None:
    """With all conditions in the fit, twelve models of noise look better than on conditions that are new."""
    held, seen = [], []
    for seed in range(20):
        g = stream(seed, "noise models")
        models = RDMs(torch.rand(12, 66, generator=g, dtype=torch.float64))
        data = RDMs(torch.rand(66, generator=g, dtype=torch.float64) + 0.1 * torch.randn(4, 66, generator=g).double())
        for scores, n_folds in ((held, 3), (seen, 1)):
            scores.append(float(fit_rdm_model(models, data, "correlation", n_folds=n_folds, seed=seed).mean[0]))
    assert abs(np.mean(held)) < 4 * np.std(held) / 20**0.5
    assert np.mean(seen) > 0.25


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_the_held_out_fit_stays_below_the_upper_ceiling(comparator: str) -> None:
    for seed in range(3):
        found = fit_rdm_model(*study(12, 4, noise=0.3, seed=seed), comparator)
        assert float(found.mean.max()) < found.ceiling.upper


def test_one_subject_is_fitted_on_other_conditions_only() -> None:
    models, data = study(12, 1)
    found = fit_rdm_model(models, data)
    assert bool(found.stderr.isnan().all() & found.weight_stderr.isnan().all() & found.p_fitted.isnan().all())
    assert float(found.mean[0]) > float(found.mean[1:].max())
    assert any("no subject was held out" in note for note in found.notes)


def test_pairs_that_are_missing_are_left_out_and_counted() -> None:
    models, data = study()
    data.vectors[0, :5] = torch.nan
    found = fit_rdm_model(models, data)
    assert bool(((found.weights - PLANTED).abs() < 0.1).all())
    assert "115 of 120 pairs of conditions are used" in found.notes[0]


def test_models_that_are_all_unlike_the_data_leave_the_least_unlike_one() -> None:
    models, data = study(8, 2, noise=0.0)
    found = fitted_weights(-models.vectors, data.vectors, "cosine", torch.arange(8), 8)
    assert found.tolist() == pytest.approx(torch.nn.functional.one_hot(found.argmax(), 4).tolist())


def test_it_shows_itself() -> None:
    found = fit_rdm_model(*study(8, 3), n_folds=1)
    frame = found.to_frame()
    assert frame["names"].tolist() == ["fitted", *"abcd"]
    assert frame["weight"][1:].tolist() == found.weights.tolist()
    assert "RSA by cosine with 3 held-out subjects on all conditions" in str(found)
    assert "no conditions were held out" in str(found)
    assert found._chart().curves[1].label == "lower noise ceiling"
    torch.testing.assert_close(found.prediction.vectors[0], found.weights @ study(8, 3)[0].vectors)


def test_bad_input_is_refused_clearly() -> None:
    models, data = study(8, 3)
    for call, words in (
        (lambda: fit_rdm_model(models, data, n_folds=3), "n_folds=3: 8 conditions"),
        (lambda: fit_rdm_model(models, data, n_folds=0), "n_folds=0"),
        (lambda: fit_rdm_model(models, data.select("0"), n_folds=1), "nothing is held out"),
        (lambda: fit_rdm_model({"fitted": models.select("a")}, data), "a model is named 'fitted'"),
        (lambda: fit_rdm_model(models, study(9, 3)[1]), "different conditions"),
        (lambda: fit_rdm_model(RDMs(torch.zeros(2, 28)), data), "cosine is undefined for all models"),
    ):
        with pytest.raises(BadInput, match=words):
            call()
