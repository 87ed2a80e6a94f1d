"""The loop of an extraction: forward passes over a range of samples, into one array per layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.activations.block import Block
from geomfeat.activations.firing import home
from geomfeat.activations.hooks import recording
from geomfeat.activations.select import module_name, split_key
from geomfeat.activations.sites import Site, Wish
from geomfeat.activations.untouched import evaluating
from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout, batches, call, moved, n_samples, output_matrix, take


@dataclass(frozen=True, eq=False)
class Job:
    """What to run and where to look.

    Attributes:
        names: layers as they were selected. sites: by key, what each of them delivers.
        mask: (n, tokens), or None. bar: the progress bar, in samples.
    """

    model: nn.Module
    inputs: Any
    names: Sequence[str]
    sites: dict[str, Site]
    wish: Wish
    mask: Tensor | None = None
    batch_size: int = 256
    with_outputs: bool = False
    readout: Readout | None = None
    bar: tqdm[Any] = field(default_factory=lambda: tqdm(disable=True))

    @property
    def n(self) -> int:
        """Number of samples."""
        return n_samples(self.inputs)

    def run(self, start: int, stop: int, keys: Sequence[str], padded: bool = False) -> Block:
        """The features of `keys` for samples start to stop; `padded`: see `Block`."""
        block = Block(stop - start, {key: self.sites[key] for key in keys}, padded)
        where, dtype = home(self.model)
        part = take(self.inputs, slice(start, stop))
        wanted = {module_name(key) for key in keys}
        names = [name for name in self.names if module_name(name) in wanted]
        with (
            evaluating(self.model, where, self.wish.seed),
            torch.no_grad(),
            recording(
                self.model, names, io=self.wish.io, calls=self.wish.calls, transform=self._guarded(block)
            ) as seen,
        ):
            for rows, batch in batches(part, self.batch_size):
                block.begin(rows, None if self.mask is None else self.mask[start:stop][rows])
                output = call(self.model, moved(batch, where, dtype))
                block.end(seen, f"for samples {start + rows.start} to {start + rows.stop}")
                if self.with_outputs:
                    block.add_outputs(output_matrix(output, batch, self.readout))
                self.bar.update(rows.stop - rows.start)
        block.close()
        return block

    def _guarded(self, block: Block) -> Any:
        """`block.look`, which also refuses more calls than the probe saw: they would be dropped in silence."""
        if self.wish.calls != "all":
            return block.look
        calls = {(module_name(key), split_key(key)[2]): split_key(key)[1] for key in self.sites}

        def look(key: str, tensor: Tensor) -> Any:
            name, index, path = split_key(key)
            most = calls.get((name, path))
            if key not in self.sites and most is not None and index is not None and index > most:
                raise BadInput(
                    f"layer {name!r} is called more often for some samples (call {index}) than for the first ones "
                    f"({most + 1} calls): use calls='last' or one call by number"
                )
            return block.look(key, tensor)

        return look
