"""Features of a range of samples, gathered batch by batch from inside the hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations._feature_sites import Site, did_not_fire
from geomfeat.activations.checks.sequence_lengths import mask_at
from geomfeat.activations.checks.small_batches import some_rows
from geomfeat.data.row_pieces import RowPieces
from geomfeat.errors import BadInput, GeomfeatError, LayerDidNotFire

_log = logging.getLogger(__name__)


def columns(site: Site, padded: bool) -> int:
    """Width of the array of a layer."""
    return site.width * site.tokens if padded and site.tokens is not None else site.width


@dataclass(eq=False)
class Block:
    """Features of a range of samples, as they come in.

    Attributes:
        n: how many; None where that is not known before the end.
        lengths: key -> (samples of the batch,) steps of what comes as a packed sequence, filled by `recording`.
        padded: tokens are laid side by side, padding as zeros, instead of one below the other.
        features: key -> (samples, d); where rows are tokens (tokens, d), or padded (samples, length * d).
        tokens: key -> (samples,) number of rows of each sample, where rows are tokens.
        outputs: (samples, C) of the network, or None.
        needed: whether a layer that does not deliver is an error; others are left out.
    """

    n: int | None
    sites: dict[str, Site]
    padded: bool = False
    lengths: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, Tensor] = field(default_factory=dict)
    outputs: Tensor | None = None
    needed: Callable[[str], bool] = lambda _: True
    _rows: slice = field(default_factory=lambda: slice(0, 0))
    _mask: Tensor | None = None
    _parts: dict[str, RowPieces] = field(default_factory=dict)
    _counts: dict[str, RowPieces] = field(default_factory=dict)
    _now: dict[str, Tensor] = field(default_factory=dict)
    _output_parts: RowPieces = field(default_factory=RowPieces)

    @property
    def rows(self) -> int:
        """Number of samples that came in."""
        return self._rows.stop

    def begin(self, rows: slice, mask: Tensor | None) -> None:
        """The batch that comes next."""
        self._rows, self._mask = rows, mask

    def look(self, key: str, tensor: Tensor) -> Any:
        """The hook's transform: reduces at once, and on the CPU writes at once, so that nothing is copied twice."""
        site = self.sites.get(key)
        if site is None:
            return None
        mask = mask_at(key, tensor, self._mask, self.lengths)
        try:
            features = site.features(tensor, mask)
        except BadInput as problem:
            raise BadInput(f"layer {key!r}: {problem}") from problem
        if site.tokens is not None:
            valid = site.valid(tensor, mask)
            if not self.padded:
                return features.clone(), valid.sum(1)
            self._require_kept_lengths(key, tensor, valid)
            features = (
                features.new_zeros(*valid.shape, site.width)
                .masked_scatter(valid[..., None].to(features.device), features)
                .flatten(1)
            )
        if features.device.type != "cpu":
            shares = features.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
            return features.clone() if shares else features
        self._write(key, features)
        return ()

    def _require_kept_lengths(self, key: str, tensor: Tensor, valid: Tensor) -> None:
        """A store knows padding from the mask alone, so the lengths of a layer's sequences must agree with it."""
        if not tensor.is_nested and key not in self.lengths:
            return
        if self._mask is None or not torch.equal(valid, self._mask[:, : valid.shape[1]].cpu()):
            raise BadInput(
                f"layer {key!r} returns sequences of several lengths, which a store cannot hold: pass "
                "options=ExtractOptions(mask=...), (n, tokens) of these lengths, to extract(), or leave out store="
            )

    def end(self, seen: dict[str, Any], where: str) -> None:
        """Takes in what was seen of a batch; LayerDidNotFire where a layer is missing."""
        for key in list(self.sites):
            if key not in seen:
                self._drop(key, LayerDidNotFire(did_not_fire(key, where)))
            elif isinstance(seen[key], Tensor):
                self._write(key, seen[key])
            elif seen[key]:
                self._parts.setdefault(key, RowPieces()).add(seen[key][0].cpu())
                self._counts.setdefault(key, RowPieces()).add(seen[key][1])
        for key, features in self._now.items():
            self._parts.setdefault(key, RowPieces()).add(features)
        self._now = {}

    def _drop(self, key: str, problem: GeomfeatError) -> None:
        """Leaves out a layer that sees some of the samples only, with a warning; or raises, see `needed`."""
        if self.needed(key) or len(self.sites) == 1:
            raise problem
        _log.warning("left out: %s", problem)
        for held in (self.sites, self.features, self.tokens, self._parts, self._counts, self._now):
            held.pop(key, None)

    def close(self) -> None:
        """Joins what came in parts."""
        for key in list(self._parts):
            self.features[key] = self._parts.pop(key).joined()
        if self._output_parts.pieces():
            self.outputs = self._output_parts.joined()
        self.tokens.update({key: counts.joined() for key, counts in self._counts.items()})
        self.features = {key: self.features[key] for key in self.sites}

    def add_outputs(self, outputs: Tensor) -> None:
        """The network's outputs for the batch."""
        dtype = outputs.dtype if torch.finfo(outputs.dtype).bits >= 32 else torch.float32
        if self.n is None:
            self._output_parts.add(outputs.to("cpu", dtype))
            return
        if self.outputs is None:
            self.outputs = torch.empty(self.n, outputs.shape[1], dtype=dtype)
        self.outputs[self._rows] = outputs.to(self.outputs)

    def _write(self, key: str, features: Tensor) -> None:
        site = self.sites[key]
        expected = (self._rows.stop - self._rows.start, columns(site, self.padded))
        if len(features) != expected[0]:
            self._drop(key, BadInput(f"layer {key!r}: {some_rows(len(features), expected[0])}"))
            return
        if features.shape != expected:
            raise BadInput(
                f"layer {key!r} gives features of shape {tuple(features.shape)} for a batch, expected {expected}: its "
                "size depends on the batch (padding to the longest?), so reduce it to a fixed one ('token_mean', "
                "'mean', 'last', ...)"
            )
        if self.n is None:
            self._now[key] = features.to("cpu", site.dtype, copy=True)  # a further call of the layer replaces it
            return
        if key not in self.features:
            self.features[key] = torch.empty(self.n, features.shape[1], dtype=site.dtype)
        self.features[key][self._rows] = features
