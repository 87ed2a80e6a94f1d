"""Which layers of one network are frozen, lazy or rich, by the change of each layer's own weights.

The movement of a layer's features does not show its regime: a frozen layer inherits the change of the layers before it.
Nor does its demand R_l, the movement required if every layer were free to learn. The regime is read from the own
movement sqrt(own drift * spectral movement), of |layer(W_T, h_0) - layer(W_0, h_0)| / |layer(W_0, h_0)| (see
`layer_drift`) and |DW| / |W_0|. Each alone fails in one case: the drift is small where weights move in directions that
the probes do not excite or into saturation, the spectral movement where biases learn. Hence the geometric mean.
"""

from __future__ import annotations

import math
from collections import Counter
from math import inf

import pandas as pd

from geomfeat.activations import module_name
from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.location.initial_states import observe, start_from
from geomfeat.measures.network.layer_drift import layer_drift
from geomfeat.measures.network.weight_movement import weight_movement
from geomfeat.network import Network
from geomfeat.registry import Quantity, measure
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Estimate

# Edges, rounded, of the gap between lazy and rich layers in those networks of `geomfeat lab mixed-by-layer` on which it
# sets limits (learning rates of the layers set by hand); it judges the others.
LAZY_BELOW, RICH_FROM = 0.4, 0.9
REGIMES = ("frozen", "lazy", "transition", "rich", "undetermined")
COLUMNS = ("layer", "richness", "movement", "own", "inherited", "total", "spectral", "own_movement", "regime")


def own_movement(own: float, spectral: float) -> float:
    """Own movement of a layer from its own drift and spectral movement, either of them NaN where it is not known.

    The spectral movement says nothing where it is zero although the layer's outputs drifted: then its biases, gains or
    running statistics moved.

    >>> own_movement(4.0, 1.0), own_movement(math.nan, 1.0), own_movement(3.0, 0.0), own_movement(0.0, 1.0)
    (2.0, 1.0, 3.0, 0.0)
    """
    if math.isnan(own):
        return spectral
    return own if math.isnan(spectral) or spectral == 0 else math.sqrt(own * spectral)


def layer_regime_of(movement: float) -> str:
    """The regime of a layer from its own movement.

    >>> [layer_regime_of(movement) for movement in (0.0, 0.1, 0.5, 3.0)]
    ['frozen', 'lazy', 'transition', 'rich']
    """
    if math.isnan(movement):
        return "undetermined"
    if movement == 0:
        return "frozen"
    return "lazy" if movement < LAZY_BELOW else "rich" if movement >= RICH_FROM else "transition"


@measure(
    source="own against inherited movement of a layer: this package; regimes as in Chizat, Oyallon and Bach 2019",
    quantities={
        "own_movement": Quantity((0, inf), "", "higher = richer by its own weights; 0 = frozen, lazy < .4, rich >= .9")
    },
    needs={"init"},
    min_samples=1,
    by_default=False,
)
def layer_regime(pair: SnapshotPair) -> dict[str, dict[str, Estimate]]:
    """Own movement of every layer, with its regime as the note: frozen, lazy, transition or rich.

    Own movement: see `own_movement`; the spectral one alone where a layer cannot be called on its own. Layer "" is the
    mean over layers; its note is their common regime, or "mixed" with how many layers are of which.

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
    mean = math.fsum(e.value for e in good.values()) / len(good)
    whole = Estimate(mean, note=_common([e.note.split(":")[0] for e in good.values()]))
    return {"": {"own_movement": whole}, **rows}


def _judged(own: Estimate, spectral: Estimate | None) -> Estimate:
    weights = spectral.value if spectral is not None and spectral.ok else math.nan
    value = own_movement(own.value if own.ok else math.nan, weights)
    if math.isnan(value):
        return own
    regime = layer_regime_of(value)
    if not own.ok:
        return Estimate(value, note=f"{regime}: by its weights ({own.note})")
    # The probes act on the drift alone, so relative errors are halved by the square root.
    stderr = None if own.stderr is None or own.value == 0 else own.stderr * value / own.value
    return Estimate(value, stderr if value == own.value or stderr is None else stderr / 2, note=regime)


def _common(regimes: list[str]) -> str:
    counts = Counter(regimes)
    if len(counts) == 1:
        return regimes[0]
    return "mixed: " + ", ".join(f"{counts[name]} {name}" for name in REGIMES if counts[name])


def layer_regimes(pair: SnapshotPair) -> pd.DataFrame:
    """One row a layer: demand R_l, movement M_l (decades), its drifts, spectral and own movement, and regime.

    Layers are called modules with weights; R and M are NaN for those that are not hidden (the read-out), and where the
    two networks compute the same. `regime` goes by the own movement, see `layer_regime_of`. Join it with the layers of
    a `Location` by the module's name.

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
        value = own_movement(own, moved)
        rows.append((name, demand.get(name, math.nan), movement.get(name, math.nan), own, row["inherited"].value,
                     row["total"].value, moved, value, layer_regime_of(value)))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _demand_and_movement(pair: SnapshotPair) -> tuple[dict[str, float], dict[str, float]]:
    """R and M by module; nothing where they cannot be had (equal networks, no hidden layer, too few probes)."""
    try:
        network = Network.prepare(
            pair.trained.model, pair.inputs, layers=list(pair.layers) or "*", initial=pair.initial.model,
            readout=pair.readout, device=pair.device, optimizer=pair.trained.optimizer,
        )  # fmt: skip
        start = start_from(
            pair.initial.model, observe(network, pair.labels, seed=pair.seed), seed=pair.seed, with_kernel=False
        )
    except (BadInput, CheckpointMismatch):
        return {}, {}
    by_module = [{module_name(k): v for k, v in found.items()} for found in (start.demand.layers, start.movement)]
    return by_module[0], by_module[1]
