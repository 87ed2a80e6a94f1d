"""What is measured of one training: the location, three outcomes that it should foretell, and what others use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomfeat.comparison.validation.outcomes.training import Training
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import cka, target_alignment
from geomfeat.location._locate import locate
from geomfeat.location.movement import outputs_and_features
from geomfeat.location.options import LocateOptions
from geomfeat.location.result import Location
from geomfeat.models.nested_inputs import n_samples
from geomfeat.network import Network
from geomfeat.regimes.linearization.response import respond
from geomfeat.tangent import feature_jvp, jvp, ntk, vjp

SHARES = (0.05, 0.01, 0.002)
LEARNED = 0.001  # share at which the linear model counts as having learned the network's change
BOOTSTRAP, BRIEF = 20, 2


def measured(training: Training, seed: int) -> dict[str, Any]:
    """One row.

    From all inputs as probes, with what `locate` is given of the optimizer: R, M, E, kappa, kappa_a, kernel_excess,
    regime, metric, R_min, R_max, M_min, M_max (over layers). half_R, half_kappa, half_kappa_a, low, high: from every
    other input. R_<share>: R where the linear response stops at this share.
    Outcomes, in the coordinates of the optimizer, given or not: gap (of the linearised network), kernel_change,
    test_disagreement (on test inputs, of the linear response to the learned change with the network, relative to
    its change). What others use: weight_change, one_minus_cka, alignment, alignment_gain.
    """
    n = n_samples(training.task.inputs)
    located = _located(training, n, BRIEF, training.given(), seed)
    half = _located(training, n // 2, BOOTSTRAP, training.given(), seed)
    true = located
    if not training.shown or training.without_state:
        true = _located(training, n, BRIEF, training.optimizer, seed)
    return {
        "R": located.richness, "M": located.movement, "E": located.excess, "kappa": located.kernel_demand,
        "kappa_a": located.kernel_demand_on_target, "kernel_excess": located.kernel_excess, "regime": located.regime,
        "metric": located.metric, **_over_layers(located),
        "half_R": half.richness, "low": half.low, "high": half.high, "half_kappa": half.kernel_demand,
        "half_kappa_a": half.kernel_demand_on_target,
        "gap": true.linearisation_gap, "kernel_change": true.kernel_change,
        **_by_the_linear_model(training), **_used_by_others(training), "loss": training.loss,
    }  # fmt: skip


def _located(training: Training, n: int, draws: int, optimizer: Any, seed: int) -> Location:
    return locate(
        training.trained, training.task.inputs, initial=training.initial, optimizer=optimizer, layers=training.layers,
        seed=seed, progress=False, options=LocateOptions(n_probes=n, n_bootstrap=draws),
    )  # fmt: skip


def _over_layers(located: Location) -> dict[str, float]:
    found = {}
    for short, column in (("R", "richness"), ("M", "movement")):
        values = located.layers[column].to_numpy(dtype=float)
        found |= {f"{short}_min": float(np.min(values)), f"{short}_max": float(np.max(values))}
    return found


def _by_the_linear_model(training: Training) -> dict[str, float]:
    """test_disagreement, and R at other shares, see `measured`."""
    task, begun = training.task, training.initial
    network = Network.prepare(
        training.trained, task.inputs, initial=begun, optimizer=training.optimizer, layers=training.layers
    )
    before, after = (_outputs(model, task.inputs) for model in (begun, training.trained))
    change = after - before
    f = network.at(begun).in_own_metric(change).f
    shares = (*SHARES, LEARNED)
    responses = respond(ntk(f, task.inputs, outputs="full").gram, change.flatten(), shares)
    directions = {
        share: vjp(f, task.inputs, found.coefficients.reshape(change.shape))
        for share, found in zip(shares, responses, strict=True)
    }
    learned = _outputs(training.trained, task.test_inputs) - _outputs(begun, task.test_inputs)
    left = learned - jvp(f, f.inputs(task.test_inputs), directions[LEARNED])
    return {
        "test_disagreement": float(left.norm() / learned.norm()),
        **{
            f"R_{share:g}": _richness(feature_jvp(f, task.inputs, network.layers.names, directions[share]))
            for share in SHARES
        },
    }


def _richness(moved: Mapping[str, tuple[Tensor, Tensor]]) -> float:
    """Mean over the layers that can move of log10 of the tangent's size over the feature's."""
    logs = [math.log10(float(t.norm() / h.norm())) for h, t in moved.values() if bool(t.any())]
    return sum(logs) / len(logs) if logs else -math.inf


def _outputs(model: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(inputs)


def _used_by_others(training: Training) -> dict[str, float]:
    """weight_change |theta_T - theta_0| / |theta_0|; 1 - CKA and alignment with targets, mean over hidden layers."""
    initial = dict(training.initial.named_parameters())
    moved, size = 0.0, 0.0
    for name, after in training.trained.named_parameters():
        before = initial[name].detach()
        moved += float((after.detach() - before).square().sum())
        size += float(before.square().sum())
    task = training.task
    network = Network.prepare(training.trained, task.inputs, initial=training.initial, layers=training.layers)
    _, after = outputs_and_features(network.f, task.inputs, network.layers.names)
    _, before = outputs_and_features(network.at(training.initial).f, task.inputs, network.layers.names)
    turned = [1 - float(cka(before[name], h)) for name, h in after.items()]
    aligned, at_start = (_mean([_alignment(h, task.targets) for h in side.values()]) for side in (after, before))
    return {
        "weight_change": math.sqrt(moved / size), "one_minus_cka": _mean(turned), "alignment": aligned,
        "alignment_gain": aligned - at_start,
    }  # fmt: skip


def _alignment(h: Tensor, targets: Tensor) -> float:
    try:
        return float(target_alignment(h @ h.mT, targets))
    except BadInput:  # constant targets or features have none
        return math.nan


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
