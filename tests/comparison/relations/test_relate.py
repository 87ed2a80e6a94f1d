"""Slopes, theory, rank correlations and what follows what, on planted sweeps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geomfeat.comparison.relations._relate import relate, residuals
from geomfeat.comparison.relations.runs import trainings_of
from geomfeat.errors import BadInput
from geomfeat.types import Estimate
from tests.comparison.swept import Numbers, log, noise, sweep

SIGMA, ETA = [0.25, 0.5, 1.0, 2.0, 4.0], [0.01, 0.1, 1.0]
R = ("location", "richness", "")
E = ("location", "excess", "")


def planted(c: dict, s: int) -> Numbers:
    richness = -3 * log(c["sigma"]) + 0.4 + 0.05 * noise(s) + 0.03 * noise(s, c["sigma"], c["eta"])
    return {R: richness, ("dim", "value", "fc1"): 10 + 2 * log(c["sigma"]) * log(c["eta"]) + log(c["eta"]) + noise(s)}


def one(frame: pd.DataFrame, **where: object) -> pd.Series:
    for name, value in where.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


def test_planted_slopes_and_interactions_are_found() -> None:
    found = relate(sweep({"sigma": SIGMA, "eta": ETA}, 4, planted))
    slope = one(found.slopes, measure="location", term="sigma")
    assert slope["low"] < -3 < slope["high"]
    assert abs(slope["slope"] + 3) < 0.1
    assert slope["verdict"] == "agrees"
    assert (slope["theory"], slope["expected"], slope["interval"], slope["n_seeds"]) == (-3, "-3", "seeds", 4)
    assert slope["r2"] > 0.98
    assert one(found.slopes, measure="location", term="eta")["verdict"] == "agrees"
    product = one(found.slopes, measure="dim", term="sigma:eta")
    # log sigma is centred at 0 and log eta at -1: the mean slope of dim on log sigma is 2 * -1, on log eta 1.
    assert product["slope"] == pytest.approx(2, abs=1e-9)
    assert one(found.slopes, measure="dim", term="sigma")["slope"] == pytest.approx(-2, abs=1e-9)
    assert one(found.slopes, measure="dim", term="eta")["slope"] == pytest.approx(1, abs=1e-9)


def test_a_slope_that_is_not_theorys_differs_and_a_vague_one_cannot_tell() -> None:
    wrong = relate(sweep({"sigma": SIGMA}, 4, lambda c, s: {R: -2 * log(c["sigma"]) + 0.02 * noise(s, c["sigma"])}))
    assert one(wrong.slopes, term="sigma")["verdict"] == "differs"
    vague = relate(sweep({"sigma": SIGMA}, 2, lambda c, s: {R: (s - 3.5) * log(c["sigma"])}))
    row = one(vague.slopes, term="sigma")
    assert row["verdict"] == "too wide to tell"
    assert "two seeds" in row["note"]


def test_excess_on_the_learning_rate_is_flat_in_the_flow_and_rises_beyond_it() -> None:
    def numbers(c: dict, s: int) -> tuple[Numbers, dict]:
        beyond = c["eta"] > 0.5
        excess = -0.1 + (0.8 * log(c["eta"] / 0.5) if beyond else 0.0) + 0.01 * noise(s, c["eta"], c["sigma"])
        return {R: -3 * log(c["sigma"]) + 0.01 * noise(s), E: excess}, {"status": {"stability": 4 * c["eta"]}}

    found = relate(sweep({"sigma": SIGMA, "eta": [0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 3.0]}, 3, numbers))
    assert set(found.trainings["phase"]) == {"flow", "catapult"}
    flow = one(found.slopes, quantity="excess", term="eta", cells="flow")
    beyond = one(found.slopes, quantity="excess", term="eta", cells="beyond flow")
    everywhere = one(found.slopes, quantity="excess", term="eta", cells="all")
    assert (flow["expected"], flow["verdict"]) == ("0", "agrees")
    assert (beyond["expected"], beyond["verdict"]) == ("> 0", "agrees")
    assert beyond["slope"] == pytest.approx(0.8, abs=0.05)
    assert everywhere["verdict"] == ""
    assert flow["n"] + beyond["n"] == everywhere["n"] == 105


def test_layers_have_slopes_on_width_of_their_own() -> None:
    def numbers(c: dict, s: int) -> Numbers:
        first, second = -1.5 * log(c["width"]) + 0.01 * noise(s), -0.5 * log(c["width"]) + 0.01 * noise(s, 1)
        return {
            R: (first + second) / 2, ("location", "richness", "fc1"): first, ("location", "richness", "fc2"): second
        }  # fmt: skip

    found = relate(sweep({"width": [64, 128, 256, 512]}, 3, numbers)).slopes
    assert found.set_index("layer")["theory"].to_dict() == {"": -1.0, "fc1": -1.5, "fc2": -0.5}
    assert set(found["verdict"]) == {"agrees"}


def test_groups_are_fitted_by_themselves() -> None:
    table = sweep(
        {"sigma": SIGMA, "depth": [1, 3], "centered": [True, False]}, 3,
        lambda c, s: {R: -(c["depth"] + 1) * log(c["sigma"]) + 0.02 * noise(s, c["sigma"])},
    )  # fmt: skip
    found = relate(table)
    assert found.by == ("depth", "centered")
    for depth in (1, 3):
        assert one(found.slopes, depth=depth, centered=True)["theory"] == -(depth + 1)
        assert np.isnan(one(found.slopes, depth=depth, centered=False)["theory"])
        assert one(found.slopes, depth=depth, centered=True)["slope"] == pytest.approx(-(depth + 1), abs=0.1)


def test_failures_are_counted_marked_and_left_out() -> None:
    def numbers(c: dict, s: int) -> tuple[Numbers, dict]:
        if c["eta"] == 1.0 and c["sigma"] > 1:
            bad = Estimate.failed("not measured")
            return {R: bad}, {"outcome": "diverged", "note": "diverged at step 3", "status": {"train_loss": np.nan}}
        if c["eta"] == 0.01 and s == 0:
            return {R: 40.0}, {"outcome": "unmatched", "note": "out of steps"}
        return {R: Estimate.failed("no probes") if c["sigma"] == 0.25 and s == 1 else -3 * log(c["sigma"])}

    found = relate(sweep({"sigma": SIGMA, "eta": ETA}, 3, numbers))
    slope = one(found.slopes, term="sigma", cells="all")
    # 45 trainings: 6 diverged, 5 ran out of steps, 3 were not located.
    assert (slope["n"], slope["n_left_out"]) == (31, 14)
    assert slope["slope"] == pytest.approx(-3, abs=1e-9)
    diverged = found.trainings[found.trainings["phase"] == "diverged"]
    assert len(diverged) == 6
    assert not diverged["used"].any()
    assert diverged["why"].str.contains("diverged at step 3").all()
    assert len(found.trainings) == 45
    assert any(n.startswith("6 of 45 trainings diverged") for n in found.notes)
    assert any(n.startswith("5 of 45 trainings did not reach") for n in found.notes)


def test_one_seed_takes_the_scatter_about_the_plane() -> None:
    found = relate(sweep({"sigma": SIGMA}, 1, lambda c, s: {R: -3 * log(c["sigma"]) + 0.1 * noise(0, c["sigma"])}))
    slope = one(found.slopes, term="sigma")
    assert slope["interval"] == "residuals"
    assert "one seed" in slope["note"]
    assert slope["low"] < slope["slope"] < slope["high"]
    few = relate(sweep({"sigma": SIGMA[:3], "eta": ETA[:2]}, 1, planted))
    assert one(few.slopes, term="sigma", measure="location")["n"] == 6


def test_two_conditions_that_vary_together_are_not_distinguished() -> None:
    table = sweep({"sigma": SIGMA}, 3, lambda c, s: {R: -3 * log(c["sigma"])})
    found = relate(table.assign(eta=table["sigma"] ** 2))
    assert np.isnan(one(found.slopes, term="eta", cells="all")["slope"])
    assert "together" in one(found.slopes, term="eta", cells="all")["note"]
    assert found.correlations["rho"].isna().all()


def test_gamma_gives_way_to_the_knob_it_follows_from() -> None:
    table = sweep({"width": [64, 256, 1024], "gamma0": [0.5, 2.0]}, 2, lambda c, s: {R: log(c["gamma0"])})
    table = table.assign(gamma=table["gamma0"] * np.sqrt(table["width"]), parameterization="mup")
    found = relate(table).slopes
    assert set(found["term"]) == {"gamma0", "width", "gamma0:width"}
    assert one(found, term="gamma0")["verdict"] == one(found, term="width")["verdict"] == "agrees"


def test_missing_learning_rates_make_a_group_not_a_hole() -> None:
    table = sweep({"sigma": SIGMA, "eta": [None, 0.1, 1.0]}, 2, lambda c, s: {R: -3 * log(c["sigma"])})
    found = relate(table)
    assert found.by == ("has_eta",)
    assert one(found.slopes, term="sigma", has_eta=False)["n"] == 10
    assert one(found.slopes, term="sigma", has_eta=True)["n"] == 20


def test_residuals_show_what_no_slope_tells() -> None:
    table = sweep({"sigma": SIGMA}, 2, lambda c, s: {R: log(c["sigma"]) ** 2})
    left = residuals(table, "location", "richness")
    assert left["residual"].sum() == pytest.approx(0, abs=1e-12)
    assert (left.loc[left["sigma"].isin([0.25, 4.0]), "residual"] > 0.1).all()
    assert (left.loc[left["sigma"] == 1.0, "residual"] < -0.1).all()


def test_rank_correlations_hold_the_other_axis_fixed() -> None:
    table = sweep(
        {"sigma": SIGMA, "eta": ETA}, 3,
        lambda c, s: {("m", "value", ""): np.exp(3 * log(c["sigma"])) + 1e-3 * noise(s, c["sigma"], c["eta"])},
    )  # fmt: skip
    found = relate(table).correlations.set_index("axis")
    assert found.loc["sigma", "rho"] > 0.95
    assert found.loc["eta", "low"] < 0 < found.loc["eta", "high"]


def following(c: dict, s: int) -> tuple[Numbers, dict]:
    richness = -2 * log(c["sigma"]) + 0.2 * noise(s, c["sigma"], c["eta"])
    loss = -1 + 0.3 * log(c["eta"]) + 0.3 * richness + 0.2 * noise(s, c["sigma"], c["eta"], 2)
    return {
        R: richness,
        ("rich", "value", ""): richness + 0.1 * noise(s, c["sigma"], c["eta"], 3),
        ("fit", "value", ""): loss + 0.05 * noise(s, c["sigma"], c["eta"], 4),
        ("none", "value", ""): noise(s, c["sigma"], c["eta"], 5),
        ("flat", "value", ""): 1.0,
    }, {"status": {"train_loss": 10**loss, "train_accuracy": 1 - 10**loss / 10}}


def test_measures_that_follow_richness_or_fit_are_distinguished() -> None:
    found = relate(sweep({"sigma": SIGMA, "eta": ETA}, 6, following)).follow.set_index("measure")
    assert found["follows"].to_dict() == {"rich": "richness", "fit": "fit", "none": "neither", "flat": "cannot tell"}
    # Without holding the fit fixed, the measure of fit would pass for one of richness.
    plain = trainings_of(sweep({"sigma": SIGMA, "eta": ETA}, 6, following)).values
    assert plain.corr("spearman").iloc[0, 2] > 0.4
    assert abs(found.loc["fit", "rho_richness"]) < 0.2
    assert found.loc["rich", "given"] == "train_loss"


def test_two_seeds_are_too_few_to_say_that_nothing_is_followed() -> None:
    found = relate(sweep({"sigma": SIGMA, "eta": ETA}, 2, following)).follow.set_index("measure")
    wide = found[found["high_richness"] - found["low_richness"] > 1.5]
    assert len(wide)
    assert set(wide["follows"]) == {"cannot tell"}


def test_full_batches_beside_others_are_a_group() -> None:
    table = sweep({"sigma": SIGMA, "batch_size": [None, 8, 32]}, 2, lambda c, s: {R: -3 * log(c["sigma"])})
    found = relate(table.astype({"batch_size": "Int64"}))
    assert found.by == ("has_batch_size",)
    assert set(found.slopes["term"]) == {"sigma", "batch_size", "sigma:batch_size"}


def test_follow_says_when_there_is_nothing_to_hold_fixed() -> None:
    found = relate(sweep({"sigma": SIGMA}, 3, lambda c, s: {R: log(c["sigma"]), ("m", "v", ""): noise(s, c["sigma"])}))
    assert "nothing is held fixed" in found.follow.iloc[0]["note"]
    none = relate(sweep({"sigma": SIGMA}, 3, lambda c, s: {("m", "v", ""): noise(s, c["sigma"])}))
    assert none.follow.empty


def test_bad_input_says_what_to_do() -> None:
    table = sweep({"sigma": SIGMA, "eta": ETA}, 2, planted)
    with pytest.raises(BadInput, match="lacks the columns seed, measure"):
        relate(table.drop(columns=["seed", "measure"]))
    with pytest.raises(BadInput, match="'locatoin'; near: location"):
        relate(table, measures=["locatoin"])
    with pytest.raises(BadInput, match="vary sigma or eta"):
        relate(table[(table["sigma"] == 1.0) & (table["eta"] == 0.1)])
    with pytest.raises(BadInput, match="several numbers for dim value"):
        relate(pd.concat([table, table[table["measure"] == "dim"]]))
    with pytest.raises(BadInput, match="no rows"):
        relate(table.iloc[:0])
    with pytest.raises(BadInput, match="values of sigma"):
        relate(table.assign(run="a", seed=0))
    with pytest.raises(BadInput, match=r"level=1\.5"):
        relate(table, level=1.5)
    with pytest.raises(BadInput, match="quantity of 'location' 'richnes'; near: richness"):
        residuals(table, "location", "richnes")
    with pytest.raises(BadInput, match="layer='fc9'"):
        residuals(table, "dim", "value", "fc9")


def test_a_slope_that_one_seed_alone_tells_has_no_interval() -> None:
    """At the largest rate only seed 0 is left: its slope on eta is the same in every draw that has one."""
    table = sweep({"sigma": [0.5, 1.0], "eta": [0.1, 0.5]}, 2, lambda c, s: {
        R: -3 * log(c["sigma"]) + 0.1 * noise(s, c["sigma"], c["eta"])})  # fmt: skip
    kept = table[~((table["eta"] == 0.5) & ((table["seed"] == 1) | (table["sigma"] == 1.0)))]
    row = one(relate(kept).slopes, measure="location", term="eta")
    assert np.isfinite(row["slope"])
    assert np.isnan(row["low"])
    assert row["verdict"] == ""
    assert "too few seeds identify this slope" in row["note"]
    assert np.isfinite(one(relate(table).slopes, measure="location", term="eta")["low"])


def test_slopes_that_no_seed_tells_by_itself_have_no_interval() -> None:
    """Each of two seeds lacks the trainings for four terms: all draws but one tell nothing, and that one is the fit."""
    line = [(0.5, 0.1), (1.0, 0.1), (2.0, 0.1)]
    places = {0: [*line, (2.0, 0.01)], 1: [*line, (1.0, 1.0)]}
    table = sweep({"sigma": [0.5, 1.0, 2.0], "eta": [0.01, 0.1, 1.0]}, 2, lambda c, s: {
        R: -2 * log(c["sigma"]) + 0.1 * noise(s, c["sigma"], c["eta"])})  # fmt: skip
    there = [(s, e) in places[seed] for s, e, seed in zip(table["sigma"], table["eta"], table["seed"], strict=True)]
    row = one(relate(table[there]).slopes, measure="location", term="sigma")
    assert np.isfinite(row["slope"])
    assert np.isnan([row["stderr"], row["low"], row["high"]]).all()
    assert row["verdict"] == ""


def test_failed_rows_without_a_layer_are_no_number_of_their_own() -> None:
    """A training that diverged has a failed row of each number that was asked for, which has no layer."""

    def numbers(c: dict, s: int) -> tuple[Numbers, dict]:
        if c["sigma"] == 4.0:
            return {("dim", "value", ""): Estimate.failed("diverged")}, {"outcome": "diverged", "note": "diverged"}
        return {**planted(c, s)}, {}

    found = trainings_of(sweep({"sigma": SIGMA, "eta": ETA}, 2, numbers))
    assert [k[2] for k in found.values.columns if k[0] == "dim"] == ["fc1"]
    lost = trainings_of(sweep({"sigma": SIGMA}, 2, lambda c, s: {("dim", "value", ""): Estimate.failed("no")}))
    assert [k[:3] for k in lost.values.columns] == [("dim", "value", "")]


def test_theory_counts_the_output_scale_that_grows_with_width() -> None:
    """At fixed r gamma = n^r, at fixed gamma0 it is gamma0 sqrt(n), and R grows as log gamma does."""

    def numbers(c: dict, s: int) -> Numbers:
        return {R: (c["r"] - 0.5) * log(c["width"]) + 0.01 * noise(s, c["r"], c["width"])}

    axes = {"r": [0.0, 0.25, 0.5], "width": [32, 128, 512], "parameterization": ["ntk"]}
    slopes = relate(sweep(axes, 3, numbers).assign(gamma=lambda t: t["width"] ** t["r"])).slopes
    width, r = one(slopes, term="width"), one(slopes, term="r")
    assert (width["theory"], width["verdict"]) == (pytest.approx(-0.25), "agrees")
    assert (r["theory"], r["verdict"]) == (pytest.approx(np.log10([32, 128, 512]).mean()), "agrees")
    for knob, value, expected in (("r", 0.5, 0.0), ("gamma0", 3.0, 0.0), ("gamma", 3.0, -0.5), ("alpha", 3.0, -0.5)):
        table = sweep({"width": [32, 128, 512], "parameterization": ["ntk"], knob: [value]}, 3, lambda c, s: {
            R: noise(s, c["width"])})  # fmt: skip
        assert one(relate(table).slopes, term="width")["theory"] == pytest.approx(expected), knob


def test_phases_by_the_curvature_are_of_descent_without_or_with_momentum_alone() -> None:
    """eta times curvature of 1.5 is within the limit 2 of plain descent, beyond 1.36 of Nesterov's; Adam has none."""
    table = sweep({"optimizer": ["sgd", "adam"], "momentum": [0.0, 0.9]}, 2, lambda c, s: (
        {R: 0.0}, {"status": {"stability": 1.5}}))  # fmt: skip
    found = trainings_of(table).frame.groupby(["optimizer", "momentum"])["phase"].unique().map(list).to_dict()
    assert found[("sgd", 0.0)] == ["flow"]
    assert found[("sgd", 0.9)] == ["catapult"]
    assert found[("adam", 0.0)] == found[("adam", 0.9)] == [""]
    plain = trainings_of(table.drop(columns=["optimizer", "momentum"]).assign(run=lambda t: t["run"] + "x")).frame
    assert set(plain["phase"]) == {"flow"}
