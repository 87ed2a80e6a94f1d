"""Language models whose last token alone is read: their heads need not compute the logits of the others.

These are most of a pass where there are many words (a third of it for the shape of GPT-2 and 16 tokens). Models of
transformers take `logits_to_keep`, the number of tokens at the end that get logits.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from geomfeat.models.readouts.reading import Reading
from geomfeat.models.readouts.token_masks import MASKS

KEEP = "logits_to_keep"
# With a mask the last valid token may be any; labels are compared with the logits of all tokens.
ASK_FOR_ALL = {*MASKS, "labels", KEEP}


def may_keep_last(model: nn.Module, readout: Any) -> bool:
    """Whether a model can be asked for the logits of its last token, and a read-out may ask for no others.

    >>> may_keep_last(nn.Linear(2, 2), None)
    False
    """
    named = readout.tokens if isinstance(readout, Reading) else None
    reads_last = readout is None or (isinstance(readout, Reading) and (named is None or named.name == "last"))
    return reads_last and KEEP in inspect.signature(model.forward).parameters and _head(model) is not None


def last_token_only(model: nn.Module, inputs: Any) -> dict[str, int]:
    """Arguments of a pass of such a model that leave other logits out; none where something else wants them."""
    if isinstance(inputs, Mapping) and not ASK_FOR_ALL.isdisjoint(inputs):
        return {}
    head = _head(model)
    return {} if head is None or head._forward_hooks else {KEEP: 1}


def _head(model: nn.Module) -> nn.Module | None:
    found = getattr(model, "get_output_embeddings", lambda: None)()
    return found if isinstance(found, nn.Module) else None
