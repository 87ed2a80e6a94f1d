"""The diagonal of the tangent kernel: one gradient at a time, that of the whole kernel, tiles."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.models.functional import functional
from geomfeat.numerics import stream, tolerance
from geomfeat.tangent import JacobianRows, ntk, ntk_diagonal
from geomfeat.tangent.layerwise.outer_factors import Outer
from tests.reference.kernels import ntk_by_loop
from tests.zoo import Case, zoo

module = importlib.import_module("geomfeat.tangent._ntk_diagonal")


def test_a_linear_layer_has_the_norms_of_its_inputs_times_the_outputs() -> None:
    x = torch.randn(7, 5, generator=stream(0, "x"), dtype=torch.float64)
    own = x.square().sum(1) + 1  # 1 from the bias
    torch.testing.assert_close(ntk_diagonal(nn.Linear(5, 4), x), 4 * own, **tolerance())
    blocks = own[:, None, None] * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(ntk_diagonal(nn.Linear(5, 4), x, outputs="full"), blocks, **tolerance())


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_equals_one_gradient_at_a_time(case: Case, device: str) -> None:
    truth = ntk_by_loop(case.model, case.inputs).diagonal().permute(2, 0, 1)
    trace = truth.diagonal(dim1=1, dim2=2).sum(-1)
    got = ntk_diagonal(case.model, case.inputs, outputs="full", device=device).cpu()
    torch.testing.assert_close(got, truth, **tolerance(scale=10))
    got = ntk_diagonal(case.model, case.inputs, batch_size=2, device=device).cpu()
    torch.testing.assert_close(got, trace, **tolerance(scale=10))


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_layer_by_layer_equals_one_gradient_at_a_time(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    truth = ntk_by_loop(case.model, case.inputs).diagonal().permute(2, 0, 1)
    got = ntk_diagonal(case.model, case.inputs, outputs="full")
    torch.testing.assert_close(got, truth, **tolerance(scale=10))
    got = ntk_diagonal(case.model, case.inputs, batch_size=1)
    torch.testing.assert_close(got, truth.diagonal(dim1=1, dim2=2).sum(-1), **tolerance(scale=10))


@pytest.mark.parametrize("positions", [1, 2, 50])
@pytest.mark.parametrize("summed", [True, False])
def test_factors_through_gradients_and_through_positions(positions: int, summed: bool) -> None:
    a = torch.randn(5, 2, 4, positions, generator=stream(0, "a"), dtype=torch.float64)
    d = torch.randn(5, 3, 2, 6, positions, generator=stream(0, "d"), dtype=torch.float64)
    g = torch.einsum("ngit,nkgot->nkgoi", a, d).flatten(2)
    expected = torch.einsum("nkp,nlp->nkl", g, g)
    out = torch.zeros(5, *((1, 1) if summed else (3, 3)), dtype=torch.float64)
    Outer(((lambda: a, d),), 4).add_own(out)
    truth = expected.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] if summed else expected
    torch.testing.assert_close(out, truth, **tolerance(scale=10))


def test_is_the_diagonal_of_the_kernel_to_twelve_digits() -> None:
    model, x = zoo()[0].model, zoo()[0].inputs
    close: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(ntk_diagonal(model, x), ntk(model, x).gram.diagonal(), **close)
    torch.testing.assert_close(ntk_diagonal(model, x, outputs=-1), ntk(model, x, outputs=-1).gram.diagonal(), **close)
    chosen = ntk(model, x, params="2.*").gram.diagonal()
    torch.testing.assert_close(ntk_diagonal(model, x, params="2.*"), chosen, **close)
    p = torch.randn(3, 2, generator=stream(0, "p"), dtype=torch.float64)
    blocks = ntk(model, x, outputs=p).blocks.diagonal().permute(2, 0, 1)
    torch.testing.assert_close(ntk_diagonal(model, x, outputs=p), blocks, **close)


@pytest.mark.parametrize("rows", [2, 3, 7, 1000])
@pytest.mark.parametrize("outputs", ["trace", "full"])
def test_every_tiling_gives_the_same_within_its_memory(
    rows: int, outputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = zoo()[0]
    expected = ntk_diagonal(case.model, case.inputs, outputs=outputs)
    budget = rows * 8 * functional(case.model).n_parameters
    monkeypatch.setattr(module, "BUDGET", budget)
    asked = []
    compute = JacobianRows.__call__

    def counted(self: JacobianRows, inputs: object, projection: torch.Tensor | None = None) -> torch.Tensor:
        out = compute(self, inputs, projection)
        asked.append(len(out))
        return out

    monkeypatch.setattr(JacobianRows, "__call__", counted)
    got = ntk_diagonal(case.model, case.inputs, outputs=outputs)
    torch.testing.assert_close(got, expected, **tolerance(scale=10))
    assert max(asked) <= rows


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = zoo()[0].model, zoo()[0].inputs
    with pytest.raises(BadInput, match="outputs must be"):
        ntk_diagonal(model, x, outputs="all")

    with pytest.raises(BadInput, match="tangent kernel holds"):
        ntk_diagonal(nn.Linear(1, 2), torch.tensor([[1e300]]).double())

    def full(*_: object) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(JacobianRows, "__call__", full)
    with pytest.raises(OutOfMemory, match="restrict params="):
        ntk_diagonal(model, x)
