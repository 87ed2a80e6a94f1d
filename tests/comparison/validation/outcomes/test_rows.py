"""Rows of trainings: made once, kept in a file each, and honest about what failed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geomfeat.comparison.validation.outcomes import rows as module
from geomfeat.comparison.validation.outcomes.descent import at_gamma
from geomfeat.comparison.validation.outcomes.rows import outcome_rows
from geomfeat.comparison.validation.outcomes.training import Conditions, OutcomeFamily, Training, teacher_task
from geomfeat.errors import GeomfeatError
from geomfeat.models.mlp import mlp


def train(conditions: Conditions, seed: int) -> Training:
    task = teacher_task(seed, n=12, outputs=1, test=8)
    only_head = {"fc1.*": 0.0, "head.*": 1.0} if conditions.get("part") == "head" else None
    return at_gamma(mlp(10, (16,), 1, seed=seed), task, float(conditions["gamma"]), target_loss=0.3, rates=only_head)


TINY = OutcomeFamily("tiny", "scale", ({"gamma": 0.03}, {"gamma": 3.0}, {"gamma": 1.0, "part": "head"}), train)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("outcomes")
    return folder, outcome_rows([TINY], folder, seeds=1, progress=False)


def test_outcomes_tell_lazy_from_rich(made: tuple[Path, list[dict[str, Any]]]) -> None:
    lazy, rich, head = made[1]
    assert json.loads(lazy["conditions"]) == {"gamma": 0.03}
    for name in ("R", "M", "kappa", "kappa_a", "gap", "kernel_change", "weight_change", "one_minus_cka", "R_0.01"):
        assert lazy[name] < rich[name], name
    assert lazy["gap"] < 0.1
    assert rich["gap"] > 0.2
    assert lazy["test_disagreement"] < 0.1 < rich["test_disagreement"]
    assert lazy["regime"] == "lazy"
    assert lazy["R_min"] <= lazy["R"] <= lazy["R_max"]
    assert lazy["low"] < lazy["half_R"] < lazy["high"]
    assert (head["regime"], head["kappa"], head["M"]) == ("frozen", -math.inf, -math.inf)
    assert head["gap"] == pytest.approx(0, abs=1e-9)
    assert head["kernel_change"] == pytest.approx(0, abs=1e-9)


def test_what_is_there_is_not_made_again(
    made: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measured", lambda *_: pytest.fail("measured again"))
    again = outcome_rows([TINY], made[0], seeds=1, progress=False)
    assert [repr(row) for row in again] == [repr(row) for row in made[1]]


@pytest.mark.parametrize("damage", ["truncated", "version", "copied"])
def test_a_damaged_or_foreign_file_is_made_again(
    made: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(module, "measured", lambda *_: {"gap": 0.5})
    first = outcome_rows([TINY], tmp_path, seeds=1, progress=False)
    one, two, _ = sorted((tmp_path / module.FOLDER).iterdir())
    text = one.read_text(encoding="utf-8")
    changed = {"truncated": text[:30], "version": text.replace('"version": "', '"version": "0.'),
               "copied": two.read_text(encoding="utf-8")}[damage]  # fmt: skip
    assert changed != text
    one.write_text(changed, encoding="utf-8")
    assert outcome_rows([TINY], tmp_path, seeds=1, progress=False) == first
    assert json.loads(one.read_text(encoding="utf-8")) == json.loads(text)


def test_a_training_that_fails_is_a_row_with_its_reason(tmp_path: Path) -> None:
    def diverge(*_: Any) -> Training:
        raise GeomfeatError("training diverged at step 3")

    (row,) = outcome_rows(
        [replace(TINY, conditions=({"gamma": 1.0},), train=diverge)], tmp_path, seeds=1, progress=False
    )
    assert row["failed"] == "training diverged at step 3"
    assert math.isnan(row["gap"])
