"""The loop of an extraction: forward passes over a range of samples, into one array per layer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.activations._feature_sites import CHECKED, Site, Sites, Survey, Wish, flat_output
from geomfeat.activations._network_input import Feed
from geomfeat.activations._row_block import Block
from geomfeat.activations.checks.sequence_lengths import Unseen
from geomfeat.activations.checks.whole_run import require_same_rows
from geomfeat.activations.hidden_layers import home
from geomfeat.activations.hooks import recording
from geomfeat.activations.layer_selection import module_name, split_key
from geomfeat.activations.model_state import evaluating
from geomfeat.errors import BadInput
from geomfeat.models.functional import call


@dataclass(frozen=True, eq=False)
class Job:
    """What to run and where to look.

    Attributes:
        names: layers as they were selected. sites: by key, what each of them delivers.
        output_axis: of the samples in the network's output. bar: the progress bar, in samples.
        found: the sites with samples whose rows were checked, or None. named: layers that were asked for by name.
    """

    model: nn.Module
    feed: Feed
    names: Sequence[str]
    sites: dict[str, Site]
    wish: Wish
    output_axis: int = 0
    bar: tqdm[Any] = field(default_factory=lambda: tqdm(disable=True))
    found: Sites | None = None
    named: Collection[str] = ()

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.feed.n

    @property
    def inputs(self) -> Any:
        """The inputs, samples first."""
        return self.feed.inputs

    @property
    def mask(self) -> Tensor | None:
        """The mask (n, tokens) of all samples, or None."""
        return self.feed.own_mask()

    @cached_property
    def _unseen(self) -> Unseen | None:
        return Unseen(self.feed.head().inputs) if self.feed.lazy and self.wish.options.batch_size > 1 else None

    def run(self, start: int, stop: int | None, keys: Sequence[str], padded: bool = False) -> Block:
        """The features of `keys` for samples start to stop (None: to the end); `padded`: see `Block`."""
        block = Block(None if stop is None else stop - start, {key: self.sites[key] for key in keys}, padded)
        wanted, how = {module_name(key) for key in keys}, self.wish.options
        names = [name for name in self.names if module_name(name) in wanted]
        if self.found is not None and not padded:
            block.needed = lambda key: key in self.named or module_name(key) in self.named
        unseen = self._unseen
        doubtful: Feed | None = None
        with (
            evaluating(self.model, home(self.model)[0], self.wish.seed),
            torch.no_grad(),
            recording(
                self.model, names, io=how.io, calls=how.calls, transform=self._guarded(block), lengths=block.lengths
            ) as seen,
        ):
            for rows, batch, mask in self.feed.batches(how.batch_size, start, stop):
                if unseen is not None and unseen.in_batch(batch):
                    doubtful = Feed(batch, mask, self.feed.batch_dim).spread(min(CHECKED, rows.stop - rows.start))
                block.begin(rows, mask)
                ready = self.feed.ready(batch, self.model)
                output = call(self.model, ready)
                block.end(seen, f"for samples {start + rows.start} to {start + rows.stop}")
                if how.with_outputs:
                    block.add_outputs(flat_output(output, ready, self.wish.readout, self.output_axis))
                self.bar.update(rows.stop - rows.start)
        if doubtful is not None:
            self._check_again(doubtful, names, block.sites)
        block.close()
        if self.found is not None:
            require_same_rows(self._survey(self.feed, self.names, self.named), self.found, block, start, strict=padded)
        return block

    def _survey(self, feed: Feed, names: Sequence[str], named: Collection[str]) -> Survey:
        return Survey(self.model, feed, names, named, self.wish)

    def _check_again(self, group: Feed, names: Sequence[str], sites: dict[str, Site]) -> None:
        """BadInput where the rows of a layer are not these samples, which differ as the first of a stream did not."""
        found = Sites(dict(sites), self.output_axis)
        survey = self._survey(group, names, names)
        with evaluating(self.model, home(self.model)[0], self.wish.seed), torch.no_grad(), survey.passes():
            survey.check_rows(group, found)
        for problem in found.disordered.values():
            raise BadInput(f"{problem} (in a later batch; or leave it out of layers=)")

    def _guarded(self, block: Block) -> Any:
        """`block.look`, which also refuses more calls than the probe saw: they would be dropped in silence."""
        if self.wish.options.calls != "all":
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
