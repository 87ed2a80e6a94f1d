"""Which measures a study runs, decided before any work: unknown names are errors, unmet needs become notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from geomfeat.errors import BadInput
from geomfeat.registry import Measure, available, get

CLASSES = "it needs class labels; the targets are real numbers"
# What to do about a need that is not met.
REMEDY = {
    "labels": "it needs labels: pass labels= (one class per sample)",
    "outputs": "it needs the network's outputs: extract with the model, or set outputs= of the Representation",
    "init": "it needs the initial weights: pass initial= (--initial FILE)",
    "course": "it needs three or more snapshots whose steps are known: pass initial= and "
    "checkpoints={step: model} (--checkpoints FOLDER), and the trained network as "
    "Snapshot(model, at=step)",
    "gradients": "it needs the network's gradients: pass models, not recordings",
}
# A study has layers of one network before, during and after training; bare kernels are compared with `geomfeat.cka`.
SCOPES = ("layer", "pair", "network", "series")
# What a scope needs besides what its measures declare.
BY_SCOPE = {"network": {"init"}, "series": {"course"}}

WAITS = "runs only when asked for by name: pass measures="


@dataclass(frozen=True)
class MeasurePlan:
    """The measures to run, by scope; those named that cannot run; and those left out, with the reason."""

    layer: tuple[Measure, ...]
    pairs: tuple[Measure, ...]
    changes: tuple[Measure, ...]
    network: tuple[Measure, ...]
    series: tuple[Measure, ...]
    refused: tuple[tuple[Measure, str], ...]
    left_out: dict[str, str]

    @property
    def names(self) -> list[str]:
        """Names of all measures that run or were named."""
        found = [*self.layer, *self.pairs, *self.changes, *self.network, *self.series, *(m for m, _ in self.refused)]
        return sorted({m.name for m in found})


def unmet(m: Measure, have: Iterable[str]) -> str:
    """What a measure needs and does not have, as a sentence; empty when nothing is missing.

    Diagnostics over time take values as well as classes, in place of "labels".
    """
    have = set(have)
    needs = m.needs | BY_SCOPE.get(m.scope, set())
    if "values" in have and m.scope == "series":
        needs = needs - {"labels"}
    remedy = REMEDY | ({"labels": CLASSES} if "values" in have else {})
    return "; ".join(remedy[need] for need in sorted(needs - have))


def make_plan(measures: Sequence[str] | str | None, have: Iterable[str]) -> MeasurePlan:
    """The plan for these names, given what there is of {labels, values, outputs, init, gradients, course}.

    values: the targets are real numbers; measures that need classes are then failed rows, in place of being left out.
    measures=None means all that run by default and can.
    Raises BadInput for an unknown name (with near ones), or for a measure of bare kernels.
    """
    have = set(have)
    asked = None if measures is None else [measures] if isinstance(measures, str) else list(dict.fromkeys(measures))
    if asked is not None and not asked:
        raise BadInput("measures=[] is empty: leave it out to run all measures. Names: geomfeat measures")
    chosen = [m for m in available() if m.scope in SCOPES] if asked is None else [get(name) for name in asked]
    odd = [m.name for m in chosen if m.scope not in SCOPES]
    if odd:
        raise BadInput(f"measures={odd} compare two kernels, not layers of a network: call them on Kernels instead")
    regression = "values" in have
    missing = {m.name: unmet(m, have) or (WAITS if asked is None and not m.by_default else "") for m in chosen}
    able = [m for m in chosen if not missing[m.name]]
    refused = [(m, missing[m.name]) for m in chosen if missing[m.name]]
    failed = [(m, why) for m, why in refused if asked is not None or (regression and why == CLASSES)]
    pairs = [m for m in able if m.scope == "pair"]
    return MeasurePlan(
        layer=tuple(m for m in able if m.scope == "layer"),
        pairs=tuple(m for m in pairs if "init" not in m.needs),
        changes=tuple(m for m in pairs if "init" in m.needs),
        network=tuple(m for m in able if m.scope == "network"),
        series=tuple(m for m in able if m.scope == "series"),
        refused=tuple(failed),
        left_out={m.name: why for m, why in refused if (m, why) not in failed},
    )
