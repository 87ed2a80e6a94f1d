"""Rows of a layer are the samples: what sorts, mixes, pads or draws is named; what only rounds is not."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from geomfeat.activations import ExtractOptions, extract, hidden_weight_layers, recording
from geomfeat.errors import BadInput
from geomfeat.numerics import tolerance

CLOSE = tolerance(torch.float32)
N, STEPS, WIDTH = 20, 7, 5
X = torch.randn(N, STEPS, WIDTH, generator=torch.Generator().manual_seed(0))
LENGTHS = {
    "mixed": torch.arange(N) * 3 % STEPS + 1,
    "descending": STEPS - torch.arange(N) * STEPS // N,
    "ascending": torch.arange(N) * STEPS // N + 1,
}


def seeded(build: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


class Packed(nn.Module):
    """A recurrent layer over packed sequences, its states read out by one more layer that is given them packed."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, **options: Any) -> None:
        super().__init__()
        self.rnn, self.after = kind(WIDTH, 6, batch_first=True, **options), nn.Identity()

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        states = self.rnn(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))[0]
        return pad_packed_sequence(self.after(states), batch_first=True)[0].sum(1)


def states_alone(net: Packed, lengths: Tensor) -> list[Tensor]:
    """The states of every sequence by itself, without padding."""
    with torch.no_grad():
        return [net.rnn(X[k : k + 1, : lengths[k]])[0][0] for k in range(N)]


# Kinds and options with one order of lengths, the other orders with a plain network.
PACKED = [
    (kind, options, order)
    for kind in (nn.GRU, nn.LSTM, nn.RNN)
    for options in ({}, {"bidirectional": True}, {"num_layers": 2})
    for order in LENGTHS
    if order == "mixed" or (kind is nn.LSTM and not options)
]


@pytest.mark.parametrize(("kind", "options", "order"), PACKED, ids=str)
def test_packed_sequences_are_read_up_to_their_lengths(kind: Any, options: dict[str, Any], order: str) -> None:
    net, lengths = seeded(lambda: Packed(kind, **options)), LENGTHS[order]
    alone = states_alone(net, lengths)
    for how, expected in {
        "last": torch.stack([rows[-1] for rows in alone]),
        "cls": torch.stack([rows[0] for rows in alone]),
        "token_mean": torch.stack([rows.mean(0) for rows in alone]),
        "token_all": torch.cat(alone),
    }.items():
        found = extract(
            net,
            (X, lengths),
            layers=["rnn[0]", "after"],
            reduce=how,
            progress=False,
            options=ExtractOptions(batch_size=8),
        )
        assert_close(found["rnn[0]"].x, expected, **CLOSE)
        assert_close(found["after"].x, expected, **CLOSE)
        given = extract(
            net, (X, lengths), layers="after", reduce=how, progress=False, options=ExtractOptions(io="input")
        )
        assert_close(next(iter(given.values())).x, expected, **CLOSE)
    assert found["rnn[0]"].meta["tokens_per_sample"] == lengths.tolist()


def test_final_states_of_a_packed_layer_are_in_the_order_of_the_samples() -> None:
    net, lengths = seeded(Packed), LENGTHS["mixed"]
    final = extract(net, (X, lengths), layers="rnn[1]", progress=False)["rnn[1]"].x
    assert_close(final, torch.stack([rows[-1] for rows in states_alone(net, lengths)]), **CLOSE)


def test_a_padded_step_cannot_be_asked_for_by_its_number() -> None:
    net, lengths = seeded(Packed), LENGTHS["mixed"]
    with pytest.raises(BadInput, match=r"layer 'after': reduce='token\(6\)' is padding"):
        extract(net, (X, lengths), layers="after", reduce="token(6)", progress=False)


def test_tokens_of_packed_sequences_go_into_a_store_with_their_mask_only(tmp_path: Any) -> None:
    net, lengths = seeded(Packed), LENGTHS["mixed"]
    arguments: dict[str, Any] = {"layers": "after", "reduce": "token_all", "progress": False}
    with pytest.raises(BadInput, match="layer 'after' returns sequences of several lengths, which a store cannot hold"):
        extract(net, (X, lengths), store=tmp_path / "without", **arguments)
    mask = torch.arange(STEPS) < lengths[:, None]
    kept = extract(
        net, (X, lengths), store=tmp_path / "with", options=ExtractOptions(mask=mask, batch_size=10), **arguments
    )["after"]
    assert_close(kept.x, torch.cat(states_alone(net, lengths)), **CLOSE)


def test_recording_fills_the_lengths_of_packed_sequences() -> None:
    net, lengths = seeded(Packed), LENGTHS["mixed"]
    found: dict[str, Tensor] = {}
    with recording(net, ["rnn", "after"], lengths=found) as seen:
        net(X, lengths)
    assert {key: value.tolist() for key, value in found.items()} == dict.fromkeys(["rnn[0]", "after"], lengths.tolist())
    assert seen["after"].shape == (N, STEPS, 6)


class Sorting(nn.Module):
    """Sorts its batch by length, computes, and puts the outputs back; the layer inside sees sorted samples."""

    def __init__(self, back: bool = True) -> None:
        super().__init__()
        self.inside, self.out, self.back = nn.Linear(WIDTH, 6), nn.Linear(6, 2), back

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        order = lengths.argsort(descending=True, stable=True)
        hidden = torch.tanh(self.inside(x.mean(1)[order]))
        return self.out(hidden[order.argsort()] if self.back else hidden)


@pytest.mark.parametrize("order", LENGTHS)
def test_a_layer_inside_a_sorted_part_is_refused_with_what_was_seen(order: str) -> None:
    net = seeded(Sorting)
    with pytest.raises(BadInput, match=r"layer 'inside': .*order.*batch_size=1"):
        extract(net, (X, LENGTHS[order]), layers="inside", progress=False)
    assert list(extract(net, (X, LENGTHS[order]), layers="out", progress=False)) == ["out"]


def uneven(n: int, *others: int) -> tuple[Tensor, Tensor]:
    """Samples of one length but for a few, which no even choice of seven meets."""
    x = torch.randn(n, STEPS, WIDTH, generator=torch.Generator().manual_seed(1))
    lengths = torch.full((n,), 4)
    lengths[list(others)] = torch.arange(len(others)) % 3 + 5
    return x, lengths


def test_samples_of_a_rare_length_are_among_those_that_are_checked() -> None:
    with pytest.raises(BadInput, match=r"layer 'inside': .*order"):
        extract(seeded(Sorting), uneven(200, 11, 57, 58), layers="inside", progress=False)


@pytest.mark.parametrize("others", [(11, 40), (100, 101, 150)], ids=["at the beginning", "in a later batch"])
def test_a_rare_length_in_a_stream_is_met(others: tuple[int, ...]) -> None:
    loader = DataLoader(TensorDataset(*uneven(200, *others)), batch_size=32)
    with pytest.raises(BadInput, match=r"layer 'inside': .*order"):
        extract(seeded(Sorting), loader, layers="inside", progress=False)
    inputs = uneven(200, *others)
    streamed, held = (extract(seeded(Sorting), given, layers="out", progress=False) for given in (loader, inputs))
    assert_close(streamed["out"].x, held["out"].x, **CLOSE)


def test_patterns_leave_such_a_layer_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    net = seeded(Sorting)
    with caplog.at_level(logging.WARNING, logger="geomfeat"):
        assert list(extract(net, (X, LENGTHS["mixed"]), progress=False)) == ["out"]
    assert "left out: layer 'inside': its rows are not in the order of the samples" in caplog.text


def test_one_sample_at_a_time_needs_no_order() -> None:
    net = seeded(Sorting)
    found = extract(net, (X, LENGTHS["mixed"]), layers="inside", progress=False, options=ExtractOptions(batch_size=1))[
        "inside"
    ].x
    assert_close(found, net.inside(X.mean(1)).detach(), **CLOSE)


def test_outputs_in_another_order_are_refused() -> None:
    class Unrestored(Sorting):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.out(torch.tanh(self.inside(x.mean(1))))[lengths.argsort()]

    net, inputs = seeded(Unrestored), (X, LENGTHS["mixed"])
    assert list(extract(net, inputs, progress=False)) == ["inside", "out"]
    with pytest.raises(BadInput, match="the network's output: its rows are not in the order of the samples"):
        extract(net, inputs, layers="inside", progress=False, options=ExtractOptions(with_outputs=True))


class Recurrent(nn.Module):
    """A recurrent layer, read out at every step; time first unless said otherwise."""

    def __init__(self, kind: Any = nn.GRU, batch_first: bool = False) -> None:
        super().__init__()
        self.rnn, self.out = kind(WIDTH, 6, batch_first=batch_first), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


class Attending(nn.Module):
    """Attention over (tokens, samples, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2)
        self.inside, self.out = nn.Linear(WIDTH, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inside(x)
        return self.out(self.attention(hidden, hidden, hidden)[0])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("layers", ["*", "rnn[0]", "out", "weights"])
def test_samples_on_the_time_axis_are_refused(kind: Any, layers: str) -> None:
    net = seeded(lambda: Recurrent(kind))
    for inputs in (X, X.transpose(0, 1)):  # whichever axis was meant, the first one is time
        with pytest.raises(BadInput, match=r"layer 'rnn' is an? \w+ with batch_first=False, .* time.*batch_dim=1"):
            extract(net, inputs, layers=layers, progress=False)
        with pytest.raises(BadInput, match="batch_first=False"):
            hidden_weight_layers(net, inputs)


def test_attention_over_the_samples_is_refused() -> None:
    with pytest.raises(BadInput, match=r"layer 'attention' is a.* with batch_first=False, .* tokens"):
        extract(seeded(Attending), X, layers="attention", progress=False)


@pytest.mark.parametrize("build", [Recurrent, lambda: Recurrent(nn.LSTM), Attending])
def test_batch_dim_says_where_the_samples_are(build: Any) -> None:
    net = seeded(build)
    twin = seeded(build)
    for module in twin.modules():
        if hasattr(module, "batch_first"):
            module.batch_first = True
    for how in ("flatten", "last", "token_mean"):
        options = ExtractOptions(batch_size=8, with_outputs=True)
        expected = extract(twin, X, reduce=how, progress=False, options=options)
        turned = replace(options, batch_dim=1)
        found = extract(net, X.transpose(0, 1), reduce=how, progress=False, options=turned)
        assert list(found) == list(expected)
        for key, rep in expected.items():
            assert_close(found[key].x, rep.x, **CLOSE)
            assert_close(found[key].outputs, rep.outputs, **CLOSE)


def test_batch_dim_leaves_the_lengths_beside_the_sequences_alone(tmp_path: Any) -> None:
    class TimeFirst(Packed):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return super().forward(x.transpose(0, 1), lengths)

    net, lengths = seeded(TimeFirst), LENGTHS["mixed"]
    arguments: dict[str, Any] = {"layers": "after", "reduce": "last", "progress": False}
    options = ExtractOptions(batch_dim=1)
    found = extract(net, (X.transpose(0, 1), lengths), options=options, **arguments)["after"]
    assert_close(found.x, torch.stack([rows[-1] for rows in states_alone(net, lengths)]), **CLOSE)
    stored = extract(
        net, (X.transpose(0, 1), lengths), store=tmp_path, options=replace(options, batch_size=8), **arguments
    )["after"]
    assert_close(stored.x, found.x, **CLOSE)


class Mixing(nn.Module):
    """Every sample is compared with the mean of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(WIDTH, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.before(x)
        return self.after(hidden - hidden.mean(0))


def test_a_layer_that_compares_the_samples_of_a_batch_is_refused() -> None:
    net, x = seeded(Mixing), X[:, 0]
    with pytest.raises(BadInput, match=r"layer 'after': the features of a sample depend on .* the other samples"):
        extract(net, x, layers="after", progress=False)
    assert list(extract(net, x, progress=False)) == ["before"]


def test_padding_taken_for_data_is_reported() -> None:
    class Trimmed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = nn.Identity()

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.cut((x * (torch.arange(STEPS) < lengths[:, None])[..., None])[:, : int(lengths.max())]).sum(1)

    lengths = LENGTHS["ascending"]
    short = lengths.clone()
    short[-1] = 2
    with pytest.raises(
        BadInput, match=r"layer 'cut': its length.*padding is taken for data. Pass ExtractOptions\(mask="
    ):
        extract(Trimmed(), (X, short), layers="cut", reduce="token_mean", progress=False)


def test_statistics_of_the_batch_in_a_norm_are_reported_and_taken(caplog: pytest.LogCaptureFixture) -> None:
    net, x = nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.ReLU()), X[:, 0]
    with caplog.at_level(logging.WARNING, logger="geomfeat"):
        assert list(extract(net, x, progress=False)) == ["0", "1", "2"]
    assert "layer '1' depends on the other samples of a batch, through a norm without running statistics" in caplog.text
    caplog.clear()
    usual = nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6), nn.ReLU())
    extract(usual, x, progress=False)
    assert caplog.text == ""


def test_a_model_that_draws_in_evaluation_is_called_random_not_batch_dependent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(WIDTH, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.dropout(torch.tanh(self.a(x))))

    with caplog.at_level(logging.WARNING, logger="geomfeat"):
        assert list(extract(seeded(Dropping), X[:, 0], progress=False)) == ["a", "b"]
    assert "layer 'b' differs between two passes of the same inputs: the model draws random numbers" in caplog.text
    assert "'a'" not in caplog.text


@pytest.mark.parametrize("tokens", [False, True])
def test_an_output_that_cancels_to_rounding_is_no_mixing(tokens: bool, caplog: pytest.LogCaptureFixture) -> None:
    class Doubled(nn.Module):
        """f(x) - f(x) by two equal networks whose sums are taken in different orders: rounding noise around 0."""

        def __init__(self) -> None:
            super().__init__()
            first = nn.Embedding(50, 300) if tokens else nn.Linear(WIDTH, 300)
            self.first, self.one, self.two = first, nn.Linear(300, 300), nn.Linear(300, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.one(self.first(x)))
            return 100 * (self.two(h) - (h[..., :150] @ self.two.weight[:, :150].T
                                         + h[..., 150:] @ self.two.weight[:, 150:].T + self.two.bias))  # fmt: skip

    net = seeded(Doubled)
    x = torch.arange(N) % 50 if tokens else X[:, 0]
    with caplog.at_level(logging.WARNING, logger="geomfeat"):
        found = extract(net, x, layers=["", "one"], progress=False, options=ExtractOptions(with_outputs=True))
    assert float(found[""].x.abs().max()) < 1e-3
    assert caplog.text == ""


def test_a_chaotic_network_whose_rounding_grows_is_no_mixing() -> None:
    class Chaotic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.out = nn.Linear(100, 100, bias=False), nn.Identity()
            nn.init.normal_(self.w.weight, std=0.4)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(150):
                x = torch.tanh(self.w(x))
            return self.out(x)

    x = torch.randn(30, 100, generator=torch.Generator().manual_seed(1))
    net = seeded(Chaotic)
    with torch.no_grad():
        apart = float((net(x + 1e-7) - net(x)).abs().max())
    assert apart > 1  # rounding alone has grown to the size of the features
    assert list(extract(net, x, layers="out", progress=False)) == ["out"]


def test_layers_of_very_different_sizes_are_all_checked() -> None:
    class Scaled(Sorting):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return super().forward(1e-3 * x, lengths)

    with pytest.raises(BadInput, match=r"layer 'inside': .*order"):
        extract(seeded(Scaled), (X, LENGTHS["mixed"]), layers=["inside", "out"], progress=False)
