"""Forecasts of language models: every token is a sample, as the same beginnings given one by one are."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.forecasting.start import training_start
from geomfeat.forecasting.token_samples import token_samples
from geomfeat.models.readouts.reading import Reading, as_readout
from geomfeat.regimes.training.token_targets import next_tokens
from tests.models.readouts.networks import padded, tiny

LITTLE = gf.ForecastOptions(n_bootstrap=2)


class Causal(nn.Module):
    """Logits (n, tokens, V) of a running mean of embeddings; `whole`: of the mean over the sequence."""

    def __init__(self, whole: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.hidden, self.head = nn.Embedding(5, 6), nn.Linear(6, 8), nn.Linear(8, 5)
        self.whole = whole

    def forward(self, ids: Tensor) -> Tensor:
        summed = self.embed(ids).cumsum(1) / torch.arange(1, ids.shape[1] + 1)[:, None]
        summed = summed[:, -1:].expand_as(summed) if self.whole else summed
        return self.head(torch.tanh(self.hidden(summed)))


class AtTheEnd(Causal):
    """Logits (n, V) after a beginning of given length: what is behind it is not looked at."""

    def forward(self, ids: Tensor, length: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        at = torch.arange(ids.shape[1])
        inside = (at < length[:, None])[..., None]
        summed = (self.embed(ids) * inside).cumsum(1) / (at + 1)[:, None]
        kept = torch.tanh(self.hidden(summed))
        return (self.head(kept) * (at == length[:, None] - 1)[..., None]).sum(1)


def ids(n: int = 6, tokens: int = 4) -> Tensor:
    return torch.randint(0, 5, (n, tokens), generator=torch.Generator().manual_seed(1))


@cache
def by_token() -> gf.Forecast:
    return gf.forecast(Causal(), ids(), next_tokens(ids()), loss="cross-entropy", target_loss=0.8, options=LITTLE)


def test_tokens_are_forecasted_as_their_beginnings_one_by_one() -> None:
    """Outputs, curvature and time of the flow are those of 18 samples; so are the layers of one value a sequence."""
    x, y = ids(), next_tokens(ids())
    rows, at = (y != -100).nonzero().T
    alone = gf.forecast(
        AtTheEnd(), (x[rows], at + 1), y[rows, at], loss="cross-entropy", target_loss=0.8, options=LITTLE,
    )  # fmt: skip
    for name in ("initial_loss", "loss_reached", "time", "curvature"):
        assert getattr(by_token(), name) == pytest.approx(getattr(alone, name), rel=1e-6), name
    assert by_token().details["n_probes"] == alone.details["n_probes"] == 18
    assert by_token().readout == "all tokens as samples, outputs less their mean"
    assert by_token().kernel_demand == pytest.approx(alone.kernel_demand, abs=1e-5)


def test_features_are_those_of_the_beginning_alone() -> None:
    """Demand by layer, of beginnings that end at their own last token, needs no mask: one length at a time."""
    x, y = ids(tokens=6), torch.full((6, 6), -100)
    y[:, 3] = x[:, 4]
    tokens = gf.forecast(Causal(), x, y, loss="cross-entropy", target_loss=0.5, options=LITTLE)
    cut = gf.forecast(
        Causal(), x[:, :4], y[:, 3], loss="cross-entropy", target_loss=0.5, options=LITTLE,
        readout="last",
    )  # fmt: skip
    assert tokens.richness == pytest.approx(cut.richness, abs=1e-6)
    assert tokens.layers["richness"].tolist() == pytest.approx(cut.layers["richness"].tolist(), abs=1e-6)
    assert tokens.kernel_demand == pytest.approx(cut.kernel_demand, abs=1e-5)


def test_labels_of_transformers_are_shifted_and_padding_is_left_out() -> None:
    inputs = padded(6)
    labels = inputs["input_ids"].clone()
    mine = token_samples(tiny(), Reading(), inputs, next_tokens(inputs), 0)
    theirs = token_samples(tiny(), Reading(), {**inputs, "labels": labels}, labels, 0)
    assert torch.equal(mine.targets, theirs.targets)
    assert torch.equal(mine.rows, theirs.rows)
    assert theirs.notes[0].startswith("targets are the tokens themselves")
    assert mine.notes == ()
    assert "labels" not in theirs.inputs
    lengths = inputs["attention_mask"].sum(1)
    assert mine.rows.bincount(minlength=len(lengths)).tolist() == (lengths - 1).tolist()
    ends = mine.inputs["attention_mask"].sum(1)
    following = inputs["input_ids"][mine.rows, ends]
    assert torch.equal(following, mine.targets)
    unknown = next_tokens(inputs)
    unknown[0] = -100
    assert 0 not in token_samples(tiny(), Reading(), inputs, unknown, 0).rows


def test_tokens_are_sampled_by_the_seed_and_said() -> None:
    x, y = ids(tokens=8), next_tokens(ids(tokens=8))
    some = gf.forecast(
        Causal(), x, y, loss="cross-entropy", target_loss=0.8, readout="tokens:3", options=LITTLE
    )  # fmt: skip
    assert some.details["n_probes"] == 18
    assert some.readout.startswith("up to 3 sampled tokens of each sequence as samples")
    one, two, three = (token_samples(Causal(), as_readout("tokens:3"), x, y, seed) for seed in (0, 0, 1))
    assert torch.equal(one.inputs["attention_mask"], two.inputs["attention_mask"])
    assert not torch.equal(one.inputs["attention_mask"], three.inputs["attention_mask"])
    assert one.rows.bincount().tolist() == [3] * 6


def test_a_forecast_of_tokens_holds_after_training_on_them() -> None:
    """A linear network of tokens: the loss of all tokens, and the movement, are those of a small-step training."""
    x, y = ids(), next_tokens(ids())
    net = Causal()
    net.requires_grad_(False)
    net.head.requires_grad_(True)
    sgd = torch.optim.SGD(net.head.parameters(), lr=0.05)
    expected = gf.forecast(net, x, y, loss="cross-entropy", optimizer=sgd, n_steps=200, options=LITTLE)
    run = gf.train_plainly(
        net, x, y, options=gf.PlainOptions(optimizer="sgd", lr=0.05, max_steps=200)
    )  # fmt: skip
    assert expected.loss_reached == pytest.approx(run.train_loss, abs=5e-3)
    assert expected.initial_loss > expected.loss_reached + 0.02


def test_the_interval_is_over_whole_sequences() -> None:
    ask: Any = {"loss": "cross-entropy", "optimizer": None, "readout": None, "seed": 0, "options": LITTLE}
    start = training_start(Causal(), ids(), next_tokens(ids()), **ask)
    assert start.groups is not None
    assert start.groups.tolist() == [k for k in range(6) for _ in range(3)]
    two = training_start(Causal(), ids(2, 6), next_tokens(ids(2, 6)), **ask)
    assert two.groups is None
    assert math.isfinite(by_token().low)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "read-out": ({"readout": "last"}, "which no readout= chooses"),
    "floats": ({"inputs": torch.ones(6, 4)}, "inputs must be token ids"),
    "shape": ({"targets": torch.ones(6, 3, dtype=torch.long)}, "give a target for each token"),
    "none": ({"targets": torch.full((6, 4), -100)}, "name no token"),
    "range": ({"targets": torch.full((6, 4), 7)}, "a larger vocabulary"),
    "ahead": ({"model": Causal(whole=True)}, "depends on later ones"),
    "model": ({"model": nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 5))}, "the model must return"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    changed, message = BAD[case]
    given: dict[str, Any] = {"model": Causal(), "inputs": ids(), "targets": next_tokens(ids()), "loss": "cross-entropy"}
    with pytest.raises(BadInput, match=message.replace("(", r"\(")):
        gf.forecast(**{**given, **changed}, target_loss=0.8, options=LITTLE)
