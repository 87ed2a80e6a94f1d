"""What a model returns as one matrix: a row a sample, a column an output."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomfeat.errors import BadInput, GeomfeatError
from geomfeat.models.readouts.main_output import HIDDEN, checked, described, main_output
from geomfeat.models.readouts.reading import CALLED, RETURNS, Reading, Readout

_USUAL = Reading()


def output_matrix(output: Any, inputs: Any = None, readout: Readout | None = None) -> Tensor:
    """A model's output as (n, C).

    `readout(output, inputs)` decides if given. Else: a tensor is flattened per sample, with zeros for padding where it
    lies over the tokens of the mask; `logits` are taken where there are some, of a language model those of the last
    token, of a masked one their mean over tokens; then the projection of hidden states (`image_embeds`, `text_embeds`);
    then `last_hidden_state`, averaged over the tokens of the attention mask where it is (n, tokens, d); else the first
    tensor, of mappings, sequences and dataclasses in order.
    """
    output = output_tensor(output, inputs, _USUAL if readout is None else readout)
    if output.ndim == 0:
        raise BadInput("the model returns one number for all samples (a loss?): pass readout= to pick its outputs")
    return output.flatten(1) if output.ndim > 1 else output[:, None]


def output_tensor(output: Any, inputs: Any = None, readout: Readout | None = None) -> Tensor:
    """What the readout returns; without one the tensor that `output_matrix` reads, with all its tokens.

    Hidden states, which are averaged over tokens, are so here too.
    """
    if isinstance(readout, Reading):
        return readout(output, inputs)
    if readout is not None:
        return checked(_read(readout, output, inputs), f"the readout, called as {CALLED}, returned", RETURNS)
    found = main_output(output)
    return _USUAL(output, inputs) if found.name == HIDDEN else found.tensor


def _read(readout: Readout, output: Any, inputs: Any) -> Any:
    """What the readout returns; BadInput with what it was given where it fails.

    Errors of torch's own pass through: where one comes of a precision or of a way to take derivatives, another is
    tried.
    """
    try:
        return readout(output, inputs)
    except (GeomfeatError, RuntimeError, MemoryError):
        raise
    except Exception as cause:
        raise BadInput(
            f"the readout, called as {CALLED} with output a {described(output)}, failed "
            f"({type(cause).__name__}: {cause}): {RETURNS}"
        ) from cause
