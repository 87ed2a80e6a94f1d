"""A tiny network of tokens, with what networks of the transformers package return."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY = 7


@dataclass
class TinyCausalLMOutput:
    """As CausalLMOutput of transformers."""

    logits: Tensor
    loss: Any = None


@dataclass
class TinyMaskedLMOutput:
    """As MaskedLMOutput of transformers."""

    logits: Tensor


class Tiny(nn.Module):
    """Token by token with a running (or whole) mean over valid tokens: attention that only looks at the mask."""

    def __init__(self, causal: bool = True, returns: Any = TinyCausalLMOutput, problem: str | None = None) -> None:
        super().__init__()
        self.config = SimpleNamespace(problem_type=problem)
        self.causal, self.returns = causal, returns
        self.embed, self.mix = nn.Embedding(VOCABULARY, 6), nn.Linear(6, 5)
        self.inner, self.head = nn.Linear(5, 5), nn.Linear(5, VOCABULARY)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = mask.to(self.head.weight.dtype)[..., None]
        hidden = torch.tanh(self.mix(self.embed(input_ids)))
        if self.causal:
            seen = (hidden * weight).cumsum(1) / weight.cumsum(1).clamp_min(1)
        else:
            seen = ((hidden * weight).sum(1) / weight.sum(1))[:, None].expand_as(hidden)
        return self.returns(self.head(torch.tanh(self.inner(seen + hidden))))


def tiny(seed: int = 0, **options: Any) -> Tiny:
    """A network in float64."""
    torch.manual_seed(seed)
    return Tiny(**options).double().eval()


def moved(net: nn.Module, by: float = 0.1) -> Any:
    """The same with other weights, as if it had been trained."""
    generator, end = torch.Generator().manual_seed(1), copy.deepcopy(net)
    with torch.no_grad():
        for p in end.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return end


def padded(tokens: int, left: bool = False, n: int = 8, vocabulary: int = VOCABULARY) -> dict[str, Tensor]:
    """The same n sequences of 2 to 6 tokens, padded to so many."""
    generator = torch.Generator().manual_seed(3)
    lengths = 2 + torch.randperm(n, generator=generator) % 5
    ids = torch.randint(1, vocabulary, (n, 6), generator=generator)
    mask = (torch.arange(6) < lengths[:, None]).long()
    wide = torch.zeros(n, tokens, dtype=torch.long), torch.zeros(n, tokens, dtype=torch.long)
    for i, length in enumerate(lengths.tolist()):
        place = slice(tokens - length, tokens) if left else slice(0, length)
        wide[0][i, place], wide[1][i, place] = ids[i, :length], mask[i, :length]
    return {"input_ids": wide[0], "attention_mask": wide[1]}
