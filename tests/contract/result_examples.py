"""A small example of every public result, with names as hostile as they may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import geomfeat as gf
from geomfeat import geometry, regimes, tangent
from geomfeat.charts import Curve, Plot
from geomfeat.comparison.sweeps import SweepResult
from geomfeat.comparison.validation import Validation
from geomfeat.compat.glue import glue_analysis
from geomfeat.compat.glue.analysis import GlueAnalysis
from geomfeat.data.tasks import TaskTrials, two_alternative_choice
from geomfeat.lab.result import Check, Findings
from geomfeat.models.mlp import mlp
from geomfeat.monitoring import Event, Row
from geomfeat.monitoring.result import monitored
from geomfeat.regimes.training.series import KernelPath
from geomfeat.statistics.power_law import WidthExponent

# A layer, a model or a class may be called so.
NAME = "<script>alert('$x$')</script>"
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.arange(24) % 3
LINE = nn.Linear(1, 1, bias=False)
ONE, THREE = torch.ones(1, 1), torch.full((1, 1), 3.0)
EYE = torch.eye(2, dtype=torch.float64)


def layer(units: int = 6, name: str = NAME) -> gf.Representation:
    return gf.Representation((X + 3 * torch.eye(6)[LABELS])[:, :units], labels=LABELS, layer=name)


def location() -> gf.Location:
    rows = {"layer": [NAME, "b"], "richness": [0.1, -np.inf], "low": [0.0, -np.inf], "high": [0.2, -np.inf],
            "movement": [0.3, -np.inf], "excess": [0.2, np.nan], "regime": ["rich", "frozen"]}  # fmt: skip
    return gf.Location(
        0.1, 0.0, 0.2, 0.3, 0.2, "initial", None, False, "rich", pd.DataFrame(rows), flags=(f"layer {NAME} is odd",)
    )


def forecasted() -> gf.Forecast:
    rows = {"layer": [NAME, "b"], "richness": [0.1, -np.inf], "low": [0.0, -np.inf], "high": [0.2, -np.inf],
            "movement": [np.nan, -np.inf], "regime": ["rich", "frozen"], "kernel_share": [0.5, 0.5]}  # fmt: skip
    return gf.Forecast(
        0.1, 0.0, 0.2, 0.3, "rich", pd.DataFrame(rows), "mse", 1.0, 0.1, 0.1, 3.0, 2.0, 1.0, steps=30.0, rate=0.1,
        rate_place="flow", optimizer=NAME, flags=(f"layer {NAME} is odd",),
    )  # fmt: skip


def watched() -> gf.Monitored:
    layers = {NAME: {"richness": -1.0, "movement": -1.1, "excess": -0.1, "spread": 0.9, "dead": 0.0}}
    rows = [Row(0, 0, {"loss": 1.0}, layers), Row(9, 0, {"loss": 0.5, "richness": -1.0}, layers, "lazy", 0.1, 2.0)]
    return monitored(rows, [Event(9, "dead layer", f"Layer {NAME} is dead.", NAME)], NAME, (f"layer {NAME} is odd",))


def advised() -> gf.Advice:
    change = gf.AdvisedChange("output multiplier", -1.0, 12.0, low=-1.1, high=-0.9, kernel_demand=-0.5, regime="lazy",
                              rate=0.1, reason=f"since {NAME}")  # fmt: skip
    scaled = gf.AdvisedChange("initial scale", -0.9, init_scale={NAME: 2.0}, reached=False)
    return gf.Advice(-1.0, "", 0.1, (change, scaled), (f"layer {NAME} is odd",))


def moved() -> gf.Movement:
    numbers = {"movement": [0.3, -np.inf], "weights": [0.1, 0.0], "cka": [0.9, np.nan], "dimension_before": [3.0, 3.0],
               "dimension_after": [4.0, 3.0]}  # fmt: skip
    rows = pd.DataFrame({"layer": [NAME, "b"], **numbers, "reduce": ["token_mean", "flatten"]})
    return gf.Movement(rows, 0.3, 0.1, 8, 100, "float32", (f"cka of layer {NAME}: it is constant",))


def recorded(timed: bool = False) -> gf.Recording:
    """24 trials of three conditions, in two areas."""
    x = torch.stack([X, X**2, X + LABELS[:, None]], 2) if timed else X + LABELS[:, None]
    labels = {"run": torch.arange(24) // 6, "area": ["V1"] * 3 + [NAME] * 3, "time": [0.0, 0.1, 0.2] if timed else None}
    return gf.Recording(x, [f"{NAME} {i}" for i in LABELS.tolist()], **labels, name=NAME, notes=(f"{NAME} is odd",))


def table() -> pd.DataFrame:
    """A row of the table of a sweep."""
    return pd.DataFrame(
        [{"run": NAME, "gamma": 0.5, "measure": "location", "quantity": "richness", "layer": "", "value": 0.1,
          "ok": True}]
    )  # fmt: skip


def series() -> regimes.TrainingSeries:
    path = KernelPath((0, 0, 0.2, 0.2), (0, 0.01, 0.6, 0.6), (0, 0.01, 0.6, 0.01), (0.0, 0.0, 0.4, 0.4))
    return regimes.TrainingSeries((0, 10, 100, 200), (1, 0.05, 0.01, 0.01), path, (1, 1, 0.1, 0.1))


def brains() -> gf.RDMs:
    return gf.stack_rdms([gf.rdm(X[8 * i : 8 * i + 8], name=f"{NAME} {i}") for i in range(3)])


@cache
def compared() -> gf.ModelComparison:
    models = {NAME: {"x": layer(name="x")}, "b": {"y": layer(3, "y")}}
    return gf.compare(models, labels=LABELS, measures=["stable_rank"], progress=False)


def swept() -> SweepResult:
    found = SweepResult(Path("nowhere"), "1", {}, {})
    found.__dict__["_loaded"] = (table().assign(outcome="matched"), {})
    return found


def grid() -> gf.Grid:
    cells = np.ones((1, 2))
    two, one = np.array([1.0, 10.0]), np.array([1.0])
    words = np.array([["", NAME]])
    return gf.Grid("gamma", NAME, two, one, np.log10(two), np.log10(one), cells, cells, cells, 0 * cells, words, words)


def related() -> gf.Related:
    slopes, runs = pd.DataFrame({"measure": [NAME], "slope": [1.0]}), pd.DataFrame({"used": [True, False]})
    return gf.Related(slopes, slopes, slopes, runs, (), ("gamma",), 0.9, (f"{NAME} is missing",))


def matched() -> gf.Matched:
    return gf.Matched(table(), table(), table(), (), "At equal fit they differ.", (f"{NAME} is missing",))


def trials() -> TaskTrials:
    drawn = two_alternative_choice(8)
    return dataclasses.replace(drawn, name=NAME, answers=(NAME, "right"))


def of_width(width: int, seed: int) -> nn.Module:
    return mlp(2, (width,), 1, activation="tanh", parameterization="ntk", seed=seed)


@cache
def stream() -> gf.StreamingCKA:
    found = gf.StreamingCKA()
    found.update({NAME: X, "b": X**3})
    return found


def moments() -> geometry.StreamingMoments:
    found = geometry.StreamingMoments(3)
    found.update(X, LABELS)
    return found


def kernels() -> list[torch.Tensor]:
    return [torch.diag(torch.tensor([np.cos(a), np.sin(a)])) for a in (0.0, 0.2, 0.6)]


TASK = regimes.LinearTask(EYE)
WIDTHS, SIGNS = (64, 128, 256), torch.tensor([1.0, -1.0])
EXAMPLES: dict[type, Callable[[], Any]] = {
    gf.Estimate: lambda: gf.cka(X, X**3),
    gf.Representation: layer,
    gf.Recording: recorded,
    TaskTrials: trials,
    gf.TimeCourse: lambda: gf.over_time(recorded(timed=True), "stable_rank", progress=False),
    gf.ClusterTest: lambda: gf.cluster_test(X.T.repeat(2, 1) + 0.3),
    geometry.CrossValidated: lambda: geometry.cross_validated_length(X.reshape(6, 4, 6)),
    gf.Kernel: lambda: gf.Kernel(X @ X.T, NAME),
    gf.CkaMatrix: lambda: gf.cka_matrix({NAME: X, "b": X**3, "flat": 0 * X}, stderr=True),
    gf.StreamedCka: lambda: stream().result(),
    geometry.StreamedMoments: lambda: moments().result(),
    gf.Interval: lambda: gf.similarity_interval(X, X**3, "cka_linear_unbiased", n_bootstrap=20),
    geometry.CanonicalCorrelations: lambda: geometry.canonical_correlations(X, X[:, :3]),
    geometry.LinearPredictivity: lambda: geometry.linear_predictivity(X, X[:, :3]),
    geometry.Neighbours: lambda: geometry.nearest_neighbours(X, 2),
    geometry.IntrinsicDimension: lambda: geometry.two_nn(X),
    geometry.PowerLaw: lambda: geometry.power_law(X),
    geometry.LocalDimension: lambda: geometry.local_dimension(X, 5),
    geometry.CrossValidatedSpectrum: lambda: geometry.cross_validated_spectrum(
        torch.stack([X, X + 0.1 * X.roll(1, 0)]), first=1, last=5
    ),
    geometry.CorrelationIntegral: lambda: geometry.correlation_integral(X, (2.0, 3.0, 4.0)),
    gf.DimensionCurve: lambda: gf.dimension_curve(X, largest=8),
    gf.Capacity: lambda: gf.capacity(layer(), n_draws=20),
    geometry.PerManifold: lambda: gf.capacity(layer(), n_draws=20).per_manifold,
    geometry.PerPair: lambda: gf.capacity(layer(), n_draws=20).per_pair,
    gf.NoiseCorrectedCapacity: lambda: gf.noise_corrected_capacity(
        X.repeat(4, 1), [NAME, "b"] * 48, torch.arange(96) % 8 // 2, n_draws=20
    ),
    gf.MatchedCapacities: lambda: gf.matched_capacities({NAME: layer(5), "b": layer(6)}, repeats=2, n_draws=20),
    gf.CapacityCurve: lambda: gf.capacity_curve(layer(), sizes=(4, 8), repeats=2, n_draws=20),
    gf.CapacityDifference: lambda: gf.capacity_difference(*(gf.capacity(layer(d), n_draws=20) for d in (5, 6))),
    geometry.Decomposition: lambda: geometry.decompose(gf.capacity(layer(), n_draws=20)),
    geometry.Separability: lambda: geometry.separability(EYE, torch.arange(2), torch.ones(1, 2).double()),
    geometry.ConeProjections: lambda: geometry.project_on_cones(
        EYE, torch.arange(2), torch.tensor([[1.0, -2.0]]).double(), torch.ones(1, 2).double()
    ),
    gf.ReplicaCapacity: lambda: gf.replica_capacity(layer(), n_draws=20),
    gf.SimulatedCapacity: lambda: gf.simulated_capacity(layer(), n_trials=20),
    gf.ProbeAccuracy: lambda: gf.linear_probe(X, LABELS),
    gf.RDMs: lambda: gf.rdm(X[:5], name=NAME),
    gf.RSARanking: lambda: gf.rank_by_rsa({NAME: X[:8], "b": X[8:16]}, brains(), n_bootstrap=50),
    geometry.FittedRDMs: lambda: geometry.fit_rdm_model({NAME: X[:8], "b": X[8:16]}, brains(), n_folds=2),
    geometry.Searchlights: lambda: geometry.searchlight_rdms(
        X[:6],
        [NAME, "b"] * 3,
        torch.arange(X.shape[1])[:, None],
        n_voxels=2,
        dissimilarity="squared_euclidean",
        progress=False,
    ),
    geometry.NoiseCeiling: lambda: geometry.noise_ceiling(brains()),
    tangent.NTKSpectrum: lambda: tangent.ntk_spectrum(nn.Linear(6, 1), X.float(), 2),
    tangent.KernelRegression: lambda: tangent.kernel_regression(EYE, torch.tensor([1.0, 2.0]), ridge=1.0),
    tangent.Predictions: lambda: tangent.kernel_regression(EYE, torch.tensor([1.0, 2.0]), ridge=1.0).train,
    tangent.KernelVelocity: lambda: tangent.kernel_velocity(kernels(), [0, 10, 20]),
    tangent.SilentAlignment: lambda: tangent.silent_alignment_lag([0, 10, 20], [0.0, 0.9, 0.9], [1.0, 0.8, 0.3]),
    gf.Trained: lambda: gf.train_at_gamma(mlp(6, (5,), 3, seed=0), X.float(), LABELS, gamma=1.0, max_steps=3),
    gf.PlainTraining: lambda: gf.train_plainly(
        mlp(6, (5,), 3, seed=0), X.float(), LABELS, options=gf.PlainOptions(max_steps=3)
    ),
    regimes.TrainingSeries: series,
    regimes.GrokkingRun: lambda: regimes.GrokkingRun((0,), (1.0,), (0, 10), {(0, 1.0): series()}),
    regimes.ModularRun: lambda: regimes.train_with_decay(regimes.modular_addition(5), width=8, steps=3),
    regimes.TransitionReport: lambda: regimes.transitions(series()),
    regimes.ModeRegimes: lambda: regimes.mode_regimes(EYE, EYE),
    regimes.LinearPath: lambda: regimes.linear_flow(*regimes.balanced_network(2, 2, 2, 1.0), TASK, [0, 1]),
    regimes.TaskSequence: lambda: regimes.learn_in_sequence(*regimes.balanced_network(2, 2, 2, 1.0), [TASK], [0, 1]),
    regimes.PhaseDiagram: lambda: regimes.phase_diagram(EYE, [-4.0, 0.0], [2.0], max_steps=5),
    regimes.Balance: lambda: regimes.layer_balance(EYE, 2 * EYE),
    regimes.CoordinateCheck: lambda: regimes.coordinate_check(of_width, EYE.float(), SIGNS, WIDTHS, r=0.5, steps=2),
    regimes.WidthScaling: lambda: regimes.width_scaling(of_width, EYE.float(), SIGNS, WIDTHS, r=0.5, steps=2),
    regimes.RichnessEstimate: lambda: regimes.RichnessEstimate(
        0.1, 0.0, 0.2, {NAME: WidthExponent(0.1, 0.0, 0.2, 4)}, (), ()
    ),
    WidthExponent: lambda: WidthExponent(0.1, 0.0, 0.2, 4),
    regimes.Sharpness: lambda: regimes.sharpness(LINE, ONE, THREE),
    regimes.FixedRateDescent: lambda: regimes.descend_at_rate(LINE, ONE, THREE, lr=0.1, steps=4, sharpness_every=2),
    regimes.StabilityReport: lambda: regimes.training_flags([1.0, 0.5, 0.25, 0.2], {0: 0.5, 3: 0.5}, 0.1),
    regimes.StableRates: lambda: regimes.largest_stable_lr(LINE, ONE, THREE, [1.0, 0.1], steps=20),
    regimes.LazyAgreement: lambda: regimes.lazy_agreement(
        mlp(2, (9,), 1, activation="tanh", seed=0), EYE.float(), SIGNS[:, None], gamma=1e-3, lr=0.1, steps=5
    ),
    regimes.LazyLimit: lambda: regimes.lazy_limit(LINE, ONE, THREE, ONE),
    gf.Location: location,
    gf.LocationPlan: lambda: gf.LocationPlan("formed kernel", 40, 3, 279, "float64", 20, 1, 1.5, 6e8, 0.01),
    gf.Forecast: forecasted,
    gf.Advice: advised,
    gf.AdvisedChange: lambda: advised().best,
    gf.Movement: moved,
    gf.Monitored: watched,
    Row: lambda: Row(9, 0, {"loss": 0.5, "richness": -1.0}, {NAME: {"dead": 0.0}}, "lazy", note=f"layer {NAME} is odd"),
    Event: lambda: Event(9, "dead layer", f"Layer {NAME} is dead.", NAME),
    gf.Ladder: lambda: gf.Ladder(pd.DataFrame({"gamma": [0.1, 1.0], "richness": [-1.0, 0.0]}), 0.1, (NAME,), 10),
    gf.Study: lambda: gf.Study(NAME, table(), location()),
    gf.ModelComparison: compared,
    gf.SweepResult: swept,
    gf.Grid: grid,
    gf.Related: related,
    gf.Matched: matched,
    Validation: lambda: Validation(table(), table(), table(), table()),
    Check: lambda: Check(NAME, 0.9, 1.0, 0.2),
    Findings: lambda: Findings("It is lazy.", [Plot(NAME, "x", "y", [Curve(NAME, [1], [1])])], [], table()),
    GlueAnalysis: lambda: glue_analysis(X.reshape(3, 8, 6).numpy(), n_t=20),
}
