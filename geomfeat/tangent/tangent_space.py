"""The parameters that training was free to move: the tangent space in which a demand is measured.

A network of which only the read-out was trained is linear in what was trained, however many parameters it has. So the
tangent space is that of the parameters whose values differ before and after. `requires_grad` says how a model was
loaded, not how it was trained, and is asked only where the initial weights are not known.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from geomfeat.errors import BadInput, near
from geomfeat.models.functional import Functional
from geomfeat.models.modules import inside_wrappers, wrapper_names
from geomfeat.models.trained_parameters import differentiable, functional_in, moved_parameters

Params = str | Sequence[str] | Callable[[str], bool]
EVERY, MOVED, GIVEN, HINTED, RATED = "every", "moved", "given", "hinted", "rated"
# Factors of peft; and the own parameters of a parametrization, after the name of the weight that it acts on.
_OF_PEFT, _OWN = re.compile(r"(^|\.)lora_"), re.compile(r"((?:.*\.)?parametrizations\.\w+\.)\d+\.")


@dataclass(frozen=True, eq=False)
class TangentSpace:
    """Parameters of a network to differentiate in.

    Attributes:
        names: of these parameters. sizes: number of entries of every parameter of the network.
        source: why these: "moved" (by their values), "given" (params=), "rated" (by the optimizer), "hinted"
            (requires_grad) or "every".
    """

    names: frozenset[str]
    sizes: dict[str, int]
    source: str

    @property
    def others(self) -> frozenset[str]:
        """Names of the parameters outside."""
        return frozenset(self.sizes) - self.names

    @property
    def whole(self) -> bool:
        """Whether no parameter is outside."""
        return not self.others

    @property
    def words(self) -> str:
        """Its size in words, such as "38,000 of 22.7 million parameters", and whether it is that of adapters.

        >>> TangentSpace(frozenset({"a"}), {"a": 38_000, "b": 22_650_000}, "moved").words
        '38,000 of 22.7 million parameters'
        >>> TangentSpace(frozenset({"q.lora_A.default.weight"}), {"q.lora_A.default.weight": 8, "b": 92}, "moved").words
        '8 of 100 parameters (adapters)'
        """
        inside = sum(self.sizes[name] for name in self.names)
        of_adapters = sum(map(self._of_adapter, self.names))
        kind = "" if not of_adapters else " (adapters)" if of_adapters == len(self.names) else " (adapters and others)"
        return f"{_count(inside)} of {_count(sum(self.sizes.values()))} parameters{kind}"

    def _of_adapter(self, name: str) -> bool:
        """Whether a parameter is part of what is added to a weight that does not move itself."""
        own = _OWN.match(name)
        return bool(_OF_PEFT.search(name)) or (own is not None and f"{own[1]}original" in self.others)

    def widened(self) -> TangentSpace:
        """The space of every parameter."""
        return replace(self, names=frozenset(self.sizes), source=EVERY)

    def functional(self, model: nn.Module, **options: Any) -> Functional:
        """`functional` of a model, with these parameters as its theta whatever their requires_grad says."""
        return functional_in(model, self.names, **options)


def space_of_moved(initial: nn.Module, trained: nn.Module, params: Params | None = None) -> TangentSpace:
    """The parameters that differ between two networks, or those of `params`; every one where none differs."""
    if params is not None:
        return _given(initial, params)
    sizes, moved = _sizes(initial), moved_parameters(initial, trained)
    return TangentSpace(moved, sizes, MOVED) if moved else TangentSpace(frozenset(sizes), sizes, EVERY)


def space_without_start(trained: nn.Module, params: Params | None = None) -> TangentSpace:
    """What is known without the initial weights: `params`, else requires_grad where it differs, else everything."""
    if params is not None:
        return _given(trained, params)
    sizes = _sizes(trained)
    asked = frozenset(name for name, p in differentiable(trained).items() if p.requires_grad)
    mixed = bool(asked) and asked != frozenset(sizes)
    return TangentSpace(asked, sizes, HINTED) if mixed else TangentSpace(frozenset(sizes), sizes, EVERY)


def _given(model: nn.Module, params: Params) -> TangentSpace:
    sizes = _sizes(model)
    if callable(params):
        chosen = frozenset(name for name in sizes if params(name))
    else:
        patterns = [params] if isinstance(params, str) else list(params)
        wrappers = wrapper_names(model)
        matches = {
            p: set(fnmatch.filter(sizes, p) or fnmatch.filter(sizes, inside_wrappers(p, wrappers))) for p in patterns
        }
        empty = [p for p, found in matches.items() if not found]
        if empty:
            raise BadInput(f"params={empty[0]!r} matches no parameter; near: {near(str(empty[0]), sizes)}")
        chosen = frozenset[str]().union(*matches.values())
    if not chosen:
        raise BadInput(f"params={params!r} names no parameter of the model; they are {', '.join(list(sizes)[:5])}")
    return TangentSpace(chosen, sizes, GIVEN)


def _sizes(model: nn.Module) -> dict[str, int]:
    sizes = {name: p.numel() for name, p in differentiable(model).items()}
    if not sizes:
        raise BadInput("the model has no parameters that could be trained: give a network with floating weights")
    return sizes


def _count(n: int) -> str:
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if n >= size:
            return f"{n / size:.3g} {name}"
    return f"{n:,}"
