"""What was trained decides the tangent space: frozen layers, flags, hints, zero branches, padding, kinds of layers."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, LayerDidNotFire
from geomfeat.location._locate import locate
from geomfeat.location.initial_states import observe, start_from
from geomfeat.location.options import LocateOptions
from geomfeat.location.reference_ladder import plan_ladder
from geomfeat.location.regimes import regime_of
from geomfeat.location.result import Location
from geomfeat.measures.network.feature_movement import feature_movement
from geomfeat.measures.network.kernel_change import kernel_relative_change
from geomfeat.measures.network.layer_drift import layer_drift
from geomfeat.measures.network.linearisation_gap import linearisation_gap
from geomfeat.measures.network.weight_movement import weight_movement
from geomfeat.models.functional import functional
from geomfeat.network import Network
from geomfeat.numerics import stream
from geomfeat.regimes.training import train_at_gamma
from geomfeat.tangent.tangent_space import TangentSpace, space_of_moved, space_without_start
from tests.measures.network.pairs import pair_of
from tests.reference.demand import demand_in

FAST = {"options": LocateOptions(n_bootstrap=2, share_left=0.01), "progress": False}
CLIMBING = {"options": LocateOptions(n_bootstrap=2), "progress": False}  # a ladder is measured over all shares


def inputs(n: int = 24, *shape: int) -> Tensor:
    return torch.randn(n, *(shape or (6,)), generator=stream(0, "what was trained"))


def drawn(build, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls some of its modules deprecated
        torch.manual_seed(seed)
        return build()


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


def trained(start: nn.Module, parts: Sequence[str] = ("",), size: float = 0.1) -> nn.Module:
    """A copy in which the parameters whose names begin so have moved."""
    end = copy.deepcopy(start)
    with torch.no_grad():
        for name, p in end.named_parameters():
            if name.startswith(tuple(parts)):
                p.add_(size * torch.randn(p.shape, generator=stream(0, "moved", name)))
    return end


@pytest.fixture(autouse=True)
def numpy_is_silent():
    """Arithmetic with infinities warns in numpy, and is an error here."""
    with np.errstate(all="raise", under="ignore"):
        yield


def test_the_demand_is_that_of_the_parameters_that_moved() -> None:
    start = drawn(net)
    end = trained(start, ("2", "4"))
    found = locate(end, inputs(), initial=start, options=LocateOptions(n_probes=24, n_bootstrap=2), progress=False)
    by_hand = demand_in(start, end, inputs(), ["2.weight", "2.bias", "4.weight", "4.bias"], "2")
    assert found.layers["richness"].tolist() == [-math.inf, pytest.approx(by_hand, abs=1e-3)]
    assert found.layers["regime"].tolist()[0] == "frozen"
    assert found.richness == found.layers["richness"][1]
    assert found.movement == found.layers["movement"][1]
    assert found.tangent == "243 of 355 parameters"
    assert any(flag.startswith("Tangent space: 243 of 355 parameters") for flag in found.flags)
    assert any("Frozen, and left out of every mean: 0," in flag for flag in found.flags)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_linear_probe_is_frozen_whatever_its_demand(dtype: torch.dtype) -> None:
    start = drawn(net)
    end = trained(start, ("4",), size=3.0).to(dtype)
    found = locate(end, inputs(), initial=start, **FAST)
    assert [found.regime, *found.layers["regime"]] == ["frozen"] * 3
    assert found.movement == -math.inf
    assert math.isnan(found.excess)
    assert math.isfinite(found.richness)
    assert found.tangent == "39 of 355 parameters"
    assert found.flags[0].startswith("Frozen: no feature of the hidden layers moved")
    again = Location.from_json(found.to_json())
    assert (again.tangent, again.movement, again.regime) == (found.tangent, -math.inf, "frozen")


def rounded(model: nn.Module, half: torch.dtype) -> nn.Module:
    model.load_state_dict({name: value.to(half) for name, value in model.state_dict().items()})
    return model


def rescaled(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.mul_(1 / 3).mul_(3)
    return model


@pytest.mark.parametrize(
    "change",
    [lambda end: rounded(end, torch.float16), lambda end: rounded(end, torch.bfloat16), rescaled],
    ids=["float16 widened", "bfloat16 widened", "last digits"],
)
def test_hidden_weights_that_differ_by_rounding_are_frozen(change) -> None:
    start = drawn(net)
    found = locate(change(trained(start, ("4",), size=10.0)), inputs(), initial=start, **FAST)
    assert [found.regime, *found.layers["regime"]] == ["frozen"] * 3
    assert found.tangent == "39 of 355 parameters"


def normed_net(norm) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(6, 16)), nn.Tanh(), norm(nn.Linear(16, 12)), nn.Tanh(), nn.Linear(12, 3))


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_other_tensors_that_make_the_same_weights_are_frozen(name: str) -> None:
    start = drawn(lambda: normed_net(getattr(nn.utils.parametrizations, name)))
    end = trained(start, ("4",), size=10.0)
    with torch.no_grad():
        for layer in (end[0], end[2]):
            if name == "weight_norm":
                layer.parametrizations.weight.original1.mul_(1.7)
            else:
                layer.train()(torch.ones(2, layer.in_features))
    found = locate(end.eval(), inputs(), initial=start.eval(), **FAST)
    assert [found.regime, *found.layers["regime"]] == ["frozen"] * 3


def test_a_small_movement_that_can_be_measured_is_an_ordinary_verdict() -> None:
    assert [regime_of(0.0, m) for m in (-14.0, -8.0, -6.0)] == ["transition"] * 3
    assert regime_of(2.0, -8.0) == "rich"
    assert regime_of(-8.0, -8.0) == "lazy"


@pytest.mark.parametrize(("dtype", "regime"), [(torch.float64, "rich"), (torch.float32, "frozen")])
def test_what_counts_as_rounding_depends_on_the_precision_of_the_weights(dtype: torch.dtype, regime: str) -> None:
    # The read-out learns; the hidden weights move by a hundred millionth of their size, the biases from zero.
    start = drawn(net).to(dtype)
    with torch.no_grad():
        start[0].bias.zero_(), start[2].bias.zero_()
    end = trained(start, ("4",), size=30.0)
    with torch.no_grad():
        for layer in (end[0], end[2]):
            layer.weight.mul_(1 + 1e-8)
            layer.bias.add_(1e-9)
    found = locate(end, inputs(), initial=start, **FAST)
    assert found.regime == regime
    assert set(found.layers["regime"]) == {regime}
    assert (found.movement == -math.inf) == (regime == "frozen")


@pytest.mark.parametrize("movement", [-math.inf])
def test_what_did_not_move_is_frozen_at_any_demand(movement: float) -> None:
    assert {regime_of(r, movement) for r in (-2.0, 0.0, 3.0, -math.inf)} == {"frozen"}
    assert [regime_of(-math.inf, m) for m in (-2.0, -0.4, 1.0)] == ["undetermined", "undetermined", "rich"]


@pytest.mark.parametrize("which", ["initial", "trained", "both", "a layer"])
def test_requires_grad_changes_no_number(which: str) -> None:
    start = drawn(net)
    end = trained(start)
    free = place_of_net()
    for model in {"initial": [start], "trained": [end], "both": [start, end], "a layer": [start[0]]}[which]:
        model.requires_grad_(False)
    held = locate(end, inputs(), initial=start, **FAST)
    assert held.layers.equals(free.layers)
    assert held.tangent == free.tangent == "355 of 355 parameters"
    for measure in (kernel_relative_change, linearisation_gap):
        free_row, held_row = (measure(pair_of(s, end, inputs()))[""] for s in (drawn(net), start))
        assert held_row == free_row


@cache
def place_of_net() -> Location:
    start = drawn(net)
    return locate(trained(start), inputs(), initial=start, **FAST)


def test_globs_and_predicates_name_the_parameters_instead() -> None:
    start = drawn(net)
    end = trained(start, ("4",))
    by_glob = locate(end, inputs(), initial=start, params=["2.*", "4.*"], **FAST)
    by_rule = locate(end, inputs(), initial=start, params=lambda name: not name.startswith("0"), **FAST)
    assert by_glob.tangent == by_rule.tangent == "243 of 355 parameters"
    assert by_glob.richness == by_rule.richness
    assert any("as params= says" in flag for flag in by_glob.flags)
    with pytest.raises(BadInput, match=r"params='fc\*' matches no parameter; near: .*0\.weight"):
        locate(end, inputs(), initial=start, params=["2.*", "fc*"], **FAST)


def test_without_the_start_flags_are_a_hint_that_is_stated() -> None:
    end = trained(drawn(net))
    assert space_without_start(end).whole
    assert space_without_start(copy.deepcopy(end).requires_grad_(False)).whole
    end[0].requires_grad_(False)
    found = locate(end, inputs(), **FAST)
    assert found.tier == "reinitialised"
    assert found.layers["regime"][0] == "frozen"
    assert found.tangent == "243 of 355 parameters"
    assert any("require a gradient, which is a guess" in flag for flag in found.flags)


def test_the_size_of_a_space_is_reported_in_words() -> None:
    sizes = {"a": 999_999, "b": 22_650_000, "c": 7_000_000_000}
    words = [TangentSpace(frozenset(names), sizes, "moved").words for names in ("a", "ab", "abc")]
    assert words == [
        "999,999 of 7.02 billion parameters", "23.6 million of 7.02 billion parameters",
        "7.02 billion of 7.02 billion parameters",
    ]  # fmt: skip
    start = drawn(net)
    assert space_of_moved(start, start).whole


def test_a_space_of_adapters_is_called_so() -> None:
    base, own, head = "a.parametrizations.weight.original", "a.parametrizations.weight.0.up", "head.weight"
    peft = ["q.base_layer.weight", "q.lora_A.default.weight", "q.lora_embedding_B"]
    sizes = dict.fromkeys((base, own, head, *peft), 1)

    def kind(*names: str) -> str:
        return TangentSpace(frozenset(names), sizes, "moved").words.partition(" of 6 parameters")[2]

    assert kind(own) == kind(*peft[1:]) == kind(own, peft[1]) == " (adapters)"
    assert kind(own, head) == kind(peft[1], head) == " (adapters and others)"
    assert kind(head) == kind(base) == kind(base, own) == kind(*sizes.keys() - {*peft[1:]}) == ""


def test_a_kernel_of_what_moved_stands_still_behind_a_frozen_trunk() -> None:
    start = drawn(net)
    pair = pair_of(start, trained(start, ("4",), size=3.0), inputs())
    row = kernel_relative_change(pair)[""]["relative_change"]
    assert row.value == pytest.approx(0, abs=1e-12)
    assert "tangent space: 39 of 355 parameters" in row.note
    assert linearisation_gap(pair)[""]["gap"].value == pytest.approx(0, abs=1e-12)


class Adapted(nn.Module):
    """A low-rank branch that starts at zero, before another hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.down, self.up = nn.Linear(6, 16), nn.Linear(16, 2, bias=False), nn.Linear(2, 16, bias=False)
        self.b, self.o = nn.Linear(16, 8), nn.Linear(8, 3)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.o(torch.tanh(self.b(torch.tanh(h + self.up(self.down(h))))))


def test_a_branch_that_starts_at_zero_is_left_out_with_a_note() -> None:
    start = drawn(Adapted)
    end = trained(start, ("up", "down"), size=0.3)
    found = locate(end, inputs(), initial=start, **FAST)
    assert found.layers["layer"].tolist() == ["a", "down", "b"]
    assert found.layers["regime"][0] == "frozen"
    assert math.isfinite(found.layers["richness"][2])
    assert found.details["left_out"] == ["up"]
    assert any(flag.startswith("Left out: up, zero on every probe at the start") for flag in found.flags)
    assert any("No demand on down" in flag for flag in found.flags)
    assert "up" not in locate(end, inputs(), initial=start, layers="leaf", **FAST).layers["layer"].tolist()
    with pytest.raises(BadInput, match="layer 'up' is zero on every probe at the start"):
        locate(end, inputs(), initial=start, layers=["a", "up"], **FAST)


def test_where_only_a_zero_branch_moved_the_place_is_undetermined() -> None:
    start = drawn(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), Block()))
    found = locate(trained(start, ("2.up",)), inputs(), initial=start, **FAST)
    assert found.regime == "undetermined"
    assert math.isfinite(found.richness)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.o = nn.Linear(16, 16), nn.Linear(16, 3)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Tensor) -> Tensor:
        return self.o(torch.tanh(h + self.up(h)))


@pytest.mark.parametrize("layers", ["*", "leaf"])
def test_a_network_that_starts_at_zero_by_doubling_is_located(layers: str) -> None:
    start = drawn(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1, bias=False)))
    with torch.no_grad():
        for p in (start[0].weight, start[0].bias):
            p[8:] = p[:8].clone()
        start[2].weight[:, 8:] = -start[2].weight[:, :8]
    end = trained(start)
    found = locate(
        end, inputs(), initial=start, layers=layers, options=LocateOptions(n_probes=24, n_bootstrap=2), progress=False
    )
    by_hand = demand_in(start, end, inputs(), ["0.weight", "0.bias", "2.weight"], "0")
    assert found.layers["richness"][0] == pytest.approx(by_hand, abs=1e-3)


def test_a_read_out_that_starts_at_zero_leaves_no_first_order_demand() -> None:
    start = drawn(net)
    nn.init.zeros_(start[4].weight)
    nn.init.zeros_(start[4].bias)
    found = locate(trained(start), inputs(), initial=start, **FAST)
    assert found.richness == found.low == found.high == -math.inf
    assert math.isfinite(found.movement)
    assert found.movement > -0.3
    assert found.regime == "rich"
    assert any(flag.startswith("No demand on 0, 2") for flag in found.flags)


class Texts(nn.Module):
    """Averages over valid tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.l, self.o = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        h, w = torch.tanh(self.l(self.e(input_ids))), attention_mask[..., None].to(self.o.weight.dtype)
        return self.o((h * w).sum(1) / w.sum(1))


def test_padding_is_no_feature() -> None:
    start = drawn(Texts)
    end = trained(start)
    ids = torch.randint(1, 20, (24, 6), generator=stream(0, "ids"))
    mask = torch.ones(24, 6, dtype=torch.long)
    mask[::2, 3:] = 0
    short = {"input_ids": ids * mask, "attention_mask": mask}
    zeros = torch.zeros(24, 9, dtype=torch.long)
    long = {name: torch.cat([value, zeros], 1) for name, value in short.items()}
    a, b = (locate(end, data, initial=start, **FAST) for data in (short, long))
    assert b.richness == pytest.approx(a.richness, abs=1e-6)
    assert b.movement == pytest.approx(a.movement, abs=1e-6)
    # By hand: only rows of valid tokens count.
    valid = mask.bool()
    with torch.no_grad():
        h0, h = (m.l(m.e(ids * mask))[valid] for m in (start, end))
    assert a.movement == pytest.approx(math.log10(float((h - h0).norm() / h0.norm())), abs=1e-5)
    for measure, layer, quantity in ((feature_movement, "l", "relative"), (layer_drift, "l", "total")):
        values = [measure(pair_of(start, end, data))[layer][quantity].value for data in (short, long)]
        assert values == [pytest.approx(10**a.movement, rel=1e-4)] * 2


class Sequences(nn.Module):
    """Packs sequences by their lengths, and reads the padded states through a layer that has a bias."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total
        self.r, self.l, self.o = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.r(packed)[0], batch_first=True, total_length=self.total)
        h = torch.tanh(self.l(states))
        valid = torch.arange(self.total, device=lengths.device) < lengths[:, None]
        return self.o((h * valid[:, :, None]).sum(1))


def test_padding_of_packed_sequences_is_no_feature() -> None:
    lengths = torch.arange(24) % 4 + 1
    x = torch.randn(24, 4, 3, generator=stream(0, "sequences")).sign()  # as exact in any precision
    found = []
    for total in (4, 11):
        start = drawn(lambda total=total: Sequences(total))
        end = trained(start, ["l.bias", "o"])
        data = (torch.cat([x, torch.zeros(24, total - 4, 3)], 1), lengths)
        where = locate(end, data, initial=start, layers=["l"], **FAST)
        pair = pair_of(start, end, data, layers=("l",))
        found.append([where.richness, where.movement, *(
            math.log10(measure(pair)["l"][quantity].value)
            for measure, quantity in ((feature_movement, "relative"), (layer_drift, "total"))
        )])  # fmt: skip
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    # By hand: only the valid states count.
    sizes = []
    for model in (start, end):
        with torch.no_grad():
            every = model.get_submodule("l")(model.get_submodule("r")(x)[0])
        sizes.append(torch.cat([every[i, :k] for i, k in enumerate(lengths.tolist())]))
    moved = math.log10(float((sizes[1] - sizes[0]).norm() / sizes[0].norm()))
    assert found[0][1:] == pytest.approx([moved] * 3, abs=1e-5)


NORMS = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": nn.utils.spectral_norm,
}


def normed(name: str) -> nn.Module:
    norm = NORMS[name]
    return nn.Sequential(norm(nn.Linear(6, 12)), nn.Tanh(), norm(nn.Linear(12, 8)), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("name", NORMS)
def test_weights_that_are_made_of_others_are_located_with_default_layers(name: str) -> None:
    start, end = drawn(lambda: normed(name), 0), drawn(lambda: normed(name), 1)
    for model in (start, end):
        model(inputs()).sum().backward()  # the older norms hold a weight with a history then
    found = locate(end, inputs(), initial=start, **FAST)
    assert found.layers["layer"].tolist() == ["0", "2"]
    assert math.isfinite(found.richness)
    fresh = locate(end, inputs(), **FAST)
    assert fresh.tier == "reinitialised"
    assert math.isfinite(fresh.richness)


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_the_length_of_a_direction_is_no_movement(norm) -> None:
    start = drawn(lambda: nn.Sequential(norm(nn.Linear(6, 12)), nn.Tanh(), nn.Linear(12, 3)))
    end = drawn(lambda: nn.Sequential(norm(nn.Linear(6, 12)), nn.Tanh(), nn.Linear(12, 3)))
    with torch.no_grad():
        dict(end.named_parameters())[
            "0.weight_v" if norm is nn.utils.weight_norm else "0.parametrizations.weight.original1"
        ].mul_(10)
    rows = weight_movement(pair_of(start, end, inputs(), layers=("0",)))
    for layer in ("", "0"):
        assert rows[layer]["frobenius"].value == pytest.approx(0, abs=1e-6)
    assert rows["0"]["spectral"].value == pytest.approx(0, abs=1e-6)


class LowRank(nn.Module):
    """A recurrent network of bare parameters, with one module called on its state."""

    def __init__(self) -> None:
        super().__init__()
        self.m, self.n = nn.Parameter(torch.randn(16, 2)), nn.Parameter(torch.randn(16, 2) / 4)
        self.i, self.o = nn.Parameter(torch.randn(6, 16) / 2), nn.Parameter(torch.randn(16, 3) / 4)
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 16, dtype=x.dtype)
        for _ in range(3):
            h = self.act(h @ self.n @ self.m.T / 4 + x @ self.i)
        return h @ self.o


class Blind(LowRank):
    """The same without a module on its state."""

    def __init__(self) -> None:
        super().__init__()
        del self.act
        self.act = torch.tanh


def test_bare_parameters_are_seen_where_a_module_is_called() -> None:
    start = drawn(LowRank)
    found = locate(trained(start), inputs(), initial=start, **FAST)
    assert found.layers["layer"].tolist() == ["act"]
    assert math.isfinite(found.richness)
    assert locate(trained(start), inputs(), factory=LowRank, **FAST).tier == "reinitialised"
    with pytest.raises(BadInput, match=r"cannot reset their parameters \(LowRank\): pass factory="):
        locate(trained(start), inputs(), **FAST)


def test_bare_parameters_that_no_module_shows_are_explained() -> None:
    start = drawn(Blind)
    with pytest.raises(BadInput, match=r"\(m, n, i, o\) are bare nn\.Parameters .*nn\.Identity"):
        locate(trained(start), inputs(), initial=start, **FAST)
    assert weight_movement(pair_of(start, trained(start), inputs(), layers=()))["m"]["spectral"].value > 0


def test_patterns_drop_what_is_never_called_and_names_do_not() -> None:
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        return nn.Sequential(nn.TransformerEncoder(layer, 1), nn.Flatten(), nn.Linear(40, 3))

    start = drawn(build)
    x = inputs(24, 5, 8)
    found = locate(trained(start), x, initial=start, layers="0.layers.0.*", **FAST)
    assert "0.layers.0.linear1" in found.layers["layer"].tolist()
    assert "0.layers.0.self_attn.out_proj" not in found.layers["layer"].tolist()
    with pytest.raises(LayerDidNotFire, match=r"self_attn\.out_proj"):
        locate(trained(start), x, initial=start, layers=["0.layers.0.self_attn.out_proj"], **FAST)
    with pytest.raises(BadInput, match="the network's output only"):
        locate(trained(start), x, initial=start, layers="re:^2$", **FAST)


def test_wrappers_of_data_parallelism_change_no_name() -> None:
    start = drawn(net)
    wrapped = locate(nn.DataParallel(trained(start)), inputs(), initial=start, **FAST)
    assert wrapped.layers.equals(place_of_net().layers)


def test_weights_without_values_are_refused() -> None:
    with torch.device("meta"):
        empty = net()
    for given in ({"trained": empty, "initial": drawn(net)}, {"trained": drawn(net), "initial": empty}):
        with pytest.raises(BadInput, match="meta device"):
            locate(given["trained"], inputs(), initial=given["initial"], **FAST)


def test_a_ladder_of_a_heavy_network_takes_all_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomfeat.network.HEAVY", 100)
    start = drawn(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 20)))
    x, y = inputs(), torch.arange(24) % 20
    end = trained(start)
    assert locate(end, x, y, initial=start, **FAST).details["projections"] == 4
    assert locate(end, x, y, initial=start, ladder=2, **CLIMBING).details["projections"] is None


def test_a_ladder_trains_what_was_trained_and_refuses_a_frozen_network() -> None:
    start = drawn(net)
    x, y = inputs(), torch.arange(24) % 3
    found = locate(trained(start.requires_grad_(False), ("2", "4")), x, y, initial=start, ladder=2, **CLIMBING)
    assert found.ladder is not None
    assert not found.layers["richness"].isna().any()
    frozen = trained(start, ("4",))
    observed = observe(Network.prepare(frozen, x, initial=start), y)
    with pytest.raises(BadInput, match="no hidden layer moved"):
        plan_ladder(start_from(start, observed), observed, 2)


def test_a_readout_may_be_named() -> None:
    start = drawn(net)
    end = trained(start)
    named = locate(end, inputs(), initial=start, readout="geomfeat.models.functional:output_matrix", **FAST)
    assert named.richness == place_of_net().richness


def test_flags_of_a_model_are_left_as_they_are() -> None:
    start = drawn(net)
    start[0].requires_grad_(False)
    locate(trained(start), inputs(), initial=start, **FAST)
    assert [p.requires_grad for p in start.parameters()] == [False] * 2 + [True] * 4
    assert len(functional(start).theta) == 4


def test_a_network_with_the_older_weight_norm_is_trained_as_it_is() -> None:
    start = drawn(lambda: normed("old weight_norm"))
    start(inputs()).sum().backward()
    x, y = inputs(), torch.arange(24) % 3
    end = train_at_gamma(start, x, y, gamma=1.0, max_steps=5).model
    assert math.isfinite(locate(end, x, y, initial=start, ladder=2, **CLIMBING).richness)


def test_parameters_are_named_as_a_wrapped_model_shows_them() -> None:
    start = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    end = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    space = space_of_moved(nn.DataParallel(start), nn.DataParallel(end), ["module.0.*", "1.bias"])
    assert space.names == {"0.weight", "0.bias", "1.bias"}


class Clipped(nn.Linear):
    """Keeps its weights small, in place, whenever it is called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.weight.data.clamp_(-0.2, 0.2)
        return super().forward(x)


def test_large_networks_that_change_their_weights_themselves_come_back_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geomfeat.network.HEAVY", 0)
    torch.manual_seed(0)
    start, end = (nn.Sequential(Clipped(6, 12), nn.Tanh(), nn.Linear(12, 3)) for _ in range(2))
    before = [{name: value.clone() for name, value in net.state_dict().items()} for net in (start, end)]
    assert float(before[0]["0.weight"].abs().max()) > 0.2
    locate(end, torch.randn(40, 6), initial=start, progress=False)
    for net, kept in zip((start, end), before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
