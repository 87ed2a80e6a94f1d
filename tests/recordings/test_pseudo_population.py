"""Sessions side by side: every pseudo-trial joins trials of one condition, and what is lost is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geomfeat as gf
from geomfeat.numerics import stream
from geomfeat.recordings import Recording, pseudo_population


def session(n: int, units: int, key: str, conditions: str = "abc", **more: object) -> Recording:
    """Unit j answers 100 j + 10 condition + a number of the trial below 10, so that values say where they are from."""
    condition = np.array([conditions[i % len(conditions)] for i in range(n)])
    place = torch.tensor(["abcd".index(c) for c in condition], dtype=torch.float64)
    noise = torch.rand(n, 1, generator=stream(0, key), dtype=torch.float64)
    return Recording(100.0 * torch.arange(units) + 10 * place[:, None] + noise, condition, **more)


def test_pseudo_trials_join_trials_of_one_condition() -> None:
    parts = {"mon": session(12, 2, "mon", area=["V1", "V4"]), "tue": session(9, 3, "tue", area=["V4", "V4", "IT"])}
    found = pseudo_population(parts, seed=1)
    assert found.x.shape == (9, 5)
    assert found.pseudo
    assert str(found).startswith("Pseudo-population: 9 trials of 3 conditions (3 each), 5 units")
    assert found.area.tolist() == ["V1", "V4", "V4", "V4", "IT"]
    tens = (found.x % 100) // 10
    assert torch.equal(tens, torch.tensor(["abc".index(c) for c in found.condition]).double()[:, None].expand(9, 5))
    for part, columns in ((parts["mon"], slice(0, 2)), (parts["tue"], slice(2, 5))):
        rows = {tuple(row) for row in part.x.tolist()}
        drawn = [tuple(row) for row in found.x[:, columns].tolist()]
        assert len(set(drawn)) == 9  # no trial twice
        assert set(drawn) <= rows
    assert found.notes == (
        "pseudo-population of 2 sessions: trials were paired at random within condition (seed 1), so noise "
        "correlations between units of different sessions are lost",
        "trials without a partner were left out: 3 of 12 in mon",
    )
    assert torch.equal(found.x, pseudo_population(parts, seed=1).x)
    assert not torch.equal(found.x, pseudo_population(parts, seed=2).x)


def test_noise_correlations_within_a_session_stay_and_those_between_sessions_are_lost() -> None:
    found = pseudo_population([session(300, 2, "one"), session(300, 2, "two")])
    rest = found.x % 10
    corr = torch.corrcoef(rest.T)
    assert corr[0, 1] > 0.999
    assert corr[2, 3] > 0.999
    assert abs(float(corr[0, 2])) < 4 / 300**0.5


def test_trials_of_one_run_are_joined_where_all_sessions_have_the_same_runs() -> None:
    runs = np.repeat([1, 2, 3], 6)
    parts = [session(18, 2, name, run=runs) for name in "xy"]
    found = pseudo_population(parts)
    assert found.run.tolist() == [1, 1, 2, 2, 3, 3] * 3
    of_trial = {tuple(row): run for part in parts for row, run in zip(part.x.tolist(), part.run, strict=True)}
    for row, run in zip(found.x.tolist(), found.run, strict=True):
        assert of_trial[tuple(row[:2])] == run
        assert of_trial[tuple(row[2:])] == run
    assert pseudo_population([parts[0], session(18, 2, "z")]).run is None


def test_conditions_that_a_session_lacks_are_left_out_and_counted() -> None:
    found = pseudo_population({"mon": session(12, 2, "mon", "abcd"), "tue": session(9, 2, "tue")})
    assert found.conditions == ("a", "b", "c")
    assert found.notes[0] == "1 of 4 conditions are not in every session and were left out: d"
    with pytest.raises(gf.BadInput, match="no condition in common"):
        pseudo_population([session(4, 2, "p", "ab"), session(4, 2, "q", "cd")])


def test_other_input_is_refused() -> None:
    with pytest.raises(gf.BadInput, match="two or more"):
        pseudo_population([session(6, 2, "p")])
    with pytest.raises(gf.BadInput, match="holds a Tensor"):
        pseudo_population([torch.zeros(2, 2), session(6, 2, "p")])  # type: ignore[list-item]
    timed = Recording(torch.rand(6, 2, 3), list("abcabc"), time=[0.0, 0.1, 0.2])
    with pytest.raises(gf.BadInput, match="different time axes"):
        pseudo_population([session(6, 2, "p"), timed])
    whole = Recording(torch.rand(8, 2), list("abababab"), session=[1, 1, 1, 1, 2, 2, 2, 2])
    assert pseudo_population(whole).x.shape == (4, 4)  # type: ignore[arg-type]
