"""The one tensor among what a model returns that holds its outputs, and what is known of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.readouts.named import TokenReadout
from geomfeat.models.readouts.token_masks import mask_of_output, valid_tokens

LOGITS, HIDDEN = "logits", "last_hidden_state"
# What a projection makes of the hidden states that are returned beside it.
EMBEDDINGS = ("image_embeds", "text_embeds", "audio_embeds", "video_embeds")
SOUNDS = {"input_values", "input_features"}  # inputs of models of speech and sound
TOKENS = {"input_ids", "decoder_input_ids", "inputs_embeds", "decoder_inputs_embeds"}


@dataclass(frozen=True, eq=False)
class MainOutput:
    """A tensor (n, ...), the name it had ("logits", "image_embeds", ..., "" for any other), and what returned it.

    Attributes:
        kind: the type of what the model returned. decoded: whether it is of a decoder beside an encoder.
    """

    tensor: Tensor
    name: str = ""
    kind: str = ""
    decoded: bool = False

    def valid(self, inputs: Any) -> Tensor | None:
        """(n, tokens) of the tensor's second dimension, None where all are valid; BadInput for an unreadable mask."""
        return mask_of_output(inputs, self.tensor.shape[1], decoded=self.decoded)

    def usual_tokens(self, inputs: Any) -> TokenReadout | None:
        """Which tokens are read where nothing is said; None for all values.

        The next token is what a language model was trained to say; hidden states are averaged, as sentence embeddings
        are; what a masked language model says of a sequence is the mean over its tokens; other tensors over the tokens
        of the mask lose their padding. Speech recognition (CTC) has an output in every frame of a sound.
        """
        if self.tensor.ndim != 3:
            return None
        if self.name == HIDDEN:
            return TokenReadout("mean")
        if self.name == LOGITS and any(part in self.kind for part in ("CausalLM", "Seq2SeqLM")):
            return None if _is_sound(inputs) else TokenReadout("last")
        if self.name == LOGITS and "MaskedLM" in self.kind:
            return TokenReadout("mean")
        valid = None if self.decoded else valid_tokens(inputs)
        return None if valid is None or valid.shape[1] != self.tensor.shape[1] else TokenReadout("masked")


def main_output(output: Any, *, of_tokens: bool = False) -> MainOutput:
    """`logits` where there is one, else `last_hidden_state` or its projection, else the first tensor of nested values.

    `of_tokens`: tokens are to be picked, which a projection of all of them has no more.

    Raises BadInput where there is none, or where it holds no real floating-point numbers.

    >>> import torch
    >>> main_output({"loss": None, "logits": torch.ones(2, 3)}).name
    'logits'
    """
    found = MainOutput(output) if isinstance(output, Tensor) else _found(output, of_tokens)
    checked(output if found is None else found.tensor, "the model returns", "pass readout= to pick one")
    assert found is not None
    return found


def _found(output: Any, of_tokens: bool) -> MainOutput | None:
    get = output.get if isinstance(output, Mapping) else lambda key: getattr(output, key, None)
    projected = EMBEDDINGS if isinstance(get(HIDDEN), Tensor) and not of_tokens else ()
    for name in (LOGITS, *projected, HIDDEN):
        tensor = get(name)
        if isinstance(tensor, Tensor) and (name not in projected or tensor.ndim == 2):
            decoded = isinstance(get("encoder_last_hidden_state"), Tensor)
            return MainOutput(tensor, name, type(output).__name__, decoded)
    if dataclasses.is_dataclass(output) and not isinstance(output, Mapping):
        output = [getattr(output, f.name) for f in dataclasses.fields(output)]
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else []
    for value in values:
        found = MainOutput(value) if isinstance(value, Tensor) else _found(value, of_tokens)
        if found is not None:
            return found
    return None


def _is_sound(inputs: Any) -> bool:
    """Whether a network is given sounds and no tokens."""
    return isinstance(inputs, Mapping) and not SOUNDS.isdisjoint(inputs) and TOKENS.isdisjoint(inputs)


def described(output: Any) -> str:
    """Type of a model's output, with the shape of a tensor, or the keys of a mapping.

    >>> import torch
    >>> described(torch.ones(2, 3)), described({"logits": 0})
    ('Tensor (2, 3)', "dict with keys 'logits'")
    """
    name = type(output).__name__
    if isinstance(output, Tensor):
        return f"{name} {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"{name} with keys {', '.join(map(repr, output))}" if output else f"empty {name}"
    return f"{name} of {len(output)}" if isinstance(output, tuple | list) else name


def checked(output: Any, who: str, remedy: str) -> Tensor:
    """A tensor of real floating-point numbers, or BadInput."""
    if not isinstance(output, Tensor):
        raise BadInput(f"{who} {described(output)}, not a tensor: {remedy}")
    if output.is_complex():
        raise BadInput(
            f"the model's output is complex ({output.dtype}): pass readout= that makes real numbers of it, such as "
            "lambda output, inputs: torch.view_as_real(output), or its absolute value"
        )
    if not output.is_floating_point():
        raise BadInput(f"the model's output is {output.dtype}, not floating point: pass readout= to pick logits")
    return output
