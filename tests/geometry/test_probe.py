"""The linear probe: known accuracies, and an independent pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geomfeat.errors import BadInput
from geomfeat.geometry import linear_probe
from geomfeat.numerics import numpy_stream, stream
from tests.geometry.clouds import normal

CLASSIFIERS = ["logistic", "ridge"]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_separable_classes_read_one_and_noise_reads_chance(classifier: str):
    labels = torch.arange(90) % 3
    apart = 20 * torch.eye(3, dtype=torch.float64)[labels] + normal(90, 3)
    assert linear_probe(apart, labels, classifier=classifier).accuracy == 1.0
    noise = linear_probe(normal(900, 3), torch.arange(900) % 3, classifier=classifier)
    assert abs(noise.accuracy - 1 / 3) < 4 * noise.stderr
    assert noise.chance == pytest.approx(1 / 3)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_overlapping_gaussians_reach_the_bayes_accuracy(classifier: str):
    """Two unit Gaussians 2 apart: Phi(1) = .8413."""
    labels = torch.arange(3000) % 2
    x = normal(3000, 4)
    x[:, 0] += 2 * labels
    found = linear_probe(x, labels, classifier=classifier)
    assert abs(found.accuracy - 0.8413) < 4 * found.stderr
    assert found.stderr == pytest.approx((0.8413 * 0.1587 / 3000) ** 0.5, rel=0.1)


def test_equals_a_scikit_learn_pipeline():
    features, labels = (a[:300] for a in load_digits(return_X_y=True))
    found = linear_probe(torch.as_tensor(features), torch.as_tensor(labels), seed=5)
    folds = StratifiedKFold(5, shuffle=True, random_state=int(numpy_stream(5, "probe").integers(2**31)))
    expected = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)), features, labels, cv=folds
    )
    np.testing.assert_allclose(found.by_fold, expected)
    assert found.converged


@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_scale_shift_and_constant_units_do_not_matter(size: float):
    labels = torch.arange(90) % 3
    x = normal(90, 6) + 0.7 * normal(3, 6, seed=1)[labels]
    expected = linear_probe(x, labels)
    changed = torch.cat([size * (x + 3), torch.full((90, 1), 0.1 * size, dtype=torch.float64)], 1)
    assert linear_probe(changed, labels).by_fold == expected.by_fold
    assert 0.4 < expected.accuracy < 1


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (torch.zeros(20), {}, "at least 2 classes"),
        ((torch.arange(20) > 3).long().flip(0), {"folds": 5}, "smallest class has 4 samples, fewer than 5 folds"),
        (torch.arange(20) % 2, {"folds": 1}, "folds=1"),
        (torch.arange(20) % 2, {"classifier": "svm"}, "classifier='svm'"),
    ],
)
def test_bad_input_is_named(labels: torch.Tensor, options: dict, message: str):
    with pytest.raises(BadInput, match=message):
        linear_probe(normal(20, 3), labels, **options)


def test_more_features_than_samples_give_the_predictions_of_the_whole_fit() -> None:
    """The span of the samples is taken for speed alone: scikit-learn on all the features is as right, fold by fold."""
    g = stream(0, "wide probe")
    y = torch.arange(60) % 3
    x = torch.randn(60, 200, generator=g, dtype=torch.float64)
    x[:, 0] += 2.0 * y
    found = linear_probe(x, y, seed=4)
    features, labels = (x / x.abs().max()).numpy(), y.numpy()
    split = StratifiedKFold(5, shuffle=True, random_state=int(numpy_stream(4, "probe").integers(2**31)))
    expected = []
    for train, test in split.split(features, labels):
        mean, size = features[train].mean(0), features[train].std(0)
        fit = LogisticRegression(max_iter=5000).fit((features[train] - mean) / size, labels[train])
        expected.append(float((fit.predict((features[test] - mean) / size) == labels[test]).mean()))
    assert found.by_fold == pytest.approx(expected)
    assert found.accuracy > 0.5
