"""Tokens as samples of a forecast: what a causal language model says after some beginnings of its sequences.

Every token of a sequence is a sample of the loss. The model's output at a token is that of the sequence up to it, so
a sample is that beginning, with the token after it as its class, and the features of a sample are those up to there.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.model_state import same_mode
from geomfeat.errors import BadInput
from geomfeat.labels import as_goal
from geomfeat.models.functional import call
from geomfeat.models.nested_inputs import as_inputs, moved, take
from geomfeat.models.readouts.main_output import main_output
from geomfeat.models.readouts.named import TokenReadout
from geomfeat.models.readouts.prefixes import MASK, beginnings
from geomfeat.models.readouts.reading import Reading
from geomfeat.models.readouts.token_masks import valid_tokens
from geomfeat.models.streamed_inputs import LazyInputs
from geomfeat.numerics import stream
from geomfeat.regimes.training.token_targets import IDS, IGNORED

MOST = 256  # samples, where nobody says how many tokens of a sequence to take
LABELS = "labels"  # the entry in which transformers take the targets, one for each token, of that token itself
SHIFTED = "targets are the tokens themselves, as transformers take labels: each is what the token before it must say"


@dataclass(frozen=True, eq=False)
class TokenSamples:
    """Beginnings of sequences as samples.

    Attributes:
        model: the network as it takes them: with its own parameters. inputs: m beginnings. targets: (m,) classes.
        rows: (m,) the sequence of each. reading: of the last token. notes: how targets were read.
    """

    model: nn.Module
    inputs: dict[str, Any]
    targets: Tensor
    rows: Tensor
    reading: Reading
    notes: tuple[str, ...] = ()


def is_of_tokens(targets: Any, loss: Any, reading: Any) -> bool:
    """Whether targets are classes of every token: (n, tokens) whole numbers, for cross-entropy or a named read-out.

    >>> is_of_tokens(torch.ones(2, 3, dtype=torch.long), "cross-entropy", Reading())
    True
    >>> is_of_tokens(torch.ones(2, 3), "cross-entropy", Reading()), is_of_tokens(torch.ones(2), "mse", Reading())
    (False, False)
    """
    if targets is None:
        return False
    goal = as_goal(targets, "targets")
    whole = goal.ndim == 2 and goal.shape[1] > 1 and not goal.is_floating_point()
    sampled = isinstance(reading, Reading) and reading.samples_tokens
    return whole and (loss == "cross-entropy" or sampled)


def labels_of(inputs: Any) -> Any:
    """The targets that inputs in the form of transformers bring along as "labels", or None."""
    found = inputs.get(LABELS) if isinstance(inputs, Mapping) else None
    return found if found is None or torch.as_tensor(found).ndim == 2 else None


def token_samples(model: nn.Module, reading: Any, inputs: Any, targets: Any, seed: int) -> TokenSamples:
    """Up to k tokens of each sequence that have a target, drawn by `seed`; k of "tokens:k", else 256 / n or more.

    Args:
        inputs: token ids (n, tokens), or a mapping with "input_ids" and, where there is padding, "attention_mask".
        targets: (n, tokens) the class of each position, -100 for none, as `next_tokens` makes them; or the ids
            themselves, as transformers take labels, which are then shifted by one.

    Raises BadInput for inputs that are no tokens, a read-out of something else, targets that do not fit the outputs or
    name no token, and a model that looks ahead.
    """
    if not isinstance(reading, Reading) or not (reading.tokens is None or reading.samples_tokens):
        raise BadInput(
            "targets (n, tokens) of whole numbers are classes of every token, which no readout= chooses: leave it out, "
            "or give readout='tokens:k' to take k tokens of each sequence"
        )
    inputs = inputs.take(slice(None)) if isinstance(inputs, LazyInputs) else as_inputs(inputs)
    goal = as_goal(targets, "targets").long()
    model, inputs, ignores_mask = _with_mask(model, inputs)
    ids, valid = inputs[IDS], valid_tokens(inputs)
    if valid is None or goal.shape != ids.shape:
        raise BadInput(
            f"targets has shape {tuple(goal.shape)}, but the inputs hold token ids {tuple(ids.shape)}: give a target "
            f"for each token, {IGNORED} for those that have none"
        )
    goal, note = _by_position(goal.to(ids.device), ids, valid)
    known = (goal != IGNORED) & valid
    _check(model, inputs, goal[known])
    sequences = int(known.any(1).sum())
    k = reading.tokens.number if reading.tokens is not None else max(1, math.ceil(MOST / sequences))
    rows, at = _drawn(known, k, seed)
    most = int(known.sum(1).max())
    said = "all tokens as samples" if k >= most else f"up to {k} sampled tokens of each sequence as samples"
    found = beginnings(model, inputs, rows, at, overwritten=IDS if ignores_mask else "")
    last = replace(reading, tokens=TokenReadout("last"), said=said)
    return TokenSamples(model, found, goal[rows, at].cpu(), rows, last, (note,) if note else ())


def _with_mask(model: nn.Module, inputs: Any) -> tuple[nn.Module, dict[str, Any], bool]:
    """The inputs as a mapping with a mask, the model that takes them, and whether it does not see the mask."""
    alone = isinstance(inputs, Tensor)
    ids = inputs if alone else inputs.get(IDS) if isinstance(inputs, Mapping) else None
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
        raise BadInput(
            "targets (n, tokens) of whole numbers are classes of every token, so inputs must be token ids (n, tokens) "
            f"or a mapping with {IDS!r} and {MASK!r}"
        )
    others = {} if alone else {name: value for name, value in inputs.items() if name != LABELS}
    if MASK in others:
        return model, others, False
    given = {**others, IDS: ids, MASK: torch.ones_like(ids)}
    if not alone and _takes_mask(model):
        return model, given, False
    return _without_mask(model, alone), given, True


def _takes_mask(model: nn.Module) -> bool:
    return MASK in inspect.signature(model.forward).parameters


def _without_mask(model: nn.Module, alone: bool) -> nn.Module:
    """The same module, sharing its parameters, that drops the mask; `alone`: and takes the ids by position."""
    twin = copy.copy(model)
    twin._forward_pre_hooks = OrderedDict(model._forward_pre_hooks)
    twin._forward_pre_hooks_with_kwargs = OrderedDict(model._forward_pre_hooks_with_kwargs)
    twin.register_forward_pre_hook(_ids_alone if alone else _mask_dropped, with_kwargs=True, prepend=True)
    return twin


def _ids_alone(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (kwargs[IDS],) if IDS in kwargs else args, {k: v for k, v in kwargs.items() if k not in (IDS, MASK)}


def _mask_dropped(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {k: v for k, v in kwargs.items() if k != MASK}


def _by_position(goal: Tensor, ids: Tensor, valid: Tensor) -> tuple[Tensor, str]:
    """Targets of each position, and a note where they were those of the tokens themselves."""
    known = (goal != IGNORED) & valid
    if not bool(known.any()):
        raise BadInput(f"targets name no token: all are {IGNORED}, or of padding")
    if not bool((goal == ids)[known].all()) or len(ids[known].unique()) == 1:
        return goal, ""
    shifted = torch.full_like(goal, IGNORED)
    shifted[:, :-1] = torch.where(known[:, 1:], goal[:, 1:], IGNORED)
    if not bool((shifted[valid] != IGNORED).any()):
        raise BadInput("no sequence has two tokens with a target, so there is no next token to learn")
    return shifted, SHIFTED


def _check(model: nn.Module, inputs: dict[str, Any], known: Tensor) -> None:
    """BadInput where the model does not return values for each token, or has too few of them for the targets."""
    place = next(model.parameters(), inputs[IDS]).device
    with same_mode(model), torch.no_grad():
        few = moved(take(inputs, slice(0, 2)), place)
        shape = main_output(call(model.eval(), few)).tensor.shape
    tokens = inputs[IDS].shape[1]
    if len(shape) != 3 or shape[1] != tokens:
        raise BadInput(
            f"targets are of {tokens} tokens, so the model must return (n, {tokens}, classes), and it returns "
            f"(n, {', '.join(map(str, shape[1:]))})"
        )
    if int(known.min()) < 0 or int(known.max()) >= shape[2]:
        raise BadInput(
            f"targets run from {int(known.min())} to {int(known.max())}, but the model has {shape[2]} outputs a token: "
            f"give it a larger vocabulary, or {IGNORED} where there is no target"
        )


def _drawn(known: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """(m,) sequences in order, and (m,) positions: up to k of those that have a target, without repetition."""
    generator, rows, at = stream(seed, "forecast", "tokens"), [], []
    for number, row in enumerate(known.cpu()):
        places = row.nonzero().flatten()
        chosen = places[torch.randperm(len(places), generator=generator)[:k].sort().values]
        at.append(chosen)
        rows.append(torch.full_like(chosen, number))
    return torch.cat(rows), torch.cat(at)
