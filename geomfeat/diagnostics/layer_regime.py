"""Which layers of one network are frozen, lazy or rich, by what each layer's own weights did to its output.

How far a layer's features moved does not tell: a frozen layer inherits the change of the layers before it. Nor does
its demand R_l, which asks how far the features would move if every layer were free to learn. What tells is the own
drift |layer(W_T, h_0) - layer(W_0, h_0)| / |layer(W_0, h_0)| (see `layer_drift`).
"""

from __future__ import annotations

import math
from collections import Counter
from math import inf

import pandas as pd

from geomfeat.activations import module_name
from geomfeat.diagnostics.layer_drift import layer_drift
from geomfeat.diagnostics.pair import SnapshotPair
from geomfeat.diagnostics.starts import observe, start_from
from geomfeat.diagnostics.weight_movement import weight_movement
from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.registry import Quantity, measure
from geomfeat.types import Estimate

# Edges of the gap between lazy and rich layers of networks whose layers' learning rates were set by hand, rounded;
# `geomfeat lab mixed-by-layer` sets them anew on half of its networks and judges the other half.
LAZY_BELOW, RICH_FROM = 0.4, 0.7
# For layers that cannot be called on their own: of the spectral movement |DW| / |W0|.
SPECTRAL_LAZY_BELOW, SPECTRAL_RICH_FROM = 0.2, 0.8
REGIMES = ("frozen", "lazy", "transition", "rich", "undetermined")
COLUMNS = ("layer", "richness", "movement", "own", "inherited", "total", "spectral", "regime")


def layer_regime_of(own: float, spectral: float = math.nan) -> str:
    """The regime of a layer from its own drift, or from its spectral movement where the drift is NaN.

    >>> [layer_regime_of(own) for own in (0.0, 0.1, 0.5, 3.0)], layer_regime_of(math.nan, 1.0)
    (['frozen', 'lazy', 'transition', 'rich'], 'rich')
    """
    by_drift = not math.isnan(own)
    value = own if by_drift else spectral
    lazy, rich = (LAZY_BELOW, RICH_FROM) if by_drift else (SPECTRAL_LAZY_BELOW, SPECTRAL_RICH_FROM)
    if math.isnan(value):
        return "undetermined"
    if value == 0:
        return "frozen"
    return "lazy" if value < lazy else "rich" if value >= rich else "transition"


@measure(
    source="own against inherited movement of a layer: this package; regimes as in Chizat, Oyallon and Bach 2019",
    quantities={
        "own_movement": Quantity((0, inf), "", "higher = richer by its own weights; 0 = frozen, lazy < .4, rich >= .7")
    },
    needs={"init"},
    min_samples=1,
    by_default=False,
)
def layer_regime(pair: SnapshotPair) -> dict[str, dict[str, Estimate]]:
    """Own movement of every layer, with its regime as the note: frozen, lazy, transition or rich.

    The own drift of `layer_drift`; the spectral weight movement where a layer cannot be called on its own. Layer "" is
    the mean over layers; its note is their common regime, or "mixed" with how many layers are of which.

    >>> import copy, torch
    >>> from geomfeat.types import Snapshot
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.ReLU(), torch.nn.Linear(3, 1, bias=False))
    >>> after = copy.deepcopy(net)
    >>> _ = after[0].requires_grad_(False).weight.mul_(3)
    >>> rows = layer_regime(SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.randn(4, 2)))
    >>> [rows[layer]["own_movement"].note for layer in ("0", "2", "")]
    ['rich', 'frozen', 'mixed: 1 frozen, 1 rich']
    """
    drift, spectral = layer_drift(pair), weight_movement(pair)
    rows: dict[str, dict[str, Estimate]] = {}
    for name, row in drift.items():
        if name:
            rows[name] = {"own_movement": _judged(row["own"], spectral.get(name, {}).get("spectral"))}
    good = {name: row["own_movement"] for name, row in rows.items() if row["own_movement"].ok}
    if not good:
        return {"": {"own_movement": drift[""]["own"]}, **rows}
    same_kind = all(drift[name]["own"].ok for name in good)
    whole = Estimate(
        math.fsum(e.value for e in good.values()) / len(good),
        drift[""]["own"].stderr if same_kind else None,
        note=_common([e.note.split(":")[0] for e in good.values()]),
    )
    return {"": {"own_movement": whole}, **rows}


def _judged(own: Estimate, spectral: Estimate | None) -> Estimate:
    if own.ok:
        return Estimate(own.value, own.stderr, note=layer_regime_of(own.value))
    if spectral is None or not spectral.ok:
        return own
    regime = layer_regime_of(math.nan, spectral.value)
    return Estimate(spectral.value, note=f"{regime}: by its weights ({own.note})")


def _common(regimes: list[str]) -> str:
    counts = Counter(regimes)
    if len(counts) == 1:
        return regimes[0]
    return "mixed: " + ", ".join(f"{counts[name]} {name}" for name in REGIMES if counts[name])


def layer_regimes(pair: SnapshotPair) -> pd.DataFrame:
    """One row a layer: demand R_l and movement M_l (decades), own, inherited and total drift, spectral, regime.

    Layers are called modules with weights; R and M are NaN for those that are not hidden (the read-out), and where the
    two networks compute the same. `regime` goes by the own drift, see `layer_regime_of`. Join it with the layers of a
    `Location` by the module's name.

    >>> import copy, torch
    >>> from geomfeat.types import Snapshot
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    >>> after = copy.deepcopy(net)
    >>> _ = after[2].requires_grad_(False).weight.mul_(1.1)
    >>> found = layer_regimes(SnapshotPair(Snapshot(net, "init"), Snapshot(after), torch.randn(9, 2), layers=("0",)))
    >>> found[["layer", "regime"]].values.tolist()
    [['0', 'frozen'], ['2', 'lazy']]
    """
    drift, spectral = layer_drift(pair), weight_movement(pair)
    demand, movement = _demand_and_movement(pair)
    rows = []
    for name, row in drift.items():
        if not name:
            continue
        own, weights = row["own"].value, spectral.get(name, {}).get("spectral")
        moved = weights.value if weights is not None else math.nan
        rows.append((name, demand.get(name, math.nan), movement.get(name, math.nan), own, row["inherited"].value,
                     row["total"].value, moved, layer_regime_of(own, moved)))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _demand_and_movement(pair: SnapshotPair) -> tuple[dict[str, float], dict[str, float]]:
    """R and M by module; nothing where they cannot be had (equal networks, no hidden layer, too few probes)."""
    try:
        observed = observe(
            pair.trained.model, pair.inputs, pair.labels, layers=list(pair.layers) or "*", seed=pair.seed,
            readout=pair.readout, device=pair.device,
        )  # fmt: skip
        start = start_from(pair.initial.model, observed, seed=pair.seed)
    except (BadInput, CheckpointMismatch):
        return {}, {}
    by_module = [{module_name(k): v for k, v in found.items()} for found in (start.demand.layers, start.movement)]
    return by_module[0], by_module[1]
