"""What tells wrong gradients of the rules from right ones."""

import math

import pytest
import torch
from torch import Tensor

from geomfeat.tangent.layerwise.forward_pass import differing
from geomfeat.tangent.layerwise.outer_factors import Rows

WHERE = "weight", (0, (2, 3), (3, 1))
SAMPLES = torch.arange(12.0, dtype=torch.float64).view(2, 1, 6)
WEIGHTS = torch.tensor([1.0, 2.0], dtype=torch.float64)


def right() -> Tensor:
    return (SAMPLES[:, 0] * WEIGHTS[:, None]).sum(0).view(2, 3)


@pytest.mark.parametrize("off", [1e-4, -1e-4, math.nan])
def test_a_gradient_that_differs_in_one_entry_to_either_side_is_seen(off: float) -> None:
    factors = {WHERE: Rows(SAMPLES)}
    assert differing({"weight": right()}, factors, WEIGHTS) == set()
    wrong = right()
    wrong[1, 0] += off
    assert differing({"weight": wrong}, factors, WEIGHTS) == {"weight"}


def test_a_gradient_that_no_rule_explains_is_seen_whatever_its_sign() -> None:
    plain = {"one": torch.ones(3).double(), "other": -torch.ones(3).double(), "none": torch.zeros(3).double()}
    assert differing(plain, {}, WEIGHTS) == {"one", "other"}
