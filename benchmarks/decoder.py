"""A network of the shape of GPT-2, of plain torch modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and a perceptron of four times the width, each on normalised features, added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        n, tokens, width = h.shape
        q, k, v = (
            part.view(n, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.before(h)).chunk(3, -1)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).reshape(n, tokens, width))
        return h + self.narrow(nn.functional.gelu(self.wide(self.after(h)), approximate="tanh"))


class Decoder(nn.Module):
    """A language model of the shape of GPT-2 that classifies: words to features of the last token to ten outputs."""

    def __init__(self, width: int, blocks: int, heads: int, words: int, tokens: int, outputs: int = 10) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(words, width), nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.word(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            h = block(h)
        return self.head(self.last(h)[:, -1])
