"""The shipped validation: small, judged by the code as it is, and described by its card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from geomfeat.comparison.validation import campaign as validation
from geomfeat.comparison.validation.campaign import judge
from geomfeat.comparison.validation.families import FAMILIES, LAWS
from geomfeat.comparison.validation.files import load_validation
from geomfeat.comparison.validation.onset_of_richness import best_summary, onsets_of
from geomfeat.comparison.validation.outcomes.families import OUTCOME_FAMILIES
from geomfeat.data.cards import read_card


def test_the_shipped_campaign_is_small_and_its_card_tells_its_numbers() -> None:
    found = load_validation()
    folder = Path(validation.__file__).parents[2] / "data" / "validation"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2e6
    assert set(found.families["family"]) == {family.name for family in FAMILIES}
    assert list(found.laws["law"]) == [law.name for law in LAWS]
    assert set(found.outcomes["family"]) == {family.name for family in OUTCOME_FAMILIES}
    card, body = read_card(Path(__file__).parents[3] / "data_cards" / "location-validation.md")
    summary = found.summary()
    assert card.samples == summary["trainings"]
    assert f"{summary['families']:.0f} families" in card.title
    rows = {line.split(" |")[0]: line.split("|")[2].split(", ") for line in body.splitlines() if line.startswith("| ")}
    for start, names in {
        "| largest distance": ["slope, largest distance from 1"],
        "| scatter": ["scatter, median", "scatter, worst"],
        "| M - R": ["M - R in the lazy range, median", "M - R in the lazy range, worst"],
        "| R from fresh": ["re-initialised, median error", "re-initialised, worst error"],
        "| share of 90": ["coverage, mean", "coverage, worst"],
        "| one trajectory": ["invariances, largest deviation"],
        "| muP by Adam": [f"muP by Adam, {name} over a decade of width" for name in ("R", "kappa")],
        "| regimes": [
            "balanced accuracy of regimes, clear outcomes",
            "the same, half of the families that is judged",
            "balanced accuracy of regimes, three levels of gap",
            "'lazy' at a gap above .3",
            "'rich' at a gap and kernel change below .1",
        ],
    }.items():
        (written,) = [values for row, values in rows.items() if row.startswith(start)]
        assert [f"{summary[name]:.3g}" for name in names] == [value.strip() for value in written], start
    for law in found.laws.to_dict("records"):
        assert f"{law['slope']:.3f}".replace("-0.", "-.") in body, law["law"]
    assert found.by_outcome is not None
    for row in found.by_outcome.foretold.to_dict("records"):
        (written,) = [line for line in body.splitlines() if line.startswith(f"| {row['coordinate']} |")]
        for name in ("spearman_gap", "spearman_test_disagreement", "spearman_kernel_change", "auc", "within_gap"):
            assert f"{row[name]:.3f}".lstrip("0") in written, (row["coordinate"], name)


def test_the_packaged_campaign_is_judged_as_the_code_judges_now() -> None:
    found = load_validation()
    again = [judge(family, found.runs[found.runs["family"] == family.name].to_dict("records")) for family in FAMILIES]
    columns = ["slope", "scatter", "coverage", "reinit_error"]
    np.testing.assert_allclose(pd.DataFrame(again)[columns], found.families[columns], atol=1e-9)
    assert best_summary(onsets_of(found.runs.to_dict("records")))[0] == best_summary(found.onsets)[0] != ""
