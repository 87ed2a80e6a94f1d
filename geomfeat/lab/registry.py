"""The experiments of the lab: each is one file with one function under `@experiment`, found by itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from geomfeat.errors import BadInput, near
from geomfeat.lab.result import Findings
from geomfeat.numerics import Device, resolve_device

SIZES = ("full", "small")
CPU_ALONE = "trains no network on a device, it holds closed forms against small matrices on the CPU, in float64"
Function = Callable[..., Findings]


@dataclass(frozen=True)
class Experiment:
    """A function (size, seed, progress) -> Findings, or (size, seed, progress, device), and what it asks.

    Attributes:
        name: as typed after `geomfeat lab`. question: one sentence. theory: what is known, with its formula in words.
        source: paper and section.
    """

    name: str
    title: str
    question: str
    theory: str
    source: str
    function: Callable[..., Findings]

    @property
    def takes_device(self) -> bool:
        """Whether it trains networks on a device; the others hold closed forms against small matrices, on the CPU."""
        return "device" in inspect.signature(self.function).parameters

    def device(self, asked: Device | None) -> torch.device:
        """The device of its trainings: the CPU by default; for "auto" CUDA where it is there and of use.

        Raises BadInput for a device that is not there, and for one other than the CPU where nothing is trained on it.

        >>> get_experiment("linear-networks").device("auto")
        device(type='cpu')
        """
        found = resolve_device("cpu" if asked is None else asked)
        if self.takes_device or found.type == "cpu":
            return found
        if asked == "auto":
            return torch.device("cpu")
        raise BadInput(
            f"device={str(asked)!r}: experiment {self.name!r} {CPU_ALONE}: leave out the device, or use 'auto'"
        )


_REGISTERED: dict[str, Experiment] = {}


def experiment(*, name: str, title: str, question: str, theory: str, source: str) -> Callable[[Function], Function]:
    """Register a function `run(size, seed, progress)`, with a fourth argument `device` if it trains on one.

    BadInput for a name that another module has taken.
    """

    def register(function: Function) -> Function:
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


def run_experiment(
    name: str, *, size: str = "full", seed: int = 0, progress: bool = True, device: Device | None = None
) -> Findings:
    """Run one experiment.

    Args:
        size: "full" (under three minutes on two cores) or "small" (seconds; fewer points, the same code).
        seed: of everything that is drawn.
        device: of the trainings, see `Experiment.device`; "auto" is CUDA if it is there. Closed forms are computed on
            the CPU in float64, and everything is drawn there.

    Raises BadInput for an unknown name, size or device, and for a device where nothing is trained on one.
    """
    if size not in SIZES:
        raise BadInput(f"size={size!r} must be one of {', '.join(SIZES)}")
    asked = get_experiment(name)
    where = asked.device(device)
    if not asked.takes_device:
        return asked.function(size, seed, progress)
    found = asked.function(size, seed, progress, where)
    return found if where.type == "cpu" else replace(found, settings={**found.settings, "device": str(where)})
