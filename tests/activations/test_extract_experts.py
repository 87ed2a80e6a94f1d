"""Modules that see some of the samples only: experts behind a router, a branch that few batches take."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.errors import BadInput, LayerDidNotFire
from geomfeat.models.functional import functional
from geomfeat.numerics import stream
from geomfeat.tangent import jvp

N = 40


class _Experts(nn.Module):
    """gate -> the two best of four experts -> out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.out = nn.Linear(6, 4), nn.Linear(5, 2)
        self.experts = nn.ModuleList([nn.Linear(6, 5) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, -1)
        total = torch.zeros(len(x), 5, dtype=x.dtype)
        for k, expert in enumerate(self.experts):
            rows, place = (chosen == k).nonzero(as_tuple=True)
            if len(rows):
                total = total.index_add(0, rows, torch.tanh(expert(x[rows])) * weights[rows, place][:, None])
        return self.out(total)


class _Rare(nn.Module):
    """fc -> out, and rare where no sample has a large first number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.rare, self.out = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        if not bool((x[:, 0] > 3).any()):
            self.rare(h)
        return self.out(h)


def _inputs() -> Tensor:
    return torch.randn(N, 6, generator=stream(0, "experts"))


@pytest.mark.parametrize("batch_size", [5, 16, 256])
def test_experts_are_left_out_of_patterns(batch_size: int) -> None:
    kept = gf.extract(_Experts(), _inputs(), progress=False, options=gf.ExtractOptions(batch_size=batch_size))
    assert list(kept) == ["gate", "out"]


def test_an_expert_given_by_name_is_refused_with_its_rows() -> None:
    with pytest.raises(BadInput, match=r"layer 'experts\.0'"):
        gf.extract(_Experts(), _inputs(), layers=["experts.0"], progress=False)


def test_a_layer_that_a_later_batch_does_not_call_is_left_out_of_patterns(caplog: pytest.LogCaptureFixture) -> None:
    x = _inputs().clamp(-2, 2)
    x[37, 0] = 4.0
    assert list(gf.extract(_Rare(), x, progress=False, options=gf.ExtractOptions(batch_size=10))) == ["fc", "out"]
    assert any("'rare' was not called for samples 30 to 40" in text for text in caplog.messages)
    with pytest.raises(LayerDidNotFire, match="'rare' was not called for samples 30 to 40"):
        gf.extract(_Rare(), x, layers=["fc", "rare"], progress=False, options=gf.ExtractOptions(batch_size=10))


def test_a_study_goes_without_experts() -> None:
    results = gf.analyze(
        _Experts(),
        _inputs(),
        measures=["participation_ratio"],
        location=False,
        progress=False,
        options=gf.StudyOptions(umap=False),
    )
    assert set(results.table["layer"]) == {"gate"}


def test_kernels_and_products_of_experts_are_those_of_plain_gradients() -> None:
    f, x = functional(_Experts()), _inputs()[:6]
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    rows = torch.stack([
        torch.cat([g.flatten() for g in torch.autograd.grad(out, list(theta.values()), retain_graph=True,
                                                            allow_unused=True, materialize_grads=True)])
        for out in f(theta, f.inputs(x)).flatten()
    ]).view(6, 2, -1)  # fmt: skip
    torch.testing.assert_close(gf.ntk(f, x).gram, torch.einsum("icp,jcp->ij", rows, rows), rtol=1e-9, atol=1e-12)
    direction = {name: torch.ones_like(w) for name, w in f.theta.items()}
    torch.testing.assert_close(jvp(f, x, direction), rows.sum(-1), rtol=1e-9, atol=1e-12)


def test_a_forward_pass_that_takes_gradients_itself_has_a_kernel() -> None:
    class Force(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.energy = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.func.vmap(torch.func.grad(lambda v: self.energy(v).sum()))(x)

    f, x = functional(Force()), _inputs()[:5, :3]
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    outputs = f(theta, f.inputs(x))
    rows = torch.stack([
        torch.cat([g.flatten() for g in torch.autograd.grad(out, list(theta.values()), retain_graph=True,
                                                            allow_unused=True, materialize_grads=True)])
        for out in outputs.flatten()
    ]).view(5, 3, -1)  # fmt: skip
    torch.testing.assert_close(gf.ntk(f, x).gram, torch.einsum("icp,jcp->ij", rows, rows), rtol=1e-9, atol=1e-12)
