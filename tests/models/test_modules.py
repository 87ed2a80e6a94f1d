"""Modules out of their wrappers, copied, in another precision, and refused where they hold no numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.modules import copied, in_precision, real_pairs, unwrapped
from geomfeat.tangent import ntk_by_parameter_group


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, compiled, lambda m: compiled(nn.DataParallel(m)), lambda m: nn.DataParallel(compiled(m))],
    ids=["parallel", "compiled", "compiled parallel", "parallel compiled"],
)
def test_wrappers_are_taken_off_in_any_order(wrap: object) -> None:
    model = net()
    wrapped = wrap(model)  # pyright: ignore[reportCallIssue]
    assert unwrapped(wrapped) is model
    x = torch.ones(5, 3)
    assert list(gf.extract(wrapped, x, progress=False)) == list(gf.extract(model, x, progress=False))
    torch.testing.assert_close(gf.ntk(wrapped, x).gram, gf.ntk(model, x).gram)
    assert list(ntk_by_parameter_group(wrapped, x)) == ["0", "2"]


@pytest.mark.parametrize("use", [unwrapped, copied, lambda m: gf.ntk(m, torch.ones(4, 3)),
                                 lambda m: gf.extract(m, torch.ones(4, 3), progress=False)])  # fmt: skip
def test_weights_without_values_are_refused_by_name(use: object) -> None:
    with torch.device("meta"):
        empty = net()
    partly = net()
    partly[2] = empty[2]
    for model, name in ((empty, "0.weight"), (partly, "2.weight")):
        with pytest.raises(BadInput, match=f"'{name}' of the model is on the meta device.*load the weights first"):
            use(model)  # pyright: ignore[reportCallIssue]


# torch says that its quantised tensors will go.
@pytest.mark.filterwarnings("ignore:.*quantiz:UserWarning", "ignore:.*quantiz:DeprecationWarning")
def test_quantised_weights_are_refused_by_name() -> None:
    linear = torch.ao.nn.quantized.dynamic.Linear(3, 4)
    with pytest.raises(BadInput, match=r"module '0' \(Linear\) is quantised.*floating point"):
        gf.ntk(nn.Sequential(linear, nn.Linear(4, 2)), torch.ones(4, 3))

    class Eight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 3, dtype=torch.int8), requires_grad=False)
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scale * (x @ self.weight.to(x.dtype).T)

    with pytest.raises(BadInput, match=r"parameter 'weight' is quantised \(torch.int8\)"):
        gf.ntk(Eight(), torch.ones(4, 3))


def test_whole_numbers_that_are_no_weights_stay() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.order = nn.Parameter(torch.tensor([2, 0, 1]), requires_grad=False)
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x[:, self.order])

    model, x = Positions(), torch.randn(4, 3)
    torch.testing.assert_close(gf.ntk(model, x).gram, 2 * (x.double() @ x.double().T + 1))


def test_precision_keeps_imaginary_parts_and_whole_numbers() -> None:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([1 + 2j]))
    model.b = nn.Parameter(torch.tensor([0.5]))
    model.register_buffer("turn", torch.tensor([1j]))
    model.register_buffer("count", torch.tensor([3]))
    wide = in_precision(model, torch.device("cpu"), torch.float64)
    assert [t.dtype for t in (*wide.parameters(), *wide.buffers())] == [
        torch.complex128, torch.float64, torch.complex128, torch.int64,
    ]  # fmt: skip
    assert wide.w.tolist() == [1 + 2j]
    assert real_pairs(wide.w).tolist() == [[1.0, 2.0]]


def test_copies_have_dense_gradients_and_the_original_stays() -> None:
    sparse = nn.Sequential(nn.Embedding(5, 3, sparse=True))
    assert copied(sparse)[0].sparse is False  # pyright: ignore[reportIndexIssue]
    assert sparse[0].sparse is True


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_averaged_weights_are_a_wrapper(wrap) -> None:
    start, model = net(), net()
    averaged, x = AveragedModel(wrap(model)), torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    assert list(unwrapped(averaged).state_dict()) == list(model.state_dict())
    assert torch.equal(gf.extract(averaged, x, ["0"])["0"].x, gf.extract(model, x, ["0"])["0"].x)
    assert torch.equal(gf.ntk(averaged, x).gram, gf.ntk(model, x).gram)
    found, plain = (
        gf.locate(m, x, initial=start, progress=False, options=gf.LocateOptions(n_bootstrap=2))
        for m in (averaged, model)
    )
    assert found.layers.equals(plain.layers)
    tables = [
        gf.analyze(
            m,
            x,
            layers=["0"],
            measures=["participation_ratio"],
            location=False,
            progress=False,
            options=gf.StudyOptions(umap=False),
        ).table
        for m in (averaged, model)
    ]
    assert tables[0]["value"].equals(tables[1]["value"])
