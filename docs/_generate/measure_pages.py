"""A page for each registered measure: its definition, declared facts, values on known data, and cost."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import torch

import geomfeat as gf
from _generate.docstrings import escaped, to_markdown
from geomfeat.cli.measures import SCOPES, bounds_text
from geomfeat.models.mlp import mlp
from geomfeat.registry import Measure, available
from geomfeat.snapshots import SnapshotPair, SnapshotSeries
from geomfeat.types import Representation

N, UNITS, CLASSES = 120, 40, 12
TAKES = {
    "layer": "one `Representation`: the features of one layer, (samples, units)",
    "pair": "two `Representation`s of the same samples",
    "kernels": "two `Kernel`s of the same samples",
    "network": "a `SnapshotPair`: a network before and after training, and probe inputs",
    "series": "a `SnapshotSeries`: a network at several steps of its training, and the samples",
}
NEEDS = {
    "labels": "labels of the samples", "outputs": "the outputs of the network", "init": "the weights before training",
    "gradients": "derivatives with respect to the weights",
}  # fmt: skip


def pages() -> dict[str, str]:
    """index.md, and <measure>.md for each."""
    found = available()
    made = {f"{m.name}.md": page(m) for m in found}
    groups = []
    for scope, words in SCOPES.items():
        lines = [f"- [{m.name}]({m.name}.md): {escaped(m.summary)}" for m in found if m.scope == scope]
        groups += [f"## Of {words}\n\n" + "\n".join(lines)] if lines else []
    tree = "\n".join(m.name for m in found)
    made["index.md"] = (
        "# Measures, one page each\n\nEach is a plain function that `gf.get(name)` returns. "
        "[The table of all of them](../../measures.md) has bounds and sources on one page.\n\n"
        + "\n\n".join(groups) + f"\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    )  # fmt: skip
    return made


def page(m: Measure) -> str:
    """The page of one measure."""
    facts = {
        "takes": TAKES[m.scope],
        "needs": ", ".join(NEEDS[n] for n in sorted(m.needs)) or "nothing else",
        "least samples": str(m.min_samples),
        "many samples": _limit(m),
        "does not change under": ", ".join(sorted(m.invariant_to)) or "none of the transformations that are tested",
        "random": "draws with a seed" if m.stochastic else "no: the same number every time",
        "in a study": "by default" if m.by_default else "only if it is named",
        "source": escaped(m.source),
    }
    if m.options:
        facts["options"] = ", ".join(f"`{name}={value!r}`" for name, value in m.options.items())
    tested = "Tests check that each invariance holds, and that the number changes under the other transformations.\n\n"
    if m.scope in ("network", "series"):  # no features are given that could be transformed
        del facts["does not change under"]
        tested = ""
    rows = "\n".join(f"| {name} | {_cell(text)} |" for name, text in facts.items())
    quantities = "\n".join(
        f"| `{name}` | {_cell(bounds_text(q))} | {_cell(q.unit or '–')} | {_cell(q.direction or '–')} |"
        for name, q in m.quantities.items()
    )
    return (
        f"# {m.name}\n\n{_definition(m)}\n\n## Facts\n\n| | |\n|---|---|\n{rows}\n\n"
        f"{tested}"
        f"## Quantities\n\n| name | bounds | unit | direction |\n|---|---|---|---|\n{quantities}\n\n{_values(m)}\n"
    )


def _limit(m: Measure) -> str:
    """How many samples it takes of many."""
    if m.most is not None:
        return f"takes at most {m.most:,}, drawn with a seed; `most=None` takes all"
    if m.most_per_class is not None:
        return f"takes at most {m.most_per_class:,} of each class, drawn with a seed; `most_per_class=None` takes all"
    return "takes all"


def _definition(m: Measure) -> str:
    """The docstring; examples in it are run by the tests."""
    return to_markdown(inspect.cleandoc(m.__doc__ or ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _values(m: Measure) -> str:
    """Values on data whose geometry is known, and how long one call takes."""
    columns, took = {}, []
    for name, arguments in known_data(m.scope).items():
        start = perf_counter()
        columns[name] = m.run(*arguments())
        took.append(perf_counter() - start)
    if m.scope in ("network", "series"):
        columns = {name: _of_network(result) for name, result in columns.items()}
    time = rounded_time(sorted(took)[len(took) // 2])
    names = list(dict.fromkeys(quantity for column in columns.values() for quantity in column))
    rows = "\n".join(
        f"| `{q}` | " + " | ".join(_shown(column.get(q)) for column in columns.values()) + " |" for q in names
    )
    head = " | ".join(columns)
    return (
        f"## On known data\n\n{_cell(ABOUT[m.scope])}\n\n| | {head} |\n|---|{'---|' * len(columns)}\n{rows}\n\n"
        f"## Cost\n\nThe median of these calls took {time} when the page was made.\n"
    )


ABOUT = {
    "layer": f"{N} samples in {CLASSES} classes, {UNITS} units. *Round*: independent Gaussian units. *Flat*: two units "
    "have ten times the spread of the others. *Apart*: as round, with the mean of each class moved by ten in one "
    "direction.",
    "pair": f"{N} samples, {UNITS} units. *Same*: round, and the same turned by a rotation. *Noisy*: round, and the "
    "same with as much noise added. *Unrelated*: two independent draws.",
    "network": "A small network, trained on 60 digits at three output scales; values of the whole network, else of its "
    "first layer. *Lazy*: gamma .03. *Between*: 1. *Rich*: 10.",
    "series": "A small network, trained on 60 digits at three output scales, and its checkpoints. *Lazy*: gamma .03. "
    "*Between*: 1. *Rich*: 10.",
}


def known_data(scope: str) -> dict[str, Callable[[], tuple[Any, ...]]]:
    """Name of a column -> a function that makes the arguments of a measure."""
    if scope == "layer":
        return {name: (lambda x=x: (_layer(x),)) for name, x in clouds().items()}
    if scope == "pair":
        return {name: (lambda pair=pair: tuple(map(_layer, pair))) for name, pair in cloud_pairs().items()}
    if scope == "network":
        return {name: (lambda g=g: (snapshots(g)[0],)) for name, g in GAMMAS.items()}
    if scope == "series":
        return {name: (lambda g=g: (snapshots(g)[1],)) for name, g in GAMMAS.items()}
    return {}


GAMMAS = {"lazy": 0.03, "between": 1.0, "rich": 10.0}
LABELS = torch.arange(N) % CLASSES


def _noise(name: str) -> torch.Tensor:
    seed = {"round": 0, "noise": 1, "other": 2, "rotation": 3}[name]
    return torch.randn(N, UNITS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clouds() -> dict[str, torch.Tensor]:
    flat, apart = _noise("round"), _noise("round")
    flat[:, :2] *= 10
    apart[:, :CLASSES] += 10 * torch.nn.functional.one_hot(LABELS, CLASSES)
    return {"round": _noise("round"), "flat": flat, "apart": apart}


def cloud_pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    x = _noise("round")
    rotation = torch.linalg.qr(_noise("rotation")[:UNITS])[0]
    return {"same": (x, x @ rotation), "noisy": (x, x + _noise("noise")), "unrelated": (x, _noise("other"))}


def _layer(x: torch.Tensor) -> Representation:
    outputs = torch.nn.functional.one_hot(LABELS, CLASSES).double() + 0.1 * x[:, :CLASSES]
    return Representation(x, labels=LABELS, outputs=outputs, layer="example")


@cache
def snapshots(gamma: float) -> tuple[SnapshotPair, SnapshotSeries]:
    """A network before and after training at an output scale, and at its checkpoints."""
    data = gf.load_data("digits", n=60)
    start = mlp(64, (16, 16), 10, seed=0)
    options = gf.TrainOptions(snapshot_steps="log")
    made = gf.train_at_gamma(start, data.inputs, data.labels, gamma=gamma, target_loss=0.1, options=options)
    before, after = gf.Snapshot(start, "init"), gf.Snapshot(made.model)
    layers = tuple(gf.extract(start, data.inputs[:2], progress=False))
    pair = SnapshotPair(before, after, data.inputs, data.labels, layers=layers)
    return pair, SnapshotSeries(made.snapshots_list, data.inputs, data.labels, gamma=gamma)


def _of_network(result: Any) -> dict[str, Any]:
    """Of {layer: {quantity: Estimate}} the whole network, else the first layer; a plain result stays."""
    if not result or not isinstance(next(iter(result.values())), dict):
        return result
    return {**next(iter(result.values())), **result.get("", {})}


def _shown(estimate: Any) -> str:
    if estimate is None or math.isnan(float(estimate)):
        return "–"
    error = estimate.stderr
    return f"{float(estimate):.3g}" + (
        f"\u00a0±\u00a0{error:.1g}" if error is not None and error == error and error > 0 else ""
    )


def rounded_time(seconds: float) -> str:
    """A time in words, to a factor of about three: clocks of other machines differ by more.

    >>> rounded_time(0.0004), rounded_time(0.02), rounded_time(4)
    ('less than a millisecond', 'about 30 ms', 'about 3 s')
    """
    if seconds < 0.001:
        return "less than a millisecond"
    steps = [m * 10.0**e for e in range(-3, 3) for m in (1, 3)]
    near = min(steps, key=lambda step: abs(math.log(step / seconds)))
    return f"about {near * 1000:.0f} ms" if near < 1 else f"about {near:.0f} s"
