"""From what a layer returns to (samples, features): pure functions on tensors whose first dimension is the sample."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from geomfeat.errors import BadInput, near
from geomfeat.models.readouts.token_masks import require_tokens
from geomfeat.numerics import WORKING
from geomfeat.types import Representation

Reduction = str | Callable[[Tensor], Tensor]

REDUCTIONS = ("flatten", "mean", "max", "adaptive(k)", "cls", "last", "token_mean", "token_all", "token(i)")
_NUMBERED = re.compile(r"(adaptive|token)\((-?\d+)\)")
_POOLS = {3: functional.adaptive_avg_pool1d, 4: functional.adaptive_avg_pool2d, 5: functional.adaptive_avg_pool3d}


def reduce(tensor: Tensor, how: Reduction = "flatten", *, mask: Tensor | None = None) -> Tensor:
    """A layer's output as (n, d) features; of "token_all" (tokens, d).

    Args:
        tensor: (n, ...) with the samples first, in any memory format; half precisions are widened to float32 and
            integers become floating. A nested tensor is padded with zeros, and its own lengths are the mask.
        how: "flatten" all of it;
            for maps (n, channels, space...): "mean", "max" over space, "adaptive(k)" average-pooled to k per spatial
            dimension and flattened;
            for sequences (n, tokens, features...): "cls" the first token, "last" the last, "token_mean" their mean,
            "token(i)" the i-th (negative from the end), "token_all" every token as a row, sample by sample;
            or a function (n, ...) -> (n, d).
            Features (n, d) are unchanged.
        mask: (n, tokens), true or 1 for valid tokens. "cls", "last", "token_mean" and "token_all" see valid tokens
            only; "token(i)" counts all, and refuses a position that is padding; "flatten" sets padding to zero.

    Raises BadInput for an unknown reduction, one that does not fit the shape, or a mask that does not.

    >>> tokens = torch.arange(12.0).reshape(2, 3, 2)
    >>> reduce(tokens, "last", mask=torch.tensor([[1, 1, 0], [1, 1, 1]])).tolist()
    [[2.0, 3.0], [10.0, 11.0]]
    """
    tensor, mask = dense(tensor, mask)
    if callable(how):
        return _checked(how(tensor), tensor)
    name, number = _parsed(how)
    if tensor.ndim == 0:
        raise BadInput("a layer returned a scalar, which has no samples: leave it out")
    if tensor.ndim <= 2:
        return tensor.reshape(tensor.shape[0], -1)
    if name == "flatten":
        return without_padding(tensor, mask).reshape(tensor.shape[0], -1)
    if name in ("mean", "max", "adaptive"):
        return _over_space(tensor, name, number, mask)
    tokens = tensor.reshape(*tensor.shape[:2], -1)
    valid = _valid(tokens, mask)
    check_reduction(how, valid)
    return _over_tokens(tokens, name, number, valid)


def check_reduction(how: Reduction, mask: Tensor | None = None) -> None:
    """BadInput for an unknown reduction, or a sample without tokens, or without the one it needs, by (n, tokens)."""
    require_tokens(mask)
    if callable(how):
        return
    name, i = _parsed(how)
    if mask is None:
        return
    if name == "token" and -mask.shape[1] <= i < mask.shape[1]:
        padded = (~mask[:, i]).nonzero().flatten().tolist()
        if padded:
            raise BadInput(
                f"reduce='token({i})' is padding in sample(s) {padded[:5]}: use 'last', 'cls' or 'token_mean'"
            )


def lies_over(tensor: Tensor, mask: Tensor | None) -> bool:
    """Whether a layer's output (n, tokens, ...) is over the tokens of a mask (n, tokens)."""
    return mask is not None and tensor.ndim > 2 and tensor.shape[:2] == mask.shape


def without_padding(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """A layer's output with zeros for padding, where it lies over the tokens of the mask.

    >>> without_padding(torch.ones(1, 2, 1), torch.tensor([[1, 0]])).tolist()
    [[[1.0], [0.0]]]
    """
    if mask is None or not lies_over(tensor, mask):
        return tensor
    valid = (mask.to(tensor.device) != 0).reshape(*mask.shape, *[1] * (tensor.ndim - 2))
    # where, not a product: padding may hold NaN, and 0 * NaN is NaN.
    return torch.where(valid, tensor, tensor.new_zeros(()))


def at_positions(tensor: Tensor, mask: Tensor | None, positions: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A layer's output and its mask at these positions (tokens,) alone; unchanged for a layer over other positions.

    >>> [part.tolist() for part in at_positions(torch.ones(1, 2, 1), torch.ones(1, 2), torch.tensor([True, False]))]
    [[[[1.0]]], [[1.0]]]
    """
    if mask is None or positions is None or not lies_over(tensor, mask) or len(positions) != mask.shape[1]:
        return tensor, mask
    return tensor[:, positions.to(tensor.device)], mask[:, positions.to(mask.device)]


def dense(tensor: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """A plain floating tensor, float32 or wider, and the mask: that of a nested tensor is its own."""
    if tensor.is_nested:
        parts = tensor.unbind()
        if mask is None and all(p.ndim >= 1 for p in parts):
            lengths = torch.tensor([p.shape[0] for p in parts], device=tensor.device)
            mask = torch.arange(int(lengths.max()), device=tensor.device) < lengths[:, None]
        tensor = torch.nested.to_padded_tensor(tensor, 0.0)
    tensor = plain(tensor)
    if tensor.is_complex():
        raise BadInput(
            f"a layer returned complex numbers ({tensor.dtype}), whose geometry is not defined here: "
            "pass reduce=lambda t: torch.view_as_real(t).flatten(1) to take real and imaginary parts as features"
        )
    if not tensor.is_floating_point():
        tensor = tensor.to(WORKING)
    elif torch.finfo(tensor.dtype).bits < 32:
        tensor = tensor.float()
    return tensor, mask


def plain(tensor: Tensor) -> Tensor:
    """A tensor with all its entries in memory: sparse and quantised ones become dense, others are unchanged.

    >>> plain(torch.eye(2).to_sparse()).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if tensor.is_nested:
        return torch.nested.to_padded_tensor(tensor, 0.0)
    if tensor.layout != torch.strided:
        return tensor.to_dense()
    return tensor.dequantize() if tensor.is_quantized else tensor


def _parsed(how: object) -> tuple[str, int]:
    if isinstance(how, str):
        numbered = _NUMBERED.fullmatch(how)
        if numbered and (numbered[1] == "token" or int(numbered[2]) > 0):
            return numbered[1], int(numbered[2])
        if how in REDUCTIONS and "(" not in how:
            return how, 0
    raise BadInput(f"reduce={how!r} is not known; near: {near(str(how), REDUCTIONS)}. All: {', '.join(REDUCTIONS)}")


def _over_space(tensor: Tensor, name: str, k: int, mask: Tensor | None) -> Tensor:
    if mask is not None and tensor.ndim == 3 and tuple(mask.shape) == tuple(tensor.shape[:2]):
        raise BadInput(
            f"reduce={name!r} pools (samples, channels, space), but the mask says that {tuple(tensor.shape)} is "
            "(samples, tokens, features): use 'token_mean', 'cls' or 'last'"
        )
    if name == "mean":
        return tensor.flatten(2).mean(2)
    if name == "max":
        return tensor.flatten(2).amax(2)
    if tensor.ndim not in _POOLS:
        raise BadInput(f"reduce='adaptive({k})' takes 1 to 3 spatial dimensions, got shape {tuple(tensor.shape)}")
    return _POOLS[tensor.ndim](tensor, k).reshape(tensor.shape[0], -1)


def _valid(tokens: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    mask = mask.to(tokens.device) != 0
    if mask.shape != tokens.shape[:2]:
        raise BadInput(
            f"mask has shape {tuple(mask.shape)}, but the layer has {tuple(tokens.shape[:2])} (samples, tokens): "
            "pass the mask of these tokens, or reduce='flatten'"
        )
    return mask


def _over_tokens(tokens: Tensor, name: str, i: int, valid: Tensor) -> Tensor:
    n, length = valid.shape
    rows = torch.arange(n, device=tokens.device)
    if name == "token_all":
        return tokens[valid]
    if name == "token_mean":
        weight = valid.to(tokens.dtype)[..., None]
        # where, not a product: padding may hold NaN, and 0 * NaN is NaN.
        return torch.where(valid[..., None], tokens, tokens.new_zeros(())).sum(1) / weight.sum(1)
    if name == "cls":
        return tokens[rows, valid.int().argmax(1)]
    if name == "last":
        return tokens[rows, length - 1 - valid.flip(1).int().argmax(1)]
    if not -length <= i < length:
        raise BadInput(f"reduce='token({i})', but the layer has {length} tokens")
    return tokens[:, i]


def _checked(out: Tensor, tensor: Tensor) -> Tensor:
    if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[0] != tensor.shape[0]:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise BadInput(f"the reduce function must return ({tensor.shape[0]}, features), got {got}")
    return dense(out)[0]


def span_coordinates(rep: Representation) -> Representation:
    """The same points in coordinates of the span of the rows: (n, r) with r = n where n < d, else unchanged.

    Exact: with X' = Q R (Q orthonormal), the rows of R' = X Q have the inner products of the rows of X, so distances,
    Gram matrices and cones are the same while d shrinks to n. The origin stays (nothing is centred). In float64;
    `meta["span"]` records the original d.

    >>> wide = Representation(torch.eye(3, 50))
    >>> span_coordinates(wide).d
    3
    """
    if rep.n >= rep.d:
        return rep
    factor = torch.linalg.qr(rep.x.double().mT, mode="r")[1]
    return rep.with_(x=factor.mT.contiguous(), meta={**rep.meta, "span": rep.d})
