"""Two values for one output: recognised whatever their type, and right on their side of the middle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geomfeat.regimes.training.class_targets import (
    as_classes,
    as_values,
    numbered,
    share_right,
    threshold_of,
    two_levels,
    unnumbered,
)

SIGNS = [1.0, -1.0, -1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int8])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_signs_become_a_column_of_values(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    targets = torch.tensor(SIGNS).to(dtype).reshape(shape)
    assert two_levels(targets, 1) == (-1, 1)
    values = as_values(targets, 1)
    assert values.is_floating_point()
    assert values.tolist() == [[s] for s in SIGNS]
    assert share_right(torch.tensor([[0.2], [-3.0], [0.1], [0.0]]), targets) == 0.5


@pytest.mark.parametrize(
    ("targets", "n_outputs"),
    [
        (torch.tensor([1, -1]), 2),
        (torch.tensor([[1.0, -1.0], [1.0, 1.0]]), 2),
        (torch.tensor([1.0, -0.5, 0.0]), 1),
        (torch.tensor([0, 0]), 1),
    ],
)
def test_other_targets_stay_as_they_are(targets: Tensor, n_outputs: int) -> None:
    assert as_values(targets, n_outputs) is targets


def test_classes_are_right_by_the_largest_output() -> None:
    assert share_right(torch.eye(3), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (-5, 7), (3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_any_two_values_are_divided_half_way(low: int, high: int, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    targets = torch.tensor([high, low, low, high]).to(dtype).reshape(shape)
    middle = (low + high) / 2
    assert two_levels(targets, 1) == (low, high)
    assert as_values(targets, 1).tolist() == [[high], [low], [low], [high]]
    outputs = torch.tensor([[middle + 0.1], [middle - 9.0], [middle + 0.1], [middle]])
    assert share_right(outputs, targets) == 0.5


def test_truth_values_are_two_values() -> None:
    assert two_levels(torch.tensor([True, False]), 1) == (0, 1)
    assert as_values(torch.tensor([True, False]), 1).tolist() == [[1.0], [0.0]]


def test_levels_of_other_samples_hold_where_one_value_is_missing() -> None:
    ones = torch.ones(3, dtype=torch.int64)
    assert as_values(ones, 1, (0.0, 1.0)).tolist() == [[1.0]] * 3
    assert share_right(torch.tensor([[0.6], [0.4], [2.0]]), ones, (0.0, 1.0)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("targets", "outputs", "classes"),
    [([1, 2], 2, [1, 2]), ([1, -1], 2, [-1, 1]), ([20, 10, 10], 2, [10, 20]), ([0, 1], 2, None), ([5, 6], 3, None)],
)
def test_as_many_classes_as_outputs_are_numbered(targets: list[int], outputs: int, classes: list[int] | None) -> None:
    found = unnumbered(torch.tensor(targets), outputs)
    assert (None if found is None else found.tolist()) == classes
    expected = targets if classes is None else [classes.index(t) for t in targets]
    assert numbered(torch.tensor(targets), found).tolist() == expected


def bce(f: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(f, y)


ZERO_ONE = torch.tensor([0, 1] * 20)
NOISE = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
LOGITS = torch.where(ZERO_ONE[:, None] == 1, 2.0, -2.5) + 0.5 * NOISE
VALUES = ZERO_ONE[:, None] + 0.2 * NOISE


@pytest.mark.parametrize(
    ("outputs", "loss", "at"),
    [
        (VALUES, None, 0.5), (LOGITS, None, 0.0), (VALUES, "mse", 0.5), (VALUES, "cross-entropy", 0.0),
        (VALUES, bce, 0.0), (VALUES, lambda f, y: (f - y).square().mean(), 0.5), (0.1 * LOGITS, bce, 0.0),
        (VALUES.sigmoid(), lambda f, y: torch.nn.functional.binary_cross_entropy(f.clamp(0, 1), y), 0.5),
        (0.05 * LOGITS, None, 0.0),
    ],
)  # fmt: skip
def test_what_divides_zero_and_one(outputs: Tensor, loss, at: float) -> None:
    assert threshold_of(outputs, ZERO_ONE, (0.0, 1.0), loss) == at


def test_what_outputs_show_decides_only_where_it_is_clear_or_makes_no_difference() -> None:
    between = torch.full((40, 1), 0.3)
    assert threshold_of(between, ZERO_ONE, (0.0, 1.0)) is None
    assert threshold_of(between - 1, ZERO_ONE, (0.0, 1.0)) == 0.0
    assert threshold_of(between, 2 * ZERO_ONE - 1, (-1.0, 1.0)) == 0.0


def test_shares_are_counted_at_the_threshold() -> None:
    assert share_right(torch.tensor([[0.2], [-0.2]]), torch.tensor([1, 0])) == 0.5
    assert share_right(torch.tensor([[0.2], [-0.2]]), torch.tensor([1, 0]), threshold=0.0) == 1.0


def test_columns_of_classes_are_numbered() -> None:
    column = torch.tensor([[20], [10], [20]])
    assert as_classes(column, 2).tolist() == [1, 0, 1]
    assert as_classes(column, 1) is column
    assert as_classes(column.double(), 2).tolist() == column.tolist()
