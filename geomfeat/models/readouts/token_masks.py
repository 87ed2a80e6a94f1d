"""Which positions of a sequence are tokens and which are padding, by the masks that inputs bring along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput

MASKS = ("attention_mask", "src_key_padding_mask")
SHOWN = 5


def valid_tokens(inputs: Any) -> Tensor | None:
    """(n, tokens), true for valid tokens: "attention_mask", or what a boolean "src_key_padding_mask" leaves.

    None where there is no mask, or one of other dimensions. Raises BadInput for negative entries: such a mask is added
    to attention, and its zeros are the tokens.

    >>> valid_tokens({"attention_mask": torch.tensor([[1, 1, 0]])}).tolist()
    [[True, True, False]]
    """
    if not isinstance(inputs, Mapping):
        return None
    padding = inputs.get(MASKS[1])
    mask = inputs.get(MASKS[0])
    if isinstance(padding, Tensor) and padding.dtype == torch.bool:
        mask = ~padding
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return None
    if mask.is_floating_point() and rows_where((mask < 0).any(1)):
        raise BadInput("attention_mask holds negative values: give 1 for tokens and 0 for padding")
    return mask != 0


def require_tokens(valid: Tensor | None) -> None:
    """BadInput for samples without a valid token (n, tokens).

    >>> require_tokens(torch.tensor([[True, False]]))
    """
    empty = [] if valid is None else rows_where(~valid.any(1))
    if empty:
        raise BadInput(
            f"the mask leaves no valid token in sample(s) {named(empty)}, which have neither features nor an output: "
            "drop these samples"
        )


def mask_of_output(inputs: Any, tokens: int, *, decoded: bool) -> Tensor | None:
    """(n, tokens) validity of the positions of an output, None where all are valid.

    Args:
        tokens: of the output. decoded: whether the output is over the tokens of a decoder beside an encoder.

    Raises BadInput for a mask that cannot be read as (n, tokens).
    """
    if decoded:
        inputs = {"attention_mask": inputs.get("decoder_attention_mask")} if isinstance(inputs, Mapping) else None
    valid = valid_tokens(inputs)
    for name in MASKS if valid is None and isinstance(inputs, Mapping) else ():
        if isinstance(inputs.get(name), Tensor):
            raise BadInput(
                f"{name} has shape {tuple(inputs[name].shape)} and type {inputs[name].dtype}, from which the valid "
                "tokens cannot be read: give it as (n, tokens) of 0 and 1, or pass readout= a function of (output, "
                "inputs)"
            )
    if valid is None or valid.shape[1] == tokens:
        return valid
    if valid.shape[1] > tokens and not rows_where(valid[:, tokens:].any(1)):  # cut to the longest of the samples
        return valid[:, :tokens]
    raise BadInput(
        f"the mask has {valid.shape[1]} tokens and the output {tokens}: give a mask of the output's tokens, or pass "
        "readout= a function of (output, inputs)"
    )


def rows_where(wrong: Tensor) -> list[int]:
    """The numbers of the samples for which `wrong` (n,) is true; none inside of torch.func.vmap, which cannot tell.

    Whole inputs are checked before anything is vectorised over samples.

    >>> rows_where(torch.tensor([False, True]))
    [1]
    """
    try:
        return wrong.nonzero().flatten().tolist()
    except RuntimeError:  # inside of vmap
        return []


def named(rows: list[int]) -> str:
    """Numbers of samples for a message, the first five of them.

    >>> named([1, 2]), named(list(range(7)))
    ('[1, 2]', '[0, 1, 2, 3, 4] and 2 more')
    """
    return f"{rows[:SHOWN]}" + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
