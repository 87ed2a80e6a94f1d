"""Rows that come batch by batch, kept in few large pieces.

A small tensor that stays from every batch (its labels, a few features) lies between the memory of that batch and of the
next. The C library of Linux then often cannot use the freed memory of a batch again, since aligned blocks take more
than their own size: the process grew by all inputs of a stream, in about half of the runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 2**22  # bytes; pages that hold nothing yet take none


class RowPieces:
    """Collects tensors with rows first, in pieces of about so many bytes, or of one tensor if that is larger.

    >>> rows = RowPieces()
    >>> rows.add(torch.ones(2, 3))
    >>> rows.add(torch.zeros(1, 3))
    >>> [tuple(piece.shape) for piece in rows.pieces()], tuple(rows.joined().shape)
    ([(3, 3)], (3, 3))
    """

    def __init__(self, piece: int = PIECE) -> None:
        self._piece = piece
        self._pieces: list[Tensor] = []
        self._used = 0  # rows of the last piece

    def add(self, part: Tensor) -> None:
        """Copies rows; of another kind or shape than the last ones they begin a piece."""
        part = part.detach()
        last = self._pieces[-1] if self._pieces else None
        alike = last is not None and (last.dtype, last.device, last.shape[1:]) == (
            part.dtype, part.device, part.shape[1:],
        )  # fmt: skip
        if last is None or not alike or self._used + len(part) > len(last):
            self._pieces = self.pieces()
            row = max(1, part[:1].numel()) * part.element_size()
            last = part.new_empty(max(len(part), self._piece // row), *part.shape[1:])
            self._pieces.append(last)
            self._used = 0
        last[self._used : self._used + len(part)] = part
        self._used += len(part)

    def pieces(self) -> list[Tensor]:
        """All rows, in order."""
        return [*self._pieces[:-1], self._pieces[-1][: self._used]] if self._pieces else []

    def joined(self) -> Tensor:
        """All rows as one tensor."""
        return torch.cat(self.pieces())
