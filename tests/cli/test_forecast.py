"""`geomfeat forecast`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import geomfeat as gf
from geomfeat.models.reinitialize import fresh
from geomfeat.models.weights.checkpoints import load_object
from tests.cli.conftest import N, Run
from tests.study.small import digits, model_at

pytestmark = pytest.mark.usefixtures("unprinted")
COMMON = ["--model", "net.py:make", "--data", "npz:digits.npz", "--loss", "cross-entropy"]


def test_it_prints_and_writes_what_python_gives(files: Path, run: Run) -> None:
    words = ["--initial", "init.safetensors", "--target-loss", "0.3", "--optimizer", "sgd", "--lr", "0.05"]
    result = run("forecast", *COMMON, *words, "--out", "found.json")
    assert result.exit_code == 0, result.stderr
    net, (x, y) = model_at(0), digits(N)
    rates = {"*": 0.05}
    expected = gf.forecast(net, x, y, loss="cross-entropy", target_loss=0.3, optimizer=rates)
    written = gf.Forecast.from_json((files / "found.json").read_text())
    assert written.richness == pytest.approx(expected.richness, abs=1e-6)
    assert written.stable_rate == pytest.approx(expected.stable_rate)
    assert (written.optimizer, written.rate, written.rate_place) == ("SGD", 0.05, expected.rate_place)
    assert result.stdout.startswith(str(written))
    assert [line.split()[0] for line in result.stdout.splitlines() if line.split()[0] in ("1", "3")] == ["1", "3"]


def test_advice_is_printed_and_written(files: Path, run: Run) -> None:
    words = ["--initial", "init.safetensors", "--target-loss", "0.6", "--optimizer", "adamw", "--lr", "0.002"]
    result = run("forecast", *COMMON, *words, "--n", 4, "--advise", "-0.8", "--out", "found.json")
    assert result.exit_code == 0, result.stderr
    assert "to R = -0.80 from " in result.stdout
    written = json.loads((files / "found.json").read_text())
    net, rows = model_at(0), gf.load_data("npz:digits.npz").subsample(4, 0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.002)
    expected = gf.forecast(net, rows.inputs, rows.labels, loss="cross-entropy", target_loss=0.6, optimizer=optimizer)
    change = written["advice"]["changes"][0]
    assert change["multiplier"] == pytest.approx(expected.advise(-0.8, init_scale=False).multiplier, rel=1e-3)
    assert change["code"] in result.stdout
    assert gf.Forecast.from_json((files / "found.json").read_text()).richness == pytest.approx(expected.richness)


def test_fresh_weights_are_drawn_by_the_seed(files: Path, run: Run) -> None:
    result = run("forecast", *COMMON, "--seed", 3, "--n", 12)
    assert result.exit_code == 0, result.stderr
    net, (x, y) = fresh(load_object("net.py:make", "model"), 3, 0), digits(N)
    rows = gf.load_data("npz:digits.npz").subsample(12, 3)
    assert rows.labels is not None
    assert len(rows.labels) == 12 < len(y) == len(x)
    assert result.stdout.startswith(str(gf.forecast(net, rows.inputs, rows.labels, loss="cross-entropy", seed=3)))


def test_a_page_holds_forecast_and_advice(files: Path, run: Run) -> None:
    """Of outputs alone: on these samples the kernel of smaller weights would have to change without bound."""
    words = ["--initial", "init.safetensors", "--target-loss", "0.3", "--n", "8", "--advise", "-0.8"]
    result = run("forecast", *COMMON, *words, "--out", "pages/found.html")
    assert result.exit_code == 0, result.stderr
    text = (files / "pages" / "found.html").read_text(encoding="utf-8")
    assert "Where this training will go" in text
    assert "with_scaled_outputs" in text


def test_a_file_of_the_users_stays(files: Path, run: Run) -> None:
    (files / "mine.json").write_text("{}")
    result = run("forecast", *COMMON, "--out", "mine.json")
    assert result.exit_code == 2
    assert "was not written by geomfeat" in result.stderr
    assert (files / "mine.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lr", "0.1"], "give --optimizer too"),
        (["--optimizer", "adam"], "give --lr"),
        (["--optimizer", "lion", "--lr", "0.1"], "use sgd, adam, adamw"),
        (["--optimizer", "adam", "--lr", "0.1", "--momentum", "0.9"], "is of sgd"),
        (["--target-loss", "2"], "target_loss=2.0 must lie"),
        (["--advise", "richer"], "target='richer' must be"),
        (["--out", "found.txt"], "name a file that ends in .json or .html"),
    ],
)
def test_options_that_do_not_fit_are_named(files: Path, run: Run, words: list[str], said: str) -> None:
    result = run("forecast", *COMMON, *words)
    assert result.exit_code == 2
    assert said in result.stderr
