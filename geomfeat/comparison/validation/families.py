"""The families on which the location is proved: each a ladder of output scales on one architecture and task.

All rungs of a family start from the same weights (a seed) and learn the same data to the same relative loss, so that
gamma alone is known to differ. Sizes are small: a family of eight rungs and two seeds takes a minute or two on a core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RUNGS = tuple(float(f"{g:.4g}") for g in np.logspace(-2, 2, 8))
SEEDS = 2
SYNTHETIC = "geomfeat.data.synthetic"
FASHION = "fashion-mnist"  # the only data of these that the package does not hold


@dataclass(frozen=True)
class LadderFamily:
    """One family.

    Attributes:
        config: of its sweep, see `SweepConfig`; the ladder of gamma and the seeds are added.
        breaks: what may break the rule of unit slope here, in words; "" where it should hold.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    breaks: str = ""

    def sweep(self, *, rungs: tuple[float, ...] = RUNGS, seeds: int = SEEDS) -> dict[str, Any]:
        """The config of the family's sweep."""
        train = {"n": 100, "target_loss": 0.05, "max_steps": 4000, "momentum": 0.9, **self.config.get("train", {})}
        measure = {"measures": [], "location": {"n_probes": 50, "n_bootstrap": 20}, "n": None}
        own = {key: value for key, value in self.config.items() if key != "train"}
        scale = {} if {"gamma", "gamma0"} & own.keys() else {"gamma": list(rungs)}
        return {"width": 64, "seeds": seeds, **scale, **own, "train": train, "measure": measure}


def _mlp(name: str, breaks: str = "", **config: Any) -> LadderFamily:
    return LadderFamily(f"mlp {name}", {"architecture": "mlp", "depth": 2, **config}, breaks)


PARITY, MIXTURE, TEACHER = (f"{SYNTHETIC}:{name}" for name in ("parity", "gaussian_mixture", "teacher"))
ENTROPY = {"loss": "cross-entropy", "target_loss": 0.1}
GROWING = (
    "Cross-entropy is lowered by ever larger outputs, so the same loss is reached by other functions, larger in the "
    "rich regime: R grows faster than γ."
)
DECAY = {"weight_decay": 1e-3}
SLOW = {"optimizer": "adam"}  # plain steps with momentum missed the loss on many rungs of these

FAMILIES = (
    *(_mlp(f"{depth} hidden, relu", depth=depth) for depth in (1, 2, 3, 5)),
    *(_mlp(f"2 hidden, {name}", options={"activation": name}) for name in ("tanh", "gelu", "silu")),
    _mlp("3 hidden, tanh", depth=3, options={"activation": "tanh"}),
    _mlp("ntk parameterization", parameterization="ntk"),
    _mlp("ntk parameterization, width 256", parameterization="ntk", width=256),
    # muP is the NTK parameterization with gamma = gamma0 sqrt(width): a width of its own makes it another family.
    _mlp("mup, width 128", parameterization="mup", width=128, gamma0=[g / 8 for g in RUNGS]),
    _mlp("half the initial scale", sigma=0.7),
    _mlp("parity", data=PARITY, train={"n": 200}),
    _mlp("parity, tanh", data=PARITY, options={"activation": "tanh"}, train={"n": 200}),
    _mlp("gaussian mixture", data=MIXTURE),
    _mlp("gaussian mixture, 3 hidden", data=MIXTURE, depth=3),
    _mlp("regression", data=TEACHER),
    _mlp("regression, gelu", data=TEACHER, options={"activation": "gelu"}),
    _mlp("adam", optimizer="adam"),
    _mlp("adam, parity", optimizer="adam", data=PARITY, train={"n": 200}),
    _mlp("no momentum", train={"momentum": 0.0}),
    _mlp("minibatches", batch_size=25),
    _mlp("cross-entropy", GROWING, train=ENTROPY),
    _mlp("cross-entropy, mixture", GROWING, data=MIXTURE, train=ENTROPY),
    _mlp("weight decay", train=DECAY),
    LadderFamily("linear network, 2 hidden", {"architecture": "linear", "depth": 2, "train": {"target_loss": 0.2}}),
    LadderFamily("cnn", {"architecture": "cnn", "width": 16, "depth": 2}),
    LadderFamily("cnn, 3 layers", {"architecture": "cnn", "width": 16, "depth": 3}),
    LadderFamily("cnn, adam", {"architecture": "cnn", "width": 16, "depth": 2, "optimizer": "adam"}),
    *(
        LadderFamily(
            f"residual, {name} norm", {"architecture": "residual", "width": 8, "depth": 1, "options": options, **SLOW}
        )
        for name, options in (("no", {"norm": "none"}), ("layer", {"norm": "layer"}), ("batch", {}))
    ),
    LadderFamily("transformer", {"architecture": "transformer", "width": 32, "depth": 1, **SLOW}),
    LadderFamily("transformer, 2 blocks", {"architecture": "transformer", "width": 16, "depth": 2, **SLOW}),
    LadderFamily("lstm", {"architecture": "lstm", "width": 32, "depth": 1, **SLOW}),
    LadderFamily("gru", {"architecture": "gru_loop", "width": 32, "depth": 1, **SLOW}),
    _mlp("fashion-mnist", data=FASHION, train={"n": 200}),
    LadderFamily("cnn, fashion-mnist", {"architecture": "cnn", "width": 16, "depth": 2, "data": FASHION}),
)


@dataclass(frozen=True)
class Law:
    """A slope of R that theory names: over the logarithm of one condition, all else equal.

    layer: which layer's R; "" for the mean over layers. n_probes: of the location.
    """

    name: str
    axis: str
    slope: float
    config: Mapping[str, Any]
    layer: str = ""
    n_probes: int = 50

    def sweep(self, *, seeds: int = SEEDS) -> dict[str, Any]:
        """The config of the law's sweep."""
        config = LadderFamily(self.name, self.config).sweep(seeds=seeds)
        config["measure"]["location"]["n_probes"] = self.n_probes
        return config if "gamma0" in self.config else {**config, "gamma": 1.0}


SIGMAS, WIDTHS = [0.7, 1.0, 1.4, 2.0, 2.8], [128, 256, 512, 1024]
# The laws of width are limits: hidden units must be many compared with outputs times probes, so these take few
# probes and two classes.
_WIDE, FEW = {"architecture": "mlp", "depth": 2, "width": WIDTHS, "data": PARITY}, 12
LAWS = (
    *(
        Law(f"initial scale, {depth + 1} layers", "sigma", -(depth + 1.0),
            {"architecture": "mlp", "depth": depth, "sigma": SIGMAS})
        for depth in (1, 2, 3)
    ),
    Law("width, ntk parameterization", "width", -0.5, {**_WIDE, "parameterization": "ntk"}, "", FEW),
    Law("width, mup", "width", 0.0, {**_WIDE, "parameterization": "mup", "gamma0": 0.125}, "", FEW),
    Law("width, standard, first layer", "width", -1.5, _WIDE, "fc1", FEW),
    Law("width, standard, second layer", "width", -0.5, _WIDE, "fc2", FEW),
)  # fmt: skip
