"""A made-up language of topics: sequences that end in a hidden word, and two classes of topics to tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomfeat.numerics import stream

TOPICS, WORDS, LENGTH = 4, 32, 10
HIDDEN = WORDS  # the token in place of the word to predict
VOCABULARY = WORDS + 1
SHARPNESS = 1.0  # of a topic's words: standard deviation of their log frequency


@dataclass(frozen=True, eq=False)
class Language:
    """How often each topic uses each word, (TOPICS, WORDS). A topic's class is whether its number is odd."""

    frequencies: Tensor

    def sequences(self, n: int, seed: int, what: str) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (n, LENGTH) that end in the hidden one, the word it hides (n,), and the class of the topic (n,)."""
        draw = stream(seed, "lab", "sequences", what)
        topics = torch.randint(TOPICS, (n,), generator=draw)
        words = torch.multinomial(self.frequencies[topics], LENGTH, replacement=True, generator=draw)
        tokens = torch.cat([words[:, :-1], torch.full((n, 1), HIDDEN)], 1)
        return tokens, words[:, -1], topics % 2

    @property
    def label_words(self) -> list[int]:
        """For each class the word that speaks for it most: the largest term of the divergence from the other class."""
        own = torch.stack([self.frequencies[c::2].mean(0) for c in (0, 1)])
        return (own * (own / own.flip(0)).log()).argmax(1).tolist()


def language(seed: int) -> Language:
    """A language with random topics.

    >>> language(0).frequencies.shape
    torch.Size([4, 32])
    """
    draw = stream(seed, "lab", "language")
    return Language(torch.softmax(SHARPNESS * torch.randn(TOPICS, WORDS, generator=draw), 1))
