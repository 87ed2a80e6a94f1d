"""Networks that are frozen, lazy and rich at once, layer by layer, and which number distinguishes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.activations import hidden_weight_layers
from geomfeat.charts import Curve, Plot
from geomfeat.lab._train_by_layer import FROZEN, FULL, SLOW, Run, train_by_layer
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.measures.network.layer_regime import LAZY_BELOW, RICH_FROM, layer_regimes
from geomfeat.models.cnn import cnn
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, Device, numpy_stream, stream
from geomfeat.regimes.training.objective import centred_one_hot
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Snapshot

N, PROBES, SIDE = 80, 40, 8
NTK_WIDTH = 128
LAZY_SCALES, RICH_SCALES = (0.003, 0.01), (2.5, 5.0)  # gamma, and gamma / sqrt(width) in NTK parameterization
# A slow layer is lazy by construction while gradient flow's conserved balance lets it gain less than this share of its
# own squared weights; beyond, its regime is not known and it is not judged.
OUTGROWN = 0.1
LEARNED = 0.3  # runs that end above this share of the loss are left out
SHOWN = {
    "own_movement": "own movement", "own": "own drift", "spectral": "spectral movement", "total": "total drift",
    "demand": "demand R",
}  # fmt: skip

Table = Any  # pandas annotates selections of a frame as anything that pandas knows
Make = Callable[[int, int], nn.Module]
NETS: dict[str, Make] = {
    "MLP, ReLU": lambda c, s: mlp(SIDE**2, (64, 64), c, seed=s),
    "CNN, ReLU": lambda c, s: cnn((1, SIDE, SIDE), (8, 12), c, seed=s),
    "MLP, tanh": lambda c, s: mlp(SIDE**2, (64, 64, 64), c, activation="tanh", seed=s),
    "MLP, NTK": lambda c, s: mlp(SIDE**2, (NTK_WIDTH, NTK_WIDTH), c, parameterization="ntk", seed=s),
    "CNN, tanh": lambda c, s: cnn((1, SIDE, SIDE), (8, 8, 8), c, activation="tanh", seed=s),
}
DATA = ("digits", "mixture", "parity")
# Thresholds are set on these architectures with these data; every other combination is judged.
SET_ON = (("MLP, ReLU", "CNN, ReLU"), ("digits", "mixture"))


@experiment(
    name="mixed-by-layer",
    title="Frozen, lazy and rich layers in one network",
    question="When every layer learns at its own rate, which number distinguishes frozen, lazy and rich layers?",
    theory="A layer whose learning rate is 0 has own drift 0, however far its features move: it inherits the change of "
    "the layers before it. At rate 10⁻⁴ its weights stay near their initial values, lazy; at full rate in a network "
    "that must move its features (large γ) they leave them, rich. Gradient flow of a homogeneous network conserves "
    "|W_l|²/rate_l − |W_k|²/rate_k, which determines how long a slow layer stays lazy.",
    source="Chizat, Oyallon and Bach 2019, section 1; Karkada 2024, section 3, taken by layer",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    everything, left_out = _measured(size, seed, progress, device)
    table = everything[everything["truth"] != "unknown"].reset_index(drop=True)
    judged = {name: _judge(table, name) for name in SHOWN}
    held = table[~table["set_on"]]
    shipped = _balanced(held["truth"], _named(held["own_movement"], LAZY_BELOW, RICH_FROM))
    frozen = table[table["truth"] == "frozen"]
    inherits = float((frozen["total"] - frozen["inherited"]).abs().max())
    low, high, anew = judged["own_movement"]
    checks = [
        Check("balanced accuracy of own movement, unseen networks, shipped thresholds", shipped, 1.0, 0.05),
        Check("the same, thresholds set on the other networks", anew, 1.0, 0.05),
        Check("largest own drift of a frozen layer", float(frozen["own"].max()), 0.0, 0.0),
        Check("frozen layers: total less inherited drift", inherits, 0.0, 0.0),
        Check("first layers: inherited drift", float(table.loc[table["depth"] == 0, "inherited"].max()), 0.0, 0.0),
    ]
    answer = (
        f"Of {len(held)} layers of unseen networks, own movement classifies {shipped:.1%} correctly (balanced over "
        f"regimes; lazy < {LAZY_BELOW:g}, rich ≥ {RICH_FROM:g}). With a limit fitted to the other "
        f"{int(table['set_on'].sum())} layers, which are below {low:.2g} or above {high:.2g}, {anew:.1%}; own drift "
        "alone "
        f"{judged['own'][2]:.1%}, spectral movement {judged['spectral'][2]:.1%}, total drift "
        f"{judged['total'][2]:.1%}, demand R {judged['demand'][2]:.1%}: "
        f"a frozen layer inherited up to {frozen['inherited'].max():.3g} times its size."
    )
    notes = [
        f"{left_out} runs that did not learn (more than {LEARNED:g} of the loss remained) were left out.",
        f"{len(everything) - len(table)} slow layers have no known regime: the layers at full rate outgrew them so far "
        f"that the conserved balance lets them gain more than {OUTGROWN:g} of their squared weights.",
    ]
    settings = {"gamma": [*LAZY_SCALES, *RICH_SCALES], "rates": [FROZEN, SLOW, FULL], "samples": N, "seed": seed}
    return Findings(answer, _plots(table, judged), checks, everything, settings, notes)


def data_of(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """(n, 64) inputs of about unit norm and (n, C) centred targets: digits, four Gaussian clouds, parity of two."""
    draw = stream(seed, "lab", "layerwise", kind)
    if kind == "digits":
        from sklearn.datasets import load_digits

        images, classes = load_digits(return_X_y=True)
        rows = torch.randperm(len(images), generator=draw)[:N]
        x, y, c = torch.tensor(images / 16)[rows].float(), torch.tensor(classes)[rows], 10
        x = x - x.mean(0)
    elif kind == "mixture":
        centers, y, c = 2 * torch.randn(4, SIDE**2, generator=draw), torch.arange(N) % 4, 4
        x = (centers[y] + torch.randn(N, SIDE**2, generator=draw)) / SIDE
    else:
        x = (2 * torch.randint(0, 2, (N, SIDE**2), generator=draw) - 1) / SIDE
        y, c = (x[:, 0] * x[:, 1] > 0).long(), 2
    return x, centred_one_hot(y, c, x.dtype)


def _cases(size: str, seed: int) -> Iterator[tuple[str, str, float, int]]:
    full = size == "full"
    nets = NETS if full else ("MLP, ReLU", "MLP, tanh")
    for net in nets:
        for data in DATA if full else ("mixture",):
            for scale in (*LAZY_SCALES, *RICH_SCALES) if full else (LAZY_SCALES[0], RICH_SCALES[0]):
                for draw in (0,) if full else (0, 1, 2):
                    yield net, data, scale, seed + draw


def _measured(size: str, seed: int, progress: bool, device: Device) -> tuple[Table, int]:
    """A row for every hidden and read-out layer of every run, and how many runs did not learn."""
    frames, left_out = [], 0
    for net, data, scale, draw in tqdm(list(_cases(size, seed)), desc="networks", disable=not progress, leave=False):
        x, y = (part.to(device, WORKING) for part in data_of(data, draw))
        x = x.reshape(-1, 1, SIDE, SIDE) if net.startswith("CNN") else x
        # float32 would round small steps of slow layers to none
        model = NETS[net](y.shape[1], draw).to(device, WORKING)
        hidden = hidden_weight_layers(model, x)
        rates = _rates([*hidden, "head"], numpy_stream(draw, "lab", "rates", net, data, scale))
        gamma = scale * math.sqrt(NTK_WIDTH) if net.endswith("NTK") else scale
        trained = train_by_layer(model, x, y, rates, gamma, max_steps=600)
        if trained.loss > LEARNED:
            left_out += 1
            continue
        probes = x[:PROBES]
        pair = SnapshotPair(Snapshot(trained.initial, "init"), Snapshot(trained.trained), probes, layers=tuple(hidden))
        found = layer_regimes(pair)
        frames.append(found.assign(
            net=net, data=data, scale=scale, draw=draw, depth=range(len(found)),
            rate=[rates[n] for n in found["layer"]],
            loss=trained.loss, demand=10 ** found["richness"], set_on=net in SET_ON[0] and data in SET_ON[1],
            truth=[_truth(trained, name, scale) for name in found["layer"]],
        ))  # fmt: skip
    return pd.concat(frames, ignore_index=True), left_out


def _rates(layers: list[str], draw: np.random.Generator) -> dict[str, float]:
    """A rate of each layer by chance; one hidden layer has the full one, so that the network can learn."""
    rates = {name: (FROZEN, SLOW, FULL)[i] for name, i in zip(layers, draw.integers(0, 3, len(layers)), strict=True)}
    return {**rates, layers[int(draw.integers(0, len(layers) - 1))]: FULL}


def _truth(run: Run, layer: str, scale: float) -> str:
    rate = run.rates[layer]
    if rate == FROZEN:
        return "frozen"
    if rate == FULL:
        return "rich" if scale in RICH_SCALES else "lazy"
    full = [name for name, r in run.rates.items() if r == FULL]
    grown = max(_squared(run.trained, name) - _squared(run.initial, name) for name in full)
    return "lazy" if rate * grown < OUTGROWN * _squared(run.initial, layer) else "unknown"


def _squared(model: nn.Module, layer: str) -> float:
    return sum(float(p.detach().square().sum()) for p in model.get_submodule(layer).parameters())


def _named(values: Table, low: float, high: float) -> np.ndarray:
    v = values.to_numpy()
    return np.where(v == 0, "frozen", np.where(v < low, "lazy", np.where(v >= high, "rich", "transition")))


def _balanced(truth: Table, named: np.ndarray) -> float:
    """Mean over the true regimes of the share named right; "transition" is wrong."""
    return float(np.mean([(named[(truth == regime).to_numpy()] == regime).mean() for regime in sorted(set(truth))]))


def _judge(table: Table, column: str) -> tuple[float, float, float]:
    """(lazy below, rich from, balanced accuracy on unseen networks), the limits set on the networks of `SET_ON`.

    Limits are values of `column`: the best single limit widened to the gap around it in which no layer lies.
    """
    known = table[np.isfinite(table[column])]
    ours, held = known[known["set_on"]], known[~known["set_on"]]
    values = np.unique(ours.loc[ours[column] > 0, column])
    limits = np.sqrt(values[1:] * values[:-1])
    scores = [_balanced(ours["truth"], _named(ours[column], c, c)) for c in limits]
    i = int(np.argmax(scores))
    return values[i], values[i + 1], _balanced(held["truth"], _named(held[column], limits[i], limits[i]))


def _plots(table: Table, judged: dict[str, tuple[float, float, float]]) -> list[Plot]:
    moving = table[(table["own"] > 0) & (table["total"] > 0)]
    x = {name: moving[moving["truth"] == name] for name in ("lazy", "rich")}
    frozen = table[(table["truth"] == "frozen") & (table["inherited"] > 0)]
    span = [float(table.loc[table["total"] > 0, "total"].min()), float(table["total"].max())]
    equal = [float(frozen["inherited"].min()), float(frozen["inherited"].max())] if len(frozen) else span
    apart = Plot(
        "Own movement against total drift of every layer", "total drift", "own movement",
        [*(Curve(name, r["total"].tolist(), r["own_movement"].tolist(), kind="scatter") for name, r in x.items()),
         *(Curve(f"{word} {v:g}", span, [v, v], kind="theory")
           for word, v in (("lazy below", LAZY_BELOW), ("rich from", RICH_FROM)))],
        log_x=True, log_y=True,
        caption="Layers that moved their features by many times their size can be lazy: they inherit the movement.",
    )  # fmt: skip
    inherit = Plot(
        "Frozen layers move with their inputs", "inherited drift", "total drift",
        [Curve("frozen", frozen["inherited"].tolist(), frozen["total"].tolist(), kind="scatter"),
         Curve("equal", equal, equal, kind="theory")],
        log_x=True, log_y=True, caption="Own drift of these layers is exactly 0.",
    )  # fmt: skip
    ranks = list(range(1, len(SHOWN) + 1))
    accuracy = Plot(
        "Balanced accuracy on unseen networks", "what layers are named by, in the order of the legend",
        "share named right",
        [*(Curve(SHOWN[n], [i], [judged[n][2]], kind="scatter") for i, n in zip(ranks, SHOWN, strict=True)),
         Curve("all right", ranks, [1.0] * len(ranks), kind="theory")],
    )  # fmt: skip
    return [apart, inherit, accuracy]
