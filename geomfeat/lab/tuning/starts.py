"""Networks that a small task is learned from: pretrained on the language, or fresh; and what is trained of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geomfeat.lab.tuning.language import LENGTH, VOCABULARY, WORDS, Language
from geomfeat.models.transformer import TransformerClassifier, transformer
from geomfeat.numerics import WORKING, Device, stream

CLASSES = 2
BATCH, RATE, SEQUENCES = 128, 3e-3, 4000  # of the pretraining


@dataclass(frozen=True, eq=False)
class Starts:
    """Three networks of one architecture, in float64.

    Attributes:
        prompted: pretrained; its outputs are the logits of two label words for the hidden word (Malladi et al. 2023).
        new_head: pretrained, with a fresh head. scratch: fresh.
    """

    prompted: nn.Module
    new_head: nn.Module
    scratch: nn.Module


def starts(
    lang: Language, width: int, depth: int, steps: int, seed: int, device: Device = "cpu"
) -> Starts:  # fmt: skip
    """Pretrain a small transformer to predict the hidden word, by Adam, and give it the three starts of a task."""
    base = _network(width, depth, WORDS, seed).to(device)
    tokens, words, _ = (part.to(device) for part in lang.sequences(SEQUENCES, seed, "pretraining"))
    draw = stream(seed, "lab", "pretraining", "batches")
    optimizer = torch.optim.Adam(base.parameters(), lr=RATE)
    for _ in range(steps):
        rows = torch.randint(len(tokens), (BATCH,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(base(tokens[rows]), words[rows]).backward()
        optimizer.step()
    fresh, labels = _network(width, depth, CLASSES, seed + 1).to(device), lang.label_words
    prompted = _with_head(base, base.head.weight[labels], base.head.bias[labels])
    return Starts(prompted, _with_head(base, fresh.head.weight, fresh.head.bias), fresh.to(WORKING))


def matrices(model: nn.Module) -> list[str]:
    """Names of the weight matrices of a transformer's blocks, which adapters act on."""
    return [name for name, p in model.named_parameters() if name.startswith("encoder.layers") and p.ndim == 2]


def blocks(model: nn.Module) -> list[str]:
    """Names of its blocks."""
    return [f"encoder.layers.{i}" for i in range(len(model.get_submodule("encoder.layers")._modules))]


def only(model: nn.Module, parts: Sequence[str]) -> nn.Module:
    """A copy of which only the parameters whose names begin so require a gradient.

    >>> net = only(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), ["1"])
    >>> [name for name, p in net.named_parameters() if p.requires_grad]
    ['1.weight', '1.bias']
    """
    model = copy.deepcopy(model)
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith(tuple(parts)))
    return model


def _network(width: int, depth: int, outputs: int, seed: int) -> TransformerClassifier:
    return transformer(
        vocabulary=VOCABULARY, width=width, heads=2, depth=depth, steps=LENGTH, outputs=outputs, seed=seed
    )


def _with_head(base: TransformerClassifier, weight: Tensor, bias: Tensor) -> nn.Module:
    model = copy.deepcopy(base)
    model.head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.copy_(bias)
    return model.to(base.head.weight.device, WORKING)
