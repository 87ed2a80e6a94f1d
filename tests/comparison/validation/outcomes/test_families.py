"""The families: named once, split in halves, and each of them trains."""

from __future__ import annotations

import json
import math

import pytest
import torch

from geomfeat.comparison.validation.families import FAMILIES
from geomfeat.comparison.validation.outcomes.families import OUTCOME_FAMILIES, halves
from geomfeat.comparison.validation.outcomes.rate_families import GRADIENT, MUP_WIDTHS, NOTHING, STATE
from geomfeat.comparison.validation.outcomes.training import OutcomeFamily
from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions

BY_NAME = {family.name: family for family in OUTCOME_FAMILIES}


def test_there_are_enough_families_of_enough_trainings() -> None:
    names = [family.name for family in (*FAMILIES, *OUTCOME_FAMILIES)]
    assert len(names) == len(set(names)) >= 48
    assert all(len(family.conditions) >= 4 for family in OUTCOME_FAMILIES)
    for family in OUTCOME_FAMILIES:
        assert len({json.dumps(dict(c)) for c in family.conditions}) == len(family.conditions)
    assert math.log10(max(MUP_WIDTHS) / min(MUP_WIDTHS)) > 1


def test_halves_share_no_family_and_every_kind_is_split() -> None:
    first, second = halves()
    assert not first & second
    assert first | second == set(BY_NAME)
    assert abs(len(first) - len(second)) <= len({family.kind for family in OUTCOME_FAMILIES})
    for kind in {family.kind for family in OUTCOME_FAMILIES}:
        own = [family.name for family in OUTCOME_FAMILIES if family.kind == kind]
        assert abs(len(first & set(own)) - len(second & set(own))) <= 1


@pytest.mark.parametrize("family", OUTCOME_FAMILIES, ids=lambda f: f.name)
def test_every_family_trains(family: OutcomeFamily) -> None:
    found = family.train(family.conditions[0], 0)
    assert found.loss < 0.7
    before, after = (dict(model.named_parameters()) for model in (found.initial, found.trained))
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("given", [STATE, GRADIENT, NOTHING])
def test_locate_is_reported_what_the_family_says(given: str) -> None:
    found = BY_NAME[f"adam, {given}"].train({"gamma": 3.0}, 0)
    located = locate(
        found.trained, found.task.inputs, initial=found.initial, optimizer=found.given(), progress=False,
        options=LocateOptions(n_probes=8, n_bootstrap=2),
    )  # fmt: skip
    assert (
        located.metric == {STATE: "Adam state", GRADIENT: "gradient at the start", NOTHING: "plain: not known"}[given]
    )


def test_two_forms_of_one_trajectory_have_equal_outputs() -> None:
    family = BY_NAME["equal trajectories"]
    one, other = (family.train({"width": 32, "form": form}, 0) for form in ("multipliers", "rates"))
    x = one.task.test_inputs
    torch.testing.assert_close(one.trained(x), other.trained(x), rtol=1e-9, atol=1e-9)
    assert not torch.equal(one.initial(x), one.trained(x))
