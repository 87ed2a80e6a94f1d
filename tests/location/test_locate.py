"""The location: known differences of gamma, both tiers, floor, intervals, flags, ladder, and clear refusals."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.location._locate import locate
from geomfeat.location.caveats import flags_of
from geomfeat.location.demand import linearised_task
from geomfeat.location.initial_states import observe, start_from
from geomfeat.location.options import LocateOptions
from geomfeat.location.reference_ladder import Ladder, fitted_scale, read_off, train_ladder
from geomfeat.location.regimes import REGIMES, regime_of, regime_without_start
from geomfeat.location.result import LAYER_COLUMNS, Location
from geomfeat.models.cnn import cnn
from geomfeat.models.functional import functional
from geomfeat.models.mlp import mlp
from geomfeat.models.reinitialize import fresh, resetting
from geomfeat.network import Network
from geomfeat.numerics import stream
from geomfeat.regimes.training import train_at_gamma
from geomfeat.types import Snapshot
from tests.activations import zoo
from tests.option_groups import grouped

GAMMAS = {"mlp": (0.01, 0.3, 10.0), "cnn": (0.01, 10.0)}
BUILD = {
    "mlp": lambda seed=None: mlp(64, (96, 96), seed=seed),
    "cnn": lambda seed=None: cnn(channels=(16, 32), seed=seed),
}
COUNT = {"mlp": 72, "cnn": 80}  # images


@lru_cache
def digits(n: int = COUNT["mlp"]) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.data), generator=stream(0, "digits"))[:n].numpy()
    x = torch.tensor(data.images[order] / 16, dtype=torch.float32)[:, None]
    return x - x.mean(0), torch.tensor(data.target[order])


@lru_cache
def trained(name: str, gamma: float) -> tuple[nn.Module, nn.Module]:
    x, y = digits(COUNT[name])
    start = BUILD[name](seed=0)
    end = train_at_gamma(start, x, y, gamma=gamma, target_loss=0.05)
    assert end.converged
    return start, end.model


@lru_cache
def located(name: str, gamma: float) -> Location:
    start, end = trained(name, gamma)
    return locate(end, *digits(COUNT[name]), initial=start, progress=False, options=LocateOptions(n_bootstrap=3))


@pytest.mark.parametrize("name", BUILD)
def test_richness_differs_by_the_known_differences_of_gamma(name: str) -> None:
    found = [located(name, g).richness for g in GAMMAS[name]]
    assert np.diff(found) == pytest.approx(np.diff(np.log10(GAMMAS[name])), abs=0.08)


@pytest.mark.parametrize("name", BUILD)
def test_in_the_lazy_range_movement_is_the_demand(name: str) -> None:
    found = located(name, GAMMAS[name][0])
    assert found.richness < -0.6
    assert found.movement == pytest.approx(found.richness, abs=0.12)
    assert found.regime == "lazy"
    assert found.excess == pytest.approx(found.movement - found.richness)


@pytest.mark.parametrize("name", BUILD)
def test_the_rich_end_is_rich_and_moves_less_than_the_linear_demand(name: str) -> None:
    found = located(name, GAMMAS[name][-1])
    assert found.regime == "rich"
    assert found.excess < -0.1


@pytest.mark.parametrize(("name", "gamma"), [("mlp", 0.3), ("mlp", 10.0), ("cnn", 10.0)])
def test_reinitialised_agrees_with_the_true_start_above_the_floor(name: str, gamma: float) -> None:
    _, end = trained(name, gamma)
    images, options = digits(COUNT[name]), LocateOptions(n_bootstrap=4)
    found = locate(end, *images, factory=BUILD[name], progress=False, options=options)
    assert found.tier == "reinitialised"
    assert found.floor is not None
    assert not found.at_most
    assert found.richness > found.floor + 0.3
    assert found.richness == pytest.approx(located(name, gamma).richness, abs=0.15)
    assert found.low < located(name, gamma).richness < found.high


def test_a_lazy_network_without_its_start_is_only_bounded() -> None:
    _, end = trained("mlp", GAMMAS["mlp"][0])
    found = locate(end, *digits(), factory=BUILD["mlp"], progress=False, options=LocateOptions(n_bootstrap=4))
    assert found.at_most
    assert found.regime.startswith("at most")
    assert found.high >= found.floor + 0.3 > located("mlp", GAMMAS["mlp"][0]).richness
    assert any("At the floor" in flag for flag in found.flags)
    assert "at most" in str(found)


def test_without_a_factory_every_module_resets_itself_and_a_flag_says_so() -> None:
    _, end = trained("mlp", 10.0)
    found = locate(end, *digits(), progress=False, options=LocateOptions(n_bootstrap=2))
    assert found.richness == pytest.approx(located("mlp", 10.0).richness, abs=0.15)
    assert any("reset_parameters" in flag for flag in found.flags)


def test_probes_interval_and_curve_are_reported() -> None:
    found = located("mlp", 0.3)
    assert found.low < found.richness < found.high
    assert found.details["n_probes"] == 72
    assert found.by_probes["n_probes"].tolist() == [18, 36, 72]
    assert found.by_probes["richness"].iloc[-1] == found.richness
    rise = found.by_probes["richness"].diff().iloc[-1]
    assert rise > 0
    ahead = 1.25 * found.details["doublings"] * rise
    assert found.high - found.richness == pytest.approx(found.richness - found.low + ahead, abs=1e-9)
    assert list(found.layers.columns[: len(LAYER_COLUMNS)]) == list(LAYER_COLUMNS)
    assert found.layers["layer"].tolist() == ["fc1", "fc2"]
    assert found.richness == pytest.approx(found.layers["richness"].mean())
    assert set(found.layers["regime"]) <= set(REGIMES)


def test_the_interval_looks_ahead_to_the_inputs_that_are_no_probes() -> None:
    start, end = trained("mlp", 0.3)
    inputs, labels = digits()
    few = locate(end, inputs, labels, initial=start, progress=False, options=LocateOptions(n_probes=16, n_bootstrap=5))
    alone = locate(
        end, inputs[:16], labels[:16], initial=start, progress=False, options=LocateOptions(n_probes=16, n_bootstrap=5)
    )
    assert (few.details["doublings"], alone.details["doublings"]) == (2.0, 1.0)
    all_of_them = locate(
        end, inputs, labels, initial=start, progress=False, options=LocateOptions(n_probes=len(inputs), n_bootstrap=5)
    )
    assert few.richness < few.high
    assert few.low <= all_of_them.richness <= few.high


def test_a_location_survives_json() -> None:
    found = located("mlp", 0.3)
    again = Location.from_json(found.to_json())
    assert (again.richness, again.low, again.high, again.flags) == (
        found.richness, found.low, found.high, found.flags,
    )  # fmt: skip
    pd.testing.assert_frame_equal(again.layers[list(LAYER_COLUMNS)], found.layers[list(LAYER_COLUMNS)])
    assert again.floor is None
    assert again.by_probes.dtypes.tolist() == found.by_probes.dtypes.tolist()


@pytest.mark.parametrize(
    "entry",
    [
        {"floor": "no number"}, {"richness": [1]}, {"tier": 3}, {"regime": None}, {"at_most": "yes"}, {"flags": [1]},
        {"gamma_low": {}}, {"details": []}, {"by_probes": {"n_probes": ["many"], "richness": [0.5]}},
        {"ladder": {"gamma": ["x"]}}, {"layers": {"layer": ["a"], "richness": ["x"]}},
    ],
    ids=str,
)  # fmt: skip
def test_entries_of_another_kind_are_refused(entry: dict[str, object]) -> None:
    raw = json.loads(located("mlp", 0.3).to_json())
    with pytest.raises((ValueError, TypeError, KeyError)):
        Location.from_json(json.dumps({**raw, **entry}))


def test_the_same_seed_gives_the_same_location_and_global_state_is_left_alone() -> None:
    start, end = trained("mlp", 0.3)
    few: dict[str, Any] = {"progress": False, "options": LocateOptions(n_bootstrap=2, n_probes=30, share_left=0.01)}
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    weights = copy.deepcopy(end.state_dict())
    a = locate(end, *digits(), initial=Snapshot(start, "init"), **few)
    assert torch.equal(torch.random.get_rng_state(), before)
    locate(end, *digits(), factory=BUILD["mlp"], **few)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    b = locate(Snapshot(end), *digits(), initial=start, **few)
    assert a.to_json() == b.to_json()
    assert all(torch.equal(weights[k], v) for k, v in end.state_dict().items())


@pytest.mark.parametrize("build", zoo.ZOO.values(), ids=list(zoo.ZOO))
def test_any_network_is_located(build) -> None:
    model, x = build()
    start = fresh(resetting(model), 0, 0)
    found = locate(model, x, initial=start, progress=False, options=LocateOptions(n_bootstrap=2, share_left=0.01))
    assert math.isfinite(found.richness)
    assert math.isfinite(found.movement)
    assert len(found.layers) >= 1


def test_a_heavy_network_is_measured_in_float32_through_projections_and_agrees(monkeypatch) -> None:
    start, end = trained("mlp", 0.3)
    monkeypatch.setattr("geomfeat.network.HEAVY", 1000)
    single = locate(end, *digits(), initial=start, progress=False, options=LocateOptions(n_bootstrap=2))
    assert single.richness == pytest.approx(located("mlp", 0.3).richness, abs=0.005)
    monkeypatch.setattr("geomfeat.location.planning.effort.MANY_OUTPUTS", 5)
    few = locate(end, *digits(), initial=start, progress=False)
    assert few.details["projections"] == 4
    assert few.details["n_bootstrap"] == 6
    assert few.low < few.richness - 0.5
    assert few.richness == pytest.approx(single.richness, abs=0.1)
    assert any("4 leading directions of the change among 10 outputs" in flag for flag in few.flags)


def test_batchnorm_of_a_fresh_start_is_estimated_and_flagged() -> None:
    model, x = zoo.conv_bn_residual(12)
    model.train()
    model(x)
    start = fresh(resetting(model), 0, 0)
    options = LocateOptions(n_bootstrap=2, share_left=0.01)
    found = locate(model.eval(), x, initial=start, progress=False, options=options)
    assert any("BatchNorm" in flag and "estimated on the probes" in flag for flag in found.flags)


def test_layers_on_both_sides_are_flagged_as_mixed() -> None:
    start, end = trained("mlp", 0.3)
    rows = pd.DataFrame([("fc1", "lazy"), ("fc2", "rich")], columns=["layer", "regime"])
    x, y = digits()
    observed = observe(Network.prepare(end, x, initial=start), y)
    common = {"loss": None, "own_reset": False}
    said = flags_of(replace(located("mlp", 0.3), layers=rows), start_from(start, observed), observed, **common)
    assert "Mixed by layer: fc1 lazy, fc2 rich." in said
    rows = pd.DataFrame([("fc1", "lazy"), ("fc2", "transition")], columns=["layer", "regime"])
    said = flags_of(replace(located("mlp", 0.3), layers=rows), start_from(start, observed), observed, **common)
    assert not any("Mixed" in flag for flag in said)


def test_movement_without_demand_is_flagged_as_excess() -> None:
    """Rotate the hidden units of a lazily trained net with its read-out: features move, the function stays."""
    start, end = trained("mlp", GAMMAS["mlp"][0])
    shuffled = copy.deepcopy(end)
    order = torch.randperm(96, generator=stream(0, "shuffle"))
    with torch.no_grad():
        for module, axis in (("fc1", 0), ("fc2", 1)):
            shuffled.get_submodule(module).weight.copy_(end.get_submodule(module).weight.index_select(axis, order))
        shuffled.get_submodule("fc1").bias.copy_(end.get_submodule("fc1").bias[order])
    found = locate(shuffled, *digits(), initial=start, progress=False, options=LocateOptions(n_bootstrap=2))
    assert found.richness == pytest.approx(located("mlp", GAMMAS["mlp"][0]).richness, abs=0.01)
    assert found.regime == "moved by the optimizer"
    assert any("catapult" in flag for flag in found.flags)


def test_poor_fit_and_cross_entropy_are_flagged() -> None:
    x, y = digits()
    start, end = trained("mlp", 0.3)
    found = locate(
        end, x, y.flip(0), initial=start, progress=False,
        options=LocateOptions(n_bootstrap=2, share_left=0.01, loss="cross-entropy"),
    )  # fmt: skip
    assert any(flag.startswith("Unmatched loss") for flag in found.flags)
    assert any(flag.startswith("Cross-entropy") for flag in found.flags)
    assert not any(flag.startswith(("Unmatched", "Cross")) for flag in located("mlp", 0.3).flags)


def test_the_ladder_reads_gamma() -> None:
    start, end = trained("mlp", 0.3)
    found = locate(end, *digits(), initial=start, ladder=3, progress=False, options=LocateOptions(n_bootstrap=4))
    assert math.log10(found.equivalent_gamma) == pytest.approx(math.log10(0.3), abs=0.1)
    assert found.gamma_low < found.equivalent_gamma < found.gamma_high
    assert found.ladder["converged"].all()
    again = Location.from_json(found.to_json())
    assert again.equivalent_gamma == found.equivalent_gamma


def rungs(converged: tuple[bool, ...] = (True, True, True)) -> Ladder:
    gamma = np.array([0.1, 1.0, 10.0])
    return Ladder(
        pd.DataFrame({"gamma": gamma, "richness": np.log10(gamma) - 0.5, "converged": converged}),
        target_loss=0.05, layers=("fc1", "fc2"), n_probes=72,
    )  # fmt: skip


def test_reading_a_ladder_inverts_its_line_inside_and_outside() -> None:
    for richness in (-1.2, -0.5, 0.3, 0.8, -2.5):
        gamma, low, high = read_off(rungs(), richness, stderr=0.1, z=1.645)
        assert math.log10(gamma) == pytest.approx(richness + 0.5, abs=1e-9)
        assert (math.log10(high) - math.log10(low)) / 2 == pytest.approx(0.1645, abs=1e-6)


def test_a_ladder_without_two_rungs_that_reached_the_loss_is_refused() -> None:
    with pytest.raises(BadInput, match="only 1 of 3 rungs reached the relative loss"):
        read_off(rungs((True, False, False)), 0.0, 0.1, 1.645)


def test_a_saved_ladder_serves_again_and_only_where_it_fits(tmp_path) -> None:
    start, end = trained("mlp", 0.3)
    x, y = digits()
    made = train_ladder(start, x, y, (0.1, 1.0), progress=False)
    again = Ladder.load(made.save(tmp_path / "ladder.json"))
    pd.testing.assert_frame_equal(again.rungs, made.rungs)
    common = {"initial": start, "ladder": again, "progress": False}
    found = locate(end, x, y, options=LocateOptions(n_bootstrap=2), **common)
    assert math.log10(found.equivalent_gamma) == pytest.approx(math.log10(0.3), abs=0.1)
    with pytest.raises(BadInput, match="the ladder was measured on 72 probes"):
        locate(end, x, y, options=LocateOptions(n_probes=40, n_bootstrap=2), **common)
    (tmp_path / "ladder.json").write_text("{")
    with pytest.raises(BadInput, match="is not a ladder that geomfeat saved"):
        Ladder.load(tmp_path / "ladder.json")


def test_fitted_scale_finds_gamma_and_the_loss() -> None:
    wanted = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert fitted_scale(-wanted, wanted)[1] == math.inf
    gamma, loss = fitted_scale(0.5 * wanted + torch.tensor([[0.1, 0.1], [0.1, 0.1]]), wanted)
    assert gamma == pytest.approx(0.5)
    assert loss == pytest.approx(0.04)


def test_regimes_follow_demand_and_movement() -> None:
    assert regime_of(-0.6, -0.4) == "transition"
    assert regime_of(0.6, -1.0) == "rich"
    assert regime_of(-0.1, 0.35) == "rich"
    assert regime_of(math.nan, 0.0) == "undetermined"
    assert regime_of(-math.inf, -math.inf) == "frozen"
    assert regime_without_start(-0.1, False, -1.0) == "transition"
    assert regime_without_start(-0.4, True, -0.6) == "at most transition"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"n_probes": 3}, "n_probes=3 must lie between 4 and the number of inputs, 72"),
        ({"layers": "fc9"}, "fc9"),
        ({"initial": None, "n_reinitialisations": 2}, "n_reinitialisations=2: at least 4"),
        ({"initial": None, "factory": lambda: mlp(64, (96, 96), seed=3)}, "same weights on every call"),
        ({"initial": None, "factory": lambda: "model"}, "the factory returned str"),
        ({"initial": mlp(64, (96, 96), outputs=4, seed=0)}, "differ in architecture"),
    ],
)
def test_bad_arguments_are_named(change: dict, message: str) -> None:
    start, end = trained("mlp", 0.3)
    with pytest.raises(BadInput, match=message):
        locate(end, *digits(), **grouped(locate, {"initial": start, "progress": False, "n_bootstrap": 2, **change}))


def test_the_floor_through_projections_has_its_own_energy() -> None:
    x, _ = digits()
    nets = [mlp(64, (96, 96), 40, seed=s) for s in (0, 1)]
    task = linearised_task(
        functional(nets[0]), x[:40], torch.randn(40, 40, generator=stream(0, "c")), ["fc1"], projections=4
    )
    change = functional(nets[1])(functional(nets[1]).theta, x[:40].double())
    change = change - functional(nets[0])(functional(nets[0]).theta, x[:40].double())
    assert task.towards(change).energy == pytest.approx(float(change.norm() / (change @ task.projection).norm()))


@pytest.mark.parametrize("n_bootstrap", [0, 1, -1])
def test_an_interval_needs_resamples(n_bootstrap: int) -> None:
    start, end = trained("mlp", 0.3)
    with pytest.raises(BadInput, match="at least 2 resamples"):
        locate(end, *digits(), initial=start, progress=False, options=LocateOptions(n_bootstrap=n_bootstrap))


@pytest.mark.parametrize("rungs", [2, None], ids=["by number", "trained before"])
def test_a_ladder_for_cross_entropy_is_trained_to_the_loss_of_the_outputs(rungs: int | None) -> None:
    start, (x, y) = trained("mlp", 0.3)[0], digits()
    run = train_at_gamma(start, x, y, gamma=1.0, loss="cross-entropy", target_loss=0.2)
    how: dict[str, Any] = {"loss": "cross-entropy", "target_loss": 0.2, "progress": False}
    ladder = rungs or train_ladder(start, x, y, (0.3, 1.0, 3.0), **how)
    found = locate(
        run.model, x, y, initial=start, ladder=ladder, progress=False,
        options=LocateOptions(loss="cross-entropy", n_bootstrap=2),
    )  # fmt: skip
    assert math.log10(found.equivalent_gamma) == pytest.approx(0.0, abs=0.1)
    reached = torch.nn.functional.cross_entropy(run.model(x), y).item() / math.log(10) if rungs else 0.2
    assert found.ladder is not None
    assert found.ladder["train_loss"].tolist() == pytest.approx([reached] * len(found.ladder), rel=0.02)


@pytest.mark.parametrize(
    ("labels", "message"), [(None, "ladder needs labels"), (torch.randn(72, 10), "needs classes: pass labels=")]
)
def test_a_ladder_for_cross_entropy_needs_classes(labels: Any, message: str) -> None:
    start, end = trained("mlp", 0.3)
    options = LocateOptions(loss="cross-entropy", n_bootstrap=2)
    with pytest.raises(BadInput, match=message):
        locate(end, digits()[0], labels, initial=start, ladder=3, progress=False, options=options)


def test_files_and_equal_probes_are_refused() -> None:
    (start, end), (x, _) = trained("mlp", 0.3), digits()
    with pytest.raises(BadInput, match=r"geomfeat\.load_weights"):
        locate(end, x, initial="init.safetensors", progress=False)
    with pytest.raises(BadInput, match="only 1 different outputs"):
        locate(end, x[:1].expand(40, -1, -1, -1), initial=start, progress=False)


def test_bad_data_are_named() -> None:
    (start, end), (x, y) = trained("mlp", 0.3), digits()
    with pytest.raises(BadInput, match="labels has 3 entries, but inputs hold 72"):
        locate(end, x, y[:3], initial=start, progress=False)
    with pytest.raises(BadInput, match="nothing was learned"):
        locate(end, x, initial=end, progress=False)
    with pytest.raises(BadInput, match="inputs hold 2 samples"):
        locate(end, x[:2], initial=start, progress=False)
    with pytest.raises(BadInput, match="no hidden layer"):
        locate(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), x, initial=start, progress=False)
    with pytest.raises(BadInput, match="ladder needs labels"):
        locate(end, x, initial=start, ladder=2, progress=False, options=LocateOptions(n_bootstrap=2))


def test_repeats_in_one_group_make_no_interval_narrower() -> None:
    start, end = trained("mlp", 0.3)
    x = digits()[0][:24]
    twice, groups = x.repeat(2, 1, 1, 1), torch.arange(24).repeat(2)
    once, plain, grouped = (
        locate(
            end, inputs, initial=start, groups=together, progress=False,
            options=LocateOptions(n_probes=len(inputs), n_bootstrap=10, share_left=0.01),
        )
        for inputs, together in ((x, None), (twice, None), (twice, groups))
    )  # fmt: skip
    assert grouped.richness == pytest.approx(once.richness, abs=1e-3)
    assert (grouped.low, grouped.high) == (pytest.approx(once.low, abs=5e-3), pytest.approx(once.high, abs=5e-3))
    assert grouped.details["stderr"] > 1.1 * plain.details["stderr"]
    assert (grouped.details["n_groups"], plain.details["n_groups"]) == (24, None)


def test_too_few_groups_are_refused() -> None:
    start, end = trained("mlp", 0.3)
    x = digits()[0][:24]
    with pytest.raises(BadInput, match="24 probes are of 2 groups, too few for an interval over groups: 3 are needed"):
        locate(end, x, initial=start, groups=torch.arange(24) % 2, progress=False)
    with pytest.raises(BadInput, match="groups"):
        locate(end, x, initial=start, groups=torch.arange(23), progress=False)
