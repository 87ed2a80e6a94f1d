"""A family that is judged by outcomes: from its trainings to tables, files and the page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from geomfeat.comparison.validation.campaign import Validation, judge, validate
from geomfeat.comparison.validation.families import LadderFamily
from geomfeat.comparison.validation.files import TABLES, load_validation, save_validation
from geomfeat.comparison.validation.onset_of_richness import onsets_of
from geomfeat.comparison.validation.outcomes.judgement import DERIVED, judge_outcomes
from geomfeat.errors import BadInput, OutputExists
from geomfeat.report.pages.validation import checks_of, write_validation
from tests.comparison.validation.test_campaign import planted


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """The lambda-balanced networks of one seed, without any ladder."""
    out = tmp_path_factory.mktemp("validation")
    return validate(out, only="lambda*", seeds=1, laws=False, ladders=False, progress=False)


def test_demand_on_the_kernel_ranks_unbalanced_networks_and_that_on_features_does_not(balanced: Validation) -> None:
    found = balanced.by_outcome
    assert found is not None
    (family,) = found.outcome_families.to_dict("records")
    assert family["trainings"] == family["located"] == 7
    assert family["spearman_kappa"] > 0.9 > family["spearman_R"]
    assert pd.isna(family["slope_R"])  # it is no ladder of output scales
    assert 0 <= balanced.summary()["invariances, largest deviation"] < 1e-6  # lambda and -lambda
    assert list(found.thresholds["coordinate"])[-1] == "R, kappa_a"


def test_both_kinds_of_families_are_summed_up(balanced: Validation) -> None:
    rows = planted()
    ladder = Validation(
        pd.DataFrame(rows), pd.DataFrame([judge(LadderFamily("f"), rows)]), pd.DataFrame(), onsets_of(rows)
    )
    both = Validation(ladder.runs, ladder.families, ladder.laws, ladder.onsets, outcomes=balanced.outcomes)
    one, other, summary = ladder.summary(), balanced.summary(), both.summary()
    assert (summary["families"], summary["trainings"]) == (2, len(rows) + 7)
    assert summary["coverage, mean"] == pytest.approx((one["coverage, mean"] + other["coverage, mean"]) / 2)
    assert summary["scatter, worst"] == one["scatter, worst"]
    assert summary["AUC of a gap above .3: kappa"] == other["AUC of a gap above .3: kappa"]
    assert str(both) == f"Validation: 2 families, {len(rows) + 7} trainings"


def test_nothing_located_is_no_judgement() -> None:
    assert judge_outcomes([]) is None
    assert judge_outcomes([{"family": "a", "kind": "k", "gap": float("nan"), "failed": "it diverged"}]) is None


def test_a_family_of_a_ladder_has_slopes() -> None:
    rows = [
        {"family": "doubled", "kind": "scale", "conditions": f'{{"gamma": {10.0**k}}}', "seed": 0, "gap": 0.1 * k,
         "kernel_change": 0.1 * k, "test_disagreement": 0.1 * k, "R": k, "M": k / 2, "kappa": 2 * k, "kappa_a": k,
         "weight_change": k, "one_minus_cka": k, "alignment": k, "alignment_gain": k, "regime": "lazy", "low": k - 1,
         "high": k + 1, **dict.fromkeys(("half_R", "half_kappa", "half_kappa_a", "R_0.05", "R_0.01", "R_0.002"), k),
         "R_max": k, "R_min": k}
        for k in range(5)
    ]  # fmt: skip
    found = judge_outcomes(rows)
    assert found is not None
    (family,) = found.outcome_families.to_dict("records")
    assert family["slope_R"] == pytest.approx(1.0)
    assert family["slope_kappa"] == pytest.approx(2.0)
    assert family["scatter_R"] == pytest.approx(0.0, abs=1e-9)
    assert family["scatter_kappa"] > 1
    assert family["coverage"] == 1.0


def test_families_judged_by_outcomes_survive_their_files(balanced: Validation, tmp_path: Path) -> None:
    paths = save_validation(balanced, tmp_path)
    assert {path.stem for path in paths} == {*TABLES, *DERIVED}
    again = load_validation(tmp_path)
    pd.testing.assert_frame_equal(again.outcomes, balanced.outcomes, check_dtype=False)
    assert again.summary() == pytest.approx(balanced.summary(), nan_ok=True)
    assert list(pd.read_parquet(tmp_path / "foretold.parquet")["coordinate"])[:2] == ["R", "M"]


@pytest.mark.parametrize("regime", ["lazy", "rich"])
def test_a_page_of_families_judged_by_outcomes_alone(balanced: Validation, tmp_path: Path, regime: str) -> None:
    outcomes = balanced.outcomes.assign(regime=regime)
    alone = Validation(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), onsets_of([]), outcomes=outcomes)
    gap, change = outcomes["gap"], outcomes["kernel_change"]
    checks = {check.what: check for check in checks_of(alone)}
    lazy, rich = (next(c for what, c in checks.items() if what.startswith(f"'{word}'")) for word in ("lazy", "rich"))
    assert lazy.value == (regime == "lazy") * (gap > 0.3).sum()
    assert rich.value == (regime == "rich") * ((gap < 0.1) & (change < 0.1)).sum()
    assert lazy.value + rich.value > 0
    assert checks["lambda and -lambda: kappa, largest deviation"].ok
    assert not any(what.startswith("slope") for what in checks)
    text = write_validation(alone, tmp_path / "page.html", settings={}).read_text(encoding="utf-8")
    assert "Linearisation gap" in text
    assert "slope 1" not in text


def test_a_table_of_the_users_or_a_damaged_one_is_reported(balanced: Validation, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.parquet"
    pd.DataFrame({"mine": [1]}).to_parquet(path)
    whole = path.read_bytes()
    with pytest.raises(OutputExists, match=r"outcomes\.parquet was not written by geomfeat"):
        save_validation(balanced, tmp_path)
    path.unlink()
    save_validation(balanced, tmp_path)
    for content, message in [(whole, "it lacks the columns"), (b"", "is truncated or corrupt")]:
        path.write_bytes(content)
        with pytest.raises(BadInput, match=message):
            load_validation(tmp_path)
