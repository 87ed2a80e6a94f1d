"""Representation, Kernel, Snapshot, Estimate: what they hold, what they refuse, and that they are frozen."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.numerics import stream
from geomfeat.types import Estimate, Kernel, Representation, Snapshot


def rep(n: int = 5, d: int = 3) -> Representation:
    x = torch.arange(float(n * d)).reshape(n, d)
    return Representation(x, torch.arange(n) % 2, "fc1", {"reduce": "flatten"}, outputs=-x[:, :2])


# Representation


def test_rows_are_samples() -> None:
    r = rep(5, 3)
    assert (r.n, r.d) == (5, 3)
    assert r.layer == "fc1"
    assert r.meta == {"reduce": "flatten"}


@pytest.mark.parametrize("value", [rep(), Kernel(torch.eye(2)), Snapshot(nn.Linear(1, 1)), Estimate(1.0)])
def test_values_are_frozen(value: object) -> None:
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)


@pytest.mark.parametrize("x", [np.ones((4, 2)), [[1, 2], [3, 4]], torch.ones(4, 2), np.ones((4, 2), dtype="float16")])
def test_features_of_every_source_are_floating_tensors(x: object) -> None:
    out = Representation(x).x
    assert isinstance(out, torch.Tensor)
    assert out.is_floating_point()
    assert torch.finfo(out.dtype).bits >= 32


def test_features_leave_the_graph() -> None:
    assert not Representation(torch.ones(2, 2, requires_grad=True)).x.requires_grad


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5), (0, 4), (3, 0), ()])
def test_features_of_other_shapes_are_refused_with_a_remedy(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"layer 'conv' must be \(samples, features\).*got shape.*reduce it"):
        Representation(torch.ones(shape), layer="conv")
    with pytest.raises(BadInput, match="the representation must be"):
        Representation(torch.ones(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite_name_the_layer(bad: float) -> None:
    x = torch.ones(3, 2)
    x[1, 1] = bad
    with pytest.raises(BadInput, match="layer 'fc1' holds"):
        Representation(x, layer="fc1")
    with pytest.raises(BadInput, match="outputs of layer 'fc1' holds"):
        Representation(torch.ones(3, 2), layer="fc1", outputs=x)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2],
        np.array([0, 1, 2], dtype=np.uint8),
        np.array([0, 1, 2], dtype=np.uint16),
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([0, 1, 2], dtype=torch.int32),
        torch.tensor([0.0, 1.0, 2.0], dtype=torch.bfloat16),
    ],
)
def test_labels_become_whole_numbers(labels: object) -> None:
    out = Representation(torch.ones(3, 2), labels).labels
    assert out is not None
    assert out.dtype == torch.int64
    assert out.tolist() == [0, 1, 2]


@pytest.mark.parametrize("labels", [[0.5, 1, 2], [-0.25, 0, 1], [math.inf, 0, 1]])
def test_labels_that_are_no_classes_are_refused(labels: list[float]) -> None:
    with pytest.raises(BadInput, match="labels must be classes as whole numbers"):
        Representation(torch.ones(3, 2), labels)


@pytest.mark.parametrize("labels", [torch.zeros(3, 2), torch.tensor(1), torch.eye(3)])
def test_labels_of_other_shapes_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(BadInput, match="labels must be one class per sample"):
        Representation(torch.ones(3, 2), labels)


def test_labels_and_outputs_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(BadInput, match="labels has 4 entries, but layer 'fc1' has 3 samples"):
        Representation(torch.ones(3, 2), torch.zeros(4), "fc1")
    with pytest.raises(BadInput, match="outputs has 2 entries, but layer 'fc1' has 3 samples"):
        Representation(torch.ones(3, 2), layer="fc1", outputs=torch.zeros(2, 2))


def test_outputs_are_a_matrix() -> None:
    one = Representation(torch.ones(3, 2), outputs=torch.arange(3.0)).outputs
    assert one is not None
    assert one.tolist() == [[0.0], [1.0], [2.0]]
    with pytest.raises(BadInput, match=r"outputs must be \(samples, outputs\)"):
        Representation(torch.ones(3, 2), outputs=torch.ones(3, 2, 2))


def test_labels_and_outputs_lie_where_the_features_do(device: str) -> None:
    r = Representation(torch.ones(3, 2, device=device), torch.zeros(3), outputs=torch.ones(3, 1))
    assert r.labels is not None
    assert r.outputs is not None
    assert r.x.device == r.labels.device == r.outputs.device


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.data())
def test_taking_rows_takes_them_of_everything(n: int, data: st.DataObject) -> None:
    r = rep(n, 3)
    rows = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=12))
    for picked in (r.take(rows), r.take(torch.tensor(rows))):
        assert picked.x.tolist() == [r.x[i].tolist() for i in rows]
        assert picked.labels.tolist() == [int(r.labels[i]) for i in rows]
        assert picked.outputs.tolist() == [r.outputs[i].tolist() for i in rows]
        assert (picked.layer, picked.meta) == (r.layer, r.meta)


def test_taking_by_mask_and_by_slice() -> None:
    r = rep(5)
    assert torch.equal(r.take(r.labels == 1).x, r.x[1::2])
    assert torch.equal(r.take(slice(1, 3)).x, r.x[1:3])
    bare = Representation(r.x).take([0])
    assert bare.labels is None
    assert bare.outputs is None


def test_taking_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="at least one"):
        rep().take([])


def test_with_replaces_and_checks_again() -> None:
    r = rep(4)
    changed = r.with_(layer="fc2", labels=None)
    assert changed.layer == "fc2"
    assert changed.labels is None
    assert torch.equal(changed.x, r.x)
    assert r.layer == "fc1"
    with pytest.raises(BadInput, match="labels has 4 entries"):
        r.with_(x=torch.ones(3, 2))
    with pytest.raises(TypeError, match="colour"):
        r.with_(colour=1)


# Kernel


def test_a_kernel_holds_a_matrix() -> None:
    k = Kernel([[1, 0], [0, 1]], "labels")
    assert k.n == 2
    assert k.gram.is_floating_point()
    assert Kernel(torch.ones(2, 3)).gram.shape == (2, 3)


@pytest.mark.parametrize("shape", [(2,), (2, 2, 2), (0, 0)])
def test_a_kernel_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="kernel 'ntk' must be a matrix"):
        Kernel(torch.ones(shape), "ntk")


def test_a_kernel_that_is_not_finite_is_refused() -> None:
    with pytest.raises(BadInput, match="kernel 'ntk' holds 1 NaN"):
        Kernel(torch.tensor([[math.nan]]), "ntk")


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_blocks_are_sample_major(n1: int, n2: int, c: int) -> None:
    gram = torch.randn(n1 * c, n2 * c, generator=stream(0, "blocks"))
    blocks = Kernel(gram, "ntk", {"outputs": "full", "n_outputs": c}).blocks
    assert blocks.shape == (n1, n2, c, c)
    for i in range(n1):
        for j in range(n2):
            assert torch.equal(blocks[i, j], gram[i * c : (i + 1) * c, j * c : (j + 1) * c])


@pytest.mark.parametrize("meta", [{}, {"outputs": "trace", "n_outputs": 2}, {"outputs": "full"}])
def test_a_kernel_without_blocks_says_so(meta: dict) -> None:
    with pytest.raises(BadInput, match="has no output blocks: compute it with outputs='full'"):
        _ = Kernel(torch.eye(4), "ntk", meta).blocks


def test_blocks_that_do_not_divide_are_refused() -> None:
    with pytest.raises(BadInput, match=r"shape \(4, 4\) does not divide into blocks of 3 outputs"):
        _ = Kernel(torch.eye(4), "ntk", {"outputs": "full", "n_outputs": 3}).blocks


# Snapshot


def test_a_snapshot_is_of_a_module() -> None:
    net = nn.Linear(2, 1)
    assert Snapshot(net).at == "trained"
    assert Snapshot(net, 100, {"gamma": 0.5}).conditions["gamma"] == 0.5
    with pytest.raises(BadInput, match="got str: load weights into one"):
        Snapshot("weights.pt")


# Estimate


def test_an_estimate_holds_plain_numbers() -> None:
    e = Estimate(torch.tensor(0.5), np.float64(0.1))
    assert (type(e.value), type(e.stderr)) == (float, float)
    assert e == Estimate(0.5, 0.1, True, "")
    assert Estimate(1).stderr is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_silent_nan(value: float) -> None:
    with pytest.raises(BadInput, match="cannot be ok=True"):
        Estimate(value)
    assert not Estimate(value, ok=False, note="give more samples").ok


@pytest.mark.parametrize("stderr", [math.nan, math.inf, -0.1])
def test_no_impossible_standard_error(stderr: float) -> None:
    with pytest.raises(BadInput, match="standard error"):
        Estimate(1.0, stderr)


def test_a_failure_says_what_to_do() -> None:
    with pytest.raises(BadInput, match="must say in note="):
        Estimate(0.0, ok=False)
    failed = Estimate.failed("needs labels: pass labels=")
    assert math.isnan(failed.value)
    assert (failed.ok, failed.stderr, failed.note) == (False, None, "needs labels: pass labels=")
    assert Estimate.failed("3 of 200 draws not certified", 0.4).value == 0.4


# Names of classes, groups, and numbers that keep their digits


def test_names_are_numbered_and_kept() -> None:
    r = Representation(torch.ones(4, 2), ["dog", "cat", "dog", "ant"])
    assert r.labels is not None
    assert r.labels.tolist() == [2, 1, 2, 0]
    assert r.classes == ("ant", "cat", "dog")
    assert r.take([0, 3]).classes == ("ant", "cat", "dog")
    assert r.take([0, 3]).labels.tolist() == [2, 0]
    assert r.with_(x=torch.zeros(4, 3)).classes == r.classes
    assert r.with_(labels=[5, 6, 7, 8]).classes == ()
    assert r.with_(labels=None).classes == ()
    assert Representation(torch.ones(2, 2), [1, 0], classes=("a", "b")).classes == ("a", "b")
    with pytest.raises(BadInput, match="labels run from 0 to 2, but classes has 2 names"):
        Representation(torch.ones(2, 2), [2, 0], classes=("a", "b"))


def test_groups_follow_their_samples(device: str) -> None:
    x = torch.arange(8.0, device=device).reshape(4, 2)
    r = Representation(x, groups=["s2", "s1", "s2", "s3"])
    assert r.groups is not None
    assert r.groups.tolist() == [1, 0, 1, 2]
    assert r.groups.device == r.x.device
    assert r.take([3, 0]).groups.tolist() == [2, 1]
    assert r.take(torch.tensor([True, False, True, False])).groups.tolist() == [1, 1]
    assert r.with_(x=x + 1).groups.tolist() == [1, 0, 1, 2]
    with pytest.raises(BadInput, match="groups has 3 entries, but the representation has 4 samples"):
        Representation(x, groups=[0, 1, 2])
    with pytest.raises(BadInput, match="1 of 4 groups are missing"):
        Representation(x, groups=["a", None, "b", "b"])


def test_whole_numbers_keep_their_digits() -> None:
    x = torch.tensor([[2**27 + 1], [2**27]])
    for given_numbers in (x, x.numpy(), x.to(torch.int32)):
        held = Representation(given_numbers).x
        assert held.dtype == torch.float64
        assert held.long().tolist() == x.tolist()
    assert Kernel(torch.tensor([[2**27 + 1]])).gram.item() == 2**27 + 1


@pytest.mark.parametrize("field", ["x", "labels", "outputs", "groups"])
def test_masks_are_refused_in_every_field(field: str) -> None:
    masked = np.ma.masked_array([1, 2, 3], mask=[False, True, False])
    fields = {"x": torch.ones(3, 2), field: masked[:, None] if field == "x" else masked}
    with pytest.raises(BadInput, match="1 masked of 3"):
        Representation(**fields)


def test_an_estimate_is_a_float_wherever_one_is_wanted() -> None:
    e = Estimate(0.5, 0.1, note="few samples")
    assert isinstance(e, float)
    assert (float(e), round(e, 1), f"{e:.2f}", -e, abs(e)) == (0.5, 0.5, "0.50", -0.5, 0.5)
    assert type(e + 1) is type(e * 2) is type(float(e)) is float
    assert 0.4 < e < 0.6
    assert e == 0.5 == e
    assert sum([e, e]) == 1
    assert np.asarray([e, e]).dtype == float
    assert np.sqrt(e) == np.float64(0.5) ** 0.5
    assert torch.tensor([e]).item() == 0.5
    assert json.loads(json.dumps({"value": e})) == {"value": 0.5}
    assert pd.DataFrame({"value": [e]})["value"].dtype == float
    assert Estimate(e).note == ""
    assert str(e) == "0.5 ± 0.1 (few samples)"
    assert str(Estimate.failed("needs labels: pass labels=")) == "failed: needs labels: pass labels="


def test_equal_estimates_hold_the_same_and_copies_keep_all() -> None:
    e = Estimate(0.5, 0.1, note="few samples")
    assert e != Estimate(0.5, 0.2, note="few samples")
    assert e != Estimate(0.5, 0.1)
    assert hash(e) == hash(0.5)
    for other in (copy.copy(e), copy.deepcopy(e), dataclasses.replace(e), pickle.loads(pickle.dumps(e))):
        assert type(other) is Estimate
        assert other == e
    failed = Estimate.failed("no labels")
    assert failed == Estimate.failed("no labels")
    assert hash(failed) == hash(Estimate.failed("no labels"))
    assert not failed < 1
