"""The coordinate check: flat at the muP scale, falling in the lazy one, by hand, and with a training of one's own."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from geomfeat.errors import BadInput
from geomfeat.regimes.training.objective import loss_of
from geomfeat.regimes.width import WidthOptions, coordinate_check
from tests.regimes.width.test_scaling import ntk_mlp, task

WIDTHS = (64, 128, 256, 512)


@pytest.mark.parametrize("r", [0.0, 0.25, 0.5])
def test_hidden_coordinates_move_as_width_to_the_r_minus_half(r: float) -> None:
    found = coordinate_check(ntk_mlp, *task(), WIDTHS, r=r, seeds=6, steps=3)
    for step in (1, 2, 3):
        for layer in ("fc1", "fc2"):
            assert abs(found.exponent(layer, step).exponent - (r - 0.5)) < 0.06
    assert bool((found.mean("fc2", 3) > found.mean("fc2", 1)).all())


def test_one_step_of_ones_own_equals_the_knob_at_gamma_one() -> None:
    x, y = task(6)
    start = {(n, s): ntk_mlp(n, s) for n in (4, 6, 8) for s in range(2)}

    def step(model: nn.Module, inputs: Tensor, targets: Tensor) -> nn.Module:
        before = start[model.get_submodule("fc1").weight.shape[0], 0]
        out = copy.deepcopy(model)
        loss = loss_of(out(inputs) - before(inputs).detach(), targets[:, None], "mse")
        for p, g in zip(out.parameters(), torch.autograd.grad(loss, list(out.parameters())), strict=True):
            p.data -= 0.1 * g
        return out

    knob = coordinate_check(ntk_mlp, x, y, (4, 6, 8), seeds=(0,), steps=3, options=WidthOptions(lr=0.1))
    own = coordinate_check(ntk_mlp, x, y, (4, 6, 8), train=step, seeds=(0,), steps=3)
    for layer in ("fc1", "fc2", "head"):
        assert knob.changes[layer].shape == (3, 1, 3)
        assert_close(knob.changes[layer], own.changes[layer], rtol=1e-4, atol=1e-7)
    by_hand = step(start[4, 0], x, y)
    moved = (by_hand[:2](x) - start[4, 0][:2](x)).detach()
    assert float(knob.mean("fc1", 1)[0]) == pytest.approx(float(moved.square().mean().sqrt()), rel=1e-4)


def test_diverged_networks_are_nan() -> None:
    found = coordinate_check(ntk_mlp, *task(6), (4, 6, 8), seeds=2, steps=4, options=WidthOptions(lr=1e20))
    assert math.isnan(found.exponent("fc1").exponent)


def test_bad_input_is_reported() -> None:
    found = coordinate_check(ntk_mlp, *task(6), (4, 6, 8), seeds=2, steps=2)
    with pytest.raises(BadInput, match="no layer 'fc9'"):
        found.mean("fc9")
    with pytest.raises(BadInput, match="from 1 to 2"):
        found.exponent("fc1", 3)
    with pytest.raises(BadInput, match="at least 3 different"):
        coordinate_check(ntk_mlp, *task(6), (4, 6))
