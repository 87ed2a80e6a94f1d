"""Precision, streams, centring and decompositions against known answers and definitions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings, strategies as st

from geomfeat.errors import BadInput
from geomfeat.numerics import (
    WORKING,
    as_tensor,
    centered,
    double_centred,
    in_floats,
    jackknife_stderr,
    numpy_stream,
    require_finite,
    resolve_device,
    safe_eigh,
    span_basis,
    spectrum_of_rows,
    stream,
    times,
    tolerance,
    whole_seed,
)
from geomfeat.tangent.jacobians.directional_derivative import load_forward_mode

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=stream(seed, "numerics tests"), dtype=WORKING)


# tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tolerance_follows_the_precision_and_the_size_of_intermediates(dtype: torch.dtype) -> None:
    plain, scaled = tolerance(dtype), tolerance(dtype, 100.0)
    assert plain["rtol"] == plain["atol"] == 1e4 * torch.finfo(dtype).eps
    assert scaled == {key: pytest.approx(100 * value) for key, value in plain.items()}


# streams


def test_a_stream_is_named_by_seed_and_purpose() -> None:
    def draw(*key: object) -> list[float]:
        return torch.rand(4, generator=stream(*key)).tolist()

    assert draw(0, "capacity", "fc1") == draw(0, "capacity", "fc1")
    others = [(1, "capacity", "fc1"), (0, "capacity", "fc2"), (0, "capacity"), (0, "fc1", "capacity"), (-1,), (0,)]
    draws = {tuple(draw(*key)) for key in [(0, "capacity", "fc1"), *others]}
    assert len(draws) == 1 + len(others)


def test_a_stream_is_the_same_on_every_machine_and_version() -> None:
    # SHA-256 of "0", "capacity", "fc1" joined by the unit separator; its first 8 bytes, little-endian, halved.
    assert stream(0, "capacity", "fc1").initial_seed() == 670723441015076730
    assert stream(7).initial_seed() == 5135535630271676732


def test_names_are_kept_apart() -> None:
    assert stream(0, "a", "b").initial_seed() != stream(0, "ab").initial_seed()
    assert stream(1, "2").initial_seed() != stream(12).initial_seed()


@pytest.mark.parametrize("seed", [np.int64(3), torch.tensor(3), np.uint8(3)])
def test_whole_numbers_of_other_libraries_are_seeds(seed: object) -> None:
    assert stream(seed, "x").initial_seed() == stream(3, "x").initial_seed()


@pytest.mark.parametrize("seed", [1.5, 1.0, None, "1", torch.tensor(1.0)])
def test_what_is_no_whole_number_is_no_seed(seed: object) -> None:
    with pytest.raises(BadInput, match="seed must be a whole number"):
        stream(seed)


def test_streams_leave_the_global_generators_alone() -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.rand(3, generator=stream(0, "x"))
    numpy_stream(0, "x").random(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_the_numpy_stream_is_named_too() -> None:
    first = numpy_stream(0, "umap").random(3)
    assert np.array_equal(first, numpy_stream(0, "umap").random(3))
    assert not np.array_equal(first, numpy_stream(1, "umap").random(3))
    assert not np.array_equal(first, numpy_stream(0, "other").random(3))


def test_streams_draw_independent_numbers() -> None:
    draws = torch.stack([torch.randn(4000, generator=stream(0, "layer", i), dtype=WORKING) for i in range(8)])
    off = torch.corrcoef(draws)[~torch.eye(8, dtype=torch.bool)]
    assert float(off.abs().max()) < 5 / math.sqrt(4000)
    assert float(draws.mean(1).abs().max()) < 5 / math.sqrt(4000)


# as_tensor


@pytest.mark.parametrize(
    "x",
    [
        [[1, 2], [3, 4]],
        ((1, 2), (3, 4)),
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=">i4"),
        np.array([[4, 3], [2, 1]])[::-1, ::-1],
        np.array([[1, 2], [3, 4]], dtype=np.longdouble),
        np.array([[1, 2], [3, 4]], dtype=np.uint16),
        [torch.tensor([1, 2]), torch.tensor([3, 4])],
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
        torch.tensor([[1, 2], [3, 4]], dtype=torch.uint32),
    ],
    ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}",
)
def test_arrays_of_every_kind_become_tensors(x: object) -> None:
    out = as_tensor(x)
    assert isinstance(out, torch.Tensor)
    assert not out.requires_grad
    assert (out + 1).tolist() == [[2, 3], [4, 5]]


def test_read_only_arrays_are_copied_without_a_warning(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(2, 3))
    frozen = np.arange(6.0).reshape(2, 3)
    frozen.flags.writeable = False
    for x in (np.load(tmp_path / "x.npy", mmap_mode="r"), frozen, np.broadcast_to(frozen[:1], (2, 3))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            out = as_tensor(x)
        held = x.copy()
        out += 1
        assert np.array_equal(x, held)


def test_writable_arrays_and_tensors_are_shared() -> None:
    x = np.zeros(3)
    as_tensor(x)[0] = 1
    assert x[0] == 1
    t = torch.zeros(3)
    assert as_tensor(t).data_ptr() == t.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_precisions_are_widened(dtype: torch.dtype) -> None:
    x = torch.tensor([0.5, -2.0]).to(dtype)
    assert as_tensor(x).dtype == torch.float32
    assert as_tensor(x).tolist() == [0.5, -2.0]
    assert as_tensor(x, dtype=WORKING).dtype == WORKING


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_other_types_stay(dtype: torch.dtype) -> None:
    assert as_tensor(torch.ones(2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("x", ["abc", None, [[1, 2], [3]], object(), {"a": 1}, np.array(["1", 1], dtype=object)])
def test_what_is_not_numeric_is_named(x: object) -> None:
    with pytest.raises(BadInput, match="weights must be a numeric array or tensor"):
        as_tensor(x, "weights")


@pytest.mark.parametrize("x", [torch.ones(2, dtype=torch.complex64), np.ones(2, dtype=complex)])
def test_complex_numbers_are_refused(x: object) -> None:
    with pytest.raises(BadInput, match=r"x must be real, got torch\.complex"):
        as_tensor(x)


# require_finite


def test_finite_values_pass_untouched() -> None:
    for x in (torch.ones(3, 2), torch.zeros(0), torch.arange(4), torch.tensor([True])):
        assert require_finite(x, "x") is x


def test_finite_values_with_an_infinite_sum_pass() -> None:
    x = torch.full((4,), torch.finfo(torch.float32).max)
    assert require_finite(x, "x") is x


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([math.nan, 1.0, math.nan], "2 NaN and 0 infinite of 3"),
        ([math.inf, 0.0], "0 NaN and 1 infinite of 2"),
        ([math.inf, -math.inf, math.nan], "1 NaN and 2 infinite of 3"),
    ],
)
def test_what_is_not_finite_is_counted_and_named(bad: list[float], message: str) -> None:
    with pytest.raises(BadInput, match=f"layer 'fc1' holds {message}"):
        require_finite(torch.tensor(bad), "layer 'fc1'")


# centring


def test_centring_a_known_matrix() -> None:
    assert centered(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert centered(torch.tensor([[1], [2]])).dtype == WORKING


@settings(deadline=None, max_examples=40)
@given(SIZES)
def test_centring_is_a_projection(sizes: tuple[int, int, int]) -> None:
    x = normal(*sizes) + 3.0
    once = centered(x)
    torch.testing.assert_close(once.sum(0), torch.zeros(sizes[1], dtype=WORKING), **tolerance())
    torch.testing.assert_close(centered(once), once, **tolerance())


@settings(deadline=None, max_examples=40)
@given(SIZES)
def test_double_centring_gives_the_gram_matrix_of_centred_features(sizes: tuple[int, int, int]) -> None:
    x = normal(*sizes) + 3.0
    expected = centered(x) @ centered(x).T
    torch.testing.assert_close(double_centred(x @ x.T), expected, **tolerance(scale=100))


def test_double_centring_by_the_definition() -> None:
    k, n = normal(5, 5), 5
    h = torch.eye(n, dtype=WORKING) - torch.full((n, n), 1 / n, dtype=WORKING)
    torch.testing.assert_close(double_centred(k), h @ k @ h, **tolerance())


# decompositions


@settings(deadline=None, max_examples=40)
@given(SIZES)
def test_eigenvalues_rebuild_the_symmetric_part(sizes: tuple[int, int, int]) -> None:
    n, _, seed = sizes
    a = normal(n, n, seed)
    values, vectors = safe_eigh(a)
    assert bool((values[1:] >= values[:-1]).all())
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, (a + a.T) / 2, **tolerance())
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(n, dtype=WORKING), **tolerance())


def test_eigenvalues_of_a_batch_and_of_single_precision() -> None:
    values, _ = safe_eigh(torch.stack([torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.eye(2)]))
    assert values.dtype == WORKING
    torch.testing.assert_close(values, torch.tensor([[1.0, 3.0], [1.0, 1.0]], dtype=WORKING), **tolerance())


@settings(deadline=None, max_examples=40)
@given(SIZES)
def test_the_spectrum_is_that_of_the_sample_covariance(sizes: tuple[int, int, int]) -> None:
    n, d, seed = sizes
    x = normal(n, d, seed) - 2.0
    found = spectrum_of_rows(x)
    assert len(found) == min(n, d)
    assert bool((found[1:] <= found[:-1]).all())
    covariance = torch.cov(x.T).reshape(d, d) if n > 1 else torch.zeros(d, d, dtype=WORKING)
    expected = torch.linalg.eigvalsh(covariance).flip(0)[: min(n, d)].clamp_min(0)
    torch.testing.assert_close(found, expected, **tolerance())


def test_the_spectrum_of_known_points() -> None:
    x = torch.tensor([[1.0, 0, 7], [-1, 0, 7], [0, 2, 7], [0, -2, 7]])
    expected = torch.tensor([8 / 3, 2 / 3, 0], dtype=WORKING)
    torch.testing.assert_close(spectrum_of_rows(x), expected, **tolerance())


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 8), st.integers(0, 10**6))
def test_the_span_has_the_rank_of_the_rows_and_keeps_them(n: int, d: int, rank: int, seed: int) -> None:
    rank = min(n, d, rank)
    rows = normal(n, rank, seed) @ normal(rank, d, seed + 1)
    basis = span_basis(rows)
    assert basis.shape == (rank, d)
    torch.testing.assert_close(basis @ basis.T, torch.eye(rank, dtype=WORKING), **tolerance())
    torch.testing.assert_close(rows @ basis.T @ basis, rows, **tolerance())


def test_the_span_of_little() -> None:
    assert span_basis(torch.zeros(3, 4)).shape == (0, 4)
    assert span_basis(torch.zeros(0, 4)).shape == (0, 4)
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1e-3, 0.0]])
    assert span_basis(rows).shape == (2, 3)
    assert span_basis(rows, relative_cut=1e-2).abs().tolist() == [[1.0, 0.0, 0.0]]


# jackknife


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_the_jackknife_of_a_mean_is_its_standard_error(values: list[float]) -> None:
    x = np.array(values)
    left_out = [np.delete(x, i).mean() for i in range(len(x))]
    expected = x.std(ddof=1) / math.sqrt(len(x))
    assert jackknife_stderr(left_out) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert jackknife_stderr(torch.tensor(left_out)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_jackknife_of_one_value_says_nothing() -> None:
    assert math.isnan(jackknife_stderr([1.0]))


# devices


def test_the_device_is_the_given_one_or_that_of_the_data(device: str) -> None:
    assert resolve_device(device).type == device
    assert resolve_device(None, torch.ones(1, device=device)).type == device
    assert resolve_device("cpu", torch.ones(1, device=device)) == torch.device("cpu")
    assert resolve_device(None) == torch.device("cpu")


@pytest.mark.parametrize("wrong", ["gpu", "cuda:x", "", 3.5])
def test_what_is_no_device_is_refused(wrong: object) -> None:
    with pytest.raises(BadInput, match="is not a device: use 'cpu'"):
        resolve_device(wrong)


@pytest.mark.parametrize("kind", ["mps", "xla", "meta", "xpu", "cpu:3", "mkldnn", torch.device("meta")])
def test_kinds_of_devices_that_lack_double_precision_or_values_are_refused(kind: object) -> None:
    with pytest.raises(BadInput, match="is not supported: use 'cpu', 'cuda', 'cuda:1' or 'auto'"):
        resolve_device(kind)


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_a_device_without_float64_is_left_for_the_cpu_and_the_error_says_what_runs_there(kind: str) -> None:
    there = cast(torch.Tensor, SimpleNamespace(device=torch.device(kind)))  # what no machine of the tests has
    assert resolve_device(None, there) == torch.device("cpu")
    with pytest.raises(BadInput, match=f"On {kind} only forward passes run, in float32: .* need float64"):
        resolve_device(kind)
    with pytest.raises(BadInput, match=r"'auto'$"):
        resolve_device("meta")


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**22])
def test_seeds_beyond_what_tables_hold_are_refused(seed: int) -> None:
    with pytest.raises(BadInput, match=f"seed={seed} is too large"):
        whole_seed(seed)
    with pytest.raises(BadInput, match="too large"):
        stream(seed, "x")
    assert whole_seed(2**63 - 1) == 2**63 - 1
    assert whole_seed(-(2**63)) == -(2**63)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="device='cuda', but torch sees no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(BadInput, match="device='cuda:2', but torch sees 2 CUDA device"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(("there", "count", "taken"), [(False, 0, "cpu"), (True, 0, "cpu"), (True, 2, "cuda")])
def test_auto_is_the_gpu_where_there_is_one_and_the_log_says_which(
    there: bool, count: int, taken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with caplog.at_level("INFO", logger="geomfeat"):
        assert resolve_device("auto", torch.ones(1)) == torch.device(taken)
    assert caplog.messages == [f"device: {taken}"]


# as_tensor: what must not be lost on the way in


@pytest.mark.parametrize(
    "x",
    [
        np.ma.masked_array([[1.0, 2.0], [3.0, 1e9]], mask=[[False, False], [False, True]]),
        [np.ma.masked_array([1.0, 2.0]), np.ma.masked_array([3.0, 1e9], mask=[False, True])],
        [[1.0, 2.0], [3.0, np.ma.masked]],
        ([1.0, 2.0], np.ma.masked_greater([3.0, 1e9], 10)),
    ],
)
def test_a_mask_is_never_dropped(x: object) -> None:
    with pytest.raises(BadInput, match=r"x has 1 masked of \d entries.*fill"):
        as_tensor(x)


def test_masked_arrays_without_masked_entries_are_arrays() -> None:
    for mask in (np.ma.nomask, False, [False, False]):
        assert as_tensor(np.ma.masked_array([1.0, 2.0], mask=mask)).tolist() == [1.0, 2.0]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(-100, 100), min_size=2, max_size=2), min_size=1, max_size=6))
def test_the_same_numbers_are_the_same_in_any_container(rows: list[list[int]]) -> None:
    array = np.array(rows)
    frame = pd.DataFrame(array, columns=["a", "b"])
    mixed = pd.DataFrame({"a": frame["a"].astype("Int64"), "b": frame["b"].astype(float)})
    containers = {
        "tuple": tuple(map(tuple, rows)), "objects": array.astype(object), "frame": frame,
        "nullable": frame.astype("Int64"), "mixed": mixed, "arrow": frame.astype("int64[pyarrow]"),
        "tensors": [torch.tensor(row) for row in rows], "foreign bytes": array.astype(">i8"),
        "quadruple": array.astype(np.longdouble), "half": array.astype(np.float16), "flipped": array[::-1][::-1],
        "masked nowhere": np.ma.masked_array(array), "unsigned": (array + 100).astype(np.uint64),
    }  # fmt: skip
    for kind, given_rows in containers.items():
        want = array + 100 if kind == "unsigned" else array
        assert as_tensor(given_rows).double().tolist() == want.astype(float).tolist(), kind


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (scipy.sparse.csr_matrix(np.eye(3)), r"x is a sparse matrix \(csr_matrix\).*toarray"),
        (scipy.sparse.coo_array(np.eye(3)), "sparse matrix"),
        (torch.eye(3).to_sparse(), "sparse tensor.*to_dense"),
        (torch.empty(3, 2, device="meta"), "meta device, without values"),
        (np.array([1, pd.NA], dtype=object), "1 missing of 2"),
        (np.array([["a", 1], [2, 3]], dtype=object), "numeric.*'a'"),
        (pd.DataFrame({"a": ["1", "2"]}), "numeric"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "numeric"),
        (np.ones(2, dtype=np.clongdouble), "numeric|real"),
        (np.array([1 + 1j, 2], dtype=object), "numeric"),
        (np.zeros(2, dtype=[("a", float)]), "numeric"),
    ],
)
def test_what_is_no_dense_array_of_numbers_is_refused_by_name(x: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        as_tensor(x)


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:torch.quantize")
def test_rare_layouts_of_tensors_are_refused_with_a_remedy() -> None:
    with pytest.raises(BadInput, match=r"sparse tensor.*to_dense"):
        as_tensor(torch.eye(3).to_sparse_csr())
    with pytest.raises(BadInput, match=r"quantised tensor.*dequantize"):
        as_tensor(torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8))
    with pytest.raises(BadInput, match="nested tensor"):
        as_tensor(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged))


def test_unsigned_numbers_beyond_the_signed_range_keep_their_size() -> None:
    large = np.array([1, 2**63 + 2**20], dtype=np.uint64)
    for x in (large, torch.from_numpy(large)):
        assert as_tensor(x).tolist() == [1.0, float(2**63 + 2**20)]
    assert as_tensor(np.array([2**62], dtype=np.uint64)).tolist() == [2**62]


def test_numbers_beyond_double_precision_become_infinite_without_a_word() -> None:
    assert as_tensor(np.array([1.0, np.finfo(np.longdouble).max], dtype=np.longdouble)).tolist() == [1.0, math.inf]


def test_whole_numbers_that_float64_cannot_hold_are_refused() -> None:
    stamps = np.array([[1_700_000_000_000_000_001], [1_700_000_000_000_000_000]])
    assert as_tensor(stamps).tolist() == stamps.tolist()
    for read in (lambda: as_tensor(stamps, "times", WORKING), lambda: in_floats(as_tensor(stamps), "times")):
        with pytest.raises(BadInput, match=r"times holds whole numbers above 2\*\*53.*subtract"):
            read()
    assert as_tensor(stamps - stamps.min(), dtype=WORKING).tolist() == [[1.0], [0.0]]
    assert as_tensor([2**60], dtype=WORKING).item() == 2.0**60


@pytest.mark.parametrize("factor", [2, 0.3, True, np.float64(0.3), np.float32(0.5), np.int64(3), torch.tensor(0.3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, WORKING, torch.complex64])
def test_a_product_with_any_number_is_that_of_the_operator(factor: object, dtype: torch.dtype) -> None:
    value = normal(3, 2).to(dtype).requires_grad_()
    number = factor if isinstance(factor, torch.Tensor) else float(cast(float, factor))
    product = times(value, cast(float, factor))
    assert torch.equal(product, value * number)
    (gradient,) = torch.autograd.grad(product.abs().sum(), value)
    assert torch.equal(gradient, torch.autograd.grad((value * number).abs().sum(), value)[0])


@pytest.mark.parametrize("factor", [0.3, torch.tensor(0.3, dtype=WORKING), normal(2, 3)], ids=["number", "0-d", "full"])
def test_a_product_has_the_derivatives_of_the_operator_in_any_mode(factor: torch.Tensor | float) -> None:
    value, direction, x = normal(2, 3), normal(2, 3, seed=1), normal(4, 3)

    def found(product: Callable[[torch.Tensor, Any], torch.Tensor]) -> list[torch.Tensor]:
        f = lambda v: torch.tanh(product(v, factor) @ x.T)  # noqa: E731
        size = lambda v: f(v).square().sum()  # noqa: E731
        both, ways = torch.stack([value, 2 * value]), torch.stack([direction, -direction])
        jvp, vmap = torch.func.jvp, torch.func.vmap
        return [
            *jvp(f, (value,), (direction,)),
            *jvp(vmap(f), (both,), (ways,)),
            *vmap(lambda d: jvp(f, (value,), (d,)))(ways),
            *jvp(lambda v: jvp(f, (v,), (direction,))[1], (value,), (direction,)),
            *jvp(torch.func.grad(size), (value,), (direction,)),
            torch.func.grad(lambda v: jvp(f, (v,), (direction,))[1].sum())(value),
            torch.func.hessian(size)(value),
        ]

    load_forward_mode()
    for ours, known in zip(found(times), found(torch.mul), strict=True):
        assert torch.allclose(ours, known, **tolerance())
    with_factor = torch.func.jvp(lambda k: times(value, k), (direction,), (value,))[1]
    assert torch.equal(with_factor, value * value)
