"""Compiled parts run eagerly, and activation checkpoints neither recompute nor stand in the way."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils import checkpoint as torch_checkpoint
from torch.utils.checkpoint import checkpoint

import geomfeat as gf
from geomfeat.models.forward_passes.contexts import differentiable_attention, without_checkpoints
from geomfeat.models.functional import functional
from geomfeat.numerics import stream, tolerance
from geomfeat.tangent import jvp


class Saving(nn.Module):
    """Three layers, the middle one recomputed in the backward pass; `reentrant` None for a plain call."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        if self.reentrant is None:
            return self.c(torch.tanh(self.b(h)))
        return self.c(torch.tanh(checkpoint(self.b, h, use_reentrant=self.reentrant)))


def twins(reentrant: bool) -> tuple[nn.Module, nn.Module]:
    saving, plain = Saving(reentrant), Saving(None)
    plain.load_state_dict(saving.state_dict())
    return saving, plain


X = torch.randn(6, 3, generator=stream(0, "contexts"))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_change_no_kernel_product_or_training(reentrant: bool) -> None:
    saving, plain = twins(reentrant)
    torch.testing.assert_close(gf.ntk(saving, X).gram, gf.ntk(plain, X).gram, **tolerance())
    f, g = functional(saving), functional(plain)
    u = {name: torch.ones_like(w) for name, w in f.theta.items()}
    torch.testing.assert_close(jvp(f, X, u), jvp(g, X, u), **tolerance())
    # Far from the start, where a recomputation would be at the model's own weights.
    y = torch.tensor([0, 1] * 3)
    ends = [gf.train_at_gamma(m, X, y, gamma=1.0, max_steps=20, progress=False).model for m in (saving, plain)]
    for mine, theirs in zip(ends[0].parameters(), ends[1].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_torchs_own_checkpoints_are_back_after_an_error() -> None:
    own = torch_checkpoint.CheckpointFunction

    def fail() -> None:
        assert torch_checkpoint.CheckpointFunction is not own
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), without_checkpoints():
        fail()
    assert torch_checkpoint.CheckpointFunction is own


def test_blocks_compiled_in_place_have_the_same_features_and_kernels() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 5), nn.Tanh()), nn.Linear(5, 2))
    fast = copy.deepcopy(net)
    fast[0].compile(backend="eager")
    with torch.no_grad():
        fast(X)
    expected = gf.extract(net, X, ["0.0", "1"], progress=False)
    found = gf.extract(fast, X, ["0.0", "1"], progress=False)
    for name, rep in expected.items():
        torch.testing.assert_close(found[name].x, rep.x)
    torch.testing.assert_close(gf.ntk(fast, X).gram, gf.ntk(net, X).gram, **tolerance())


CUDA = torch.backends.cuda


def allowed() -> list[bool]:
    kinds = CUDA.math_sdp_enabled, CUDA.flash_sdp_enabled, CUDA.mem_efficient_sdp_enabled, CUDA.cudnn_sdp_enabled
    return [kind() for kind in kinds] + [torch.backends.mha.get_fastpath_enabled()]


@pytest.mark.parametrize("flash", [True, False])
def test_kernels_of_attention_are_as_they_were_afterwards_also_after_an_error(flash: bool) -> None:
    usual = allowed()
    CUDA.enable_flash_sdp(flash)
    try:
        before = allowed()
        with differentiable_attention():
            assert allowed() == [True, False, False, False, False]
            with differentiable_attention():
                assert allowed() == [True, False, False, False, False]
        assert allowed() == before
        with pytest.raises(KeyError), differentiable_attention():
            raise KeyError
        assert allowed() == before
    finally:
        CUDA.enable_flash_sdp(usual[1])
