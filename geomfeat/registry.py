"""The registry of measures: a plain function plus declared facts.

Adding a measure is one function under `@measure(...)` in a file of `geomfeat/measures`, those of a family in one file,
and one known-answer test. The CLI, the table of the docs, the report and the contract tests find it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any

from geomfeat.errors import BadInput, near
from geomfeat.memory import is_out_of_memory
from geomfeat.statistics.group_errors import CAUSED_BY_DATA, errors_over_groups, has_own_errors
from geomfeat.statistics.subsamples import at_most, at_most_per_class, limits_of
from geomfeat.types import Estimate, Kernel, Representation

if TYPE_CHECKING:
    import pandas as pd

# Transformations of a representation that the contract tests apply to every measure.
TRANSFORMS = frozenset({"rotation", "scale", "shift", "sample order", "unit order", "duplication"})
NEEDS = frozenset({"labels", "outputs", "init", "gradients"})
SCOPES = ("layer", "pair", "kernels", "network", "series")
PACKAGES = tuple(f"geomfeat.measures.{scope}" for scope in ("layer", "pair", "network", "series"))

Result = Estimate | dict[str, Estimate]


@dataclass(frozen=True)
class Quantity:
    """One number of a measure: its bounds (inclusive), unit and what a higher value means."""

    bounds: tuple[float, float] = (-inf, inf)
    unit: str = ""
    direction: str = ""


@dataclass(frozen=True)
class Measure:
    """A plain function plus declared facts. Call it like the function.

    Where layers have `groups`, errors of what is not stochastic are those over groups
    (see `geomfeat.statistics.group_errors`).

    Attributes:
        scope: what it takes, read from the annotations: "layer" (one Representation), "pair" (two Representations),
            "kernels" (two Kernels), "network" (a diagnostic on initial and trained snapshots) or "series" (one on the
            snapshots of a whole training).
        quantities: name -> Quantity. A measure with one quantity returns an Estimate (its name is the measure's own),
            one with several a dict of Estimates with exactly these keys. Network diagnostics return
            {layer: {quantity: Estimate}}, with layer "" for the whole network.
        by_default: whether a study runs it unless it is named; controls and simulations run only if named.
        most, most_per_class: samples of a layer, or of each class, beyond which some are drawn, once, before errors are
            taken; the note says so (set by `geomfeat.statistics.subsamples.takes_at_most`). Options of these names set
            another size, or None for all samples.
    """

    function: Callable[..., Any]
    name: str
    scope: str
    source: str
    quantities: Mapping[str, Quantity]
    invariant_to: frozenset[str]
    needs: frozenset[str]
    stochastic: bool
    min_samples: int
    options: Mapping[str, Any] = field(default_factory=dict)
    by_default: bool = True
    most: int | None = None
    most_per_class: int | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.most is None and self.most_per_class is None:
            return self._computed(*args, **kwargs)
        limits = {
            name: kwargs.pop(name) for name in ("most", "most_per_class") if name in self.options and name in kwargs
        }
        some, note = self.sampled(args[0], kwargs.get("seed", 0), **limits)
        found = self._computed(some, *args[1:], **kwargs)
        if not note:
            return found
        return {k: _noted(e, note) for k, e in found.items()} if isinstance(found, dict) else _noted(found, note)

    def sampled(self, rep: Representation, seed: int = 0, **limits: int | None) -> tuple[Representation, str]:
        """The samples of a layer that the measure takes, and a note where these are not all; limits: other sizes."""
        limits = {"most": self.most, "most_per_class": self.most_per_class, **limits}
        some, note = at_most(rep, limits["most"], seed=seed, keep_classes="labels" in self.needs)
        fewer, said = at_most_per_class(some, limits["most_per_class"], seed=seed)
        return fewer, "; ".join(filter(None, (note, said)))

    def _computed(self, *args: Any, **kwargs: Any) -> Any:
        if self.scope in ("layer", "pair") and not self.stochastic and not has_own_errors(self.function):
            return errors_over_groups(self.function, args, kwargs, self.min_samples)
        return self.function(*args, **kwargs)

    def __str__(self) -> str:
        return self.name

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The result always as {quantity: Estimate}; a measure with one quantity is keyed by its own name.

        Missing labels or outputs, too few samples, every error that geomfeat raises on purpose, numerical breakdown and
        a lack of memory give failed Estimates with a note; call the measure itself for the exception.
        """
        unmet = self._unmet(args)
        if unmet:
            return self._failed(unmet)
        try:
            out = self(*args, **kwargs)
        except CAUSED_BY_DATA as error:
            return self._failed(f"measure {self.name!r}: {error}")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            first = str(error).partition("\n")[0]
            return self._failed(f"measure {self.name!r} ran out of memory ({first}): use fewer samples")
        return out if isinstance(out, dict) else {self.name: out}

    def _failed(self, note: str) -> dict[str, Any]:
        rows = {quantity: Estimate.failed(note) for quantity in self.quantities}
        return {"": rows} if self.scope == "network" else rows

    def _unmet(self, args: tuple[Any, ...]) -> str:
        """Why the measure cannot be computed from these arguments, or ""."""
        for fact in ("labels", "outputs"):
            holders = [a for a in args if hasattr(a, fact)]
            if fact in self.needs and holders and all(getattr(a, fact) is None for a in holders):
                where = f"layer {holders[0].layer!r} was" if getattr(holders[0], "layer", "") else "the data were"
                remedy = "pass labels= to extract()" if fact == "labels" else "extract() records them with the features"
                return f"measure {self.name!r} needs {fact}; {where} captured without them: {remedy}"
        n = min((a.n for a in args if isinstance(a, Representation | Kernel)), default=self.min_samples)
        if n < self.min_samples:
            return f"measure {self.name!r} needs at least {self.min_samples} samples, got {n}: give more inputs"
        return ""


_REGISTERED: dict[str, Measure] = {}


def _noted(estimate: Estimate, note: str) -> Estimate:
    return replace(estimate, note="; ".join(filter(None, (estimate.note, note))))


def _scope(function: Callable[..., Any]) -> str:
    hints = typing.get_type_hints(function)
    required = [
        hints.get(p.name)
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if required == [Representation]:
        return "layer"
    if required == [Representation, Representation]:
        return "pair"
    if required == [Kernel, Kernel]:
        return "kernels"
    of_snapshots = {"SnapshotPair": "network", "SnapshotSeries": "series"}
    if len(required) == 1 and getattr(required[0], "__name__", "") in of_snapshots:
        return of_snapshots[required[0].__name__]  # pyright: ignore[reportOptionalMemberAccess]
    raise BadInput(
        f"measure {function.__name__!r} takes {required}: annotate it as (Representation), "
        "(Representation, Representation), (Kernel, Kernel), (SnapshotPair) or (SnapshotSeries)"
    )


def measure(
    *,
    source: str,
    quantities: Mapping[str, Quantity] | None = None,
    bounds: tuple[float, float] = (-inf, inf),
    unit: str = "",
    direction: str = "",
    invariant_to: set[str] | frozenset[str] = frozenset(),
    needs: set[str] | frozenset[str] = frozenset(),
    stochastic: bool = False,
    min_samples: int = 2,
    by_default: bool = True,
) -> Callable[[Callable[..., Any]], Measure]:
    """Register a function as a measure. See `Measure` for the facts; the contract tests check each of them.

    Give either `quantities`, or `bounds`, `unit` and `direction` of the single quantity. Raises BadInput for facts
    or scopes that are not known, and for a name that another module has registered.
    """
    if quantities is not None and (bounds != (-inf, inf) or unit or direction):
        raise BadInput("give either quantities= or the single quantity's bounds=, unit=, direction=, not both")
    unknown = (set(invariant_to) - TRANSFORMS) | (set(needs) - NEEDS)
    if unknown:
        raise BadInput(
            f"unknown facts {sorted(unknown)}: invariant_to from {sorted(TRANSFORMS)}, needs from {sorted(NEEDS)}"
        )

    def register(function: Callable[..., Any]) -> Measure:
        name = function.__name__
        if name in _REGISTERED and _REGISTERED[name].function.__module__ != function.__module__:
            raise BadInput(f"measure {name!r} is registered twice, in {_REGISTERED[name].function.__module__} too")
        options = {
            p.name: p.default
            for p in inspect.signature(function).parameters.values()
            if p.default is not p.empty and p.name != "seed"
        }
        limits = limits_of(function)
        options |= limits
        made = Measure(
            function, name, _scope(function), source,
            dict(quantities) if quantities else {name: Quantity(bounds, unit, direction)},
            frozenset(invariant_to), frozenset(needs), stochastic, min_samples, options, by_default, **limits,
        )  # fmt: skip
        made.__dict__["__doc__"] = function.__doc__
        _REGISTERED[name] = made
        return made

    return register


def _load() -> None:
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package_name}.{module.name}")


def available(scope: str | None = None, needs: frozenset[str] | set[str] | None = None) -> list[Measure]:
    """All registered measures, by name; those of one scope, or those that need no more than `needs`.

    Raises BadInput for a scope or a need that does not exist.

    >>> "participation_ratio" in [m.name for m in available(scope="layer")]
    True
    """
    if scope is not None and scope not in SCOPES:
        raise BadInput(f"scope={scope!r} is not one of {', '.join(SCOPES)}")
    if needs is not None and not NEEDS.issuperset(needs):
        raise BadInput(f"needs={sorted(needs)} must be from {', '.join(sorted(NEEDS))}")
    _load()
    found = sorted(_REGISTERED.values(), key=lambda m: m.name)
    return [m for m in found if (scope is None or m.scope == scope) and (needs is None or m.needs <= frozenset(needs))]


def list_measures() -> pd.DataFrame:
    """All registered measures, one row each, by name.

    Columns: name; scope ("layer", "pair", "kernels", "network" or "series", see `Measure`); needs ("labels", "init",
    ...); summary; quantities (their names); source; min_samples. Lists are text, joined by ", ".

    >>> list_measures().set_index("name").loc["nc1", "needs"]
    'labels'
    """
    import pandas as pd

    rows = [
        (m.name, m.scope, ", ".join(sorted(m.needs)), m.summary, ", ".join(m.quantities), m.source, m.min_samples)
        for m in available()
    ]
    return pd.DataFrame(rows, columns=["name", "scope", "needs", "summary", "quantities", "source", "min_samples"])


def get(name: str) -> Measure:
    """The measure of that name; BadInput with near names otherwise."""
    _load()
    if name not in _REGISTERED:
        raise BadInput(f"no measure {name!r}; near: {near(name, _REGISTERED)}. All of them: geomfeat measures")
    return _REGISTERED[name]
