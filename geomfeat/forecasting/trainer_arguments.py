"""The optimizer that a Trainer of transformers would make of its arguments, read by their names alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.functional import unwrapped

# Of the names that transformers know: those of torch, and what is as near to them as rates go.
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit")
OTHERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop,
}  # fmt: skip
CONSTANT = "constant"
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def is_training_arguments(given: Any) -> bool:
    """Whether something has the fields of TrainingArguments that say how weights move.

    >>> is_training_arguments({"*": 0.1})
    False
    """
    return all(hasattr(given, name) for name in ("learning_rate", "optim", "weight_decay", "max_steps"))


def of_training_arguments(
    given: Any, model: nn.Module, target_loss: float | None, n_steps: int | None
) -> tuple[torch.optim.Optimizer, int | None, tuple[str, ...]]:
    """(optimizer, n_steps, what is assumed) of a Trainer with these arguments.

    As the Trainer does, biases and the parameters of normalisations have no weight decay. `max_steps` is the number of
    steps where neither an end nor a number is given.

    Raises BadInput for an optimizer that is none of torch's, and a rate that is not positive.

    >>> from types import SimpleNamespace
    >>> given = SimpleNamespace(learning_rate=0.1, optim="sgd", weight_decay=0.01, max_steps=-1)
    >>> optimizer, n_steps, assumed = of_training_arguments(given, nn.Linear(2, 1), 0.1, None)
    >>> [group["weight_decay"] for group in optimizer.param_groups], n_steps
    ([0.01, 0.0], None)
    """
    kind, rate = _word(given.optim), float(given.learning_rate)
    if not rate > 0:
        raise BadInput(f"optimizer: learning_rate={rate:g} of the training arguments must be positive")
    groups = _groups(unwrapped(model), float(given.weight_decay))
    if kind in ADAMW:
        betas = (float(getattr(given, "adam_beta1", 0.9)), float(getattr(given, "adam_beta2", 0.999)))
        made: torch.optim.Optimizer = torch.optim.AdamW(
            groups, lr=rate, betas=betas, eps=float(getattr(given, "adam_epsilon", 1e-8))
        )
    elif kind in OTHERS:
        made = OTHERS[kind](groups, lr=rate)
    else:
        raise BadInput(
            f"optimizer: optim={kind!r} of the training arguments is not known ({', '.join((*ADAMW[:2], *OTHERS))} "
            "are): give the torch optimizer itself"
        )
    steps = int(given.max_steps)
    if n_steps is None and target_loss is None and steps > 0:
        n_steps = steps
    return made, n_steps, _assumed(given, kind)


def _word(value: Any) -> str:
    """The name of an entry of transformers' enumerations, which are strings too."""
    return str(getattr(value, "value", value))


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    still = {
        id(p)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or "bias" in name or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
    }
    free = [p for p in model.parameters() if p.requires_grad]
    parts = [
        ([p for p in free if id(p) not in still], decay),
        ([p for p in free if id(p) in still], 0.0),
    ]
    return [{"params": part, "weight_decay": own} for part, own in parts if part]


def _assumed(given: Any, kind: str) -> tuple[str, ...]:
    schedule = _word(getattr(given, "lr_scheduler_type", CONSTANT))
    warmup = float(getattr(given, "warmup_steps", 0) or 0) > 0 or float(getattr(given, "warmup_ratio", 0) or 0) > 0
    found = []
    if schedule != CONSTANT or warmup:
        words = f"{schedule!r}{' with warm-up' if warmup else ''}"
        found.append(f"The rate is taken as constant: the schedule of the training arguments, {words}, is left aside.")
    if kind in ADAMW[2:]:
        found.append(f"optim={kind!r} is taken as torch's AdamW.")
    norm = float(getattr(given, "max_grad_norm", 0) or 0)
    if norm > 0:
        found.append(f"Gradients are not clipped in the forecast, as the training arguments do at a norm of {norm:g}.")
    return tuple(found)
