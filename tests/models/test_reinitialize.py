"""Fresh weights without a trace, resets in the order of construction, and BatchNorm statistics by hand."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from geomfeat.data.batch_streams import opened
from geomfeat.errors import BadInput
from geomfeat.models.effective_weights import effective_weights
from geomfeat.models.reinitialize import (
    batchnorm_modules,
    fresh,
    keeping,
    never_estimated,
    resetting,
    with_batchnorm_statistics,
)
from geomfeat.numerics import stream, tolerance
from tests.activations.zoo import ZOO


def linear() -> nn.Module:
    return nn.Linear(3, 2)


def drawing() -> nn.Module:
    """Draws from every global generator there is."""
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[random.random(), np.random.rand(), float(torch.rand(1))]]))  # noqa: NPY002
    return model


def states() -> tuple[object, ...]:
    numpy_state = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numpy_state[1].tolist(), numpy_state[2], torch.get_rng_state().tolist()


# fresh


@pytest.mark.parametrize("factory", [linear, drawing])
def test_fresh_weights_depend_on_seed_and_number_alone(factory) -> None:
    def weights(seed: int, number: int) -> list[float]:
        return fresh(factory, seed, number).weight.flatten().tolist()

    torch.manual_seed(1)
    first = weights(0, 0)
    random.seed(9)
    np.random.seed(9)  # noqa: NPY002
    torch.manual_seed(2)
    assert weights(0, 0) == first
    draws = [first, weights(0, 1), weights(1, 0), weights(1, 1)]
    assert all(len({draw[i] for draw in draws}) == 4 for i in range(len(first)))


def test_fresh_leaves_the_global_generators_alone() -> None:
    before = states()
    fresh(drawing, 0, 0)
    assert states() == before


def test_fresh_leaves_no_trace_of_a_factory_that_fails() -> None:
    def failing() -> nn.Module:
        drawing()
        raise RuntimeError("no weights today")

    before = states()
    with pytest.raises(RuntimeError, match="no weights today"):
        fresh(failing, 0, 0)
    assert states() == before


@pytest.mark.parametrize("made", [None, "net", nn.Linear])
def test_a_factory_of_something_else_is_refused(made: object) -> None:
    with pytest.raises(BadInput, match=r"the factory returned \w+, not a torch\.nn\.Module"):
        fresh(lambda: made, 0, 0)


def test_a_seed_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadInput, match="seed must be a whole number"):
        fresh(linear, None, 0)


# resetting


@pytest.mark.parametrize("name", ZOO)
def test_every_weight_is_drawn_anew_and_the_model_is_left_alone(name: str) -> None:
    model, _ = ZOO[name]()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(3.25)
    again = fresh(resetting(model), 0, 0)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert not any(bool((p == 3.25).any()) for p in again.parameters())
    assert all(bool((p == 3.25).all()) for p in model.parameters())
    assert len(list(again.parameters())) == len(list(model.parameters()))  # what is tied stays tied
    for norm in batchnorm_modules(again):
        assert not norm.running_mean.any()
        assert bool((norm.running_var == 1).all())


def test_a_reset_model_is_distributed_as_a_constructed_one() -> None:
    """Attention starts its output projection at bias 0, after the projection's own reset: order matters."""
    attention = nn.MultiheadAttention(32, 4)
    with torch.no_grad():
        for p in attention.parameters():
            p.fill_(7.0)
    again = fresh(resetting(attention), 0, 0)
    built = fresh(lambda: nn.MultiheadAttention(32, 4), 0, 0)
    for (name, a), b in zip(again.named_parameters(), built.parameters(), strict=True):
        assert float(a.detach().std()) == pytest.approx(float(b.detach().std()), rel=0.1), name
        assert float(a.detach().abs().max()) == pytest.approx(float(b.detach().abs().max()), rel=0.05), name


def test_a_module_that_initialises_its_parts_has_the_last_word() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.reset_parameters()

        def reset_parameters(self) -> None:
            nn.init.constant_(self.inner.weight, 0.5)

    model = nn.Sequential(nn.Linear(4, 4), Block())
    with torch.no_grad():
        model[1].inner.weight.zero_()
    again = fresh(resetting(model), 0, 0)
    assert bool((again[1].inner.weight == 0.5).all())


def test_a_read_out_tied_to_an_embedding_starts_as_the_embedding() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(200, 50)
            self.head = nn.Linear(50, 200, bias=False)
            self.head.weight = self.embed.weight

    again = fresh(resetting(Tied()), 0, 0)
    assert again.head.weight is again.embed.weight
    assert float(again.embed.weight.detach().std()) == pytest.approx(1.0, rel=0.05)  # a Linear's own would be .08


def test_modules_that_cannot_reset_themselves_are_named() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    with pytest.raises(BadInput, match=r"2 modules cannot reset their parameters \(1, 3\): pass factory="):
        resetting(nn.Sequential(nn.Linear(3, 3), Bare(), nn.Tanh(), Bare()))
    with pytest.raises(BadInput, match=r"1 modules cannot reset their parameters \(Bare\)"):
        resetting(Bare())
    with pytest.raises(BadInput, match=r"must be a torch\.nn\.Module"):
        resetting("net")


REPARAMETRISED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("name", REPARAMETRISED)
def test_a_weight_that_is_made_of_others_is_drawn_anew(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(REPARAMETRISED[name](nn.Linear(40, 30)), nn.Tanh(), nn.Linear(30, 2))
    model.train()(torch.ones(2, 40))  # leaves a weight with a history behind, as in training
    first, second = (fresh(resetting(model), 0, number) for number in (0, 1))
    old, a, b = (effective_weights(m[0])["weight"] for m in (model, first, second))
    assert min(float((a - old).norm()), float((b - a).norm())) > 0.5 * float(a.norm())
    if "weight_norm" in name:
        plain = fresh(lambda: nn.Linear(40, 30), 0, 0).weight.detach()
        assert float(a.std()) == pytest.approx(float(plain.std()), rel=0.05)
    else:
        assert float(torch.linalg.matrix_norm(a, 2)) == pytest.approx(1, abs=1e-2)


def test_bare_parameters_are_named_with_the_way_out() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(2, 4))

    with pytest.raises(BadInput, match=r"\(Recurrent\): pass factory=.*reset_parameters\(\) that draws u, v"):
        resetting(Recurrent())
    assert resetting(Recurrent(), keep={"u", "v"})() is not None


def test_what_training_left_alone_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    again = fresh(keeping(resetting(model), model, {"0.weight"}), 0, 0)
    assert torch.equal(again[0].weight, model[0].weight)
    assert not torch.equal(again[0].bias, model[0].bias)
    assert not torch.equal(again[1].weight, model[1].weight)


# BatchNorm


def normalised() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3, momentum=0.2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5),
            nn.Linear(12, 4), nn.BatchNorm1d(4), nn.Linear(4, 2),
        )  # fmt: skip


X = torch.randn(7, 2, 3, 3, generator=stream(0, "fresh tests"))


def test_normalisation_layers_with_statistics_are_found() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2))
    assert batchnorm_modules(model) == [model[0]]


def test_statistics_are_those_of_one_pass_by_hand() -> None:
    model = normalised().train()
    held = {k: v.clone() for k, v in model.state_dict().items()}
    out = with_batchnorm_statistics(model, X)
    with torch.no_grad():
        first = model[0](X)
        mean, variance = first.mean((0, 2, 3)), first.var((0, 2, 3), unbiased=True)
        scale = (first.var((0, 2, 3), unbiased=False) + 1e-5).sqrt()
        second = model[5](torch.relu((first - mean[:, None, None]) / scale[:, None, None]).flatten(1))
    norms = batchnorm_modules(out)
    close = tolerance(torch.float32)
    torch.testing.assert_close(norms[0].running_mean, mean, **close)
    torch.testing.assert_close(norms[0].running_var, variance, **close)
    torch.testing.assert_close(norms[1].running_mean, second.mean(0), **close)
    torch.testing.assert_close(norms[1].running_var, second.var(0, unbiased=True), **close)
    assert [norm.momentum for norm in norms] == [0.2, 0.1]
    assert not any(module.training for module in out.modules())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(v, held[k]) for k, v in model.state_dict().items())


def test_a_model_without_batch_normalisation_is_just_copied() -> None:
    model = nn.Linear(2, 1)
    out = with_batchnorm_statistics(model, torch.ones(3, 2))
    assert out is not model
    assert torch.equal(out.weight, model.weight)


def test_inputs_are_taken_in_every_form_and_left_alone() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2, affine=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x.mul_(2))

    x = np.array([[1.0, 2.0], [3.0, 6.0]])
    for inputs in (x, (x,), {"x": x}, x.tolist()):
        out = with_batchnorm_statistics(InPlace(), inputs)
        assert out.norm.running_mean.tolist() == [4.0, 8.0]
        assert out.norm.running_var.tolist() == [8.0, 32.0]
    assert x.tolist() == [[1.0, 2.0], [3.0, 6.0]]


def test_inputs_in_batches_are_one_pass_too() -> None:
    """Deeper statistics follow earlier ones, so batch by batch they would be others."""
    stream_of_batches, _ = opened(normalised(), DataLoader(TensorDataset(X), batch_size=3))
    found, expected = (batchnorm_modules(with_batchnorm_statistics(normalised(), x)) for x in (stream_of_batches, X))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.running_mean, other.running_mean)
        torch.testing.assert_close(one.running_var, other.running_var)


def test_one_sample_has_no_variance() -> None:
    with pytest.raises(BadInput, match=r"BatchNorm statistics cannot be estimated: .*give more samples"):
        with_batchnorm_statistics(normalised(), X[:1])


def test_statistics_of_construction_are_reported_from_estimated_ones() -> None:
    model = normalised()
    assert never_estimated(model)
    assert not never_estimated(with_batchnorm_statistics(model, X))
    assert not never_estimated(nn.Linear(2, 1))
    model.train()(X)
    assert not never_estimated(model)
    assert never_estimated(fresh(resetting(model), 0, 0))


def test_statistics_that_came_without_a_count_are_estimated() -> None:
    """Weights converted from another library bring means and variances, but leave the count at 0."""
    model = normalised()
    with torch.no_grad():
        model[1].running_mean.fill_(0.5)
    assert not never_estimated(model)
