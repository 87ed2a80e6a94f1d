"""A page of every kind, written once in a test run, however many modules and workers look at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import geomfeat as gf
from geomfeat.comparison.models._compare import compare
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.comparison.relations._relate import relate
from geomfeat.comparison.validation.files import load_validation
from geomfeat.numerics import stream
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


def compared(path: Path) -> Path:
    """Three networks."""
    models = {"a": model([0, 1, 2], labels=True), "b": model([0, 2], seed=1, labels=True), "c": model([1, 2], seed=2)}
    return write_comparison(compare(models, progress=False, options=CompareOptions(n_draws=8, n_bootstrap=0)), path)


def areas_and_layers(path: Path) -> Path:
    """The areas of a recording over time beside the layers of a network, which saw the same six conditions."""
    shown, draws = torch.arange(48) % 6, stream(0, "areas and layers")
    means = torch.randn(6, 5, generator=draws, dtype=torch.float64)
    trials = means[shown][:, :, None] * torch.tensor([0.0, 1.0, 1.0])
    names = [f"condition {i}" for i in range(6)]
    brain = gf.Recording(
        trials + torch.randn(trials.shape, generator=draws, dtype=torch.float64), np.array(names)[shown],
        run=np.arange(48) // 12, area=np.array(["V1", "V1", "V1", "IT", "IT"]), time=torch.tensor([-0.1, 0.0, 0.1]),
        name="brain",
    )  # fmt: skip
    layers = {name: gf.Representation(means[shown] ** power, shown, name, {}, classes=tuple(names))
              for name, power in (("first", 1), ("last", 3))}  # fmt: skip
    options = CompareOptions(n_draws=8, n_bootstrap=20)
    return write_comparison(compare({"net": layers, "brain": brain}, progress=False, options=options), path)


def related(path: Path) -> Path:
    """A sweep related to its conditions."""
    table = swept_pages.grid(("mlp",))
    return write_relate_page(relate(table), table, path)


def of_a_recording(path: Path) -> Path:
    """A recording of two areas."""
    return write_page(gf.analyze_recording(recorded(), measures=["nc1", "cka_linear_unbiased"], progress=False), path)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "study": lambda path: write_page(synthetic.make_study(layers=3, ladder=True), path),
    "compare": compared,
    "areas": areas_and_layers,
    "relate": related,
    "portrait": lambda path: write_portrait_page(swept_pages.courses(), path),
    "lab": lambda path: write_lab_page(test_lab.ASKED, test_lab.FOUND, path),
    "validate": lambda path: write_validation(load_validation(None), path, settings={}),
    "monitor": lambda path: write_monitor_page(test_monitor.record(), path),
    "recording": of_a_recording,
    "forecast": lambda path: write_forecast_page(test_forecast.EXPECTED, path, advice=test_forecast.ADVICE),
}


def page_of(kind: str) -> Path:
    """The page of this kind; the workers of one test run share a folder, see `pytest_configure`."""
    file = Path(os.environ["GEOMFEAT_TEST_RUNS"]) / f"page-{kind}.html"
    if not file.exists():
        draft = file.with_name(f"{kind}-{os.getpid()}.html")
        WRITERS[kind](draft)
        draft.replace(file)  # whole or not at all
    return file
