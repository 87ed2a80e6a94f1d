"""`--readout NAME`: the outputs of networks that do not return a tensor, in analyze, extract and compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from geomfeat.activations import load_npz
from geomfeat.api import Comparison
from geomfeat.cli._request import readout_of
from geomfeat.errors import BadInput
from geomfeat.models.readouts.reading import as_readout
from geomfeat.study import Study
from tests.cli.conftest import Run

ODD = '''
import sys
from torch import nn
from net import make as plain


class Pair(nn.Module):
    """Returns what must be looked for: the answer lies under "answer", behind a tensor that is none."""

    def __init__(self):
        super().__init__()
        self.body = plain()

    def forward(self, x):
        made = self.body(x)
        return {"first": made[:, :1] * 0, "answer": made}


def make():
    return Pair()


def answer(output, inputs):
    return output["answer"]


def other(output, inputs):
    return output["answer"][:, :2]


def raises(output, inputs):
    return output["nothing"]


def quits(output, inputs):
    sys.exit(0)


def text(output, inputs):
    return "answer"


def total(output, inputs):
    return output["answer"].sum()


def alone(output):
    return output


number = 3
'''


@pytest.fixture
def odd(files: Path) -> Path:
    """A network in odd.py whose outputs need a readout, with weights before and after training."""
    (files / "odd.py").write_text(ODD)
    from geomfeat.models.weights.checkpoints import load_factory, load_weights, save_weights

    for name in ("init", "final"):
        model = load_factory("odd.py:make")()
        load_weights(model.body, files / f"{name}.safetensors")  # type: ignore[arg-type]
        save_weights(model, files / f"odd-{name}.safetensors")
    return files


WORDS = ["--model", "odd.py:make", "--trained", "odd-final.safetensors", "--data", "npz:digits.npz", "--quiet"]
ANALYZE = ["analyze", *WORDS, "--initial", "odd-init.safetensors", "--out", "out", "--measures", "stable_rank",
           "--umap-layer", "none", "--probes", "8"]  # fmt: skip


def test_analyze_locates_what_the_readout_names(odd: Path, run: Run, analyze: Run) -> None:
    done = run(*ANALYZE, "--readout", "odd.py:answer")
    assert done.exit_code == 0, done.stderr
    plain = analyze("--measures", "stable_rank", out="plain")
    assert plain.exit_code == 0, plain.stderr
    found, wanted = Study.load("out"), Study.load("plain")
    assert found.location is not None
    assert wanted.location is not None
    assert found.location.richness == pytest.approx(wanted.location.richness, abs=1e-9)
    assert found.settings["accuracy"] == wanted.settings["accuracy"]
    again = run(*ANALYZE, "--readout", "odd.py:other")
    assert again.exit_code == 2
    assert "first readout:" in again.stderr


def test_a_readout_whose_file_has_changed_is_another_request(odd: Path, run: Run) -> None:
    (odd / "read.py").write_text("def read(output, inputs):\n    return output['answer']\n")
    words = [*ANALYZE, "--readout", "read.py:read"]
    assert run(*words).exit_code == 0
    first = len((odd / "out/parts/finished.jsonl").read_text().splitlines())
    (odd / "out/settings.json").unlink()  # as after an interruption
    (odd / "read.py").write_text("def read(output, inputs):\n    return 2 * output['answer']\n")
    assert run(*words).exit_code == 0
    assert len((odd / "out/parts/finished.jsonl").read_text().splitlines()) > first, "parts of the old one were taken"
    saved = json.loads((odd / "out/settings.json").read_text())["request"]["readout"]
    assert saved[0] == "read.py:read"
    assert len(saved[1]) == 64


def test_extract_and_compare_take_it(odd: Path, run: Run) -> None:
    done = run("extract", *WORDS, "--npz", "features.npz", "--readout", "odd.py:answer")
    assert done.exit_code == 0, done.stderr
    assert list(load_npz("features.npz")) == ["body.1", "body.3"]
    two = ["a=odd.py:make@odd-init.safetensors", "b=odd.py:make@odd-final.safetensors", "--data", "npz:digits.npz"]
    done = run("compare", *two, "--out", "ab", "--measures", "stable_rank", "--quiet", "--readout", "odd.py:answer")
    assert done.exit_code == 0, done.stderr
    assert set(Comparison.load("ab").layers["layer"]) == {"body.1", "body.3"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "KeyError: 'nothing'"),
        ("quits", "sys.exit(0)"),
        ("text", "returned str"),
        ("total", "returned one number"),
        ("alone", "must be a function of (output, inputs)"),
        ("number", "must be a function of (output, inputs)"),
        ("absent", "has no 'absent'"),
    ],
)
@pytest.mark.parametrize("words", [ANALYZE, ["extract", *WORDS, "--npz", "out.npz"]], ids=["analyze", "extract"])
def test_a_readout_that_fails_is_refused_by_name(
    odd: Path, run: Run, words: list[str], name: str, message: str
) -> None:
    done = run(*words, "--readout", f"odd.py:{name}")
    assert done.exit_code == 2, done.output
    [line] = done.stderr.strip().splitlines()
    assert f"readout='odd.py:{name}'" in line
    assert message in line
    assert not Path("out").exists()
    assert not Path("out.npz").exists()


def test_tokens_are_named_without_a_file() -> None:
    assert readout_of("last") == as_readout("last")
    with pytest.raises(BadInput, match=r"'lsat' is not known; near: .*last"):
        readout_of("lsat")


def test_no_readout_is_none() -> None:
    assert readout_of(None) is None


def test_it_is_called_with_outputs_and_inputs(odd: Path) -> None:
    read = readout_of("odd.py:answer")
    assert read is not None
    assert torch.equal(read({"answer": torch.ones(2, 3)}, torch.zeros(2, 1)), torch.ones(2, 3))
