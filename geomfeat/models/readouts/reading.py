"""How the outputs of a network are read: tokens by name, logits less their mean, or a function of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from geomfeat.errors import BadInput, near
from geomfeat.models.readouts.main_output import LOGITS, MainOutput, main_output
from geomfeat.models.readouts.named import NAMES, TokenReadout
from geomfeat.models.readouts.token_masks import require_tokens, valid_tokens
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.models.weights.checkpoints import load_object
from geomfeat.numerics import WORKING

Readout = Callable[[Any, Any], Tensor]
CALLED = "readout(output, inputs)"
# What is said of a plain tensor, taken as it is.
PLAIN_OUTPUTS, BY_FUNCTION = "outputs", "function"
RETURNS = "it must return a tensor (n, ...) with a row for each sample"
# A head whose outputs a softmax never sees: a shift of all of them is a change of what it says.
WITHOUT_SOFTMAX = ("regression", "multi_label_classification")

Centred = Literal["", "never", "logits", "always"]


@dataclass(frozen=True)
class Reading:
    """A read-out by name, or the usual one: called as readout(output, inputs), returns (n, ...).

    Attributes:
        tokens: which tokens; None for those of `MainOutput.usual_tokens`.
        centred: whether the mean over classes is subtracted from each output: "always", of "logits" only, "never", or
            "" where nobody decided, which reads as "never". A softmax, and so cross-entropy, does not see that mean.
        positions: the positions that "masked" keeps, those that are valid in some sample; None for all.
        said: words for the tokens in place of their own.
    """

    tokens: TokenReadout | None = None
    centred: Centred = ""
    positions: tuple[int, ...] | None = None
    said: str = ""

    def __call__(self, output: Any, inputs: Any) -> Tensor:
        found = main_output(output, of_tokens=self.tokens is not None)
        tokens, values = self._tokens(found, inputs), found.tensor
        if tokens is not None:
            valid = found.valid(inputs)
            if tokens.name == "masked" and self.positions is not None and max(self.positions) < values.shape[1]:
                kept = list(self.positions)
                values, valid = values[:, kept], None if valid is None else valid[:, kept]
            values = tokens.of(values, valid)
        return values - values.mean(-1, keepdim=True) if self._centres(found, tokens) else values

    @property
    def samples_tokens(self) -> bool:
        """Whether tokens are samples, see `prefixes`."""
        return self.tokens is not None and self.tokens.name == "tokens"

    @property
    def is_usual(self) -> bool:
        """Whether it leaves a plain tensor as it is."""
        return self.tokens is None and self.centred != "always"

    def words(self, output: Any, inputs: Any) -> str:
        """What is read of this output.

        >>> import torch
        >>> Reading(centred="always").words(torch.ones(2, 3), None), Reading().words(torch.ones(2, 3), None)
        ('outputs less their mean', 'outputs')
        """
        found = main_output(output, of_tokens=self.tokens is not None)
        tokens = self._tokens(found, inputs)
        which = self.said or ("" if tokens is None else tokens.words)
        what = found.name.replace("_", " ") or PLAIN_OUTPUTS
        return f"{which}, {what}".removeprefix(", ") + (" less their mean" if self._centres(found, tokens) else "")

    def check(self, valid: Tensor | None) -> None:
        """BadInput for samples that do not have the token, by the mask (n, tokens) of them all."""
        if self.tokens is not None and self.tokens.name == "token" and valid is not None:
            self.tokens.of(valid.to(WORKING)[..., None], valid)

    def _tokens(self, found: MainOutput, inputs: Any) -> TokenReadout | None:
        if self.tokens is not None and found.tensor.ndim < 3:
            raise BadInput(
                f"readout={self.tokens.name!r} picks tokens of (n, tokens, ...), but the model returns "
                f"{found.name or 'a tensor'} of shape {tuple(found.tensor.shape)}: leave readout= out, or pass a "
                "function of (output, inputs)"
            )
        return self.tokens or found.usual_tokens(inputs)

    def _centres(self, found: MainOutput, tokens: TokenReadout | None) -> bool:
        """Classes are the last of two dimensions, or of three where the second is tokens or queries."""
        shape, named = found.tensor.shape, found.name == LOGITS
        by_class = len(shape) == 2 or (len(shape) == 3 and (named or tokens is not None))
        # Hidden states are no logits, whatever loss a head on top of them had.
        wanted = self.centred in ("logits", "always") if named else self.centred == "always" and not found.name
        return wanted and by_class and shape[-1] > 1


def reading_of(
    model: nn.Module, readout: Readout | str | None = None, loss: str | None = None, inputs: Any = None
) -> Readout:
    """The read-out with which a network is measured.

    A name, or nothing, gives a `Reading` that subtracts from logits their mean over classes: from all outputs where
    `loss` of the training is "cross-entropy", from none where it is "mse", else from what the model itself calls
    logits, if its configuration names no other problem. A function stays as it is: what it returns is measured.

    Args:
        inputs: to check their mask, and to leave out positions that are padding in every sample; None for neither.

    Raises BadInput for what `as_readout` refuses, and for samples without a valid token.
    """
    reading = as_readout(readout)
    reading = Reading() if reading is None else reading
    if not isinstance(reading, Reading):
        return reading
    if not reading.centred:
        problem = getattr(getattr(model, "config", None), "problem_type", None)
        by_name: Centred = "never" if problem in WITHOUT_SOFTMAX else "logits"
        decided: dict[str | None, Centred] = {"cross-entropy": "always", "mse": "never"}
        reading = replace(reading, centred=decided.get(loss, by_name))
    return fitted(reading, inputs)


def fitted(readout: Any, inputs: Any) -> Any:
    """The read-out for these inputs: positions that are padding in all of them are no outputs of "masked".

    Raises BadInput for samples without a valid token.
    """
    valid = checked_tokens(inputs, readout)
    if valid is None or not isinstance(readout, Reading):
        return readout
    return replace(readout, positions=tuple(valid.any(0).nonzero().flatten().tolist()))


def checked_tokens(inputs: Any, readout: Any = None) -> Tensor | None:
    """The mask (n, tokens) of inputs in memory, or None; BadInput for samples without a token that is needed.

    Whole inputs are checked before a pass: within one, samples have the numbers of their batch, or of none.
    """
    if isinstance(inputs, LazyInputs):
        return None
    valid = valid_tokens(inputs)
    require_tokens(valid)
    if isinstance(readout, Reading) and isinstance(inputs, Mapping):
        decoded = valid_tokens({"attention_mask": inputs.get("decoder_attention_mask")})
        readout.check(valid if decoded is None else decoded)
    return valid


def reads_usually(readout: Any) -> bool:
    """Whether a plain tensor that a model returns is its outputs as it is.

    >>> reads_usually(None), reads_usually(Reading()), reads_usually(as_readout("last"))
    (True, True, False)
    """
    return readout is None or (isinstance(readout, Reading) and readout.is_usual)


def words_of(readout: Any, output: Any, inputs: Any) -> str:
    """What a read-out, or none, reads of an output, in words.

    >>> words_of(None, 0.0, None), words_of(near, 0.0, None)
    ('outputs', 'function near')
    """
    if readout is None or isinstance(readout, Reading):
        return PLAIN_OUTPUTS if readout is None else readout.words(output, inputs)
    # The command line adds the content of a function's file to its name.
    return f"{BY_FUNCTION} {getattr(readout, '__qualname__', type(readout).__name__).split(' ')[0]}"


def names_tokens(text: str) -> bool:
    """Whether a text is the name of a read-out, or can be that of no function.

    >>> names_tokens("token:2"), names_tokens("lst"), names_tokens("mine.py:last")
    (True, True, False)
    """
    return ":" not in text or TokenReadout.parsed(text) is not None


def as_readout(readout: Readout | str | None) -> Any:
    """The readout itself, the `Reading` of that name, or what "pkg.module:function" or "path/file.py:function" names.

    It is called as readout(output, inputs) with what the model returned and was given, and returns (n, C).

    Raises BadInput for an unknown name, a missing module, file or attribute, or something that cannot be called so.

    >>> as_readout("operator:getitem")([7.0, 8.0], 1)
    8.0
    >>> as_readout("last").tokens.words
    'last token'
    """
    if readout is None or (callable(readout) and not isinstance(readout, str)):
        _require_two_arguments(readout)
        return readout
    if not isinstance(readout, str):
        raise BadInput(
            f"readout={readout!r} must be a function of (output, inputs), its name as 'pkg.module:function', or one "
            f"of {', '.join(NAMES)}"
        )
    tokens = TokenReadout.parsed(readout)
    if tokens is not None:
        return Reading(tokens)
    if ":" not in readout:
        raise BadInput(
            f"readout={readout!r} is not known; near: {near(readout, NAMES)}. All: {', '.join(NAMES)}, or a function "
            "as 'pkg.module:function' or 'path/file.py:function'"
        )
    found = load_object(readout, "readout")
    if not callable(found):
        raise BadInput(
            f"readout={readout!r} is a {type(found).__name__}, not a function: name one of (output, inputs) that "
            "returns a tensor of (samples, outputs)"
        )
    _require_two_arguments(found)
    return found


def _require_two_arguments(readout: Any) -> None:
    try:
        signature = inspect.signature(readout) if readout is not None else None
    except (TypeError, ValueError):  # functions in C may not say what they take
        return
    try:
        if signature is not None:
            signature.bind(None, None)
    except TypeError as cause:
        raise BadInput(f"readout={readout!r} is called as {CALLED} ({cause}): {RETURNS}") from cause
