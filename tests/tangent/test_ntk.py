"""The tangent kernel: reference values, one gradient at a time, tiles, memory."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.models.functional import functional
from geomfeat.numerics import stream, tolerance
from geomfeat.tangent import JacobianRows, ntk, ntk_by_parameter_group, ntk_diagonal, parameter_group
from tests.reference.kernels import ntk_by_loop
from tests.shared_data import shared
from tests.zoo import Case, zoo

ntk_module = importlib.import_module("geomfeat.tangent._ntk")


def full(blocks: Tensor) -> Tensor:
    """(n1, n2, C, C) as the sample-major matrix."""
    n1, n2, c, _ = blocks.shape
    return blocks.permute(0, 2, 1, 3).reshape(n1 * c, n2 * c)


def trace(blocks: Tensor) -> Tensor:
    return blocks.diagonal(dim1=2, dim2=3).sum(-1)


def test_reference_mlp_to_nine_digits() -> None:
    stored = np.load(shared("refs/kernels/ntk_mlp_expected.npz"))
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    model.load_state_dict({k[2:]: torch.from_numpy(stored[k]) for k in stored if k.startswith("w_")})
    x = torch.from_numpy(stored["x"])
    got = ntk(model, x, outputs="full").blocks
    for library in ("ntk_nngeometry", "ntk_neural_tangents"):
        torch.testing.assert_close(got, torch.from_numpy(stored[library]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ntk(model, x).gram, torch.from_numpy(stored["trace_ntk"]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch_size", [None, 1, 2], ids=lambda b: f"batch {b}")
@pytest.mark.parametrize("case", zoo(), ids=str)
def test_equals_one_gradient_at_a_time(case: Case, batch_size: int | None) -> None:
    truth = ntk_by_loop(case.model, case.inputs)
    got = ntk(case.model, case.inputs, outputs="full", batch_size=batch_size)
    torch.testing.assert_close(got.gram, full(truth), **tolerance(scale=10))
    torch.testing.assert_close(got.blocks, truth, **tolerance(scale=10))
    torch.testing.assert_close(
        ntk(case.model, case.inputs, batch_size=batch_size).gram, trace(truth), **tolerance(scale=10)
    )


def test_a_linear_layer_has_the_gram_of_its_inputs_times_the_outputs() -> None:
    x = torch.randn(7, 5, generator=stream(0, "x"), dtype=torch.float64)
    expected = 4 * (x @ x.T + 1)  # four outputs; 1 from the bias
    torch.testing.assert_close(ntk(nn.Linear(5, 4), x).gram, expected, **tolerance())


def test_class_sorted_batches_give_the_unbatched_kernel() -> None:
    # Batches of one class each: the cross-class blocks are where a wrong pairing of batches would show.
    x = torch.cat([torch.randn(4, 4, generator=stream(k, "class")) + 3 * k for k in range(3)])
    model = zoo()[0].model
    whole = ntk(model, x, batch_size=100)
    for size in (1, 2, 4, 5):
        torch.testing.assert_close(ntk(model, x, batch_size=size).gram, whole.gram, **tolerance(scale=10))


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_two_sets_of_samples(batch_size: int | None) -> None:
    case = zoo()[0]
    x2 = torch.randn(4, 4, generator=stream(0, "x2"))
    truth = ntk_by_loop(case.model, case.inputs, x2)
    got = ntk(case.model, case.inputs, x2, outputs="full", batch_size=batch_size)
    assert got.gram.shape == (18, 12)
    torch.testing.assert_close(got.blocks, truth, **tolerance(scale=10))
    torch.testing.assert_close(ntk(case.model, case.inputs, x2).gram, trace(truth), **tolerance(scale=10))


def test_one_output_and_projected_outputs() -> None:
    case = zoo()[0]
    truth = ntk_by_loop(case.model, case.inputs)
    torch.testing.assert_close(ntk(case.model, case.inputs, outputs=2).gram, truth[:, :, 2, 2], **tolerance(scale=10))
    p = torch.randn(3, 2, generator=stream(0, "p"), dtype=torch.float64)
    got = ntk(case.model, case.inputs, outputs=p)
    expected = torch.einsum("ijcd,ck,dl->ijkl", truth, p, p)
    torch.testing.assert_close(got.blocks, expected, **tolerance(scale=10))
    grouped = ntk_by_parameter_group(case.model, case.inputs, projection=p)
    total = torch.stack([k.gram for k in grouped.values()]).sum(0)
    torch.testing.assert_close(total, trace(expected), **tolerance(scale=10))


@pytest.mark.parametrize("budget_rows", [2, 5, 8, 13, 1000])
@pytest.mark.parametrize("outputs", ["trace", "full"])
def test_every_tiling_gives_the_same_kernel(budget_rows: int, outputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = zoo()[0]
    truth = ntk_by_loop(case.model, case.inputs)
    monkeypatch.setattr(ntk_module, "BUDGET", budget_rows * 8 * functional(case.model).n_parameters)
    expected = trace(truth) if outputs == "trace" else full(truth)
    torch.testing.assert_close(ntk(case.model, case.inputs, outputs=outputs).gram, expected, **tolerance(scale=10))
    got = ntk(case.model, case.inputs, case.inputs[:4], outputs=outputs).gram
    torch.testing.assert_close(got, expected[:, : 4 * (1 if outputs == "trace" else 3)], **tolerance(scale=10))


@pytest.mark.parametrize("case", zoo(), ids=str)
def test_parameter_groups_are_right_and_sum_to_the_whole(case: Case) -> None:
    groups = ntk_by_parameter_group(case.model, case.inputs, batch_size=2)
    whole = ntk(case.model, case.inputs).gram
    torch.testing.assert_close(torch.stack([k.gram for k in groups.values()]).sum(0), whole, **tolerance(scale=10))
    for name in list(groups)[:2]:
        own = [k for k, p in case.model.named_parameters() if parameter_group(k) == name and p.requires_grad]
        truth = trace(ntk_by_loop(case.model, case.inputs, names=tuple(own)))
        torch.testing.assert_close(groups[name].gram, truth, **tolerance(scale=10))


def test_only_the_chosen_parameters_count() -> None:
    case = zoo()[0]
    groups = ntk_by_parameter_group(case.model, case.inputs)
    chosen = ntk(case.model, case.inputs, params="2.*").gram
    torch.testing.assert_close(chosen, groups["2"].gram, **tolerance(scale=10))
    assert "0" not in ntk_by_parameter_group(zoo()[1].model, zoo()[1].inputs)  # frozen there


def test_symmetric_positive_and_untouched() -> None:
    case = zoo()[2]
    before = {k: v.clone() for k, v in case.model.state_dict().items()}
    case.model.train()
    gram = ntk(case.model, case.inputs, outputs="full").gram
    assert case.model.training
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())
    torch.testing.assert_close(gram, gram.T, **tolerance(scale=10))
    assert torch.linalg.eigvalsh(gram)[0] > -1e-10 * gram.norm()


def _limited(monkeypatch: pytest.MonkeyPatch, most_rows: int, error: Exception) -> list[int]:
    """Jacobian blocks of more than `most_rows` rows run out of memory."""
    asked: list[int] = []
    compute = JacobianRows.__call__

    def limited(self: JacobianRows, inputs: object, projection: Tensor | None = None) -> Tensor:
        k = self.projection(projection).shape[1]
        asked.append(len(inputs) * k)  # type: ignore[arg-type]
        if asked[-1] > most_rows:
            raise error
        return compute(self, inputs, projection)

    monkeypatch.setattr(JacobianRows, "__call__", limited)
    return asked


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_out_of_memory_falls_back_to_smaller_tiles(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    case = zoo()[0]
    truth = ntk_by_loop(case.model, case.inputs)
    asked = _limited(monkeypatch, 2, error)
    got = ntk(case.model, case.inputs, outputs="full", batch_size=6)
    assert asked[0] == 18
    torch.testing.assert_close(got.blocks, truth, **tolerance(scale=10))


def test_out_of_memory_at_the_smallest_tile_says_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    case = zoo()[0]
    _limited(monkeypatch, 0, OUT_OF_MEMORY[0])
    with pytest.raises(OutOfMemory, match=r"6 samples x 3 outputs.*batch_size=1 at most about \d+ samples.*project"):
        ntk(case.model, case.inputs, outputs="full", batch_size=4)


def test_other_errors_are_not_mistaken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _limited(monkeypatch, 0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        ntk(zoo()[0].model, zoo()[0].inputs)
    assert len(asked) == 1


@pytest.mark.parametrize("outputs", ["sum", 3, -4, True, torch.ones(2, 2), np.ones((2, 2))], ids=str)
def test_wrong_outputs_are_refused(outputs: object) -> None:
    with pytest.raises(BadInput, match="output"):
        ntk(zoo()[0].model, zoo()[0].inputs, outputs=outputs)  # type: ignore[arg-type]


def test_outputs_may_be_numpy() -> None:
    model, x = zoo()[0].model, zoo()[0].inputs
    columns = torch.randn(3, 2, generator=stream(0, "projection"), dtype=torch.float64)
    assert torch.equal(ntk(model, x, outputs=columns.numpy()).gram, ntk(model, x, outputs=columns).gram)
    assert torch.equal(ntk(model, x, outputs=np.int64(1)).gram, ntk(model, x, outputs=1).gram)
    groups = ntk_by_parameter_group(model, x, projection=columns.numpy())
    assert torch.equal(next(iter(groups.values())).gram, ntk_by_parameter_group(model, x, projection=columns)["0"].gram)


class NoGradient(nn.Module):
    """A forward pass without a gradient, of which a kernel of zeros would tell nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.fc(x)


@pytest.mark.parametrize("kernel", [ntk, ntk_diagonal, ntk_by_parameter_group])
def test_models_and_inputs_without_a_gradient_are_refused(kernel) -> None:
    with pytest.raises(BadInput, match="no_grad"):
        kernel(NoGradient(), torch.ones(5, 4))
    with pytest.raises(BadInput, match="positive number of samples"):
        kernel(nn.Linear(4, 3), torch.ones(0, 4))


def test_parameters_that_are_not_used_have_a_kernel_of_zeros() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.dead = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    assert not ntk(Unused(), torch.ones(5, 4), params="dead.*").gram.any()


def test_a_functional_takes_its_own_parameters() -> None:
    f = functional(zoo()[0].model, params="2.*")
    torch.testing.assert_close(
        ntk(f, zoo()[0].inputs).gram, ntk(zoo()[0].model, zoo()[0].inputs, params="2.*").gram, **tolerance()
    )
    with pytest.raises(BadInput, match="functional"):
        ntk(f, zoo()[0].inputs, params="2.*")


def test_devices_agree(device: str) -> None:
    for case in zoo():
        got = ntk(case.model, case.inputs, device=device).gram.cpu()
        torch.testing.assert_close(got, ntk(case.model, case.inputs).gram, **tolerance(scale=100))
