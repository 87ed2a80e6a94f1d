"""Named read-outs against explicit indexing, over masks of any shape."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.readouts.named import TokenReadout

VALUES = torch.arange(24, dtype=torch.float64).reshape(2, 4, 3)
RIGHT = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]) != 0
LEFT = RIGHT.flip(1)


@pytest.mark.parametrize(
    ("readout", "valid", "expected"),
    [
        ("last", RIGHT, [VALUES[0, 1], VALUES[1, 2]]),
        ("last", LEFT, [VALUES[0, 3], VALUES[1, 3]]),
        ("last", None, [VALUES[0, 3], VALUES[1, 3]]),
        ("cls", RIGHT, [VALUES[0, 0], VALUES[1, 0]]),
        ("cls", LEFT, [VALUES[0, 2], VALUES[1, 1]]),
        ("token:1", RIGHT, [VALUES[0, 1], VALUES[1, 1]]),
        ("token:1", LEFT, [VALUES[0, 3], VALUES[1, 2]]),
        ("token:-2", RIGHT, [VALUES[0, 0], VALUES[1, 1]]),
        ("token:-2", LEFT, [VALUES[0, 2], VALUES[1, 2]]),
        ("mean", RIGHT, [(VALUES[0, 0] + VALUES[0, 1]) / 2, (VALUES[1, 0] + VALUES[1, 1] + VALUES[1, 2]) / 3]),
        ("mean", None, [VALUES[0].sum(0) / 4, VALUES[1].sum(0) / 4]),
    ],
)
def test_a_named_token_is_the_one_that_explicit_indexing_gives(
    readout: str, valid: Tensor | None, expected: list[Tensor]
) -> None:
    parsed = TokenReadout.parsed(readout)
    assert parsed is not None
    assert torch.equal(parsed.of(VALUES, valid), torch.stack(expected))


def test_masked_keeps_every_token_and_clears_padding_even_of_nan() -> None:
    values = VALUES.clone()
    values[0, 2:] = float("nan")
    found = TokenReadout("masked").of(values, RIGHT)
    assert torch.equal(found[0, :2], VALUES[0, :2])
    assert not found[0, 2:].any()
    assert not found[1, 3].any()
    assert not TokenReadout("mean").of(values, RIGHT).isnan().any()


@settings(deadline=None, max_examples=40)
@given(
    mask=st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=5, max_size=5).filter(any), min_size=n, max_size=n)
    ),
    name=st.sampled_from(["last", "mean", "cls", "token:0", "token:-1"]),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_more_padding_on_either_side_changes_no_named_readout(
    mask: list[list[bool]], name: str, before: int, after: int
) -> None:
    valid = torch.tensor(mask)
    values = torch.randn(len(mask), 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    longer = torch.nn.functional.pad(values, (0, 0, before, after), value=float("nan"))
    padded = torch.nn.functional.pad(valid, (before, after))
    readout = TokenReadout.parsed(name)
    assert readout is not None
    found = readout.of(values, valid)
    # A sum of more zeros may be taken in another order.
    torch.testing.assert_close(readout.of(longer, padded), found, rtol=1e-14, atol=1e-15)
    alone = torch.stack([readout.of(values[i : i + 1][:, row], None)[0] for i, row in enumerate(valid)])
    torch.testing.assert_close(found, alone, rtol=1e-14, atol=1e-15)


def test_derivatives_of_one_sample_at_a_time_are_those_of_all() -> None:
    readout = TokenReadout("last")
    found = torch.func.vmap(lambda v, m: readout.of(v[None], m[None])[0])(VALUES, RIGHT)
    assert torch.equal(found, readout.of(VALUES, RIGHT))


@pytest.mark.parametrize(
    ("readout", "valid", "said"),
    [
        ("last", torch.tensor([[True, False], [False, False]]), r"no valid token in sample\(s\) \[1\].*drop"),
        ("token:2", RIGHT, r"token:2': sample\(s\) \[0\] have too few valid tokens"),
        ("token:-3", RIGHT, r"token:-3': sample\(s\) \[0\] have too few"),
        ("tokens:2", RIGHT, "which this call cannot: use 'last'"),
    ],
)
def test_samples_without_the_token_are_refused_by_number(readout: str, valid: Tensor, said: str) -> None:
    parsed = TokenReadout.parsed(readout)
    assert parsed is not None
    with pytest.raises(BadInput, match=said):
        parsed.of(VALUES[:, : valid.shape[1]], valid)


@pytest.mark.parametrize("readout", ["token:", "token:one", "tokens:0", "tokens:-1", "tokens:1.5"])
def test_a_number_that_is_none_is_refused(readout: str) -> None:
    with pytest.raises(BadInput, match=r"comes .*number of"):
        TokenReadout.parsed(readout)
