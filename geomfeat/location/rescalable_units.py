"""Which linear layers have units between them that can be made larger and read as much smaller, without any effect.

With the outputs of the first layer of a pair FACTOR times as large, what comes into its second layer must be FACTOR
times as large too. One pass asks many pairs: each linear layer goes on from what came into it before, so that those
behind it are asked as if they were alone. What passes is confirmed by the outputs, with rescaled weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.model_state import uncompiled, unfused_attention
from geomfeat.models.functional import Functional

FEWEST_UNITS = 8  # of fewer, a cosine between the changes of two layers says little
FACTOR, SAME = 1.5, 1e-4
# Pairs so many layers apart are asked in one pass. Nearer ones would blur each other: an attention to larger queries
# reads something else, and values or a gated branch follow within three layers.
APART = 4
Pair = tuple[str, str]
Entered = Mapping[str, Sequence[Tensor]]  # linear layer -> what came into it, call by call


def rescalable_pairs(f: Functional, inputs: Any) -> list[Pair]:
    """Names of linear layers that are called one after the other, with such units between them.

    Queries and keys are none: larger ones of the one make up for smaller ones of the other, but none reads the other.

    >>> from geomfeat.models.functional import functional
    >>> layers = nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 1)
    >>> rescalable_pairs(functional(nn.Sequential(*layers)), torch.randn(4, 3))
    [('0', '2')]
    """
    linear = {name: m for name, m in f.model.named_modules() if type(m) is nn.Linear and f"{name}.weight" in f.theta}
    entered: dict[str, list[Tensor]] = {}

    def enter(name: str, x: Tensor) -> None:
        entered.setdefault(name, []).append(x.clone())

    outputs = _passed(f, inputs, linear, enter)
    pairs = [
        (first, second)
        for first, second in itertools.pairwise(entered)
        if FEWEST_UNITS <= linear[first].out_features == linear[second].in_features
    ]
    asked = (pairs[start::APART] for start in range(min(APART, len(pairs))))
    beyond = {pair: far for some in asked for pair, far in _beyond(f, inputs, linear, some, entered).items()}
    pairs = [pair for pair in pairs if beyond[pair] <= SAME]
    together = not pairs or _unchanged(f, pairs, inputs, outputs)
    return [pair for pair in pairs if together or _unchanged(f, [pair], inputs, outputs)]


def _passed(
    f: Functional, inputs: Any, linear: Mapping[str, nn.Module], enter: Callable[[str, Tensor], Any],
    leave: Callable[[str, Tensor], Any] = lambda *_: None,
) -> Tensor:  # fmt: skip
    """The outputs of a pass in which `enter` sees, or replaces, what comes into linear layers, `leave` what leaves."""
    with ExitStack() as stack:
        for name, module in linear.items():
            # What is given by name is not seen, so that such a layer is in no pair.
            see = lambda _, given, name=name: enter(name, given[0]) if given else None  # noqa: E731
            before = module.register_forward_pre_hook(see)
            after = module.register_forward_hook(partial(lambda name, _, given, output: leave(name, output), name))
            stack.callback(before.remove)
            stack.callback(after.remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(uncompiled())
        stack.enter_context(unfused_attention())
        return f(f.theta, inputs)


def _beyond(
    f: Functional, inputs: Any, linear: Mapping[str, nn.Module], pairs: Sequence[Pair], entered: Entered
) -> dict[Pair, float]:
    """Pair -> relative distance of what comes into its second layer from FACTOR times what came before."""
    firsts, before = {first for first, _ in pairs}, {second: (first, second) for first, second in pairs}
    calls, found = dict.fromkeys(linear, 0), dict.fromkeys(pairs, 0.0)

    def enter(name: str, x: Tensor) -> Tensor:
        seen, pair = entered.get(name, ())[calls[name] :], before.get(name)
        calls[name] += 1
        was = seen[0] if seen and seen[0].shape == x.shape else None
        if pair is not None:
            far = math.inf if was is None else float((x - FACTOR * was).norm()) / (float(was.norm()) or 1.0)
            found[pair] = max(found[pair], far)
        return x if was is None else was  # there is none where larger units take another path through the network

    _passed(f, inputs, linear, enter, lambda name, output: FACTOR * output if name in firsts else None)
    return found


def _unchanged(f: Functional, pairs: Iterable[Pair], inputs: Any, outputs: Tensor) -> bool:
    """Whether the outputs stay when all units between these layers are made larger and read as much smaller."""
    factors: dict[str, float] = {}
    for first, second in pairs:
        for name, factor in ((f"{first}.weight", FACTOR), (f"{first}.bias", FACTOR), (f"{second}.weight", 1 / FACTOR)):
            factors[name] = factors.get(name, 1.0) * factor
    theta = {name: f.theta[name] * factor for name, factor in factors.items() if name in f.theta}
    with torch.no_grad():
        return float((f({**f.theta, **theta}, inputs) - outputs).norm()) <= SAME * float(outputs.norm())
