"""Read-outs that have a name: which tokens of a sequence are the output. Pure functions of values and their mask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.readouts.token_masks import named, require_tokens, rows_where

NAMES = ("last", "mean", "cls", "token:i", "tokens:k", "masked")
_NUMBERED = re.compile(r"tokens?:")
_WORDS = {"last": "last token", "mean": "mean over tokens", "cls": "first token", "masked": "all tokens but padding"}


@dataclass(frozen=True)
class TokenReadout:
    """A named choice of tokens.

    Attributes:
        name: "last" the last valid token, "mean" the mean over valid tokens, "cls" the first valid token, "token" the
            i-th valid one (negative from the end), "tokens" k sampled ones (see `prefixes`), "masked" all, padding 0.
        number: i or k.
    """

    name: str
    number: int = 0

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """The read-out of this name; None for what names no read-out, BadInput for a number that is none.

        >>> TokenReadout.parsed("token:-1"), TokenReadout.parsed("mine.py:last")
        (TokenReadout(name='token', number=-1), None)
        """
        if text in _WORDS:
            return cls(text)
        if not _NUMBERED.match(text):
            return None
        name, _, number = text.partition(":")
        least = 1 if name == "tokens" else None
        if not re.fullmatch(r"-?\d+", number) or (least is not None and int(number) < least):
            wanted = "a number of tokens from 1" if name == "tokens" else "the number of a token, negative from the end"
            raise BadInput(f"readout={text!r}: after {name!r}: comes {wanted}")
        return cls(name, int(number))

    @property
    def words(self) -> str:
        """What is read, for results.

        >>> TokenReadout("token", 2).words
        'token 2'
        """
        if self.name == "tokens":
            return f"{self.number} sampled tokens of each sequence"
        return f"token {self.number}" if self.name == "token" else _WORDS[self.name]

    def of(self, values: Tensor, valid: Tensor | None) -> Tensor:
        """The outputs (n, ...) of `values` (n, tokens, ...), or (n, tokens, ...) of "masked".

        Args:
            valid: (n, tokens), true for tokens that are no padding; None where all are.

        Raises BadInput for samples without a valid token, or without the i-th.

        >>> values = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> valid = torch.tensor([[True, True, False]])
        >>> [TokenReadout(name).of(values, valid).tolist() for name in ("last", "mean", "cls")]
        [[[3.0]], [[2.0]], [[1.0]]]
        """
        if valid is None:
            valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        valid = valid.to(values.device)
        require_tokens(valid)
        kept = valid.reshape(*valid.shape, *[1] * (values.ndim - 2))
        if self.name in ("masked", "mean"):
            # Not a product: padding may hold NaN.
            clean = torch.where(kept, values, torch.zeros((), dtype=values.dtype, device=values.device))
            return clean if self.name == "masked" else clean.sum(1) / kept.sum(1).to(values.dtype)
        at = {"last": -1, "cls": 0, "token": self.number}.get(self.name)
        if at is None:
            raise BadInput(
                f"readout='tokens:{self.number}' makes samples of tokens, which this call cannot: use 'last', 'mean' "
                "or 'token:i'"
            )
        return values[torch.arange(len(valid), device=values.device), self._position(valid, at)]

    def _position(self, valid: Tensor, at: int) -> Tensor:
        """(n,) where the at-th valid token lies."""
        counts = valid.sum(1)
        wanted = counts + at if at < 0 else torch.full_like(counts, at)
        missing = rows_where((wanted < 0) | (wanted >= counts))
        if missing:
            raise BadInput(
                f"readout='token:{self.number}': sample(s) {named(missing)} have too few valid tokens, drop them or "
                "take another token"
            )
        rank = valid.cumsum(1) - 1
        return ((rank == wanted[:, None]) & valid).int().argmax(1)
