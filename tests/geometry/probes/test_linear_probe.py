"""The linear probe: known accuracies, and an independent pipeline."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geomfeat.errors import BadInput
from geomfeat.geometry.probes import linear_probe
from geomfeat.numerics import numpy_stream, stream
from geomfeat.types import Representation
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


def test_copies_are_held_out_together_and_reported():
    """Random labels on samples that all occur three times: no classifier can do better than chance."""
    labels = torch.arange(80) % 2
    x = normal(80, 100).float()
    found = linear_probe(torch.cat([x, x, x * (1 + 1e-7)]), labels.repeat(3))
    assert abs(found.accuracy - 0.5) < 4 * found.stderr
    assert found.n_copies == 160
    assert found.n_groups == 80
    assert "160 copies of samples" in found.note
    assert linear_probe(x, labels).n_groups is None


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("kind", ["numbers", "names", "of the layer"])
def test_no_group_is_split_over_folds(classifier: str, kind: str):
    """Views of objects with random labels are recognised, unless the objects are held out."""
    objects, each = 60, 5
    groups = torch.arange(objects).repeat_interleave(each)
    labels = torch.randint(2, (objects,), generator=stream(1, "probe labels"))[groups]
    views = normal(objects, 80)[groups] + 0.1 * normal(objects * each, 80, seed=1)
    assert linear_probe(views, labels, classifier=classifier).accuracy > 0.95
    if kind == "of the layer":
        found = linear_probe(Representation(views, labels, groups=groups), classifier=classifier)
    else:
        given = groups if kind == "numbers" else [f"object {g}" for g in groups.tolist()]
        found = linear_probe(views, labels, groups=given, classifier=classifier)
    assert abs(found.accuracy - 0.5) < 4 * found.stderr
    assert found.n_groups == objects
    assert "60 groups, none of them split" in found.note


def test_the_error_is_that_of_groups():
    """Samples of a group that are all right or all wrong carry the information of one."""
    groups = torch.arange(200).repeat_interleave(10)
    labels = (torch.arange(200) % 2)[groups]
    x = (normal(200, 1) + 1.0 * labels[::10, None])[groups] + 1e-3 * normal(2000, 1, seed=1)
    found = linear_probe(x, labels, groups=groups)
    p = found.accuracy
    assert found.stderr == pytest.approx((p * (1 - p) / 200) ** 0.5, rel=0.1)
    singles = linear_probe(x[::10], labels[::10], groups=groups[::10])
    assert singles.stderr == pytest.approx((singles.accuracy * (1 - singles.accuracy) / 200) ** 0.5)
    assert singles.by_fold == linear_probe(x[::10], labels[::10]).by_fold


def test_groups_that_cross_classes_are_kept_whole_and_every_fold_trains_on_every_class():
    groups = torch.arange(10).repeat_interleave(12)
    labels = torch.arange(120) % 3
    found = linear_probe(normal(120, 4), labels, groups=groups)
    assert found.n_groups == 10
    assert len(found.by_fold) == 5


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        (["cat"] * 10 + ["dog"] * 10, torch.arange(20) // 5, "class 'cat' has 2 groups, fewer than 5 folds"),
        (torch.arange(20) % 2, torch.zeros(20), "class 0 has 1 groups"),
        (torch.arange(20) % 2, ["a", None] * 10, "10 of 20 groups are missing"),
        (torch.arange(20) % 2, torch.arange(19), "groups has 19 entries, but there are 20"),
        (["cat", None] * 10, None, "10 of 20 labels are missing"),
        (None, None, "needs labels"),
    ],
)
def test_groups_and_labels_that_do_not_do_are_named(labels: object, groups: object, message: str):
    with pytest.raises(BadInput, match=message):
        linear_probe(normal(20, 3), labels, groups=groups)


def test_a_class_of_copies_alone_cannot_be_held_out():
    x = torch.cat([torch.zeros(10, 2), normal(10, 2)])
    with pytest.raises(BadInput, match="class 0 has 1 different samples"):
        linear_probe(x, torch.arange(20) // 10)


def test_a_unit_that_is_constant_up_to_rounding_in_the_training_folds_decides_nothing() -> None:
    """One sample moves it: in the fold that holds it out, what is left of it is rounding that follows the classes."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 4, generator=g), torch.arange(40) % 2
    beside = 1000 * (1 + torch.finfo(torch.float32).eps * y.float())
    beside[7] = 1001.0
    alone = linear_probe(x, y, folds=4)
    with_it = linear_probe(torch.cat([x, beside[:, None]], 1), y, folds=4)
    assert abs(with_it.accuracy - alone.accuracy) <= 4 / 40
    assert with_it.accuracy < 0.8


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_numbers_do_not_depend_on_the_number_of_threads(classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(300) % 3
    x = normal(300, 40) + 0.4 * normal(3, 40, seed=1)[labels]
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(linear_probe(x, labels, classifier=classifier))
    assert found[0] == found[1]


def test_a_fit_that_stops_early_is_reported_and_warns_nobody(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    labels = torch.arange(60) % 3
    x = normal(60, 6) + normal(3, 6, seed=1)[labels]
    assert linear_probe(x, labels).converged
    brief = lambda **options: LogisticRegression(**{**options, "max_iter": 1})  # noqa: E731
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", brief)
    found = linear_probe(x, labels)
    assert not found.converged
    assert "stopped before it converged" in found.note
    assert not recwarn.list
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)
