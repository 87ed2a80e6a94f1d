"""Chains of torch's own modules go without checks of their derivatives: each of them is right, and only they do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from geomfeat.models.functional import functional
from geomfeat.numerics import stream
from geomfeat.tangent import jvp, ntk
from geomfeat.tangent.jacobians.known_modules import BENT_AT_ZERO, NORMS, SMOOTH, of_known_modules

# A network around each of them and the shape of a sample; its first and last layers are linear.
AROUND: dict[type[nn.Module], tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    nn.Linear: (lambda: [nn.Linear(6, 6)], (6,)),
    nn.LayerNorm: (lambda: [nn.LayerNorm(6)], (6,)),
    nn.GroupNorm: (lambda: [nn.GroupNorm(2, 6)], (6,)),
    nn.BatchNorm1d: (lambda: [nn.BatchNorm1d(6)], (6,)),
    nn.Softmax: (lambda: [nn.Softmax(-1)], (6,)),
    nn.LogSoftmax: (lambda: [nn.LogSoftmax(-1)], (6,)),
    nn.Unflatten: (lambda: [nn.Unflatten(1, (2, 3))], (6,)),
    nn.Sequential: (lambda: [nn.Sequential(nn.Linear(6, 6), nn.Tanh())], (6,)),
    **{m: (lambda m=m: [m(2, 2, 2)], (2, 5)) for m in (nn.Conv1d, nn.ConvTranspose1d)},
    **{m: (lambda m=m: [m(2, 2, 2)], (2, 4, 4)) for m in (nn.Conv2d, nn.ConvTranspose2d)},
    **{m: (lambda m=m: [m(2, 2, 2)], (2, 3, 3, 3)) for m in (nn.Conv3d, nn.ConvTranspose3d)},
    nn.BatchNorm2d: (lambda: [nn.Conv2d(2, 2, 2), nn.BatchNorm2d(2)], (2, 4, 4)),
    nn.BatchNorm3d: (lambda: [nn.Conv3d(2, 2, 2), nn.BatchNorm3d(2)], (2, 3, 3, 3)),
    nn.AvgPool1d: (lambda: [nn.Conv1d(2, 2, 2), nn.AvgPool1d(2)], (2, 5)),
    nn.AvgPool2d: (lambda: [nn.Conv2d(2, 2, 2), nn.AvgPool2d(2)], (2, 5, 5)),
    nn.AvgPool3d: (lambda: [nn.Conv3d(2, 2, 2), nn.AvgPool3d(2)], (2, 5, 5, 5)),
    nn.AdaptiveAvgPool1d: (lambda: [nn.Conv1d(2, 2, 2), nn.AdaptiveAvgPool1d(2)], (2, 5)),
    nn.AdaptiveAvgPool2d: (lambda: [nn.Conv2d(2, 2, 2), nn.AdaptiveAvgPool2d(2)], (2, 5, 5)),
    nn.Dropout1d: (lambda: [nn.Conv1d(2, 2, 2), nn.Dropout1d(0.5)], (2, 5)),
    nn.Dropout2d: (lambda: [nn.Conv2d(2, 2, 2), nn.Dropout2d(0.5)], (2, 4, 4)),
    nn.Dropout3d: (lambda: [nn.Conv3d(2, 2, 2), nn.Dropout3d(0.5)], (2, 3, 3, 3)),
}
KNOWN = (*SMOOTH, *BENT_AT_ZERO, *NORMS)


def _network(kind: type[nn.Module]) -> tuple[nn.Module, Tensor]:
    make, shape = AROUND.get(kind, (lambda: [nn.Linear(6, 6), kind()], (6,)))
    torch.manual_seed(2)
    layers = make()
    x = torch.randn((5, *shape), generator=stream(0, "known modules"))
    with torch.no_grad():
        width = nn.Sequential(*layers).eval()(x)[0].numel()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 3)), x


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_every_known_module_has_the_derivatives_of_backward_passes(kind: type[nn.Module]) -> None:
    net, x = _network(kind)
    f = functional(net)
    assert of_known_modules(f)
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    outputs = f(theta, f.inputs(x))
    rows = torch.stack([
        torch.cat([g.flatten() for g in torch.autograd.grad(out, list(theta.values()), retain_graph=True)])
        for out in outputs.flatten()
    ]).view(*outputs.shape, -1)  # fmt: skip
    torch.testing.assert_close(ntk(f, x).gram, torch.einsum("icp,jcp->ij", rows, rows), rtol=1e-9, atol=1e-9)
    direction = {name: torch.randn_like(w) for name, w in f.theta.items()}
    flat = torch.cat([value.flatten() for value in direction.values()])
    torch.testing.assert_close(jvp(f, x, direction), rows @ flat, rtol=1e-9, atol=1e-9)
    assert f.notes == ()


def _hooked(net: nn.Module) -> nn.Module:
    net[1].register_forward_hook(lambda _m, _i, out: out.detach())  # type: ignore[index]
    return net


def _with_forward(net: nn.Module) -> nn.Module:
    net[1].forward = lambda x: x.detach()  # type: ignore[index]
    return net


class _Tanh(nn.Tanh):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).detach() + 0.1 * input


CHANGES = {
    "a hook": _hooked,
    "a forward of its own": _with_forward,
    "a subclass": lambda net: nn.Sequential(net[0], _Tanh(), net[2]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_gradient_that_the_user_stops_is_noted_in_a_chain_too(change: str) -> None:
    torch.manual_seed(0)
    net = CHANGES[change](nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)))
    f = functional(net)
    assert not of_known_modules(f)
    kernel = ntk(f, torch.randn(6, 4))
    assert any("backward passes differ" in note for note in kernel.meta["notes"])


def test_a_readout_is_checked() -> None:
    f = functional(
        nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), readout=lambda out, _: out.detach() * out
    )
    assert not of_known_modules(f)
    assert any("backward passes differ" in note for note in ntk(f, torch.randn(6, 4)).meta["notes"])


@pytest.mark.parametrize("kind", BENT_AT_ZERO, ids=lambda kind: kind.__name__)
def test_units_exactly_where_they_bend_are_noted(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5, bias=True), kind(), nn.Linear(5, 2))
    with torch.no_grad():
        net[0].bias.zero_()  # type: ignore[union-attr,operator]
    x = torch.randn(6, 4)
    x[0] = 0.0
    assert any("exactly at a kink" in note for note in ntk(net, x).meta["notes"])
    assert "notes" not in (kept := ntk(net, x[1:]).meta) or not kept["notes"]


def test_a_chain_that_takes_channels_for_samples_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(0), nn.Unflatten(0, (3, 9)), nn.Linear(9, 1))
    with pytest.raises(Exception, match=r"depends on the batch|single sample|cannot be called"):
        ntk(net, torch.randn(2, 4, 4))
