"""Reductions against loops over samples, masks, and what is refused."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.testing import assert_close

from geomfeat.activations import reduce, span_coordinates
from geomfeat.errors import BadInput
from geomfeat.numerics import tolerance
from geomfeat.types import Representation
from tests.reference.activations import reduced_by_loops


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ragged(lengths: list[int], length: int) -> Tensor:
    return torch.arange(length) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("how", ["flatten", "mean", "max", "adaptive(1)", "adaptive(2)", "adaptive(3)"])
@pytest.mark.parametrize("shape", [(4, 3, 7), (4, 3, 5, 6), (2, 3, 4, 3, 5)])
def test_maps_are_reduced_as_by_loops(how: str, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    assert_close(reduce(x, how), torch.from_numpy(reduced_by_loops(x.numpy(), how)), **tolerance())


@settings(deadline=None, max_examples=30)
@given(
    how=st.sampled_from(["flatten", "cls", "last", "token_mean", "token_all", "token(0)", "token(-1)", "token(2)"]),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    masked=st.booleans(),
    left=st.booleans(),
    heads=st.booleans(),
    device=st.sampled_from(["cpu", *(["cuda"] if torch.cuda.is_available() else [])]),
)
def test_sequences_are_reduced_as_by_loops(
    how: str, lengths: list[int], masked: bool, left: bool, heads: bool, device: str
) -> None:
    if how.startswith("token("):
        masked = False
    x = normal(len(lengths), 5, *([2, 3] if heads else [4]))
    mask = ragged(lengths, 5)
    mask = mask.flip(1) if left else mask
    found = reduce(x.to(device), how, mask=mask.to(device) if masked else None)
    expected = reduced_by_loops(x.numpy(), how, mask.numpy() if masked else None)
    assert_close(found.cpu(), torch.from_numpy(expected), **tolerance())


def test_padding_never_enters_a_masked_mean_even_as_nan() -> None:
    x = normal(2, 3, 4)
    x[0, 2] = float("nan")
    found = reduce(x, "token_mean", mask=torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert_close(found, torch.stack([x[0, :2].mean(0), x[1].mean(0)]))


@pytest.mark.parametrize("how", ["mean", "max", "adaptive(3)", "cls", "last", "token_mean", "token_all", "token(7)"])
def test_what_is_already_samples_by_features_stays(how: str) -> None:
    x = normal(4, 3)
    assert torch.equal(reduce(x, how), x)
    assert reduce(normal(4), how).shape == (4, 1)


def test_memory_format_does_not_matter() -> None:
    x = normal(4, 3, 5, 6)
    for other in (x.to(memory_format=torch.channels_last), x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)):
        assert not other.is_contiguous()
        for how in ("flatten", "mean", "max", "adaptive(2)"):
            assert_close(reduce(other, how), reduce(x, how))
    assert torch.equal(reduce(x.transpose(0, 1), "flatten"), x.transpose(0, 1).contiguous().view(3, -1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precisions_are_widened_before_anything_is_summed(dtype: torch.dtype) -> None:
    x = normal(4, 3, 50, 50, dtype=torch.float32).to(dtype)
    for how in ("flatten", "mean", "max", "adaptive(2)"):
        found = reduce(x, how)
        assert found.dtype == torch.float32
        assert torch.equal(found, reduce(x.float(), how))


def test_integers_and_booleans_become_floating() -> None:
    large = 2**27 + torch.arange(6).reshape(2, 3)
    assert reduce(large).dtype == torch.float64
    assert reduce(large).long().equal(large)
    assert reduce(torch.ones(2, 3, 4) > 0, "mean").tolist() == [[1.0] * 3] * 2


def test_sparse_tensors_become_dense() -> None:
    x = torch.eye(3)
    assert torch.equal(reduce(x.to_sparse_coo()), x)


def test_complex_numbers_are_refused_with_a_remedy_that_works() -> None:
    x = torch.complex(normal(4, 3), normal(4, 3, seed=1))
    with pytest.raises(BadInput, match="view_as_real"):
        reduce(x)
    assert torch.view_as_real(x).flatten(1).shape == (4, 6)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_padded_and_know_their_lengths(layout: torch.layout) -> None:
    parts = [normal(2, 3), normal(4, 3, seed=1), normal(1, 3, seed=2)]
    nested = torch.nested.nested_tensor(parts, layout=layout)
    assert_close(reduce(nested, "token_mean"), torch.stack([p.mean(0) for p in parts]))
    assert_close(reduce(nested, "last"), torch.stack([p[-1] for p in parts]))
    assert_close(reduce(nested, "token_all"), torch.cat(parts))
    flat = reduce(nested, "flatten")
    assert flat.shape == (3, 12)
    assert torch.equal(flat[0, :6], parts[0].flatten())
    assert not flat[0, 6:].any()


@pytest.mark.parametrize("how", ["average", "adaptive(0)", "adaptive(-2)", "token(x)", "token", "", 3, None])
def test_unknown_reductions_are_named(how: object) -> None:
    with pytest.raises(BadInput, match="reduce="):
        reduce(normal(2, 3, 4), how)


@pytest.mark.parametrize(
    ("how", "mask", "message"),
    [
        ("last", torch.ones(2, 4), "mask has shape"),
        ("cls", torch.ones(3, 3), "mask has shape"),
        ("token_mean", torch.tensor([[1, 1, 0], [0, 0, 0]]), r"no valid token in sample\(s\) \[1\]"),
        ("token(2)", torch.tensor([[1, 1, 0], [1, 1, 1]]), r"padding in sample\(s\) \[0\]"),
        ("token(3)", None, "has 3 tokens"),
        ("token(-4)", None, "has 3 tokens"),
        ("mean", torch.ones(2, 3), "token_mean"),
        ("max", torch.ones(2, 3), "token_mean"),
    ],
)
def test_masks_and_positions_that_do_not_fit_are_refused(how: str, mask: Tensor | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        reduce(normal(2, 3, 4), how, mask=mask)


def test_a_function_may_reduce_and_is_checked() -> None:
    x = normal(4, 3, 2)
    assert torch.equal(reduce(x, lambda t: t[:, 0]), x[:, 0])
    for wrong in (lambda t: t, lambda t: t[0], lambda t: 3):
        with pytest.raises(BadInput, match=r"must return \(4, features\)"):
            reduce(x, wrong)


def test_a_scalar_has_no_samples() -> None:
    with pytest.raises(BadInput, match="scalar"):
        reduce(torch.tensor(1.0))


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 8), d=st.integers(1, 30), seed=st.integers(0, 5), copies=st.booleans())
def test_span_coordinates_keep_the_gram_matrix(n: int, d: int, seed: int, copies: bool) -> None:
    x = normal(n, d, seed=seed) + 3
    x = x[torch.zeros(n, dtype=torch.long)] if copies else x
    rep = Representation(x, torch.arange(n), "fc", {"reduce": "flatten"})
    small = span_coordinates(rep)
    assert small.d == min(n, d)
    assert_close(small.x @ small.x.T, x @ x.T, **tolerance(scale=100))
    assert torch.equal(small.labels, rep.labels)
    assert (small.meta.get("span") == d) == (n < d)
    assert small.layer == "fc"


def test_span_coordinates_keep_tiny_rows() -> None:
    x = torch.cat([1e6 * torch.eye(1, 50, dtype=torch.float64), 1e-6 * torch.eye(2, 50, dtype=torch.float64)[1:]])
    assert_close(span_coordinates(Representation(x)).x.norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)
