"""Images in another data set's shape: channels, sizes, and what is left as it is."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from geomfeat.data.resize import images_like
from geomfeat.errors import BadInput
from geomfeat.numerics import stream, tolerance

X = torch.randn(3, 1, 4, 4, generator=stream(0, "fitting"))


def test_what_fits_is_left_as_it_is() -> None:
    assert images_like(X, (1, 4, 4)) is X
    flat = torch.zeros(2, 7)
    assert images_like(flat, (7,)) is flat


def test_grey_is_repeated_and_colour_averaged() -> None:
    coloured = images_like(X, (3, 4, 4))
    assert torch.equal(coloured, torch.cat([X, X, X], 1))
    assert_close(images_like(coloured, (1, 4, 4)), X, **tolerance(torch.float32))


def test_twice_the_size_is_bilinear() -> None:
    # Between pixel centres i and i + 1, weights 3/4 and 1/4; the border repeats.
    row = torch.tensor([0.0, 4.0, 8.0, 12.0]).expand(1, 1, 4, 4)
    want = torch.tensor([0.0, 1, 3, 5, 7, 9, 11, 12])
    assert_close(images_like(row, (1, 8, 8))[0, 0], want.expand(8, 8))


def test_images_that_shrink_are_averaged_and_not_sampled() -> None:
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2.0
    inside = images_like(board[None, None], (1, 4, 4))
    assert float((inside - 0.5).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("images", "shape", "words"),
    [
        (torch.zeros(2, 3, 4, 4), (2, 4, 4), "3 channels cannot be given 2"),
        (torch.zeros(2, 7), (3, 4, 4), "both must be images"),
        (torch.zeros(2, 1, 4, 4), (16,), "both must be images"),
    ],
)
def test_what_cannot_be_fitted_is_refused(images: torch.Tensor, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        images_like(images, shape)
