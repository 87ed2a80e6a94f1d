"""Which outputs are read of what a model returns, when logits lose their mean, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.functional import functional
from geomfeat.models.outputs import output_matrix
from geomfeat.models.readouts.reading import Reading, as_readout, reading_of, words_of
from tests.models.readouts.networks import TinyCausalLMOutput, TinyMaskedLMOutput, moved, padded, tiny

LOGITS = torch.arange(24, dtype=torch.float64).reshape(2, 4, 3).square()
INPUTS = {"attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])}
VALID = INPUTS["attention_mask"][..., None]
LAST = torch.stack([LOGITS[0, 1], LOGITS[1, 2]])


def less(values: Tensor) -> Tensor:
    """Values less their mean over classes."""
    return values - values.mean(-1, keepdim=True)


@pytest.mark.parametrize(
    ("output", "expected", "said"),
    [
        (TinyCausalLMOutput(LOGITS), less(LAST), "last token, logits less their mean"),
        (TinyMaskedLMOutput(LOGITS), less((LOGITS * VALID).sum(1) / VALID.sum(1)),
         "mean over tokens, logits less their mean"),
        ({"logits": LOGITS}, (less(LOGITS) * VALID).flatten(1)[:, :9],
         "all tokens but padding, logits less their mean"),
        ({"logits": LAST}, less(LAST), "logits less their mean"),
        ({"logits": LAST[:, :1]}, LAST[:, :1], "logits"),
        ({"last_hidden_state": LOGITS}, (LOGITS * VALID).sum(1) / VALID.sum(1), "mean over tokens, last hidden state"),
        (LOGITS, (LOGITS * VALID).flatten(1)[:, :9], "all tokens but padding, outputs"),
        (LAST, LAST, "outputs"),
        ({"logits": LOGITS, "encoder_last_hidden_state": LAST}, less(LOGITS).flatten(1), "logits less their mean"),
    ],
)  # fmt: skip
def test_the_usual_reading_of_what_models_return(output: Any, expected: Tensor, said: str) -> None:
    reading = reading_of(torch.nn.Identity(), inputs=INPUTS)
    torch.testing.assert_close(output_matrix(output, INPUTS, reading), expected, rtol=1e-14, atol=1e-14)
    assert words_of(reading, output, INPUTS) == said


@pytest.mark.parametrize(
    ("loss", "problem", "output", "expected"),
    [
        (None, "regression", {"logits": LAST}, LAST),
        (None, "multi_label_classification", {"logits": LAST}, LAST),
        (None, "single_label_classification", {"logits": LAST}, less(LAST)),
        ("mse", None, {"logits": LAST}, LAST),
        ("cross-entropy", None, LAST, less(LAST)),
        ("cross-entropy", None, LAST[:, :1], LAST[:, :1]),
        ("cross-entropy", None, {"last_hidden_state": LAST}, LAST),
        ("cross-entropy", "regression", {"logits": LAST}, less(LAST)),
    ],
)
def test_a_mean_is_taken_off_where_a_softmax_follows(
    loss: str | None, problem: str | None, output: Any, expected: Tensor
) -> None:
    reading = reading_of(tiny(problem=problem), None, loss)
    torch.testing.assert_close(output_matrix(output, None, reading), expected, rtol=1e-14, atol=1e-14)


def test_a_shift_that_no_softmax_sees_moves_no_location() -> None:
    start = tiny()
    end, shifted = moved(start), moved(start)
    with torch.no_grad():
        shifted.head.bias.add_(5.0)
        shifted.head.weight.add_(torch.randn(5, dtype=torch.float64))
    options = gf.LocateOptions(n_bootstrap=2)
    found = [gf.locate(net, padded(6), initial=start, options=options, progress=False) for net in (end, shifted)]
    assert found[0].readout == "last token, logits less their mean"
    assert f"outputs: {found[0].readout}" in str(found[0])
    assert set(found[0].to_frame()["readout"]) == {found[0].readout}
    assert gf.Location.from_json(found[0].to_json()).readout == found[0].readout
    assert found[0].richness == pytest.approx(found[1].richness, abs=1e-6)
    assert found[0].movement == pytest.approx(found[1].movement, abs=1e-12)


def test_what_is_trained_or_linearised_keeps_its_mean_and_a_function_decides_for_itself() -> None:
    net, inputs = tiny(), padded(6)
    logits = net(**inputs).logits.detach()
    last = logits[torch.arange(8), inputs["attention_mask"].sum(1) - 1]
    for readout in (None, "last"):
        f = functional(net, readout=readout)
        torch.testing.assert_close(f(f.theta, f.inputs(inputs)), last)
    assert reading_of(net, torch.sub) is torch.sub


@pytest.mark.parametrize("readout", ["last", "mean", "cls", "token:1", "token:-2", "masked"])
def test_kernels_by_name_are_those_of_the_function_that_indexes(readout: str) -> None:
    net, inputs = tiny(), padded(6)
    lengths = inputs["attention_mask"].sum(1)

    def by_hand(output: Any, given: Any) -> Tensor:
        mask, logits = given["attention_mask"], less(output.logits)
        ends, rows = mask.sum(1), torch.arange(len(mask))
        picked = {"last": ends - 1, "cls": 0 * ends, "token:1": 0 * ends + 1, "token:-2": ends - 2}
        if readout in picked:
            return logits[rows, picked[readout]]
        kept = logits * mask[..., None]
        return kept if readout == "masked" else kept.sum(1) / ends[:, None]

    assert int(lengths.min()) == 2
    found, expected = gf.ntk(net, inputs, readout=readout), gf.ntk(net, inputs, readout=by_hand)
    torch.testing.assert_close(found.gram, expected.gram, rtol=1e-12, atol=1e-12)
    assert found.meta["readout"].endswith(", logits less their mean")
    assert expected.meta["readout"].startswith("function ")


def test_names_are_refused_with_what_is_near_and_what_they_need() -> None:
    with pytest.raises(BadInput, match=r"readout='lats' is not known; near: .*last.*token:i"):
        as_readout("lats")
    with pytest.raises(BadInput, match=r"readout='last' picks tokens.*shape \(2, 2\): leave readout= out"):
        gf.ntk(torch.nn.Linear(3, 2), torch.ones(4, 3), readout="last")
    with pytest.raises(BadInput, match=r"attention_mask has shape \(2, 1, 4, 4\).*\(n, tokens\)"):
        as_readout("last")(LOGITS, {"attention_mask": torch.ones(2, 1, 4, 4)})
    with pytest.raises(BadInput, match=r"src_key_padding_mask has shape .*float32.*cannot be read"):
        as_readout("last")(LOGITS, {"src_key_padding_mask": torch.zeros(2, 4)})
    with pytest.raises(BadInput, match="negative values: give 1 for tokens"):
        as_readout("last")(LOGITS, {"attention_mask": torch.tensor([[0.0, -1e9]])})
    with pytest.raises(BadInput, match="mask has 3 tokens and the output 4"):
        as_readout("mean")(LOGITS, {"attention_mask": torch.ones(2, 3)})


def test_samples_of_padding_alone_are_refused_by_their_number_everywhere() -> None:
    net, inputs = tiny(), padded(6)
    inputs["attention_mask"][5] = 0
    calls = (
        lambda: gf.ntk(net, inputs),
        lambda: gf.locate(moved(net), inputs, initial=net, progress=False),
        lambda: gf.extract(net, inputs, progress=False),
        lambda: gf.analyze(moved(net), inputs, initial=net, progress=False),
    )
    for call in calls:
        with pytest.raises(BadInput, match=r"no valid token in sample\(s\) \[5\].*drop these samples"):
            call()


def test_a_reading_says_what_it_is() -> None:
    assert Reading(said="2 sampled tokens of each sequence").words(LAST, None).startswith("2 sampled")
    assert words_of(None, LAST, None) == "outputs"
