"""Every figure of every kind of page is on paper, whole, though most are not drawn yet when it is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import geomfeat as gf
from geomfeat.comparison.models._compare import compare
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.comparison.relations._relate import relate
from geomfeat.comparison.validation.files import load_validation
from geomfeat.report.pages import write_page
from geomfeat.report.pages.comparison import write_comparison
from geomfeat.report.pages.forecast import write_forecast_page
from geomfeat.report.pages.lab import write_lab_page
from geomfeat.report.pages.monitor import write_monitor_page
from geomfeat.report.pages.portrait import write_portrait_page
from geomfeat.report.pages.relate import write_relate_page
from geomfeat.report.pages.validation import write_validation
from tests.comparison.planted import model
from tests.contract.result_examples import recorded
from tests.report import swept_pages, synthetic
from tests.report.pages import test_forecast, test_lab, test_monitor
from tests.report.pages.test_study_in_browser import CHROMIUM, QUIET
from tests.report.printing import printed

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium to test the page in it")

FLAGS = (*QUIET, "--no-pdf-header-footer", "--window-size=1280,900")
VALIDATION = Path(__file__).parents[3] / "geomfeat" / "data" / "validation"


def compared(path: Path) -> Path:
    models = {"a": model([0, 1, 2], labels=True), "b": model([0, 2], seed=1, labels=True), "c": model([1, 2], seed=2)}
    return write_comparison(compare(models, progress=False, options=CompareOptions(n_draws=8, n_bootstrap=0)), path)


def related(path: Path) -> Path:
    table = swept_pages.grid(("mlp",))
    return write_relate_page(relate(table), table, path)


def of_a_recording(path: Path) -> Path:
    return write_page(gf.analyze_recording(recorded(), measures=["nc1", "cka_linear_unbiased"], progress=False), path)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "study": lambda path: write_page(synthetic.make_study(layers=3, ladder=True), path),
    "compare": compared,
    "relate": related,
    "portrait": lambda path: write_portrait_page(swept_pages.courses(), path),
    "lab": lambda path: write_lab_page(test_lab.ASKED, test_lab.FOUND, path),
    "validate": lambda path: write_validation(load_validation(VALIDATION), path, settings={}),
    "monitor": lambda path: write_monitor_page(test_monitor.record(), path),
    "recording": of_a_recording,
    "forecast": lambda path: write_forecast_page(test_forecast.EXPECTED, path, advice=test_forecast.ADVICE),
}
FEWEST = {"forecast": 2}  # panels: the plane and the layers; other pages have more


@pytest.mark.parametrize("kind", WRITERS)
def test_every_figure_is_printed_whole(kind: str, tmp_path: Path) -> None:
    seen = printed(str(CHROMIUM), WRITERS[kind](tmp_path / "page.html"), tmp_path, FLAGS)
    assert seen.panels >= FEWEST.get(kind, 3)
    assert seen.seen == list(range(1, seen.panels + 1))
    assert seen.cut == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    path = WRITERS["lab"](tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert text.count('"beforeprint", toPaper') == 1
    path.write_text(text.replace('"beforeprint", toPaper', '"never", toPaper'), encoding="utf-8")
    seen = printed(str(CHROMIUM), path, tmp_path, FLAGS)
    assert seen.seen == [1]
