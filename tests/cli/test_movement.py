"""`geomfeat movement`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import geomfeat as gf
from tests.cli.conftest import Run
from tests.study.small import digits, model_at

ENDS = ["--model", "net.py:make", "--trained", "final.safetensors", "--initial", "init.safetensors"]
DATA = ["--data", "npz:digits.npz"]


def test_it_prints_and_writes_what_python_gives(files: Path, run: Run) -> None:
    result = run("movement", *ENDS, *DATA, "--out", "moved.parquet", "--layers", "1", "--layers", "3", "--n", 0)
    assert result.exit_code == 0, result.stderr
    x, y = digits(30)
    expected = gf.movement(model_at(2), x, y, initial=model_at(0), layers=["1", "3"], progress=False)
    written = pd.read_parquet("moved.parquet")
    pd.testing.assert_frame_equal(written, expected.to_frame(), check_exact=False, rtol=1e-5)
    assert result.stdout.startswith(str(expected).partition("\n")[0])
    assert f"note: {expected.flags[0]}" in result.stdout


def test_folders_are_read_one_block_at_a_time(files: Path, run: Run) -> None:
    config = GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    for name, seed in (("before", 0), ("after", 1)):
        torch.manual_seed(seed)
        GPT2LMHeadModel(config).save_pretrained(files / name)
    tokens = torch.randint(0, 11, (6, 5), generator=torch.Generator().manual_seed(0))
    (files / "tokens.py").write_text(f"import torch\n\ndef data():\n    return torch.tensor({tokens.tolist()})\n")
    words = ["hf:after", "--initial", "hf:before", "--data", "tokens.py:data"]
    found = [run("movement", *words, *more) for more in ([], ["--stream"])]
    assert [result.exit_code for result in found] == [0, 0], found[0].stderr + found[1].stderr
    assert found[0].stdout == found[1].stdout
    assert "transformer.h.1" in found[0].stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (ENDS[:4], "--initial is missing"),
        ([*ENDS[:2], *ENDS[4:]], "--trained is missing"),
        ([*ENDS, "--out", "moved.csv"], "name a file that ends in .parquet"),
        ([*ENDS, "--stream"], "give both as hf:FOLDER"),
        ([*ENDS[:4], "--initial", "none.safetensors"], "none.safetensors"),
        ([*ENDS[:5], "final.safetensors"], "all weights of initial and model are equal"),
    ],
)
def test_what_does_not_fit_is_named(files: Path, run: Run, words: list[str], said: str) -> None:
    result = run("movement", *words, *DATA)
    assert result.exit_code == 2
    assert said in result.stderr
