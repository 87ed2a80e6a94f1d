"""Trajectories, courses, strategies and stages on planted and on real capacities."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import torch

from geomfeat.comparison.relations.capacity_stages import stage_name, stages, strategies
from geomfeat.comparison.relations.trajectories import course_of, courses, trajectories
from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import capacity
from geomfeat.measures.layer.capacity import estimates
from geomfeat.numerics import stream
from geomfeat.study.table import row, table_of
from geomfeat.types import Estimate

LAYER = "fc1"


def over_training(moments: Mapping[str, Mapping[str, Estimate]], *, name: str = "a", steps: int = 1000) -> pd.DataFrame:
    rows = [row("steps", Estimate(steps), at="trained", measure="training")]
    for at, numbers in moments.items():
        rows += [row(q, e, at=at, measure="capacity", layer=LAYER) for q, e in numbers.items()]
    return table_of(rows, run=name, seed=0, conditions={"sigma": 1.0}, version="0")


def geometry(dimension: float, radius: float, utility: float = 1.0, error: float = 0.01) -> dict[str, Estimate]:
    """Numbers of one capacity, exact by the decomposition, each with a relative standard error."""
    alpha = utility * (1 + radius**-2) / dimension
    numbers = {"capacity": alpha, "utility": utility, "radius": radius, "dimension": dimension}
    return {k: Estimate(v, v * error) for k, v in numbers.items()}


def test_trajectories_are_in_order_and_end_at_the_last_step() -> None:
    table = over_training({
        "trained": geometry(2, 1), "100": geometry(4, 1), "8": geometry(6, 1), "init": geometry(8, 1),
    })  # fmt: skip
    path = trajectories(table, d=("capacity", "dimension", LAYER), alpha=("capacity", "capacity", LAYER))
    assert path["step"].tolist() == [0, 8, 100, 1000]
    assert path["d"].tolist() == [8, 6, 4, 2]
    assert path["d_se"].tolist() == pytest.approx([0.08, 0.06, 0.04, 0.02])
    assert path["complete"].all()


def test_flagged_numbers_are_gaps_and_not_values() -> None:
    flagged = {**geometry(4, 1), "dimension": Estimate(4.0, ok=False, note="uncertified")}
    table = over_training({"init": geometry(8, 1), "10": flagged, "trained": geometry(2, 1)})
    path = trajectories(table, d=("capacity", "dimension", LAYER))
    assert path["complete"].tolist() == [True, False, True]
    assert math.isnan(path["d"][1])


@pytest.mark.parametrize(
    ("d", "r", "word"),
    [(-1, -1, "compress"), (-1, 0, "compress"), (1, 1, "expand"), (0, 1, "expand"), (1, -1, "trade"), (0, 0, "still"),
     (math.nan, 1, "cannot tell")],
)  # fmt: skip
def test_courses_have_their_words(d: float, r: float, word: str) -> None:
    assert course_of(d, r) == course_of(d, r, 0.2, 0.2) == word


def test_courses_of_trainings_and_their_errors() -> None:
    table = pd.concat([
        over_training({"init": geometry(10, 2), "trained": geometry(5, 1)}, name="a"),
        over_training({"init": geometry(10, 2), "trained": geometry(5, 3)}, name="b"),
        over_training({"init": geometry(10, 2, error=0.5), "trained": geometry(9, 2.1, error=0.5)}, name="c"),
        over_training({"trained": geometry(9, 2)}, name="d"),
    ])  # fmt: skip
    found = courses(table, LAYER).set_index("training")
    assert found["course"].to_dict() == {"a": "compress", "b": "trade", "c": "still", "d": "cannot tell"}
    assert found.loc["a", "dimension"] == pytest.approx(-math.log10(2))
    assert found.loc["a", "dimension_se"] == pytest.approx(0.01 * math.sqrt(2) / math.log(10))


def test_strategies_are_what_did_most_in_the_direction_of_the_capacity() -> None:
    table = pd.concat([
        over_training({"init": geometry(10, 1), "trained": geometry(4, 1.1)}, name="dimension"),
        over_training({"init": geometry(10, 1), "trained": geometry(11, 0.3)}, name="radius"),
        over_training({"init": geometry(10, 1, 0.4), "trained": geometry(10, 1.01, 0.8)}, name="alignment"),
        over_training({"init": geometry(4, 1), "trained": geometry(10, 0.9)}, name="lost by dimension"),
        over_training({"init": geometry(10, 1), "trained": geometry(10.1, 1)}, name="no change"),
        over_training({"init": geometry(10, 1)}, name="one moment"),
        over_training(
            {"init": geometry(10, 1), "trained": {**geometry(4, 1), "capacity": Estimate(5.0)}}, name="wrong"
        ),
    ])  # fmt: skip
    found = strategies(table, LAYER).set_index("training")
    assert found["strategy"].to_dict() == {
        "dimension": "dimension", "radius": "radius", "alignment": "alignment", "lost by dimension": "dimension",
        "no change": "no change", "one moment": "cannot tell", "wrong": "cannot tell",
    }  # fmt: skip
    assert "do not add up" in found.loc["wrong", "note"]
    assert found.loc["dimension", "dimension"] == pytest.approx(math.log(2.5))
    exact = found.loc[["dimension", "radius", "alignment"]]
    np.testing.assert_allclose(exact["capacity"], exact[["utility", "radius", "dimension"]].sum(axis=1), atol=1e-12)


def test_real_capacities_split_exactly() -> None:
    """Classes that shrink about their centres: capacity rises, and its terms add up to the last digit."""
    generator = stream(0, "shrinking classes")
    centers = torch.randn(6, 1, 40, generator=generator, dtype=torch.float64)
    around = torch.randn(6, 8, 40, generator=generator, dtype=torch.float64)
    table = over_training({
        at: estimates(capacity(centers + size * around, n_draws=100)) for at, size in (("init", 1.0), ("trained", 0.1))
    })  # fmt: skip
    found = strategies(table, LAYER).iloc[0]
    assert found["capacity"] > 0.3
    assert found["capacity"] == pytest.approx(found["utility"] + found["radius"] + found["dimension"], abs=1e-10)
    assert found["strategy"] == "radius"
    assert courses(table, LAYER).iloc[0]["radius"] < -0.3


def staged(noise: float) -> pd.DataFrame:
    """Planted: dimension falls to step 10, axes align to 100, centres part to 1000, then nothing."""
    steps = np.unique(np.round(10 ** np.linspace(0, 4, 41)) - 1).astype(int)
    x = np.log10(steps + 1)
    rng = np.random.default_rng(0)
    numbers = {
        "dimension": np.exp(np.interp(x, [0, 1], [3, 2])), "radius": np.exp(np.interp(x, [0, 1], [0.5, 0])),
        "center_alignment": np.interp(x, [2, 3], [0.6, 0.2]), "axis_alignment": np.interp(x, [1, 2], [0.1, 0.5]),
        "center_axis_alignment": np.full(len(x), 0.2),
    }  # fmt: skip
    numbers = {k: v + noise * rng.normal(size=len(x)) for k, v in numbers.items()}
    ats = ["init", *map(str, steps[1:-1]), "trained"]
    return over_training(
        {at: {k: Estimate(float(v[i])) for k, v in numbers.items()} for i, at in enumerate(ats)}, steps=int(steps[-1])
    )


def test_planted_stages_are_found_and_named() -> None:
    found = stages(staged(0.01), LAYER)
    assert found["stage"].tolist() == ["clustering", "structuring", "separating", "stabilising"]
    np.testing.assert_allclose(np.log10(found["from_step"][1:] + 1), [1, 2, 3], atol=0.15)
    assert found["moments"].sum() == trajectories(staged(0.01), d=("capacity", "dimension", LAYER)).shape[0]
    assert found["dimension"][0] == pytest.approx(-1, abs=0.1)
    assert found["center_alignment"][2] == pytest.approx(-0.4, abs=0.06)


def test_noise_alone_is_one_stage_of_rest() -> None:
    table = staged(0.0)
    still = table["measure"] == "capacity"
    rng = np.random.default_rng(1)
    values = 1 + 0.01 * rng.normal(size=int(still.sum()))
    table.loc[still, "value"] = values
    found = stages(table, LAYER)
    assert found["stage"].tolist() == ["stabilising"]


def test_names_of_stages_follow_the_rule() -> None:
    assert stage_name({"dimension": 0.3, "axis_alignment": 0.2}) == "structuring"
    assert stage_name({"radius": -0.3, "center_alignment": -0.4}) == "separating"
    assert stage_name({"radius": 0.3, "center_alignment": 0.4}) == "other"
    assert stage_name({"radius": 0.09, "center_alignment": -0.09}) == "stabilising"


def test_few_moments_are_no_stages_and_bad_names_are_reported() -> None:
    full = {**geometry(4, 1), **{a: Estimate(0.1) for a in ("center_alignment", "axis_alignment")}}
    full["center_axis_alignment"] = Estimate(0.1)
    table = over_training({"init": full, "8": full, "trained": full})
    found = stages(table, LAYER).iloc[0]
    assert (found["stage"], found["moments"]) == ("cannot tell", 3)
    assert "needs at least 6" in found["note"]
    with pytest.raises(BadInput, match="layer with capacity dimension 'fc'; near: fc1"):
        courses(table, "fc")
    with pytest.raises(BadInput, match="measure 'capactiy'; near: capacity"):
        trajectories(table, x=("capactiy", "dimension", LAYER))
    with pytest.raises(BadInput, match="at least one quantity"):
        trajectories(table)
