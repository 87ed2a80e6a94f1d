"""Jacobian rows against one gradient at a time, for every kind of network."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.models.functional import functional
from geomfeat.numerics import stream, tolerance
from geomfeat.tangent import JacobianRows, jacobian, jacobian_rows, parameter_slices
from geomfeat.tangent.jacobians import rows
from tests.reference.kernels import gradients_by_loop
from tests.zoo import Case, zoo


@pytest.mark.parametrize("own_copies", [0, rows.OWN_COPIES])
@pytest.mark.parametrize("case", zoo(), ids=str)
def test_rows_equal_one_gradient_at_a_time(case: Case, own_copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "OWN_COPIES", own_copies)
    truth = gradients_by_loop(case.model, case.inputs)
    got = jacobian(functional(case.model), case.inputs)
    torch.testing.assert_close(got, truth.flatten(0, 1), **tolerance())


class Lookup(nn.Module):
    """Tokens as floating numbers; the first entry of the table is padding, whose gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3, padding_idx=0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(tokens.long()).flatten(1)[:, :2].tanh()


def test_a_table_gives_padding_no_gradient() -> None:
    net, tokens = Lookup(), torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    got = jacobian(functional(net), tokens)
    torch.testing.assert_close(got, gradients_by_loop(net, tokens).flatten(0, 1), **tolerance())


class Slip(torch.autograd.Function):
    """The identity, whose rule for torch.func.vmap doubles."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> torch.Tensor:
        return g

    @staticmethod
    def vmap(info, in_dims: tuple[int], x: torch.Tensor) -> tuple[torch.Tensor, int]:
        return 2 * x, in_dims[0]


class SineWithSlip(torch.autograd.Function):
    """A sine with a slip in its backward pass, where that is batched."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> torch.Tensor:
        return g * Slip.apply(ctx.saved_tensors[0].cos())


class Sine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SineWithSlip.apply(self.inner(x))


def test_a_wrong_rule_for_batches_is_seen_by_a_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "OWN_COPIES", 0)
    net, x = Sine(), torch.randn(4, 3, generator=stream(0, "wrong rule"))
    f = functional(net)
    torch.testing.assert_close(jacobian(f, x), gradients_by_loop(net, x).flatten(0, 1), **tolerance())
    assert not JacobianRows(f, f.inputs(x)).vectorised


class WrongByOwnCopies(nn.Module):
    """A matrix product that is another one for weights which differ from sample to sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.inner(x)
        return 2 * out if torch._C._functorch.is_batchedtensor(self.inner.weight) else out


def test_copies_of_the_parameters_that_give_other_numbers_are_not_used() -> None:
    net, x = WrongByOwnCopies(), torch.randn(4, 3, generator=stream(0, "own copies"))
    f = functional(net)
    torch.testing.assert_close(jacobian(f, x), gradients_by_loop(net, x).flatten(0, 1), **tolerance())
    assert JacobianRows(f, f.inputs(x)).vectorised


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_what_torch_func_cannot_do_falls_back_to_a_loop_and_says_so_once(case: Case, caplog) -> None:
    f = functional(case.model)
    inputs = f.inputs(case.inputs)
    engine = JacobianRows(f, inputs)
    with caplog.at_level(logging.INFO, logger="geomfeat"):
        engine(inputs)
        engine(inputs)
    assert engine.vectorised == case.vectorised
    assert len([r for r in caplog.records if "one at a time" in r.message]) == int(not case.vectorised)


def test_projection_differentiates_the_projected_outputs() -> None:
    case = zoo()[0]
    f = functional(case.model)
    p = torch.randn(3, 2, generator=stream(0, "projection"), dtype=torch.float64)
    whole = jacobian(f, case.inputs).reshape(6, 3, -1)
    expected = torch.einsum("ncp,ck->nkp", whole, p).flatten(0, 1)
    torch.testing.assert_close(jacobian(f, case.inputs, projection=p), expected, **tolerance())


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("budget", [1, 20_000])
def test_every_sample_may_have_outputs_of_its_own(vectorised: bool, budget: int) -> None:
    case = next(c for c in zoo() if c.vectorised)
    f = functional(case.model)
    inputs = f.inputs(case.inputs)
    whole = gradients_by_loop(case.model, case.inputs)
    own = torch.randn(*whole.shape[:2], 2, generator=stream(0, "own outputs"), dtype=torch.float64)
    f.known["vectorised"] = vectorised
    expected = torch.einsum("ncp,nck->nkp", whole, own).flatten(0, 1)
    torch.testing.assert_close(JacobianRows(f, inputs, budget)(inputs, own), expected, **tolerance())
    assert f.known["vectorised"] == vectorised


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_are_the_rows_in_order(chunk: int) -> None:
    case = zoo()[0]
    f = functional(case.model)
    pieces = list(jacobian_rows(f, case.inputs, chunk=chunk))
    assert [rows.start for rows, _ in pieces] == list(range(0, 6, chunk))
    torch.testing.assert_close(torch.cat([b for _, b in pieces]), jacobian(f, case.inputs), **tolerance())


@pytest.mark.parametrize("budget", [1, 20_000])
def test_small_budgets_give_the_same_rows(budget: int) -> None:
    case = zoo()[2]
    f = functional(case.model)
    inputs = f.inputs(case.inputs)
    torch.testing.assert_close(JacobianRows(f, inputs, budget)(inputs), jacobian(f, inputs), **tolerance())


def test_devices_agree(device: str) -> None:
    for case in zoo():
        f = functional(case.model, device=device)
        got = jacobian(f, case.inputs).cpu()
        torch.testing.assert_close(got, jacobian(functional(case.model), case.inputs), **tolerance(scale=100))


def test_slices_cover_the_columns_in_order() -> None:
    f = functional(zoo()[0].model)
    slices = list(parameter_slices(f).values())
    assert slices[0].start == 0
    assert slices[-1].stop == f.n_parameters
    assert all(a.stop == b.start for a, b in itertools.pairwise(slices))


class _Squeezes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x).squeeze()


@pytest.mark.parametrize(
    "model", [_Squeezes(), nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))]
)
def test_samples_that_interact_are_refused_with_a_remedy(model: nn.Module) -> None:
    with pytest.raises(BadInput, match="running statistics"):
        jacobian(functional(model), torch.randn(5, 4, generator=stream(0, "x")))


def test_too_large_a_jacobian_is_refused_with_the_number_that_fits() -> None:
    f = functional(nn.Linear(10, 2))
    with pytest.raises(OutOfMemory, match=r"at most 2 samples"):
        jacobian(f, torch.ones(50, 10), max_bytes=2 * 2 * 22 * 8)


def test_a_wrong_projection_is_refused() -> None:
    with pytest.raises(BadInput, match=r"must be \(2, k\)"):
        jacobian(functional(nn.Linear(10, 2)), torch.ones(5, 10), projection=torch.ones(3, 1))
