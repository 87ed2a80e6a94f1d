"""The experiments of the lab: each is one file with one function under `@experiment`, found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from geomfeat.errors import BadInput, near
from geomfeat.lab.result import Findings

SIZES = ("full", "small")


@dataclass(frozen=True)
class Experiment:
    """A function (size, seed, progress) -> Findings, and what it asks.

    Attributes:
        name: as typed after `geomfeat lab`. question: one sentence. theory: what is known, with its formula in words.
        source: paper and section.
    """

    name: str
    title: str
    question: str
    theory: str
    source: str
    function: Callable[[str, int, bool], Findings]


_REGISTERED: dict[str, Experiment] = {}


def experiment(
    *, name: str, title: str, question: str, theory: str, source: str
) -> Callable[[Callable[[str, int, bool], Findings]], Callable[[str, int, bool], Findings]]:
    """Register a function `run(size, seed, progress)`. BadInput for a name that another module has taken."""

    def register(function: Callable[[str, int, bool], Findings]) -> Callable[[str, int, bool], Findings]:
        known = _REGISTERED.get(name)
        if known is not None and known.function.__module__ != function.__module__:
            raise BadInput(f"experiment {name!r} is registered twice, in {known.function.__module__} too")
        _REGISTERED[name] = Experiment(name, title, question, theory, source, function)
        return function

    return register


def all_experiments() -> list[Experiment]:
    """All experiments, by name.

    >>> "linear-networks" in [e.name for e in all_experiments()]
    True
    """
    package = importlib.import_module("geomfeat.lab")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"geomfeat.lab.{module.name}")
    return [_REGISTERED[name] for name in sorted(_REGISTERED)]


def get_experiment(name: str) -> Experiment:
    """One experiment; BadInput with the nearest names where there is none of this name."""
    known = {e.name: e for e in all_experiments()}
    if name not in known:
        raise BadInput(f"experiment {name!r} does not exist; near: {near(name, known)}. See `geomfeat lab --list`")
    return known[name]


def run_experiment(name: str, *, size: str = "full", seed: int = 0, progress: bool = True) -> Findings:
    """Run one experiment.

    Args:
        size: "full" (under three minutes on two cores) or "small" (seconds; fewer points, the same code).
        seed: of everything that is drawn.

    Raises BadInput for an unknown name or size.
    """
    if size not in SIZES:
        raise BadInput(f"size={size!r} must be one of {', '.join(SIZES)}")
    return get_experiment(name).function(size, seed, progress)
