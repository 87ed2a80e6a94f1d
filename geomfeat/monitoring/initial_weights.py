"""The weights that training began from: held in memory, or read from a file whenever they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from geomfeat.models.functional import Functional, in_dtype
from geomfeat.models.modules import real_pairs
from geomfeat.models.weights.checkpoints import load_weights


class Held:
    """In memory: one copy. `outline`: the network as a function."""

    def __init__(self, f: Functional) -> None:
        self.outline = f

    @contextmanager
    def opened(self) -> Iterator[Functional]:
        """The network at its initial weights."""
        yield self.outline


class Streamed:
    """On disk: memory is taken while `opened` only. `outline`: the network as a function, without values.

    Args:
        f: at the initial weights, of a network that nobody else holds; its memory is given up.
        file: .safetensors with all its weights.
    """

    def __init__(self, f: Functional, file: Path) -> None:
        self._file = file
        self._shapes = {name: (p.shape, p.dtype, p.device) for name, p in f.model.named_parameters()}
        self.outline = replace(f, theta=dict.fromkeys(f.theta, torch.empty(0)), fixed=self._without_weights(f.fixed))
        self.outline.known.update(f.known)
        self._release()

    @contextmanager
    def opened(self) -> Iterator[Functional]:
        """The network at its initial weights."""
        model, f = self.outline.model, self.outline
        try:
            for name, p in model.named_parameters():
                shape, dtype, device = self._shapes[name]
                p.data = torch.empty(shape, dtype=dtype, device=device)
            load_weights(model, self._file)
            values = {name: in_dtype(real_pairs(p.detach()), f.dtype) for name, p in model.named_parameters()}
            values |= {name: b.detach() for name, b in model.named_buffers()}
            there = replace(f, theta={n: values[n] for n in f.theta}, fixed={n: values[n] for n in f.fixed})
            there.known.update(f.known)
            yield there
            f.known.update(there.known)
        finally:
            self._release()

    def _release(self) -> None:
        for p in self.outline.model.parameters():
            p.data = torch.empty(0, dtype=p.dtype, device=p.device)

    def _without_weights(self, fixed: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.empty(0) if name in self._shapes else value for name, value in fixed.items()}


InitialWeights = Held | Streamed
