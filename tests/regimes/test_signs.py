"""-1 and +1 for one output: recognised whatever their type, and right where the signs agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geomfeat.regimes.signs import are_signs, as_values, share_right

SIGNS = [1.0, -1.0, -1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int8])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_signs_become_a_column_of_values(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    targets = torch.tensor(SIGNS).to(dtype).reshape(shape)
    assert are_signs(targets, 1)
    values = as_values(targets, 1)
    assert values.is_floating_point()
    assert values.tolist() == [[s] for s in SIGNS]
    assert share_right(torch.tensor([[0.2], [-3.0], [0.1], [0.0]]), targets) == 0.5


@pytest.mark.parametrize(
    ("targets", "n_outputs"),
    [
        (torch.tensor([0, 1, 1]), 1),
        (torch.tensor([1, -1]), 2),
        (torch.tensor([[1.0, -1.0], [1.0, 1.0]]), 2),
        (torch.tensor([1.0, -0.5]), 1),
        (torch.tensor([True, False]), 1),
    ],
)
def test_other_targets_stay_as_they_are(targets: Tensor, n_outputs: int) -> None:
    assert not are_signs(targets, n_outputs)
    assert as_values(targets, n_outputs) is targets


def test_classes_are_right_by_the_largest_output() -> None:
    assert share_right(torch.eye(3), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)
