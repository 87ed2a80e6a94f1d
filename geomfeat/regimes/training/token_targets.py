"""The next token as the target of every position of a sequence: what a causal language model is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.nested_inputs import as_inputs
from geomfeat.models.readouts.token_masks import valid_tokens

IGNORED = -100  # torch's own `ignore_index`: a position without a target
IDS = "input_ids"


def next_tokens(inputs: Any) -> Tensor:
    """(n, tokens) the token after each position, -100 at the last one and wherever either of the two is padding.

    Args:
        inputs: token ids (n, tokens), or a mapping with "input_ids", whose "attention_mask" marks padding.

    Raises BadInput for inputs that are no token ids, or hold no pair of tokens.

    >>> next_tokens({"input_ids": [[5, 6, 7], [8, 9, 0]], "attention_mask": [[1, 1, 1], [1, 1, 0]]}).tolist()
    [[6, 7, -100], [9, -100, -100]]
    """
    inputs = as_inputs(inputs)
    ids = inputs.get(IDS) if isinstance(inputs, Mapping) else inputs
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
        shown = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise BadInput(
            f"the next token is the target of token ids (n, tokens), whole numbers, or of a mapping with {IDS!r}, got "
            f"{shown}: give labels or values to be learned"
        )
    valid = valid_tokens(inputs)
    valid = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid.to(ids.device)
    targets = torch.full_like(ids, IGNORED, dtype=torch.long)
    targets[:, :-1] = torch.where(valid[:, :-1] & valid[:, 1:], ids[:, 1:].long(), IGNORED)
    if not bool((targets != IGNORED).any()):
        raise BadInput("no sequence has two tokens, so there is no next token to learn: give longer sequences")
    return targets
