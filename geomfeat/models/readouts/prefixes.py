"""Sampled tokens as samples: a token of a causal model is the last one of the sequence up to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import Functional, functional
from geomfeat.models.nested_inputs import as_inputs, n_samples, take
from geomfeat.models.readouts.main_output import main_output
from geomfeat.models.readouts.named import TokenReadout
from geomfeat.models.readouts.reading import Reading, as_readout
from geomfeat.models.readouts.token_masks import named, require_tokens, rows_where, valid_tokens
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.numerics import stream

MASK = "attention_mask"
TRIED = 3  # sequences on which it is checked that the model does not look ahead


def sampled(model: nn.Module | Functional, readout: Any, inputs: Any, seed: int = 0) -> tuple[Any, Any, Tensor | None]:
    """For "tokens:k" the read-out "last", k beginnings of each sequence, and the sequence (n k,) of each; else as is.

    The attention mask of a beginning ends at one of k valid tokens of its sequence, drawn without repetition: features
    and outputs are those of the sequence up to there, whatever its padding. So tokens of one sequence are samples that
    belong together.

    Raises BadInput for inputs without a mask (n, tokens), sequences of fewer valid tokens, and models that look ahead.
    """
    reading = as_readout(readout)
    if not isinstance(reading, Reading) or reading.tokens is None or not reading.samples_tokens:
        return readout, inputs, None
    k = reading.tokens.number
    inputs = inputs.take(slice(None)) if isinstance(inputs, LazyInputs) else as_inputs(inputs)
    at = _positions(inputs, k, seed)
    rows = torch.arange(n_samples(inputs)).repeat_interleave(k)
    reading = replace(reading, tokens=TokenReadout("last"), said=reading.tokens.words)
    return reading, beginnings(model, inputs, rows, at.flatten()), rows


def beginnings(
    model: nn.Module | Functional, inputs: Any, rows: Tensor, at: Tensor, *, overwritten: str = ""
) -> dict[str, Any]:
    """The sequences `rows` (m,) of the inputs, in order, each with a mask that ends at position `at` (m,).

    `overwritten`: the entry of token ids, where the model sees no mask: what comes later is then made another token.

    Raises BadInput for a model that looks ahead.
    """
    found = _up_to(take(inputs, rows), at)
    if overwritten:
        ids = found[overwritten]
        found[overwritten] = torch.where(found[MASK].to(ids.device) != 0, ids, ids[:, :1])
    few = slice(0, int((rows < rows[0] + TRIED).sum()))
    _require_causal(model, take(inputs, rows[few]), take(found, few), at)
    return found


def repeated(values: Any, rows: Tensor | None) -> Any:
    """What belongs to sequences, for their sampled tokens: labels, groups; as it is where none were sampled.

    >>> repeated(["a", "b"], torch.tensor([0, 0, 1, 1])).tolist()
    ['a', 'a', 'b', 'b']
    """
    if values is None or rows is None:
        return values
    return values[rows.to(values.device)] if isinstance(values, Tensor) else np.asarray(values)[rows.numpy()]


def together(groups: Any, rows: Tensor | None) -> Any:
    """Which samples belong together: tokens of one group of sequences, or of one sequence where no groups are given.

    >>> together(None, torch.tensor([0, 0, 1, 1])).tolist(), together([5, 5], torch.tensor([0, 0, 1, 1])).tolist()
    ([0, 0, 1, 1], [5, 5, 5, 5])
    """
    return rows if groups is None else repeated(groups, rows)


def _positions(inputs: Any, k: int, seed: int) -> Tensor:
    """(n, k) positions of valid tokens, in order; the same tokens whatever the padding."""
    valid = valid_tokens(inputs)
    if valid is None or not isinstance(inputs, Mapping) or MASK not in inputs:
        raise BadInput(
            f"readout='tokens:{k}' needs the attention mask (n, tokens) of a causal model: give the inputs as "
            "{'input_ids': ..., 'attention_mask': ...}"
        )
    require_tokens(valid)
    few = rows_where(valid.sum(1) < k)
    if few:
        raise BadInput(
            f"readout='tokens:{k}': sample(s) {named(few)} have fewer valid tokens: take a smaller number, or drop them"
        )
    generator = stream(seed, "read-out", "tokens")
    drawn = [torch.randperm(int(count), generator=generator)[:k].sort().values for count in valid.sum(1)]
    where = [row.nonzero().flatten().cpu()[ranks] for row, ranks in zip(valid, drawn, strict=True)]
    return torch.stack(where)


def _up_to(inputs: dict[str, Any], at: Tensor) -> dict[str, Any]:
    """The same sequences with a mask that ends at position `at` (n,)."""
    mask = inputs[MASK]
    kept = torch.arange(mask.shape[1], device=mask.device) <= at.to(mask.device)[:, None]
    return {**inputs, MASK: torch.where(kept, mask, torch.zeros((), dtype=mask.dtype, device=mask.device))}


def _require_causal(model: nn.Module | Functional, whole: Any, beginning: Any, at: Tensor) -> None:
    """BadInput where what is said at position `at` of a sequence differs from what is said where it ends there."""
    if isinstance(model, Functional):
        model = model.model
    native = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    rows = torch.arange(n_samples(whole))

    def there(output: Any, _inputs: Any) -> Tensor:
        values = main_output(output).tensor
        if values.ndim < 3:
            raise BadInput(f"readout='tokens:k' samples tokens, but the model returns {tuple(values.shape)}")
        return values[rows, at[: len(rows)].to(values.device)]

    f = functional(model, dtype=native, readout=there)
    with torch.no_grad():
        said, alone = (f(f.theta, f.inputs(inputs)) for inputs in (whole, beginning))
    if float((said - alone).norm()) > torch.finfo(native).eps ** 0.6 * float(said.norm()):
        raise BadInput(
            "readout='tokens:k' makes samples of the beginnings of sequences, but what this model says of a token "
            "depends on later ones: use 'masked' or 'mean'"
        )
