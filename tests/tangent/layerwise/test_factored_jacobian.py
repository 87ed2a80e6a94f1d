"""The Jacobian as factors: kernels and products J' a, against one gradient at a time and plain backward passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from geomfeat.models.functional import Functional, functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import stream
from geomfeat.tangent import jacobian, ntk_by_parameter_group, vjp
from geomfeat.tangent.layerwise import factored_jacobian as module
from geomfeat.tangent.layerwise.factored_jacobian import FactoredJacobian, factored_jacobian, share_rules
from geomfeat.tangent.layerwise.outer_factors import Outer, Rows
from geomfeat.tangent.layerwise.structured_kernel import structured
from geomfeat.tangent.layerwise.tied_factors import Tied
from tests.tangent.layerwise.test_rules import LAYERS, SEQUENCE, Apply, Layer, _read, assert_near, built, normal

# Those in which a rule covers a parameter; the others may have none.
COVERED = [x for x in LAYERS if not x.by_jacobian or x.name in ("biases by distance", "transposed conv", "weight norm")]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=stream(1, "factored", *shape), dtype=torch.float64)


def made(f: Functional, inputs: object, cotangents: Tensor) -> FactoredJacobian:
    found = factored_jacobian(f, inputs, cotangents)
    assert found is not None
    return found


@pytest.mark.parametrize("layer", COVERED, ids=str)
def test_kernels_and_products_equal_those_of_gradients(layer: Layer) -> None:
    f = functional(built(layer))
    inputs = f.inputs(layer.inputs)
    n, projection = n_samples(inputs), random(jacobian(f, inputs).shape[0] // 5, 3)
    found = made(f, inputs, projection)
    by_group = ntk_by_parameter_group(f, inputs, outputs="full", projection=projection)
    own = found.kernel_by_module()
    assert own.keys() == by_group.keys()
    for name, kernel in by_group.items():
        assert_near(own[name], kernel.gram)
    a = random(n, 3)
    pulled, plain = found.pulled(a), vjp(f, inputs, a @ projection.T)
    for name, gradient in plain.items():
        assert (pulled[name] - gradient).norm() <= 1e-10 * gradient.norm() + 1e-14


def test_every_sample_may_have_outputs_of_its_own() -> None:
    layer = next(x for x in LAYERS if x.name == "tied embedding")
    f = functional(built(layer))
    inputs = f.inputs(layer.inputs)
    whole, sums = jacobian(f, inputs), random(5, 7, 3)
    rows = torch.einsum("icp,ick->ikp", whole.view(5, 7, -1), sums).reshape(15, -1)
    assert_near(made(f, inputs, sums).kernel(), rows @ rows.T)


def test_other_weights_are_compared_by_their_operations_alone() -> None:
    f = functional(built(LAYERS[1]))
    inputs, projection = f.inputs(SEQUENCE), random(2, 2)
    first = made(f, inputs, projection).kernel()
    moved = f.at({name: value + 0.1 * random(*value.shape) for name, value in f.theta.items()})
    later = made(moved, inputs, projection).kernel()
    fresh = made(replace(moved), inputs, projection).kernel()  # a copy that knows nothing
    assert_near(later, fresh)
    assert (later - first).norm() > 1e-3 * first.norm()


def test_a_path_by_the_data_is_found_at_other_weights_too() -> None:
    def choose(m: Apply, x: Tensor) -> Tensor:
        h = m.parts[0](x)
        return _read(torch.relu(h) if float(h.detach().sum()) > 0 else torch.relu(-h))

    torch.manual_seed(0)
    f = functional(Apply(choose, nn.Linear(6, 3)))
    sums = [float((f.model.parts[0](x[None])).detach().sum()) for x in f.inputs(SEQUENCE[:, 0])]
    assert min(sums) < 0 < max(sums), "both ways are taken"
    assert factored_jacobian(f, f.inputs(SEQUENCE[:, 0]), random(2, 2)) is None


@pytest.mark.parametrize("name", ["einsum", "times a parameter", "in overlapping parts"])
def test_none_where_rules_cover_no_parameter(name: str) -> None:
    layer = next(x for x in LAYERS if x.name == name)
    f = functional(built(layer))
    assert factored_jacobian(f, f.inputs(layer.inputs), random(2, 2)) is None


def test_rows_without_a_rule_are_those_of_each_samples_own_outputs_and_of_other_weights() -> None:
    layer = next(x for x in LAYERS if x.name == "biases by distance")
    first = functional(built(layer))
    inputs, sums = first.inputs(layer.inputs), random(5, 2, 3)
    made(first, inputs, sums)
    for f in (first, first.at({name: value + 0.1 * random(*value.shape) for name, value in first.theta.items()})):
        rows = torch.einsum("icp,ick->ikp", jacobian(f, inputs).view(5, 2, -1), sums).reshape(15, -1)
        assert_near(made(f, inputs, sums).kernel(), rows @ rows.T)


def test_what_was_checked_of_parameters_without_a_rule_is_not_checked_at_other_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    f = functional(built(next(x for x in LAYERS if x.name == "biases by distance")))
    inputs = f.inputs(SEQUENCE)
    made(f, inputs, random(2, 2))
    monkeypatch.setattr("geomfeat.tangent.jacobians.derivative_checks._checked", None)
    again = made(f.at({name: value + 0.1 for name, value in f.theta.items()}), inputs, random(2, 2))
    assert bool(again.kernel().isfinite().all())


def test_none_where_the_rows_without_a_rule_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    f = functional(built(next(x for x in LAYERS if x.name == "biases by distance")))
    inputs = f.inputs(SEQUENCE)
    made(f, inputs, random(2, 2))
    monkeypatch.setattr(module, "BUDGET", 5 * 2 * 14 * 8 - 1)
    assert factored_jacobian(f, inputs, random(2, 2)) is None


def test_none_where_the_factors_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    f = functional(built(LAYERS[1]))
    inputs = f.inputs(SEQUENCE)
    made(f, inputs, random(2, 2))
    monkeypatch.setattr(module, "MOST", 10)
    assert factored_jacobian(f, inputs, random(2, 2)) is None


def test_devices_agree(device: str) -> None:
    net, x, projection = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), normal(5, 6), random(4, 2)
    kernels = [
        made(f, f.inputs(x), projection).kernel().cpu() for f in (functional(net, device=device), functional(net))
    ]
    assert_near(*kernels)


class LastToken(nn.Module):
    """A tied embedding around a mixing layer, read at the last position."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.mix, self.inner = nn.Embedding(9, 4), nn.Linear(6, 6), nn.Linear(4, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        h = torch.tanh(self.mix(self.table(tokens).mT)).mT
        return (torch.tanh(self.inner(h)) @ self.table.weight.T)[:, -1]


@pytest.mark.parametrize("scaled", [False, True])
def test_positions_that_are_not_read_are_dropped_from_the_factors(scaled: bool) -> None:
    f = functional(LastToken())
    if scaled:
        f = f.scaled({name: 1 + random(*value.shape).abs() for name, value in f.theta.items()})
    tokens = torch.randint(0, 9, (5, 6), generator=stream(0, "tokens"))
    projection = random(9, 2)
    found = made(f, tokens, projection)
    whole = torch.einsum("icp,ck->ikp", jacobian(f, tokens).view(5, 9, -1), projection).reshape(10, -1)
    assert_near(found.kernel(), whole @ whole.T)
    counts = {
        part[1].shape[-1]
        for (name, _), factor in found.factors.items()
        for part in _outers(factor)
        if name in ("inner.weight", "table.weight")
    }
    assert counts == {1, 6}, "one position of the read-out and the layer before it, six of the look-up"


def _outers(factor: object) -> list[tuple[object, Tensor]]:
    factor = getattr(factor, "factor", factor)
    uses = [factor.first, factor.second] if isinstance(factor, Tied) else [factor]
    return [part for one in uses if isinstance(one, Outer) for part in one.parts]


class ManyPositions(nn.Module):
    """Layers with fewer inputs than positions: one with a bias, one that is used twice, convolutions in groups, a tied
    one, and one of which a single position is read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.biased, self.twice, self.tied, self.last = (
            nn.Linear(4, 5),
            nn.Linear(5, 5),
            nn.Linear(5, 3),
            nn.Linear(5, 7),
        )
        self.image = nn.Conv2d(2, 4, 2, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.biased(x))
        h = torch.tanh(self.twice(torch.tanh(self.twice(h))))
        h = h + torch.tanh(self.tied(h)) @ self.tied.weight
        h = h + (h.square() * torch.arange(15)[:, None]).sum(1, keepdim=True)
        image = torch.tanh(self.image(x.reshape(len(x), 2, 5, 6)))
        return self.last(h)[:, -1] + image.flatten(1).sum(1, keepdim=True) * image.flatten(1)[:, :7]


@pytest.mark.parametrize("scale", ["none", "numbers", "entries"])
def test_gradients_of_weights_with_fewer_inputs_than_positions_are_formed_where_they_are_smaller(scale: str) -> None:
    f, x, projection = functional(ManyPositions().double()), normal(5, 15, 4).double(), random(7, 3)
    if scale != "none":
        f = f.scaled(
            {
                n: 1.0 + i if scale == "numbers" else 1 + random(*v.shape).abs()
                for i, (n, v) in enumerate(f.theta.items())
            }
        )
    found = made(f, x, projection)
    whole = torch.einsum("icp,ck->ikp", jacobian(f, x).view(5, 7, -1), projection).reshape(15, -1)
    assert_near(found.kernel(), whole @ whole.T)
    a = random(5, 3)
    pulled, plain = found.pulled(a), vjp(f, x, a @ projection.T)
    assert pulled.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(pulled[name], gradient)
    formed = {name for (name, _), factor in found.factors.items() if isinstance(factor, Rows) and "weight" in name}
    assert formed == {"biased.weight", "twice.weight", "image.weight"}


def test_tiles_whose_samples_read_fewer_positions_meet_the_others() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last((torch.tanh(self.first(x)) * (x[..., :1] != 0)).sum(1))

    f, x = functional(Masked().double()), random(6, 5, 3)
    x[3:, 2:] = 0.0  # two positions are read: fewer than a layer has inputs
    engine = structured(f, x)
    assert engine is not None
    both = [engine(part, torch.eye(2, dtype=torch.float64)) for part in (x[:3], x[3:])]
    got, whole = torch.zeros(3, 2, 3, 2, dtype=torch.float64), jacobian(f, x).view(6, 2, -1)
    for where, factor in both[0].items():
        factor.add(got, both[1][where], False)  # pyright: ignore
    assert_near(got, torch.einsum("icp,jdp->icjd", whole[:3], whole[3:]))


def test_products_of_some_samples_alone_are_those_of_gradients() -> None:
    f = functional(LastToken())
    tokens = torch.randint(0, 9, (5, 6), generator=stream(0, "tokens"))
    projection, a = random(9, 2), random(5, 2)
    a[[1, 3]] = 0
    pulled, plain = made(f, tokens, projection).pulled(a), vjp(f, tokens, a @ projection.T)
    for name, gradient in plain.items():
        torch.testing.assert_close(pulled[name], gradient)


def test_after_training_what_was_verified_before_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = next(x for x in LAYERS if x.name == "tied embedding")
    before, after = functional(built(layer)), functional(built(layer))
    inputs, projection = before.inputs(layer.inputs), random(7, 2)
    made(before, inputs, projection)
    after = after.at({name: value + 0.1 * random(*value.shape) for name, value in after.theta.items()})
    want = made(after, inputs, projection).kernel()
    after = replace(after)  # knows nothing
    share_rules(before, after)
    monkeypatch.setattr(module, "structured", None)
    assert_near(made(after, inputs, projection).kernel(), want)
