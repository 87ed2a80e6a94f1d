"""The location of a study's network, as rows of the table too; and how often the network is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from geomfeat.activations.hidden_layers import home, placed
from geomfeat.activations.model_state import evaluating
from geomfeat.errors import BadInput, near
from geomfeat.labels import as_goal
from geomfeat.location._locate import locate_network
from geomfeat.location.options import LocateOptions
from geomfeat.location.result import KERNEL, Location
from geomfeat.models.functional import call, output_matrix
from geomfeat.models.nested_inputs import as_inputs, batches, moved, n_samples, take
from geomfeat.models.one_network import in_one_form
from geomfeat.models.readouts.reading import words_of
from geomfeat.models.trained_parameters import plain_name
from geomfeat.network import trained_space
from geomfeat.regimes.training.class_targets import (
    Levels,
    as_row,
    numbered,
    share_right,
    threshold_of,
    two_levels,
    unnumbered,
)
from geomfeat.statistics.group_errors import FEWEST
from geomfeat.study.measure_rows import guarded
from geomfeat.study.options import StudyOptions
from geomfeat.study.snapshots import INITIAL, TRAINED, Subject
from geomfeat.study.table import Row, failed_rows, options_text, row
from geomfeat.types import Estimate

OUTPUTS, CHANGE, CLEARLY = "outputs", "outputs minus initial outputs", 0.1
QUANTITIES = ("richness", "low", "high", "movement", "excess")
# Of the network as a whole; shares of the layers in the change of the kernel are in the location alone.
WHOLE = (*QUANTITIES, *KERNEL)
DEMANDS = ("richness", "low", "high")
GAMMAS = ("equivalent_gamma", "gamma_low", "gamma_high")


def locate_subject(
    subject: Subject, *, asked: StudyOptions, options: LocateOptions, seed: int, progress: bool
) -> tuple[Location | None, str]:
    """(location, "") or (None, why not); a location whose ladder failed comes with a flag and the reason.

    R is a mean over the layers that the study was asked for, as `locate` with these layers gives it. Of too few groups
    for an interval over groups, it is over samples, with a flag.
    """
    few = subject.n_groups is not None and subject.n_groups < FEWEST
    start = subject.snapshots.get(INITIAL)

    def work(ladder: Any) -> Location:
        return locate_network(
            subject.network, subject.goal, None if start is None else start.model, factory=asked.factory,
            groups=None if few else subject.groups, ladder=ladder, seed=seed, progress=progress, options=options,
        )  # fmt: skip

    where, _, note = guarded(lambda: work(asked.ladder), "location")
    if where is None and asked.ladder is not None:
        # A ladder that fails must not cost the location itself.
        where, _, _ = guarded(lambda: work(None), "location")
        where = None if where is None else replace(where, flags=(*where.flags, f"No equivalent gamma: {note}"))
    if where is not None and few:
        said = f"The interval is over samples: one over groups needs at least {FEWEST}, there are {subject.n_groups}."
        where = replace(where, flags=(*where.flags, said))
    return where, note


def located_with(location: Any) -> LocateOptions | None:
    """The options of the location that a study was asked for, by object or by name, or None for no location.

    >>> located_with(True).n_probes is None, located_with(False), located_with({"n_probes": 8}).n_probes
    (True, None, 8)
    """
    if isinstance(location, Mapping):
        known = [f.name for f in fields(LocateOptions)]
        for name in location:
            if name not in known:
                raise BadInput(f"location={{{name!r}: ...}} is not one of the LocateOptions; near: {near(name, known)}")
        return LocateOptions(**location)
    if not isinstance(location, bool | LocateOptions):
        raise BadInput(f"location is a {type(location).__name__}: give True, False or LocateOptions(...)")
    return location if isinstance(location, LocateOptions) else LocateOptions() if location else None


def check_ladder(ladder: Any, labels: Any) -> None:
    """BadInput for a ladder that could only fail, before any work."""
    if isinstance(ladder, int) and labels is None:
        raise BadInput(f"ladder={ladder} trains networks on the labels: pass labels=, or leave the ladder out")


def check_located(subject: Subject, options: LocateOptions) -> None:
    """BadInput where this subject cannot be located with these options, before any work."""
    n_probes = options.n_probes
    if n_probes is not None and not 4 <= n_probes <= subject.n:
        raise BadInput(f"n_probes={n_probes} must lie between 4 and the number of inputs, {subject.n}")
    start = subject.snapshots.get(INITIAL)
    if subject.rates is not None:
        first = None if start is None else start.model
        trained_space(subject.snapshots[TRAINED].model, first, subject.params, subject.rates)
    if start is None:
        return
    ends = [
        {plain_name(name): p.detach().cpu() for name, p in model.named_parameters()}
        for model in in_one_form([subject.snapshots[at].model for at in (INITIAL, TRAINED)])
    ]
    if ends[1] and all(torch.equal(ends[0][name], p) for name, p in ends[1].items()):
        raise BadInput(
            "nothing was learned: the same weights were given as trained and initial. Give those before training as "
            "initial, or leave initial out"
        )


def location_rows(where: Location | None, subject: Subject, note: str) -> list[Row]:
    """The location as rows of measure "location": the network (layer "") and every layer; or one failure."""
    at = f"{INITIAL}->{TRAINED}" if INITIAL in subject.snapshots else TRAINED
    facts = {"at": at, "measure": "location"}
    if where is None:
        return failed_rows(WHOLE, note, **facts, n=subject.n)
    facts |= {
        "n": where.details.get("n_probes"),
        "options": options_text({"tier": where.tier, "readout": where.readout}),
    }
    places = [("", where.regime, {q: getattr(where, q) for q in (*QUANTITIES, *_known_of_kernel(where))})]
    places += [
        (str(r["layer"]), str(r["regime"]), {q: r[q] for q in QUANTITIES if q in r})
        for r in where.layers.to_dict("records")
    ]
    if where.equivalent_gamma is not None:
        places[0][2].update({q: getattr(where, q) for q in GAMMAS})
    failed = failed_rows(GAMMAS[:1], note, **facts) if note else []
    return failed + [
        row(q, _estimate(v, q, regime), layer=layer, **facts)
        for layer, regime, values in places
        for q, v in values.items()
    ]


def _known_of_kernel(where: Location) -> list[str]:
    """The numbers of the kernel that this location could have: what happened is not known from fresh weights."""
    return [name for name in KERNEL if where.tier == "initial" or not math.isnan(getattr(where, name))]


def _estimate(value: Any, quantity: str, regime: str) -> Estimate:
    number = math.nan if value is None else float(value)
    if math.isfinite(number):
        hypothetical = regime == "frozen" and quantity in DEMANDS
        return Estimate(
            number, note="frozen: the movement required if it had been free to move" if hypothetical else ""
        )
    if number == -math.inf:
        why = "the tangent kernel cannot change" if quantity in KERNEL else "nothing moved, or could to first order"
        return Estimate.failed(f"{quantity} is minus infinity: {why}")
    return Estimate.failed(f"{quantity} could not be computed: see the flags of the location")


def accuracy_of(
    subject: Subject, evaluate: Mapping[str, tuple[Any, Any]] | None, loss: Any = None
) -> tuple[dict[str, float], str]:
    """Share of right answers by part of the data, and what was read; empty where outputs and classes do not fit.

    A network trained with its initial outputs subtracted answers by the change of its outputs: where the initial one is
    known, that reading is taken if it is clearly (by .1) right more often on the first part.

    They fit when there are as many outputs as classes (largest label + 1, or as many different ones), or one output for
    two values, divided as `threshold_of` says: the outputs of an ImageNet network say nothing about the labels of other
    pictures. loss: of the training, if it is known.
    """
    parts = {"data": (subject.inputs, subject.goal)} if evaluate is None else dict(evaluate)
    parts = {
        name: (as_inputs(x), as_goal(y, f"labels of {name!r}", subject.classes))
        for name, (x, y) in parts.items()
        if y is not None
    }
    if not parts or not subject.has_outputs:
        return {}, ""
    for name, (x, y) in parts.items():
        if n_samples(x) != y.shape[0]:
            raise BadInput(f"evaluate[{name!r}] has {n_samples(x)} inputs and {y.shape[0]} labels")
    width = _outputs(subject, take(subject.inputs, slice(0, 1))).shape[1]
    known = unnumbered(as_row(next(iter(parts.values()))[1], width), width)
    parts = {name: (x, numbered(as_row(y, width), known)) for name, (x, y) in parts.items()}
    if not _fit([y for _, y in parts.values()], width):
        return {}, ""
    plain, change = accuracies(subject, parts, loss)
    first = next(iter(parts))
    if first not in plain and first not in change:
        return {}, "nothing: outputs near both readings of two values, as logits and as values (give the loss)"
    if first in change and change[first] > plain.get(first, 0.0) + CLEARLY:
        return change, CHANGE
    return plain, OUTPUTS if plain else ""


def _fit(goals: Sequence[torch.Tensor], width: int) -> bool:
    """Whether outputs of this width have a column for each of these classes."""
    if width == 1:
        return all(y.numel() == len(y) for y in goals) and _levels(goals) is not None
    if any(y.ndim != 1 or y.is_floating_point() for y in goals):
        return False
    return width == 1 + max(int(y.max()) for y in goals)


def _levels(goals: Sequence[torch.Tensor]) -> Levels | None:
    """The two values of all parts for one output, or None."""
    return two_levels(torch.cat([y.reshape(-1).cpu() for y in goals]), 1)


def accuracies(
    subject: Subject, parts: Mapping[str, tuple[Any, Any]], loss: Any = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of right answers by part: of the trained outputs, and of their change since the start (or nothing).

    Also empty if no threshold of a single output is known.
    """
    trained = {name: _outputs(subject, x) for name, (x, _) in parts.items()}
    goals = {name: y for name, (_, y) in parts.items()}
    plain = _shares(trained, goals, loss)
    if INITIAL not in subject.snapshots:
        return plain, {}
    change = {name: trained[name] - _outputs(subject, x, INITIAL) for name, (x, _) in parts.items()}
    return plain, _shares(change, goals, loss)


def _shares(outputs: Mapping[str, torch.Tensor], goals: Mapping[str, torch.Tensor], loss: Any) -> dict[str, float]:
    first = next(iter(outputs))
    levels = _levels(list(goals.values())) if outputs[first].shape[1] == 1 else None
    threshold = None if levels is None else threshold_of(outputs[first], goals[first], levels, loss)
    if levels is not None and threshold is None:
        return {}
    return {name: share_right(outputs[name], y, levels, threshold) for name, y in goals.items()}


def what_is_read(subject: Subject) -> str | None:
    """What the study takes as the outputs of its network, in words; None where it cannot be read as (n, C)."""
    if not subject.has_outputs:
        return None
    said: list[str] = []
    readout = subject.look.readout

    def read(output: Any, inputs: Any) -> torch.Tensor:
        said.append(words_of(readout, output, inputs))
        return output_matrix(output, inputs, readout)

    _outputs(replace(subject, look=subject.look.reading_by(read)), take(subject.inputs, slice(0, 1)))
    return said[-1]


def _outputs(subject: Subject, inputs: Any, at: str = TRAINED) -> torch.Tensor:
    look = subject.look
    model = placed(subject.snapshots[at].model, look.device)
    device, dtype = home(model)
    with evaluating(model, device, look.seed), torch.no_grad():
        parts = (moved(part, device, dtype) for _, part in batches(inputs, look.options.batch_size))
        return torch.cat([output_matrix(call(model, part), part, look.readout) for part in parts])
