"""Layer-wise tangent kernels: every kind of layer, against one gradient at a time."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from geomfeat.models.functional import functional
from geomfeat.models.nested_inputs import take
from geomfeat.models.parameterization import ScaledConv2d, ScaledLinear
from geomfeat.numerics import stream, tolerance
from geomfeat.tangent import ntk, ntk_by_parameter_group
from geomfeat.tangent.layerwise import outer_factors as factors
from geomfeat.tangent.layerwise.kernel import layer_tiles
from geomfeat.tangent.layerwise.structured_kernel import Changed, structured
from tests.reference.kernels import ntk_by_loop
from tests.zoo import zoo

kernel = importlib.import_module("geomfeat.tangent._ntk")
N = 5


@pytest.fixture(autouse=True)
def always_layerwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for kernels so small that the Jacobian would be taken."""
    monkeypatch.setattr(kernel, "SMALL", 0)


class Apply(nn.Module):
    """A function of modules and of parameters of its own."""

    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module, **parameters: Tensor):
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, *x: Tensor) -> Tensor:
        return self.function(self, *x)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "layers", *shape))


def images(channels: int = 4, *space: int) -> Tensor:
    return normal(N, channels, *(space or (6, 5)))


SEQUENCE = normal(N, 4, 6)
TOKENS = torch.randint(0, 7, (N, 4), generator=stream(0, "tokens"))


def flat(body: nn.Module) -> nn.Module:
    """Something after the layer whose slope depends on the sample and position."""
    return Apply(lambda m, *x: _read(m.parts[0](*x)), body)


def _read(h: Tensor | tuple[Tensor, ...]) -> Tensor:
    h = h[0] if isinstance(h, tuple) else h
    h = torch.tanh(h).flatten(1)
    return torch.stack([h.sum(1), (h[:, ::2] ** 2).sum(1)], 1)


@dataclass(frozen=True)
class Layer:
    """A model, its inputs, and the parameters that the Jacobian is left with."""

    name: str
    model: Callable[[], nn.Module]
    inputs: Tensor | tuple[Tensor, ...]
    by_jacobian: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def _batch_second(m: Apply, x: Tensor) -> Tensor:
    return _read(m.parts[0](x.transpose(0, 1)).transpose(0, 1))


def _direct(m: Apply, x: Tensor) -> Tensor:
    h = torch.cat([m.token.expand(len(x), -1, -1), m.scale * x - m.shift], 1) + m.place
    return _read(torch.tanh(h @ m.inside) @ m.inside.T @ m.outside)


def _tied(m: Apply, x: Tensor) -> Tensor:
    return F.linear(torch.tanh(m.parts[0](x)).mean(1), m.parts[0].weight)


def _twice(m: Apply, x: Tensor) -> Tensor:
    return _read(m.parts[0](torch.tanh(m.parts[0](x)) + x))


def _attention(m: Apply, x: Tensor) -> Tensor:
    return _read(m.parts[0](x, x, x, need_weights=False)[0])


def _cross(m: Apply, x: Tensor) -> Tensor:
    y = torch.tanh(x)
    return _read(m.parts[0](x, y, y)[0])


def _sliced(m: Apply, x: Tensor) -> Tensor:
    first, second = m.weight.split([2, 3])
    return torch.cat([F.linear(x, first), F.linear(x.tanh(), second), F.linear(x**2, first)], -1).flatten(1).tanh()


def _overlapping(m: Apply, x: Tensor) -> Tensor:
    return torch.cat([F.linear(x, m.weight[:4]), F.linear(x.tanh(), m.weight[2:])], -1).tanh().flatten(1)


def _viewed(m: Apply, x: Tensor) -> Tensor:
    return _read(F.linear(x, m.weight[:30].view(5, 6)) + F.linear(x**2, m.weight.view(10, 6)[5:]) + m.shift[1][:1, :5])


def _tied_back(m: Apply, x: Tensor) -> Tensor:
    weight = m.parts[0].weight
    return _read(torch.tanh(F.linear(torch.tanh(m.parts[0](x)), weight)) @ weight)


def _with_positions(m: Apply, x: Tensor) -> Tensor:
    places = torch.arange(4, device=x.device)[None] + 3
    return _read(m.parts[1](x + m.parts[0](places)))


def _last(m: Apply, x: Tensor) -> Tensor:
    # The gradient is at one position of each sample, which may be the row of that sample in both orders of the rows.
    return _read(m.parts[1](torch.tanh(m.parts[0](x)))[:, -1])


def _both_ways(m: Apply, x: Tensor) -> Tensor:
    return (F.linear(x, m.weight) + F.linear(x.tanh(), m.weight.T)).tanh().flatten(1)


def _plainly_scaled(m: Apply, x: Tensor) -> Tensor:
    mul, div = torch.ops.aten.mul.Scalar, torch.ops.aten.div.Scalar
    return _read(mul(torch.tanh(x @ div(mul(m.weight, 0.3), 1.7)), 0.5) + div(m.shift, -4.0))


def _scaled(m: Apply, x: Tensor) -> Tensor:
    """Weights times numbers, as parameterizations have them: signs, quotients, two numbers for one weight."""
    h = F.linear(x, 0.5 * m.weight, -3 * m.shift) + F.linear(x**2, -m.weight / 4, m.shift)
    return _read(F.linear(torch.tanh(h), (m.weight / m.weight.detach().norm()).T))


def _scaled_layer(m: Apply, x: Tensor) -> Tensor:
    return F.linear(x, 2 * m.weight, 3 * m.shift)


def _scaled_tokens(m: Apply, x: Tensor) -> Tensor:
    tokens, places = m.parts
    h = F.embedding(x, 6**0.5 * tokens.weight) + F.embedding(torch.arange(4, device=x.device), 0.1 * places.weight)
    return _read(F.linear(torch.tanh(h), tokens.weight * 0.3))


def _shifted(m: Apply, x: Tensor) -> Tensor:
    """Weights plus and less constants, as norms have them that begin at zero."""
    h = (1 + m.gain) * x - F.linear(x.tanh(), 0.5 - m.weight, torch.sub(torch.ones_like(m.shift), m.shift, alpha=2))
    return _read(torch.tanh(h) @ (m.weight - m.weight.detach() ** 2))


def _biased_attention(m: Apply, x: Tensor) -> Tensor:
    """A table of biases by distance, looked up once for all samples, as T5 and MPNet have it."""
    bias = m.parts[0](torch.arange(4)[:, None] - torch.arange(4) + 3).permute(2, 0, 1)[None]
    values = m.parts[1](x)
    scores = torch.einsum("nti,nsi->nts", x, x)[:, None] + bias
    return _read(torch.einsum("nhts,nsi->nhti", scores.softmax(-1), values))


def _scaled_by_another(m: Apply, x: Tensor) -> Tensor:
    return _read(F.linear(x, m.gain * m.weight))


def _einsum(m: Apply, x: Tensor) -> Tensor:
    return _read(torch.einsum("nti,oi->nto", x, m.weight))


def _sorted(m: Apply, x: Tensor) -> Tensor:
    """Samples change places before the layer and go back after it."""
    order = x[:, 0, 0].argsort()
    return _read(m.parts[0](x[order])[order.argsort()])


def _masked(m: Apply, x: Tensor) -> Tensor:
    """Only some positions of each sample pass through the layer."""
    chosen = x[..., 0] > 0
    out = torch.zeros(*x.shape[:2], 3, dtype=x.dtype, device=x.device)
    out[chosen] = m.parts[0](x[chosen]).tanh()
    return out.flatten(1)


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 3), nn.Flatten())
    model[0].weight.requires_grad_(False)
    return model


def _between_norms() -> nn.Module:
    """Norms of features that have a gradient themselves."""
    return nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 2), nn.LayerNorm((3, 3, 2)), nn.GELU(), nn.Flatten(),
        nn.Linear(18, 2),
    )  # fmt: skip


def _norm() -> nn.Module:
    norm = nn.BatchNorm2d(4)
    norm.running_mean = normal(4)
    norm.running_var = normal(4) ** 2 + 0.5
    return norm


LAYERS = [
    Layer("linear", lambda: flat(nn.Linear(6, 3)), SEQUENCE[:, 0]),
    Layer("linear on positions", lambda: flat(nn.Linear(6, 3)), SEQUENCE),
    Layer("linear without bias", lambda: flat(nn.Linear(6, 3, bias=False)), SEQUENCE),
    Layer("batch second", lambda: Apply(_batch_second, nn.Linear(6, 3)), SEQUENCE),
    Layer("conv1d", lambda: flat(nn.Conv1d(4, 6, 3, 2, 1, 1, 2)), SEQUENCE),
    Layer("conv2d", lambda: flat(nn.Conv2d(4, 6, (3, 2), (1, 2), (0, 1), (2, 1))), images()),
    Layer("conv2d in groups", lambda: flat(nn.Conv2d(4, 6, 3, padding=2, groups=2)), images()),
    Layer("depthwise", lambda: flat(nn.Conv2d(4, 4, 3, padding="same", groups=4, padding_mode="circular")), images()),
    Layer("conv3d", lambda: flat(nn.Conv3d(2, 3, 2)), images(2, 3, 3, 2)),
    Layer("patches", lambda: flat(nn.Conv2d(4, 3, 2, 2, bias=False)), images(4, 4, 4)),
    Layer("transposed conv", lambda: flat(nn.ConvTranspose2d(4, 2, 2)), images(), ("weight",)),
    Layer("embedding", lambda: flat(nn.Embedding(7, 3, padding_idx=2)), TOKENS),
    Layer("layer norm", lambda: flat(nn.LayerNorm((4, 6))), SEQUENCE),
    Layer("rms norm", lambda: flat(nn.RMSNorm(6)), SEQUENCE),
    Layer("group norm", lambda: flat(nn.GroupNorm(2, 4)), images()),
    Layer("batch norm", lambda: flat(_norm()), images()),
    Layer("attention", lambda: Apply(_attention, nn.MultiheadAttention(6, 2, batch_first=True)), SEQUENCE),
    Layer("cross attention", lambda: Apply(_cross, nn.MultiheadAttention(6, 2, batch_first=True)), SEQUENCE),
    Layer("recurrent", lambda: flat(nn.LSTM(6, 3, batch_first=True)), SEQUENCE),
    Layer(
        "used directly",
        lambda: Apply(
            _direct, token=normal(1, 1, 6), scale=normal(6), shift=normal(()), place=normal(5, 6),
            inside=normal(6, 4), outside=normal(6, 3),
        ),
        SEQUENCE,
    ),
    Layer("twice", lambda: Apply(_twice, nn.Linear(6, 6)), SEQUENCE),
    Layer("in slices", lambda: Apply(_sliced, weight=normal(5, 6)), SEQUENCE),
    Layer("in overlapping parts", lambda: Apply(_overlapping, weight=normal(6, 6)), SEQUENCE, ("weight",)),
    Layer("as itself and its transpose", lambda: Apply(_both_ways, weight=normal(6, 6)), SEQUENCE),
    Layer("in views", lambda: Apply(_viewed, weight=normal(60), shift=normal(2, 2, 5)), SEQUENCE),
    Layer("tied embedding", lambda: Apply(_tied, nn.Embedding(7, 3)), TOKENS),
    Layer("looked up and multiplied", lambda: Apply(_tied_back, nn.Embedding(7, 3)), TOKENS, ("parts.0.weight",)),
    Layer("positions", lambda: Apply(_with_positions, nn.Embedding(9, 6), nn.Linear(6, 6)), SEQUENCE),
    Layer("last of four positions", lambda: Apply(_last, nn.Linear(6, 6), nn.Linear(6, 3)), SEQUENCE),
    Layer("last of seven positions", lambda: Apply(_last, nn.Linear(6, 6), nn.Linear(6, 3)), normal(N, 7, 6)),
    Layer("NTK parameterization", lambda: flat(ScaledLinear(6, 3)), SEQUENCE),
    Layer("its convolution", lambda: flat(ScaledConv2d(4, 3, 3, stride=2)), images()),
    Layer("times numbers", lambda: Apply(_scaled, weight=normal(6, 6), shift=normal(6)), SEQUENCE),
    Layer("times plain numbers", lambda: Apply(_plainly_scaled, weight=normal(6, 6), shift=normal(6)), SEQUENCE),
    Layer("a layer times numbers", lambda: flat(Apply(_scaled_layer, weight=normal(3, 6), shift=normal(3))), SEQUENCE),
    Layer("embeddings times numbers", lambda: Apply(_scaled_tokens, nn.Embedding(7, 3), nn.Embedding(5, 3)), TOKENS),
    Layer(
        "plus and less constants", lambda: Apply(_shifted, weight=normal(6, 6), gain=normal(6), shift=normal(6)),
        SEQUENCE,
    ),
    Layer(
        "biases by distance", lambda: Apply(_biased_attention, nn.Embedding(7, 2), nn.Linear(6, 3)), SEQUENCE,
        ("parts.0.weight",),
    ),
    Layer(
        "times a parameter", lambda: Apply(_scaled_by_another, weight=normal(3, 6), gain=normal(())), SEQUENCE,
        ("weight", "gain"),
    ),
    Layer("einsum", lambda: Apply(_einsum, weight=normal(3, 6)), SEQUENCE, ("weight",)),
    Layer("weight norm", lambda: flat(weight_norm(nn.Linear(6, 3))), SEQUENCE, ("original",)),
    Layer("frozen and in place", _frozen, images()),
    Layer("between norms", _between_norms, images()),
]  # fmt: skip


def built(layer: Layer) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return layer.model()


def full(blocks: Tensor) -> Tensor:
    n, n2, c, c2 = blocks.shape
    return blocks.permute(0, 2, 1, 3).reshape(n * c, n2 * c2)


def assert_near(got: Tensor, truth: Tensor) -> None:
    """To 1e-10 of the largest entry."""
    assert (got - truth).abs().max() <= 1e-10 * truth.abs().max()


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_every_layer_equals_one_gradient_at_a_time(layer: Layer) -> None:
    model = built(layer)
    f = functional(model)
    planned = structured(f, f.inputs(layer.inputs))
    left = list(f.theta) if planned is None else list(planned.rest.theta if planned.rest else ())
    assert len(left) == (2 if layer.name == "weight norm" else len(layer.by_jacobian))
    assert all(any(part in name for part in layer.by_jacobian) for name in left)
    truth = ntk_by_loop(model, layer.inputs)
    assert_near(ntk(model, layer.inputs, outputs="full").gram, full(truth))
    assert_near(ntk(model, layer.inputs).gram, truth.diagonal(dim1=2, dim2=3).sum(-1))
    second = take(layer.inputs, slice(1, 3))
    assert_near(ntk(model, layer.inputs, second, outputs="full", batch_size=2).gram, full(truth[:, 1:3]))


@pytest.mark.parametrize("way", ["positions", "gradients"])
@pytest.mark.parametrize("name", ["linear", "conv1d", "embedding", "attention", "twice"])
def test_both_contractions_give_the_same_kernel(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = next(x for x in LAYERS if x.name == name)
    model = built(layer)
    truth = ntk_by_loop(model, layer.inputs)
    for cost, value in (("_positions_cost", 0.0), ("_gradients_cost", 1.0)):
        monkeypatch.setattr(factors, cost, lambda *_, v=value: v if way == "positions" else 1 - v)
    monkeypatch.setattr(factors, "SCRATCH", 600)
    assert_near(ntk(model, layer.inputs, outputs="full").gram, full(truth))
    assert_near(ntk(model, layer.inputs).gram, truth.diagonal(dim1=2, dim2=3).sum(-1))


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_awkward_networks_by_group(case) -> None:
    truth = ntk_by_parameter_group(case.model, case.inputs, batch_size=100)
    for size in (1, 3):
        got = ntk_by_parameter_group(case.model, case.inputs, batch_size=size)
        assert list(got) == list(truth)
    whole = ntk_by_loop(case.model, case.inputs).diagonal(dim1=2, dim2=3).sum(-1)
    assert_near(sum(k.gram for k in truth.values()), whole)  # type: ignore[arg-type]
    assert_near(sum(k.gram for k in got.values()), whole)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [_sorted, _masked])
def test_samples_that_change_places_are_noticed(function: Callable[..., Tensor]) -> None:
    # The layer sees rows that do not belong to the samples in order, differently in every batch.
    model = Apply(function, nn.Linear(6, 3))
    x = normal(9, 4, 6, seed=3)
    assert_near(ntk(model, x, outputs="full").gram, full(ntk_by_loop(model, x)))


def test_an_order_that_only_some_batches_have_is_refused_by_the_check() -> None:
    model = Apply(_sorted, nn.Linear(6, 3))
    x = normal(9, 4, 6, seed=3)
    f = functional(model)
    in_order = f.inputs(x[x[:, 0, 0].argsort()])
    planned = structured(f, in_order)
    assert planned is not None
    with pytest.raises(Changed, match="other gradients"):
        planned(in_order.flip(0), torch.eye(2, dtype=torch.float64))


def test_a_path_chosen_by_the_whole_batch_is_refused() -> None:
    def choose(m: Apply, x: Tensor) -> Tensor:
        h = m.parts[0](x)
        return _read(torch.relu(h) if float(x.sum()) > 0 else torch.relu(-h))

    model = Apply(choose, nn.Linear(6, 3))
    x = normal(9, 4, 6, seed=3)
    assert_near(ntk(model, x, outputs="full").gram, full(ntk_by_loop(model, x)))


def test_a_hidden_use_is_left_to_the_jacobian() -> None:
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x @ w.T

        @staticmethod
        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad @ w, grad.T @ x

    model = Apply(
        lambda m, x: torch.tanh(Hidden.apply(m.parts[0](x).tanh(), m.weight)), nn.Linear(6, 3), weight=normal(2, 3)
    )
    f = functional(model)
    planned = structured(f, f.inputs(SEQUENCE[:, 0]))
    assert planned is not None
    assert planned.rest is not None
    assert list(planned.rest.theta) == ["weight"]
    assert_near(ntk(model, SEQUENCE[:, 0], outputs="full").gram, full(ntk_by_loop(model, SEQUENCE[:, 0])))


def test_dead_and_unused_parameters_add_nothing() -> None:
    model = Apply(lambda m, x: m.parts[0](x), nn.Linear(6, 3), nn.Linear(4, 2))
    groups = ntk_by_parameter_group(model, SEQUENCE[:, 0])
    assert not groups["parts.1"].gram.any()
    assert_near(groups["parts.0"].gram, ntk(nn.Linear(6, 3), SEQUENCE[:, 0]).gram)


def test_one_sample_and_float32() -> None:
    model = built(LAYERS[16])
    truth = full(ntk_by_loop(model, SEQUENCE))
    assert_near(ntk(model, SEQUENCE[:1], outputs="full").gram, truth[:2, :2])
    got = ntk(functional(model, dtype=torch.float32), SEQUENCE, outputs="full").gram
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), truth, **tolerance(torch.float32))


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("budget", [1, 50, 300, 10_000])
def test_tiles_cover_every_sample_and_output_once(summed: bool, budget: int) -> None:
    seen = torch.zeros(7, 5)
    for tile in layer_tiles(7, k=5, fixed=3, per_column=10, budget=budget, summed=summed):
        seen[tile.rows, tile.columns] += 1
        size = (tile.rows.stop - tile.rows.start) * (3 + 10 * (tile.columns.stop - tile.columns.start))
        assert size <= max(budget, 13)
    assert bool((seen == 1).all())


@pytest.mark.parametrize("outputs", ["trace", "full"])
def test_every_budget_gives_the_same_kernel(outputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = next(x for x in LAYERS if x.name == "conv2d in groups")
    model = built(layer)
    truth = ntk(model, layer.inputs, outputs=outputs).gram
    f = functional(model)
    planned = structured(f, f.inputs(layer.inputs))
    assert planned is not None
    for size in (3, 11):
        monkeypatch.setattr(kernel, "BUDGET", size * planned.plan.delta_bytes)
        assert_near(ntk(model, layer.inputs, outputs=outputs).gram, truth)
        assert_near(ntk(model, layer.inputs, layer.inputs, outputs=outputs).gram, truth)


def test_devices_agree(device: str) -> None:
    for layer in LAYERS[::4]:
        model = built(layer)
        assert_near(ntk(model, layer.inputs, device=device).gram.cpu(), ntk(model, layer.inputs).gram)
