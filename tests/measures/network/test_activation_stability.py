"""Activation stability: which calls are gates, whose they are, and the share that stayed."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomfeat.measures.network._relu_gates import open_gates
from geomfeat.measures.network.activation_stability import activation_stability
from geomfeat.models.functional import functional
from geomfeat.models.mlp import mlp
from geomfeat.numerics import stream
from tests.measures.network.pairs import pair_of
from tests.zoo import nudged, zoo

X = torch.randn(70, 6, generator=stream(0, "probes"))


def test_equal_snapshots_keep_every_gate() -> None:
    model = mlp(6, (8, 8), 3)
    rows = activation_stability(pair_of(model, copy.deepcopy(model), X))
    assert {layer: row["stability"].value for layer, row in rows.items()} == {"": 1, "fc1": 1, "fc2": 1}


def test_a_negated_layer_flips_every_gate_and_a_scaled_one_none() -> None:
    model = mlp(6, (8, 8), 3, bias=False)
    for factor, first in ((-1.0, 0.0), (5.0, 1.0)):
        trained = copy.deepcopy(model)
        with torch.no_grad():
            trained.fc1.weight.mul_(factor)
        assert activation_stability(pair_of(model, trained, X))["fc1"]["stability"].value == first


def test_a_redrawn_network_keeps_half() -> None:
    a, b = (mlp(6, (400,), 3, seed=seed) for seed in (0, 1))
    assert activation_stability(pair_of(a, b, X))["fc1"]["stability"].value == pytest.approx(0.5, abs=0.05)


def test_equals_the_definition() -> None:
    model = mlp(6, (8, 7), 3)
    trained = nudged(model, 0.3)
    rows = activation_stability(pair_of(model, trained, X))
    means = []
    for layer, gate in (("fc1", "act1"), ("fc2", "act2")):
        signs = []
        for net in (model, trained):
            seen: list[torch.Tensor] = []
            net = copy.deepcopy(net).double()
            net.get_submodule(gate).register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0] > 0))
            net(X.double())
            signs.append(seen[0])
        same = (signs[0] == signs[1]).double().mean(1)
        means.append(same)
        assert rows[layer]["stability"].value == pytest.approx(float(same.mean()), rel=1e-12)
        assert rows[layer]["stability"].stderr == pytest.approx(float(same.std()) / 70**0.5, rel=1e-9)
    overall = torch.stack(means).mean(0)
    assert rows[""]["stability"].value == pytest.approx(float(overall.mean()), rel=1e-12)
    assert rows[""]["stability"].stderr == pytest.approx(float(overall.std()) / 70**0.5, rel=1e-9)


class Called(nn.Module):
    """One layer, then a plain call."""

    def __init__(self, gate) -> None:
        super().__init__()
        self.gate = gate
        self.fc = nn.Linear(6, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gate(self.fc(x)))


GATES = {
    "F.relu": F.relu, "in place": lambda h: F.relu(h, inplace=True), "torch.relu": torch.relu,
    "method": lambda h: h.relu(), "nn.ReLU": nn.ReLU(), "nn.ReLU in place": nn.ReLU(inplace=True),
    "leaky": nn.LeakyReLU(0.1), "relu6": nn.ReLU6(), "F.relu6": F.relu6, "prelu": nn.PReLU(), "elu": nn.ELU(),
    "gelu": nn.GELU(), "tanh gelu": nn.GELU("tanh"), "silu": nn.SiLU(inplace=True), "hardswish": nn.Hardswish(),
    "mish": nn.Mish(), "rrelu": nn.RReLU(), "celu": nn.CELU(), "selu": nn.SELU(), "threshold": nn.Threshold(0.0, 0.0),
}  # fmt: skip
NOT_GATES = {
    "tanh": torch.tanh, "sigmoid": nn.Sigmoid(), "hardtanh": nn.Hardtanh(), "softplus": nn.Softplus(),
    "identity": nn.Identity(), "clamped norm": lambda h: F.normalize(h), "threshold": nn.Threshold(0.1, 20.0),
}  # fmt: skip


@pytest.mark.parametrize("name", GATES)
def test_every_function_of_the_family_is_a_gate_with_its_true_input(name: str) -> None:
    model = Called(GATES[name])
    gates, _ = open_gates(functional(model), X.double(), ("fc",))
    assert [layer for layer, _ in gates] == ["fc"]
    assert torch.equal(gates[0][1], copy.deepcopy(model.fc).double()(X.double()) > 0)


@pytest.mark.parametrize("name", NOT_GATES)
def test_other_functions_are_not(name: str) -> None:
    model = Called(NOT_GATES[name])
    row = activation_stability(pair_of(model, nudged(model, 0.1), X, layers=("fc",)))
    assert not row[""]["stability"].ok
    assert not row["fc"]["stability"].ok
    assert "no ReLU-like function" in row[""]["stability"].note


def test_gates_see_what_normalisation_and_residual_sums_made_of_a_layer() -> None:
    case = next(c for c in zoo() if c.name == "residual")
    f = functional(case.model)
    gates, _ = open_gates(f, f.inputs(case.inputs), ("stem", "conv"))
    assert [layer for layer, _ in gates] == ["stem", "conv"]
    model = copy.deepcopy(case.model).double().eval()
    before = model.norm(model.stem(case.inputs.double()))
    h = before.relu()
    assert torch.equal(gates[0][1], before > 0)
    assert torch.equal(gates[1][1], h + model.conv(h) > 0)


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_every_kind_of_network_gives_shares_or_reasons(case) -> None:
    rows = activation_stability(pair_of(case.model, nudged(case.model, 0.2), case.inputs))
    has_gates = case.name in {"mlp", "frozen", "residual", "transformer"}
    assert rows[""]["stability"].ok == has_gates
    assert not has_gates or 0.5 < rows[""]["stability"].value < 1


def test_a_layer_without_a_gate_of_its_own_fails_alone() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    rows = activation_stability(pair_of(model, nudged(model, 0.1), X, layers=("0", "1")))
    assert not rows["0"]["stability"].ok
    assert rows["1"]["stability"].ok
    assert rows[""]["stability"].value == rows["1"]["stability"].value


def test_leaves_no_hooks() -> None:
    pair = pair_of(mlp(6, (8,), 3), mlp(6, (8,), 3), X)
    activation_stability(pair)
    assert not any(m._forward_hooks for m in pair.f_initial.model.modules())


class Masked(nn.Module):
    """A gate for every token, in several layouts, and padding that the mask, or packing, tells."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.fc, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        h = self.fc(ids)
        n, tokens, d = h.shape
        if self.layout == "channels first":
            h = F.relu(h.transpose(1, 2)).transpose(1, 2)
        elif self.layout == "time first":
            h = F.relu(h.transpose(0, 1)).transpose(0, 1)
        elif self.layout == "rows of tokens":
            h = F.relu(h.reshape(n * tokens, d)).reshape(n, tokens, d)
        else:
            h = F.relu(h)
        mask = attention_mask[:, :, None]
        return self.head((h * mask).sum(1) / mask.sum(1))


class Packed(nn.Module):
    """A recurrent network whose padded outputs pass a gate."""

    def __init__(self, total: int | None) -> None:
        super().__init__()
        self.total = total
        self.rnn, self.fc, self.head = nn.GRU(3, 3, batch_first=True), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=self.total)
        return self.head(F.relu(self.fc(out)).sum(1))


LENGTHS = torch.arange(20) % 5 + 1
STEPS = torch.randn(20, 7, 3, generator=stream(0, "steps"))


def stability_by_hand(models: list[nn.Module], before: list[torch.Tensor]) -> torch.Tensor:
    """Share of equal gates of each sample, over its valid steps, from the inputs (n, steps, 3) of the layer `fc`."""
    signs = [m.get_submodule("fc").double()(h.double()) > 0 for m, h in zip(models, before, strict=True)]
    return torch.stack([(signs[0][i, :k] == signs[1][i, :k]).double().mean() for i, k in enumerate(LENGTHS.tolist())])


@pytest.mark.parametrize("layout", ["tokens", "channels first", "time first", "rows of tokens"])
def test_padding_by_a_mask_has_no_gates(layout: str) -> None:
    model = Masked(layout)
    trained = nudged(model, 0.5)
    mask = torch.arange(7) < LENGTHS[:, None]
    for fill in (0.0, 1e3):
        x = torch.where(mask[:, :, None], STEPS, fill)
        pair = replace(pair_of(model, trained, {"ids": x, "attention_mask": mask.long()}), layers=("fc",))
        found = activation_stability(pair)["fc"]["stability"]
        expected = stability_by_hand([copy.deepcopy(model), copy.deepcopy(trained)], [x, x])
        assert found.value == pytest.approx(float(expected.mean()), rel=1e-12)
        assert found.stderr == pytest.approx(float(expected.std()) / 20**0.5, rel=1e-9)


@pytest.mark.parametrize("total", [None, 7])
def test_padding_of_packed_sequences_has_no_gates(total: int | None) -> None:
    model = Packed(total)
    trained = nudged(model, 0.5)
    pair = replace(pair_of(model, trained, (STEPS, LENGTHS)), layers=("fc",))
    states = []
    for net in (copy.deepcopy(model).double(), copy.deepcopy(trained).double()):
        with torch.no_grad():
            states.append(net.get_submodule("rnn")(STEPS.double())[0])
    expected = stability_by_hand([copy.deepcopy(model), copy.deepcopy(trained)], states)
    found = activation_stability(pair)["fc"]["stability"]
    assert found.value == pytest.approx(float(expected.mean()), rel=1e-9)


def test_samples_of_padding_alone_are_refused() -> None:
    model = Masked("tokens")
    trained = nudged(model, 0.5)
    mask = torch.arange(7) < LENGTHS[:, None]
    mask[3:] = False
    pair = replace(pair_of(model, trained, {"ids": STEPS, "attention_mask": mask.long()}), layers=("fc",))
    assert "no valid token in sample(s) [3, 4, 5, 6, 7] and 12 more" in activation_stability(pair)[""]["stability"].note
