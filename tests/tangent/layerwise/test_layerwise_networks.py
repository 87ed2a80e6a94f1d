"""Tangent kernels of networks as people bring them: complex weights, single precision inside, random outputs, ..."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.functional import functional
from geomfeat.numerics import stream, tolerance
from geomfeat.regimes.linearization import linearize
from geomfeat.tangent import jacobian, jvp, ntk_by_parameter_group, ntk_diagonal, ntk_spectrum, vjp

F32 = torch.float32


def normal(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, generator=stream(0, "networks", name))


def by_autograd(model: nn.Module, x: Any) -> Tensor:
    """The trace kernel, one output at a time, in the model's own precision; complex weights as pairs."""
    outputs = model(*x) if isinstance(x, tuple) else model(x)
    n = outputs.shape[0]
    rows = []
    for output in outputs.flatten():
        grads = torch.autograd.grad(output, list(model.parameters()), retain_graph=True, allow_unused=True)
        dense = [g.to_dense() if g.is_sparse else g for g in grads if g is not None]
        rows.append(torch.cat([torch.view_as_real(g.resolve_conj()).flatten() if g.is_complex() else g.flatten()
                               for g in dense]))  # fmt: skip
    j = torch.stack(rows).double().view(n, -1, len(rows[0]))
    return torch.einsum("acp,bcp->ab", j, j)


class Spectral(nn.Module):
    """Fourier modes times complex weights, and a complex bias that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.complex(normal(4, 4, 5, name="re"), normal(4, 4, 5, name="im")) / 3)
        self.shift = nn.Parameter(torch.ones(4, 5, dtype=torch.cfloat) * (0.2 + 0.1j))
        self.lift, self.out = nn.Linear(1, 4), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.fft.rfft(self.lift(x[..., None]).transpose(1, 2))
        low = torch.einsum("bix,iox->box", modes[..., :5], self.w) + self.shift
        return self.out(torch.tanh(torch.fft.irfft(low, n=16)).flatten(1))


def test_complex_weights_count_as_pairs_of_real_ones() -> None:
    net, x = Spectral(), normal(6, 16)
    expected = by_autograd(net, x)
    torch.testing.assert_close(gf.ntk(net, x).gram, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
    groups = ntk_by_parameter_group(net, x)
    torch.testing.assert_close(sum(k.gram for k in groups.values()), gf.ntk(net, x).gram, **tolerance(scale=10))
    torch.testing.assert_close(ntk_diagonal(net, x), gf.ntk(net, x).gram.diagonal(), **tolerance(scale=10))
    assert functional(net).n_parameters == 2 * (80 + 20) + 8 + 130


def test_products_training_and_linearisation_of_complex_weights() -> None:
    net, x = Spectral(), normal(6, 16)
    net.shift.requires_grad_(False)
    f = functional(net)
    j = jacobian(f, x)
    v = normal(6, 2, name="v").double()
    pulled = vjp(f, x, v)
    assert pulled["w"].shape == (4, 4, 5, 2)
    flat = torch.cat([t.flatten() for t in pulled.values()])
    torch.testing.assert_close(flat, v.flatten() @ j, **tolerance(scale=10))
    torch.testing.assert_close(jvp(f, x, pulled).flatten(), j @ flat, **tolerance(scale=100))
    moved = gf.train_at_gamma(net, x, normal(6, 2, name="y"), gamma=1.0, max_steps=30, progress=False).model
    assert moved.w.dtype == torch.cfloat  # pyright: ignore[reportAttributeAccessIssue]
    turned = moved.w - net.w  # pyright: ignore[reportAttributeAccessIssue, reportOperatorIssue]
    assert float(turned.detach().imag.abs().max()) > 1e-4  # pyright: ignore[reportAttributeAccessIssue]
    line = linearize(net)
    torch.testing.assert_close(line(x), net(x).detach(), **tolerance(F32))
    with torch.no_grad():
        line.get_parameter("w").mul_(1 + 1e-3j)
        net.w.mul_(1 + 1e-3j)
    torch.testing.assert_close(line(x), net(x).detach(), rtol=1e-3, atol=1e-4)


def test_complex_outputs_ask_for_a_readout() -> None:
    class Modes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(self.a(x))

    with pytest.raises(BadInput, match=r"output is complex .*pass readout="):
        gf.ntk(Modes(), normal(5, 4))
    kernel = gf.ntk(Modes(), normal(5, 4), readout=lambda out, _: torch.view_as_real(out))
    assert kernel.meta["n_outputs"] == 4


class Cell(nn.Module):
    """A recurrent cell that makes its first state itself, in the default precision."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.w, self.o = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 8)
        for t in range(x.shape[1]):
            h = torch.tanh(self.w(h) + self.u(x[:, t]))
        return self.o(h)


class Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        if x.dtype != F32:
            raise RuntimeError("fused: expected Float but found Double")
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0].cos()


class BackwardInSingle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        if g.dtype != F32:
            raise RuntimeError("fused backward: expected Float but found Double")
        return g * ctx.saved_tensors[0].cos()


class Operation(nn.Module):
    def __init__(self, operation: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 2)
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.operation(self.a(x)))


SINGLE = {
    "state": (Cell(), normal(6, 5, 4)),
    "operation": (Operation(Fused.apply), normal(6, 6)),
    "backward": (Operation(BackwardInSingle.apply), normal(6, 6)),
}


@pytest.mark.parametrize(("net", "x"), SINGLE.values(), ids=SINGLE)
def test_what_runs_in_single_precision_only_is_computed_in_it_and_says_so(net: nn.Module, x: Tensor) -> None:
    kernel = gf.ntk(net, x)
    expected = by_autograd(net, x)
    near = {"rtol": 1e-4, "atol": 1e-5 * float(expected.abs().max())}
    torch.testing.assert_close(kernel.gram, expected, **near)
    assert kernel.meta["dtype"] == "float32"
    assert "does not run in float64" in kernel.meta["notes"][0]
    torch.testing.assert_close(ntk_diagonal(net, x), expected.diagonal(), **near)
    largest = ntk_spectrum(net, x, 1).eigenvalues
    whole = gf.ntk(net, x, outputs="full").gram
    torch.testing.assert_close(largest, torch.linalg.eigvalsh(whole)[-1:], rtol=1e-4, atol=0.0)


def test_training_at_a_small_gamma_stays_in_the_precision_that_runs() -> None:
    x, y = normal(6, 5, 4), torch.arange(6) % 2
    moved = gf.train_at_gamma(Cell(), x, y, gamma=1e-4, max_steps=3, progress=False).model
    assert next(moved.parameters()).dtype == F32
    plain = gf.train_at_gamma(nn.Linear(4, 2), normal(6, 4), y, gamma=1e-4, max_steps=3, progress=False).model
    assert next(plain.parameters()).dtype == torch.float64


def test_ordinary_networks_are_computed_in_double_precision() -> None:
    kernel = gf.ntk(nn.Linear(4, 2), normal(5, 4))
    assert (kernel.meta["dtype"], kernel.meta["notes"], kernel.gram.dtype) == ("float64", (), torch.float64)


def test_an_error_of_the_model_itself_is_not_one_of_precision() -> None:
    with pytest.raises(BadInput, match="Linear cannot be called on these inputs"):
        gf.ntk(nn.Linear(4, 2), normal(5, 3))


def test_precision_and_readout_can_be_chosen() -> None:
    net, x = Cell(), normal(6, 5, 4)
    single = gf.ntk(net, x, dtype=F32)
    assert single.gram.dtype == F32
    assert single.meta["notes"] == ()
    first = gf.ntk(net, x, readout=lambda out, _: out[:, :1]).gram
    torch.testing.assert_close(first, gf.ntk(net, x, outputs=0).gram)
    with pytest.raises(BadInput, match=r"dtype=torch\.float16 must be"):
        gf.ntk(net, x, dtype=torch.float16)
    with pytest.raises(BadInput, match="give params=, device=, readout= and dtype= to functional"):
        gf.ntk(functional(net), x, dtype=F32)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(self.a(x).tanh()))


class Noisy(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h + 0.1 * torch.randn_like(h))


@pytest.mark.parametrize("net", [Dropping(), Noisy()], ids=["dropout", "noise"])
def test_random_networks_are_refused_for_that_reason(net: nn.Module) -> None:
    with pytest.raises(BadInput, match="two passes of the same inputs give different outputs: the model is random"):
        gf.ntk(net, normal(8, 6))
    gf.ntk(nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 2)), normal(8, 6))


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x - x.mean(0))


class Compared(Centred):
    """Says how much samples of its batch are alike, and what they are compared by."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        embeds = self.a(x)
        return {"logits_per_image": embeds @ embeds.T, "image_embeds": embeds}


def test_networks_that_mix_their_batch_are_refused_for_that_reason() -> None:
    with pytest.raises(BadInput, match="depends on the batch it is in"):
        gf.ntk(Centred(), normal(8, 6))
    with pytest.raises(BadInput, match=r"compares its samples .* output\.image_embeds"):
        gf.ntk(Compared(), normal(8, 6))
    assert gf.ntk(Compared(), normal(8, 6), readout=lambda output, inputs: output["image_embeds"]).gram.shape == (8, 8)


@pytest.mark.parametrize("dtype", [torch.float64, F32])
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()], ids=["tanh", "relu"])
def test_outputs_that_cancel_have_a_kernel(dtype: torch.dtype, activation: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(6, 40), activation, nn.Linear(40, 2, bias=False))
    with torch.no_grad():
        net[0].weight[20:], net[0].bias[20:] = net[0].weight[:20].clone(), net[0].bias[:20].clone()
        net[2].weight[:, 20:] = -net[2].weight[:, :20]
    x = normal(24, 6)
    expected = by_autograd(copy.deepcopy(net).double(), x.double())
    near = tolerance(dtype, 10)
    torch.testing.assert_close(gf.ntk(net, x, dtype=dtype).gram.double() / expected.max(), expected / expected.max(),
                               **near)  # fmt: skip


def test_outputs_of_zero_have_a_kernel() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    nn.init.zeros_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    torch.testing.assert_close(gf.ntk(net, normal(5, 6)).gram, by_autograd(copy.deepcopy(net).double(),
                                                                          normal(5, 6).double()))  # fmt: skip


TOKENS = torch.arange(60).reshape(12, 5) * 7 % 11


def language(**options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(11, 8, **options), nn.Flatten(), nn.Linear(40, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("small", [0.0, 2.0**40], ids=["by layers", "by rows"])
def test_sparse_gradients_are_the_dense_ones(small: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("geomfeat.tangent._ntk"), "SMALL", small)
    dense, sparse = language(), language(sparse=True)
    torch.testing.assert_close(gf.ntk(sparse, TOKENS).gram, gf.ntk(dense, TOKENS).gram, **tolerance())

    class Functionally(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.rest = dense[0].weight, dense[1:]

        def forward(self, t: Tensor) -> Tensor:
            return self.rest(F.embedding(t, self.table, sparse=True))

    torch.testing.assert_close(gf.ntk(Functionally(), TOKENS).gram, gf.ntk(dense, TOKENS).gram, **tolerance())
    y = torch.arange(12) % 3
    ends = [gf.train_at_gamma(m, TOKENS, y, gamma=1.0, max_steps=5, progress=False).model for m in (dense, sparse)]
    torch.testing.assert_close(ends[0][0].weight, ends[1][0].weight)
    assert ends[1][0].sparse


def test_embeddings_with_a_largest_norm_leave_the_weights_alone() -> None:
    net = language(max_norm=0.5)
    before = copy.deepcopy(net.state_dict())
    f = functional(net)
    own = {name: w.clone() for name, w in f.theta.items()}
    kernel = gf.ntk(f, TOKENS).gram
    assert all(torch.equal(f.theta[name], w) for name, w in own.items())
    assert all(torch.equal(net.state_dict()[name], w) for name, w in before.items())
    rescaled = copy.deepcopy(net)
    rescaled(TOKENS)  # torch writes the norms into the weights
    plain = language()
    plain.load_state_dict(rescaled.state_dict())
    torch.testing.assert_close(kernel, gf.ntk(plain, TOKENS).gram, **tolerance(F32))


class Bag(nn.Module):
    def __init__(self, mode: str | None) -> None:
        super().__init__()
        self.e = nn.EmbeddingBag(11, 8, mode=mode) if mode else nn.Embedding(11, 8)
        self.o, self.mode = nn.Linear(8, 3), mode

    def forward(self, t: Tensor) -> Tensor:
        return self.o(torch.tanh(self.e(t) if self.mode else self.e(t).mean(1)))


def test_bags_of_tokens_are_means_of_tokens() -> None:
    bag, twin = Bag("mean"), Bag(None)
    twin.load_state_dict(bag.state_dict())
    torch.testing.assert_close(gf.ntk(bag, TOKENS).gram, gf.ntk(twin, TOKENS).gram, **tolerance())
    f, g = functional(bag), functional(twin)
    u = {name: torch.ones_like(w) for name, w in f.theta.items()}
    torch.testing.assert_close(jvp(f, TOKENS, u), jvp(g, TOKENS, u), rtol=1e-7, atol=1e-8)


def test_bags_with_offsets_are_refused_by_the_number_of_samples() -> None:
    with pytest.raises(BadInput, match=r"same positive number of samples .*got \[12, 60\]"):
        gf.ntk(nn.EmbeddingBag(11, 8), (TOKENS.flatten(), torch.arange(12) * 5))


class Diagonal(nn.Module):
    """A diagonal recurrence with a low-rank part: bare parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.linspace(0.1, 0.9, 5))
        self.left, self.right = nn.Parameter(normal(5, 1, name="l")), nn.Parameter(normal(5, 1, name="r"))
        self.into, self.out = nn.Parameter(normal(3, 5, name="i")), nn.Parameter(normal(5, 2, name="o"))

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 5)
        for step in x.unbind(1):
            h = torch.tanh(self.decay * h + (h @ self.left) @ self.right.T + step @ self.into)
        return h @ self.out


@pytest.mark.parametrize("small", [0.0, 2.0**40], ids=["by layers", "by rows"])
def test_bare_parameters_and_frozen_ones_count(small: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("geomfeat.tangent._ntk"), "SMALL", small)
    net, x = Diagonal(), normal(6, 4, 3)
    expected = by_autograd(copy.deepcopy(net).double(), x.double())
    torch.testing.assert_close(gf.ntk(net, x).gram, expected, **tolerance(scale=100))
    assert set(ntk_by_parameter_group(net, x)) == {"decay", "left", "right", "into", "out"}
    frozen = gf.ntk(net.requires_grad_(False), x)
    torch.testing.assert_close(frozen.gram, expected, **tolerance(scale=100))
    assert "requires_grad is False for all parameters" in frozen.meta["notes"][0]


class WrongBatches(torch.autograd.Function):
    """A sine whose rule for batches has a slip."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0].cos()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        return WrongBatches.apply(1.1 * x), in_dims[0]


def test_a_wrong_rule_for_batches_is_not_used() -> None:
    net, x = Operation(WrongBatches.apply), normal(6, 6)
    expected = by_autograd(copy.deepcopy(net).double(), x.double())
    torch.testing.assert_close(gf.ntk(net, x).gram, expected, **tolerance(scale=10))


def test_one_sample_has_a_kernel() -> None:
    net, x = Diagonal(), normal(1, 4, 3)
    expected = by_autograd(copy.deepcopy(net).double(), x.double())
    torch.testing.assert_close(gf.ntk(net, x).gram, expected, **tolerance(scale=100))
    torch.testing.assert_close(ntk_diagonal(net, x), expected[0], **tolerance(scale=100))


def test_a_tied_weight_is_the_sum_over_its_places() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.l, self.o = nn.Embedding(11, 8), nn.Linear(8, 8), nn.Linear(8, 11, bias=False)
            self.o.weight = self.e.weight

        def forward(self, t: Tensor) -> Tensor:
            return self.o(torch.tanh(self.l(self.e(t))).mean(1))

    net = Tied()
    torch.testing.assert_close(gf.ntk(net, TOKENS).gram, by_autograd(copy.deepcopy(net).double(), TOKENS),
                               **tolerance(scale=10))  # fmt: skip
