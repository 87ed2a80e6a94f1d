"""Blocks that are computed again for a backward pass: the same gradients, at whatever weights, in less memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.activations.layer_selection import repeated_units
from geomfeat.models.forward_passes.recomputed_blocks import ComputedOtherwise, recompute, recomputed_blocks
from geomfeat.models.functional import Functional, functional
from geomfeat.tangent import jacobian, saved_bytes, vjp
from tests.peak_memory import needs_peaks, printed_by

TOKENS, WORDS = 12, 20


class Block(nn.Module):
    """Attention and a residual layer; `scale` is shared by all blocks."""

    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.attention(x, x, x, need_weights=False)[0]
        return x + self.layer(x)


class Net(nn.Module):
    def __init__(self, block: Callable[[nn.Parameter], nn.Module] = Block, blocks: int = 3) -> None:
        super().__init__()
        scale = nn.Parameter(torch.tensor(0.7))
        self.blocks = nn.ModuleList(block(scale) for _ in range(blocks))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    words: dict[str, int] = {"vocab_size": WORDS, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(n_positions=TOKENS, n_embd=8, n_layer=3, n_head=2, **words)
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    words: dict[str, int] = {"vocab_size": WORDS, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, **words
    )
    return transformers.LlamaForCausalLM(config)


NETWORKS = {"own": (Net, False), "gpt2": (gpt2, False), "gpt2, padded": (gpt2, True), "llama, padded": (llama, True)}


def prepared(make: Callable[[], nn.Module], padded: bool = False) -> tuple[Functional, Any]:
    torch.manual_seed(0)
    net = make().eval()
    draws = torch.Generator().manual_seed(1)
    if isinstance(net, Net):
        return functional(net), torch.randn(3, TOKENS, 8, generator=draws, dtype=torch.float64)
    inputs = {"input_ids": torch.randint(WORDS, (3, TOKENS), generator=draws)}
    if padded:
        inputs["attention_mask"] = (torch.arange(TOKENS) < torch.tensor([[5], [TOKENS], [8]])).long()
    return functional(net, readout="last"), inputs


@pytest.mark.parametrize(("make", "padded"), NETWORKS.values(), ids=NETWORKS)
def test_gradients_are_those_of_a_plain_pass_at_any_weights(make: Callable[[], nn.Module], padded: bool) -> None:
    """transformers' blocks add to a cache of keys, which a second pass must not do again."""
    f, x = prepared(make, padded)
    draws = torch.Generator().manual_seed(2)
    moved = f.at({name: w + 0.1 * torch.randn(w.shape, generator=draws, dtype=w.dtype) for name, w in f.theta.items()})
    cotangents = torch.randn(3, 2 if isinstance(f.model, Net) else WORDS, generator=draws, dtype=torch.float64)
    plain = [vjp(one, x, cotangents) for one in (f, moved)]
    rows = jacobian(moved, x)
    recompute(f.model, repeated_units(f.model))
    for one, expected in zip((f, moved), plain, strict=True):
        torch.testing.assert_close(vjp(one, x, cotangents), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(jacobian(moved, x), rows, rtol=1e-10, atol=1e-12)


def test_blocks_are_recomputed_where_their_activations_are_much_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, x = prepared(Net)
    kept, _ = saved_bytes(plain, x)
    assert recomputed_blocks(plain.model) == ()
    f, _ = prepared(Net)
    monkeypatch.setattr("geomfeat.tangent.jacobians._memory_budget.free_bytes", lambda _device: 3 * kept)
    spared, _ = saved_bytes(f, x)
    assert recomputed_blocks(f.model) == ("blocks.0", "blocks.1", "blocks.2")
    assert kept / 3 < spared < 2 * kept / 3
    torch.testing.assert_close(vjp(f, x, torch.ones(3, 2)), vjp(plain, x, torch.ones(3, 2)), rtol=1e-12, atol=1e-14)


class Random(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + torch.rand(()))


class Counting(Block):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + self.calls


@pytest.mark.parametrize("block", [Random, Counting])
def test_blocks_that_give_something_else_again_are_kept(block: type[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    f, x = prepared(lambda: Net(block))
    monkeypatch.setattr("geomfeat.tangent.jacobians._memory_budget.free_bytes", lambda _device: 1)
    saved_bytes(f, x)
    assert recomputed_blocks(f.model) == ()
    recompute(f.model, ("blocks.1",))
    theta = {name: w.requires_grad_() for name, w in f.theta.items()}
    value = f(theta, x).sum()
    with pytest.raises(ComputedOtherwise, match="another output when it is computed again: it is random"):
        torch.autograd.grad(value, list(theta.values()))


class Told(Block):
    """Needs what its network says before it is called, and takes back after the pass."""

    shift: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        assert self.shift is not None
        return super().forward(x) + self.shift


class Telling(Net):
    def __init__(self) -> None:
        super().__init__(Told)

    def forward(self, x: Tensor) -> Tensor:
        self._tell(x.mean((1, 2), keepdim=True))
        out = super().forward(x)
        self._tell(None)
        return out

    def _tell(self, shift: Tensor | None) -> None:
        for block in self.blocks:
            block.shift = shift


class Cache:
    """Keys of all blocks, as transformers hand them on."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def get_seq_length(self) -> int:
        return len(self.kept)


class Remembering(Block):
    """Adds what the blocks before it have kept."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        out = super().forward(x)
        if cache is not None:
            out = out + sum(cache.kept, torch.zeros(()))
            cache.kept.append(x)
        return out


class Sharing(Net):
    def __init__(self) -> None:
        super().__init__(Remembering)

    def forward(self, x: Tensor) -> Tensor:
        cache = Cache()
        for block in self.blocks:
            x = block(x, cache)
        return self.head(x.mean(1))


@pytest.mark.parametrize("make", [Telling, Sharing])
def test_blocks_that_cannot_be_computed_alone_are_kept(make: type[Net], monkeypatch: pytest.MonkeyPatch) -> None:
    f, x = prepared(make)
    expected = vjp(f, x, torch.ones(3, 2))
    f, x = prepared(make)
    monkeypatch.setattr("geomfeat.tangent.jacobians._memory_budget.free_bytes", lambda _device: 1)
    torch.testing.assert_close(vjp(f, x, torch.ones(3, 2)), expected)
    assert recomputed_blocks(f.model) == ()


# Memory of 32 MB and more is always given back at once, as that of longer contexts is; here mallopt's M_MMAP_THRESHOLD
# (-3) sets a smaller size.
LONG = """
import ctypes
import json
import sys
import torch
from geomfeat.memory import memory_limit
from geomfeat.models.functional import functional
from geomfeat.models.forward_passes.recomputed_blocks import recompute
from geomfeat.tangent import jacobian, vjp
from tests.models.forward_passes.test_recomputed_blocks import Net
from tests.peak_memory import PeakMemory

ctypes.CDLL(None).mallopt(-3, 2**16)
torch.manual_seed(0)
net = Net(blocks=12).eval()
short, long = torch.randn(2, 4, 8), torch.randn(1, 512, 8)
warm = functional(net)
for blocks in ((), ("blocks.0",)):
    recompute(warm.model, blocks)
    vjp(warm, short, torch.ones(2, 2))
    jacobian(warm, short)
peaks = []
for limit in sys.argv[1:]:
    with memory_limit(limit):
        peak = PeakMemory()
        vjp(functional(net), long, torch.ones(1, 2))
        peaks.append(peak.added)
with memory_limit(sys.argv[1]):
    peak = PeakMemory()
    jacobian(functional(net), long)
print(json.dumps([*peaks, peak.added]))
"""


@needs_peaks
def test_a_long_context_stays_within_a_memory_limit() -> None:
    """12 blocks keep 4 MB each for the pairs of tokens, in two heads, and more for every token."""
    spared, kept, rows = json.loads(printed_by(LONG, "30 MB", "8 GB"))
    assert kept > 1.2 * 30
    assert max(spared, rows) < 1.2 * 30
