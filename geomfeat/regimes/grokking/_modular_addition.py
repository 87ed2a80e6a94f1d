"""Modular addition with a two-layer network: training samples are fitted long before test samples.

Sums a + b mod p from one-hot pairs (Power et al. 2022), by a network with squared units, which can add through
frequencies (Gromov 2023): f = W2 (W1 [e_a, e_b])^2, full batch. Two ways to a late test transition:

- decay: a large start and AdamW with weight decay on the cross-entropy. The network first fits lazily, then the
  decay takes it to small weights, where its features turn (Liu et al. 2023; Lyu et al. 2024).
- knob: no decay; f = alpha (net(w) - net(w0)) from a small start, Adam at a rate ~ 1 / alpha on the mean square, so
  that alpha alone delays the features (Kumar et al. 2024).
"""

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.models.parameterization import seeded
from geomfeat.numerics import Device, stream
from geomfeat.regimes.training.objective import loss_of, prepared_targets
from geomfeat.regimes.training.series import TrainingSeries, log_spaced_steps, training_series
from geomfeat.types import Snapshot

ACTIVATIONS = ("square", "relu")


class Square(nn.Module):
    """h -> h^2."""

    def forward(self, h: Tensor) -> Tensor:
        """Entry by entry."""
        return h * h


@dataclass(frozen=True, eq=False)
class ModularTask:
    """All p^2 pairs, split into training and test samples.

    Attributes:
        modulus: p. inputs, test_inputs: (n, 2 p) one-hot pairs. targets, test_targets: (n,) sums mod p.
    """

    modulus: int
    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor

    def to(self, device: Device) -> "ModularTask":
        """The same samples on a device, where networks are then trained on them.

        >>> modular_addition(5).to("cpu").inputs.device
        device(type='cpu')
        """
        names = ("inputs", "targets", "test_inputs", "test_targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True, eq=False)
class ModularRun(BaseResult):
    """Snapshots of a run at log-spaced steps, and what it was trained on.

    Attributes:
        alpha: the output scale where f = alpha (net(w) - net(w0)) was trained, else None.

    `to_frame()`: one row for each snapshot: at, loss function (loss), alpha.
    """

    task: ModularTask
    snapshots: tuple[Snapshot, ...]
    loss: str
    alpha: float | None = None

    def series(self, *, probes: int = 48) -> TrainingSeries:
        """Losses, accuracies and kernel over the snapshots."""
        t = self.task
        return training_series(
            self.snapshots, t.inputs, t.targets, test=(t.test_inputs, t.test_targets), loss=self.loss,
            gamma=None if self.alpha is None else 1 / self.alpha, probes=probes,
        )  # fmt: skip

    def _columns(self) -> dict[str, Any]:
        return {"at": [snapshot.at for snapshot in self.snapshots], "loss": self.loss, "alpha": self.alpha}

    def __str__(self) -> str:
        return f"ModularRun: {len(self.snapshots)} snapshots of a training by {self.loss}"


def modular_addition(modulus: int = 23, share: float = 0.5, *, seed: int = 0) -> ModularTask:
    """The pairs (a, b) and a + b mod `modulus`; a random `share` of them for training.

    >>> task = modular_addition(5, 0.6)
    >>> task.inputs.shape, task.test_inputs.shape
    (torch.Size([15, 10]), torch.Size([10, 10]))
    """
    if modulus < 2 or not 0 < share < 1:
        raise BadInput(f"modulus={modulus} must be at least 2, and share={share} between 0 and 1")
    n = round(share * modulus**2)
    if not 0 < n < modulus**2:
        raise BadInput(f"share={share} of {modulus**2} pairs leaves none to train on or none to test")
    first, second = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus)).unbind(1)
    pairs = torch.cat([F.one_hot(first, modulus), F.one_hot(second, modulus)], 1).float()
    sums = (first + second) % modulus
    order = torch.randperm(modulus**2, generator=stream(seed, "modular addition", "split", modulus))
    train, test = order[:n], order[n:]
    return ModularTask(modulus, pairs[train], sums[train], pairs[test], sums[test])


def modular_network(
    modulus: int, width: int = 128, *, init_scale: float = 1.0, activation: str = "square", seed: int = 0
) -> nn.Sequential:
    """W2 phi(W1 x) without biases; entries of W1 ~ N(0, s^2 / 2) and of W2 ~ N(0, s^2 / width), s = `init_scale`.

    >>> modular_network(5, 8)(torch.zeros(3, 10)).shape
    torch.Size([3, 5])
    """
    if activation not in ACTIVATIONS:
        raise BadInput(f"activation={activation!r} must be one of {', '.join(ACTIVATIONS)}")
    if modulus < 2 or width < 1 or not (init_scale > 0 and math.isfinite(init_scale)):
        raise BadInput(
            f"modulus={modulus} must be at least 2, width={width} at least 1 and init_scale={init_scale} positive"
        )
    with seeded(seed, "modular addition"):  # torch draws its own start first
        first, head = nn.Linear(2 * modulus, width, bias=False), nn.Linear(width, modulus, bias=False)
    with torch.no_grad():
        # Of the first layer's inputs two are 1 and all others 0: its sums have two terms.
        for layer, fan_in in ((first, 2), (head, width)):
            shape = (layer.out_features, layer.in_features)
            draw = torch.randn(*shape, generator=stream(seed, "modular addition", "weights", *shape))
            layer.weight.copy_(draw * (init_scale / fan_in**0.5))
    act = Square() if activation == "square" else nn.ReLU()
    layers: OrderedDict[str, nn.Module] = OrderedDict(fc1=first, act1=act, head=head)
    return nn.Sequential(layers)


def train_with_decay(
    task: ModularTask, *, init_scale: float = 3.0, decay: float = 1.0, lr: float = 0.01, steps: int = 3000,
    width: int = 128, activation: str = "square", per_decade: int = 8, seed: int = 0,
) -> ModularRun:  # fmt: skip
    """Full-batch AdamW on the cross-entropy from a start of the given scale: large starts grok, small ones do not wait.

    Without decay a large start stays lazy and never generalises. Raises BadInput for settings out of range.

    >>> run = train_with_decay(modular_addition(5), width=8, steps=10)
    >>> [s.at for s in run.snapshots]
    [0, 1, 2, 3, 4, 6, 7, 10]
    """
    if decay < 0 or not math.isfinite(decay):
        raise BadInput(f"decay={decay} must be at least 0")
    network = modular_network(task.modulus, width, init_scale=init_scale, activation=activation, seed=seed)
    conditions = {"init_scale": init_scale, "decay": decay, "lr": lr, "seed": seed}
    return _train(task, network, "cross-entropy", None, lr, decay, steps, per_decade, conditions)


def train_at_alpha(
    task: ModularTask, alpha: float, *, init_scale: float = 0.15, lr: float = 1e-3, steps: int = 3000,
    width: int = 128, activation: str = "square", per_decade: int = 8, seed: int = 0,
) -> ModularRun:  # fmt: skip
    """Full-batch Adam at rate lr / alpha on the mean square of f = alpha (net(w) - net(w0)), without weight decay.

    Raises BadInput for settings out of range.

    >>> train_at_alpha(modular_addition(5), 2.0, width=8, steps=1).snapshots[1].conditions["alpha"]
    2.0
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise BadInput(f"alpha={alpha} must be positive")
    network = modular_network(task.modulus, width, init_scale=init_scale, activation=activation, seed=seed)
    conditions = {"init_scale": init_scale, "alpha": alpha, "lr": lr, "seed": seed}
    return _train(task, network, "mse", alpha, lr / alpha, 0.0, steps, per_decade, conditions)


def _train(
    task: ModularTask, network: nn.Sequential, loss: str, alpha: float | None, lr: float, decay: float, steps: int,
    per_decade: int, conditions: dict[str, float],
) -> ModularRun:  # fmt: skip
    if not (lr > 0 and math.isfinite(lr)):
        raise BadInput(f"lr={conditions['lr']} must be positive")
    wanted = set(log_spaced_steps(steps, per_decade))
    network = network.to(task.inputs.device)
    ready = prepared_targets(task.targets, loss, task.modulus, torch.float32)
    with torch.no_grad():
        start = network(task.inputs)
    # The second moment forgets fast, so that the step follows a gradient that falls by orders of magnitude.
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay, betas=(0.9, 0.98))
    snapshots = []
    for step in range(steps + 1):
        if step in wanted:
            snapshots.append(Snapshot(copy.deepcopy(network), step, conditions))
        if step == steps:
            break
        f = network(task.inputs)
        optimizer.zero_grad()
        loss_of(f if alpha is None else alpha * (f - start), ready, loss).backward()
        optimizer.step()
    for snapshot in snapshots:
        snapshot.model.zero_grad()
    return ModularRun(task, tuple(snapshots), loss, alpha)
