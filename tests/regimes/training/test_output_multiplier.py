"""Scaled outputs: exact against `at_richness`, for whatever a network returns, and inside a Trainer of transformers."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.mlp import mlp
from geomfeat.models.reinitialize import with_batchnorm_statistics
from geomfeat.numerics import stream
from geomfeat.regimes.training.output_multiplier import with_scaled_outputs

X = torch.randn(6, 5, generator=stream(0, "output multiplier"), dtype=torch.float64)


def network() -> nn.Module:
    return mlp(5, (7,), 3, activation="tanh", seed=0).double()


def shifted(model: nn.Module) -> nn.Module:
    """The network with other weights, in place."""
    with torch.no_grad():
        for number, p in enumerate(model.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=stream(1, number), dtype=p.dtype))
    return model


def test_it_is_the_network_of_at_richness_with_its_own_class_and_names() -> None:
    net = network()
    scaled = with_scaled_outputs(net, 4.0)
    assert float(scaled(X).detach().abs().max()) == 0
    assert isinstance(scaled, nn.Sequential)
    assert type(scaled).__name__ == "Sequential"
    assert list(scaled.state_dict()) == list(net.state_dict())
    assert [n for n, _ in scaled.named_modules()] == [n for n, _ in net.named_modules()]
    wrapped = gf.at_richness(network(), gamma=0.25)
    a, b = shifted(scaled)(X), shifted(wrapped.net) and wrapped(X)
    assert torch.equal(a, b)
    assert torch.allclose(a, 4 * (shifted(network())(X) - net(X)))
    assert torch.equal(net(X), network()(X))


def test_multipliers_multiply_and_the_start_stays() -> None:
    twice = with_scaled_outputs(with_scaled_outputs(network(), 4.0), 0.5)
    assert torch.allclose(shifted(twice)(X), 2 * (shifted(network())(X) - network()(X)))


def test_the_start_follows_precision_and_mode_but_is_not_trained() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    scaled: Any = with_scaled_outputs(net, 3.0).double()
    start = scaled.start_network
    assert {p.dtype for p in start.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in start.parameters())
    scaled.train()
    scaled[1].eval()
    before = torch.get_rng_state()
    assert float(scaled(X).detach().abs().max()) == 0  # by the same dropped units
    assert not torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in start] == [True, False, True, True]
    with torch.no_grad():
        scaled[3].bias.add_(1.0)
    assert torch.allclose(scaled(X), torch.full((6, 2), 3.0, dtype=torch.float64))
    assert torch.allclose(scaled.eval()(X), torch.full((6, 2), 3.0, dtype=torch.float64))


@pytest.mark.parametrize("made", [with_scaled_outputs, lambda net, c: gf.at_richness(net, gamma=1 / c)])
def test_batchnorm_statistics_are_estimated_for_the_start_too(made: Any) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    scaled = made(net, 3.0)
    estimated = with_batchnorm_statistics(scaled, X)
    assert float(estimated(X).detach().abs().max()) < 1e-12


class Pair(NamedTuple):
    name: str
    y: Tensor


@dataclasses.dataclass
class Answer:
    logits: Tensor
    hidden: Tensor


class Returning(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.lin = kind, nn.Linear(5, 3).double()
        nn.init.ones_(self.lin.weight)

    def forward(self, x: Tensor) -> Any:
        x.relu_()  # in place, which the other network must not see
        y = self.lin(x)
        made = {"tuple": (y, x), "dict": {"hidden": x, "logits": y}, "named": Pair("a", y), "data": Answer(y, x)}
        return made[self.kind]


PARTS: dict[str, Any] = {
    "tuple": lambda o: (o[0], o[1]),
    "dict": lambda o: (o["logits"], o["hidden"]),
    "named": lambda o: (o.y, o.name),
    "data": lambda o: (o.logits, o.hidden),
}


@pytest.mark.parametrize("kind", PARTS)
def test_the_main_tensor_is_scaled_and_the_rest_stays(kind: str) -> None:
    scaled: Any = with_scaled_outputs(Returning(kind), 3.0)
    with torch.no_grad():
        scaled.lin.bias.add_(1.0)
    out, plain = scaled(X.clone()), Returning(kind)(X.clone())
    assert type(out) is type(plain)
    (main, after), (_, before) = PARTS[kind](out), PARTS[kind](plain)
    assert torch.allclose(main, torch.full((6, 3), 3.0, dtype=torch.float64))
    assert before == after if isinstance(before, str) else torch.equal(before, after)


@pytest.mark.parametrize("multiplier", [0, -1.0, float("nan"), float("inf"), True])
def test_bad_multipliers_are_named(multiplier: Any) -> None:
    with pytest.raises(BadInput, match="multiplier="):
        with_scaled_outputs(network(), multiplier)


def language_model() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=11, n_positions=8, bos_token_id=0,
                                     eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)  # fmt: skip
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


def test_a_model_of_transformers_stays_one() -> None:
    net, ids = language_model(), torch.arange(12).view(2, 6) % 11
    scaled: Any = with_scaled_outputs(net, 5.0)
    shifted(scaled)
    out = scaled(input_ids=ids, output_hidden_states=True)
    assert type(out) is type(net(input_ids=ids))
    assert torch.allclose(out.logits, 5 * (shifted(language_model())(ids).logits - net(ids).logits), atol=1e-5)
    assert len(out.hidden_states) == 2
    assert "input_ids" in inspect.signature(scaled.forward).parameters
    with pytest.raises(BadInput, match="compute_loss_func="):
        scaled(input_ids=ids, labels=ids)
    with pytest.raises(BadInput, match="past_key_values="):
        scaled(input_ids=ids, past_key_values=out.past_key_values)


def test_a_trainer_trains_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    net = language_model()
    scaled: Any = with_scaled_outputs(net, 5.0)
    rows = [{"input_ids": torch.arange(6) + i, "labels": torch.arange(6) + i} for i in range(4)]
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True, learning_rate=1e-2,
    )  # fmt: skip
    seen = []

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        seen.append(float(outputs.logits.detach().abs().max()))
        return nn.functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())

    transformers.Trainer(scaled, arguments, train_dataset=rows, compute_loss_func=loss).train()
    assert seen[0] < 1e-4 < seen[1]
    assert not torch.equal(scaled.transformer.wte.weight, net.transformer.wte.weight)
