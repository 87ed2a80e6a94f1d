"""The sweep over the initial rank of recurrent networks, at reduced size: its numbers, and its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from geomfeat.cli import app
from geomfeat.comparison.relations.capacity_stages import stages
from geomfeat.comparison.sweeps import SweepResult, sweep

CONFIG = Path(__file__).parents[3] / "tutorials" / "configs" / "recurrent_init.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    whole: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    small = whole | {
        "data": [spec.replace("n=96", "n=16") for spec in whole["data"][1:2]], "width": 16, "rank": [1, 16], "seeds": 1,
        "train": whole["train"] | {"target_loss": 0.3, "max_steps": 600, "snapshots": 3},
        "measure": whole["measure"] | {"location": {"n_probes": 12, "n_bootstrap": 2}, "n": 16},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("recurrent")
    return sweep(small, folder / "out", progress=False), folder / "out"


def test_every_number_is_there_for_every_rank_and_gain(made: tuple[SweepResult, Path]) -> None:
    table: pd.DataFrame = made[0].table
    last = table[table["at"].isin(["trained", "init->trained"]) & (table["layer"] == "")]
    assert set(zip(last["rank"], last["gain"], strict=True)) == {(1, 1.0), (1, 1.5), (16, 1.0), (16, 1.5)}
    by_rank = last.pivot_table(index=["measure", "quantity"], columns=["rank", "gain"], values="value")
    for name in ("richness", "kernel_demand", "kernel_change", "movement"):
        assert by_rank.loc[("location", name)].notna().all(), name
    moved = by_rank.loc["kernel_relative_change"].iloc[0]
    assert moved.tolist() == pytest.approx(by_rank.loc[("location", "kernel_change")].tolist(), rel=0.5)
    wanted = {"capacity", "weight_movement", "kernel_distance", "kernel_relative_change", "label_alignment_unbiased",
              "representation_change", "participation_ratio_corrected", "location"}  # fmt: skip
    assert wanted <= set(table["measure"])
    assert (table["outcome"] == "matched").all()


def test_capacity_is_followed_over_training_in_stages(made: tuple[SweepResult, Path]) -> None:
    table = made[0].table
    at = table[(table["measure"] == "capacity") & (table["layer"] == "rates")]["at"].unique()
    assert len(at) >= 4
    found = stages(table, "rates")
    assert set(found["training"]) == set(table["run"])


@pytest.mark.parametrize("page", ["relate", "portrait"])
def test_it_has_its_pages(made: tuple[SweepResult, Path], page: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [page, str(made[1]), "--out", str(tmp_path / "page.html")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "rank" in (tmp_path / "page.html").read_text(encoding="utf-8")
