"""Rows in few pieces: the rows themselves, whatever their kinds, and few of them."""

from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import example, given, settings

from geomfeat.data import row_pieces
from geomfeat.data.row_pieces import RowPieces


@settings(deadline=None, max_examples=40)
@given(
    kinds=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([(), (2,), (2, 3)]), st.sampled_from(["f4", "i8"]))),
    piece=st.sampled_from([1, 24, 50, row_pieces.PIECE]),
)
@example(kinds=[(1, (), "f4")] * 8, piece=24)
def test_pieces_hold_the_rows_in_order(kinds: list[tuple[int, tuple[int, ...], str]], piece: int) -> None:
    rows, parts = RowPieces(piece), []
    for number, (n, shape, kind) in enumerate(kinds):
        size = torch.Size((n, *shape)).numel()
        dtype = {"f4": torch.float32, "i8": torch.int64}[kind]
        parts.append((torch.arange(size) + 100 * number).view(n, *shape).to(dtype))
        rows.add(parts[-1])
    for shape in {part.shape[1:] for part in parts}:
        for dtype in (torch.float32, torch.int64):
            mine = [p for p in rows.pieces() if (p.shape[1:], p.dtype) == (shape, dtype)]
            theirs = [p for p in parts if (p.shape[1:], p.dtype) == (shape, dtype)]
            assert [row.tolist() for p in mine for row in p] == [row.tolist() for p in theirs for row in p]


def test_many_small_parts_are_one_piece_and_large_ones_their_own() -> None:
    rows = RowPieces(800)
    for _ in range(25):
        rows.add(torch.ones(4))  # 16 bytes each
    assert [len(piece) for piece in rows.pieces()] == [100]
    rows.add(torch.ones(300))
    assert [len(piece) for piece in rows.pieces()] == [100, 300]
    assert rows.joined().shape == (400,)


def test_rows_that_are_written_again_stay_as_they_were() -> None:
    part, rows = torch.ones(2, requires_grad=True), RowPieces()
    rows.add(part)
    with torch.no_grad():
        part.zero_()
    assert rows.joined().tolist() == [1.0, 1.0]
    assert not rows.joined().requires_grad
