"""Norms told by the size of what they give, with any gain and shift, and features that come from none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from geomfeat.numerics import WORKING
from geomfeat.tangent.layerwise.last_norm import norm_of
from tests.geometry.clouds import normal

N, D = 9, 24


class Gemma(nn.Module):
    """An RMS norm that keeps its gain less 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, (D,)) * (1 + self.weight)


def drawn(norm: nn.Module) -> nn.Module:
    """A network whose last norm has gains and shifts, among others that differ."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in norm.parameters():
            p.add_(0.5 * torch.randn(D))
    other = nn.LayerNorm(D)
    nn.init.normal_(other.weight)
    return nn.ModuleList([other, nn.Linear(D, D), norm, nn.Linear(D, 4)]).double()


@pytest.mark.parametrize(
    ("norm", "centred"),
    [(nn.LayerNorm(D), True), (nn.RMSNorm(D), False), (Gemma(), False)],
    ids=["layer", "rms", "gemma"],
)
def test_a_norm_is_found_by_the_gain_and_shift_that_leave_one_size(norm: nn.Module, centred: bool) -> None:
    net, z = drawn(norm), 3 * normal(N, D)
    features = norm(z).detach()
    found = norm_of(features, net)
    assert found is not None
    assert found.centred == centred
    z = z - z.mean(1, keepdim=True) if centred else z
    torch.testing.assert_close(found.units, z / z.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)
    # A linear layer on the features, as one on what was normalised: no direction along it moves any output.
    weight = normal(7, D, seed=3)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: norm(one) @ weight.mT))(z)
    across = torch.eye(D, dtype=WORKING) - found.units[:, :, None] * found.units[:, None]
    expected = D**0.5 / z.norm(dim=1)[:, None, None] * found.before(weight) @ across
    torch.testing.assert_close(jacobian, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("features", [normal(N, D), normal(N, D).relu()])
def test_features_of_different_sizes_come_from_no_norm(features: Tensor) -> None:
    assert norm_of(features, drawn(nn.LayerNorm(D))) is None
    found = norm_of(nn.functional.layer_norm(features, (D,)), nn.Linear(D, 4))  # a norm without parameters
    assert found is not None
    assert found.centred


def test_many_features_that_are_nearly_of_one_size_come_from_no_norm() -> None:
    assert norm_of(normal(N, 1000), nn.Linear(1000, 4)) is None
    assert norm_of(torch.ones(1, D, dtype=WORKING), nn.LayerNorm(D)) is None
