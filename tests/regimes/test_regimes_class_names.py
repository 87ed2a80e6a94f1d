"""Classes of any numbers and names are learned like 0, 1, ..., and the test's are numbered by the training's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.models.mlp import mlp
from geomfeat.regimes.stability import sharpness
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.regimes.training.scaled_training import Trained

X = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()


def trained(targets: Any, test: Any = None) -> Trained:
    torch.manual_seed(0)
    return train_at_gamma(mlp(5, (8,), 3), X, targets, gamma=1.0, max_steps=20, seed=0, options=TrainOptions(test=test))


@pytest.mark.parametrize(
    "targets",
    [10 * Y + 10, Y - 1, (10 * Y + 10)[:, None], np.array(["a", "b", "c"])[Y], np.array(["a", "b", "c"])[Y][:, None]],
    ids=["tens", "from -1", "column", "names", "column of names"],
)
def test_other_numbers_and_names_are_learned_alike(targets: Any) -> None:
    plain = trained(Y, (X, Y))
    found = trained(targets, (X, targets))
    assert found.train_loss == plain.train_loss
    assert found.train_accuracy == plain.train_accuracy
    assert found.test_accuracy == found.train_accuracy


@pytest.mark.parametrize("code", [lambda y: 10 * y + 10, lambda y: np.array(["a", "b", "c"])[y]])
def test_a_test_without_some_classes_is_numbered_by_those_of_training(code: Any) -> None:
    some = Y > 0
    plain = trained(Y, (X[some], Y[some]))
    found = trained(code(Y), (X[some], code(Y[some])))
    assert found.test_accuracy == plain.test_accuracy
    assert found.test_loss == plain.test_loss


def test_a_class_that_training_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match="test targets hold 40, which is none of the classes of targets, 10, 20, 30"):
        trained(10 * Y + 10, (X[:1], torch.tensor([40])))


def test_sharpness_numbers_by_all_samples() -> None:
    torch.manual_seed(0)
    net = mlp(5, (8,), 3)
    assert sharpness(net, X, 10 * Y + 10).top == sharpness(net, X, Y).top
