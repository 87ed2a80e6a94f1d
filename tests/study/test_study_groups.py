"""Groups of samples on their way through a study and a comparison, to errors and folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geomfeat.api import compare
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import cka
from geomfeat.models.mlp import mlp
from geomfeat.numerics import jackknife_stderr, stream
from geomfeat.study import StudyOptions, analyze
from geomfeat.types import Representation

OBJECTS, EACH = 12, 5
GROUPS = torch.arange(OBJECTS).repeat_interleave(EACH)
X = torch.randn(OBJECTS, 6, generator=stream(0, "study groups"))[GROUPS]
X = X + 0.1 * torch.randn(len(X), 6, generator=stream(1, "study groups"))
NAMES = [f"object {g}" for g in GROUPS.tolist()]
SETTINGS = {
    "measures": ["linear_probe_accuracy", "participation_ratio", "cka_linear_unbiased", "cka_linear_biased"],
    "layers": ["fc1", "fc2"], "location": False, "progress": False,
}  # fmt: skip


def net() -> torch.nn.Module:
    return mlp(6, (8, 8), 2, seed=0)


def test_a_study_takes_errors_over_groups_and_splits_none(tmp_path: Path) -> None:
    plain = analyze(net(), X, GROUPS % 2, options=StudyOptions(umap=False, resume=tmp_path), **SETTINGS).table
    found = analyze(net(), X, GROUPS % 2, groups=NAMES, options=StudyOptions(umap=False, resume=tmp_path), **SETTINGS)
    table = found.table
    assert found.settings["groups"] == OBJECTS
    probe = table[table["measure"] == "linear_probe_accuracy"]
    assert probe["note"].str.contains("12 groups, none of them split over folds").all()
    others = table[table["measure"] != "linear_probe_accuracy"]
    assert others["note"].str.endswith("error over 12 groups").all()
    assert not plain["note"].str.contains("groups").any()
    same = plain[plain["measure"] != "linear_probe_accuracy"]
    np.testing.assert_allclose(others["value"], same["value"], rtol=1e-6)
    assert (others["stderr"].to_numpy() > same["stderr"].to_numpy()).all()


@pytest.mark.parametrize("similarity", ["cka_linear_unbiased", "cka_linear_biased"])
def test_similarities_of_a_comparison_have_errors_over_groups(similarity: str) -> None:
    a, b = X, X @ torch.randn(6, 9, generator=stream(2, "study groups")) + 0.3 * X[:, :1]
    models = {"a": {"x": Representation(a, groups=NAMES)}, "b": {"y": Representation(b.square())}}
    found = compare(models, similarity=similarity, measures=["stable_rank"], progress=False)
    estimator = similarity.removeprefix("cka_linear_")
    without = [cka(a[g != GROUPS], b.square()[g != GROUPS], estimator=estimator) for g in range(OBJECTS)]
    assert found.stderr[0, 1] == pytest.approx(jackknife_stderr(without), rel=1e-4)
    assert found.similarity[0, 1] == pytest.approx(cka(a, b.square(), estimator=estimator), abs=1e-6)


def test_recordings_whose_groups_differ_are_refused() -> None:
    models = {"a": {"x": Representation(X, groups=NAMES)}, "b": {"x": Representation(X, groups=GROUPS % 5)}}
    with pytest.raises(BadInput, match="different groups"):
        compare(models, measures=["stable_rank"], progress=False)


def test_too_few_groups_leave_similarities_without_errors() -> None:
    models = {"a": {"x": Representation(X, groups=GROUPS % 2)}, "b": {"x": Representation(X**2)}}
    found = compare(models, measures=["stable_rank"], progress=False)
    assert np.isfinite(found.similarity).all()
    assert np.isnan(found.stderr).all()


def test_names_of_classes_are_common_to_recordings_that_are_compared() -> None:
    labels = ["ant", "bee"] * 30
    models = {"a": {"x": Representation(X, labels)}, "b": {"x": Representation(X**2)}}
    assert compare(models, measures=["nc1"], progress=False).profiles["ok"].all()
    models["b"] = {"x": Representation(X**2, ["ant", "cat"] * 30)}
    with pytest.raises(BadInput, match="labels of layer 'x' of 'b' differ"):
        compare(models, measures=["nc1"], progress=False)
