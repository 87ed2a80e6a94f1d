"""The demo is the main job on embedded data: its numbers are known, so the whole path is held to them here."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from torch import nn

from geomfeat.cli import demo
from geomfeat.cli.demo import FACTORIES, STRENGTHS, run_demo
from geomfeat.errors import OutputExists
from geomfeat.models.cnn import cnn
from geomfeat.study import Study

pytestmark = pytest.mark.usefixtures("unprinted")


def small_cnn(seed: int | None = None) -> nn.Module:
    return cnn(channels=(8, 16), seed=seed)


@pytest.mark.slow
def test_the_demo_finds_what_it_was_built_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few digits, and a quarter of the channels: what is known of them is known at any size.
    monkeypatch.setattr(demo, "N_TRAIN", 60)
    monkeypatch.setitem(FACTORIES, "cnn", "tests.cli.test_demo:small_cnn")
    studies = {study.name: study for study in run_demo(tmp_path, progress=False)}
    assert len(studies) == len(FACTORIES) * len(STRENGTHS)
    for architecture in FACTORIES:
        places = {strength: studies[f"{architecture} {strength}"].location for strength in STRENGTHS}
        for a, b in itertools.pairwise(STRENGTHS):
            known = math.log10(STRENGTHS[b] / STRENGTHS[a])
            assert places[b].richness - places[a].richness == pytest.approx(known, abs=0.08)
        for strength, place in places.items():
            assert math.log10(place.equivalent_gamma / STRENGTHS[strength]) == pytest.approx(0, abs=0.1)
        assert places["lazy"].richness < -0.6
        # Networks are trained on more samples than there are probes, so they move a little further than demanded.
        assert 0 < places["lazy"].excess < 0.15
        assert [place.regime for place in places.values()] == ["lazy", "rich", "rich"]
        assert places["lazy"].linearisation_gap < 0.15
        assert 0.3 < places["middle"].linearisation_gap < places["rich"].linearisation_gap
        assert all(studies[f"{architecture} {s}"].settings["accuracy"]["train"] > 0.99 for s in STRENGTHS)
    assert set(json.loads((tmp_path / "location.json").read_text(encoding="utf-8"))) == set(studies)
    table = pd.read_parquet(tmp_path / "results.parquet")
    assert set(table["run"]) == set(studies)
    assert len(table) == sum(len(study.table) for study in studies.values())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in studies)
    again = Study.load(tmp_path / "mlp-rich")
    assert again.location.richness == studies["mlp rich"].location.richness
    recipe = tmp_path / "demo.json"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("0.03", "0.04"), encoding="utf-8")
    with pytest.raises(OutputExists, match="holds a demo of another version or other settings"):
        run_demo(tmp_path, progress=False)
