"""How much of a Jacobian to hold at a time, and what a backward pass saves."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from geomfeat.memory import SHARE, free_bytes, in_gigabytes, is_out_of_memory
from geomfeat.models.forward_passes.recomputed_blocks import ComputedOtherwise, recompute, recomputed_blocks
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import shapes_of, take
from geomfeat.tangent.jacobians.saved_tensors import Saved, saved_by

logger = logging.getLogger(__name__)
BUDGET = 2**30  # bytes of Jacobian entries held at a time, unless the caller says otherwise
LEAST_SPARED = 1 / 3  # share of the saved bytes for which a second forward pass is worth its time


def saved_bytes(f: Functional, inputs: Any) -> tuple[int, int]:
    """Bytes that one sample's backward pass saves: (all activations, the largest one), without the parameters.

    Measured, not guessed: the tensors that autograd saves during one forward pass of one sample. Once for each network
    and shape of a sample, since every product with a kernel asks for it.

    Where they are a large share of the free memory, the blocks of the network are recomputed from here on, and the
    bytes are those that are saved then: see `geomfeat.models.forward_passes.recomputed_blocks`.
    """
    one = take(inputs, slice(0, 1))
    key = ("saved bytes", shapes_of(one), recomputed_blocks(f.model))
    if key not in f.known:
        with _kept(f.model):
            found = saved_by(f, one)
        if found.all > free_bytes(f.device) // SHARE and _recomputed(f, one, found):
            key = *key[:2], recomputed_blocks(f.model)
        f.known[key] = found.with_recomputation if key[2] else found.all, found.largest
    return f.known[key]


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """Without recomputation."""
    blocks = recomputed_blocks(model)
    recompute(model, ())
    try:
        yield
    finally:
        recompute(model, blocks)


def _recomputed(f: Functional, one: Any, plain: Saved) -> bool:
    """Recompute the blocks from here on, if that spares enough, and neither outputs nor blocks differ then."""
    if recomputed_blocks(f.model) or plain.with_recomputation > (1 - LEAST_SPARED) * plain.all:
        return False
    recompute(f.model, list(plain.blocks))
    theta = {name: value.detach().requires_grad_() for name, value in f.theta.items()}
    try:
        with torch.no_grad():
            expected = f(f.theta, one)  # without a backward pass nothing is recomputed
        with torch.enable_grad():
            outputs = f(theta, one)
        torch.autograd.grad(outputs.sum(), list(theta.values()), allow_unused=True)
        near = torch.finfo(f.precision).eps ** 0.5 * expected.abs().max()
        if not (outputs - expected).abs().max() <= near:
            raise ComputedOtherwise("the network needs what its blocks remember from each other")
    # A block may ask for what the network held during its pass alone, in whatever way that fails.
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError) as error:
        recompute(f.model, ())
        if is_out_of_memory(error):
            raise
        logger.info("activations are kept, since the network's blocks cannot be recomputed (%s)", error)
        return False
    logger.info("blocks are recomputed in backward passes: activations of a sample take %s", in_gigabytes(plain.all))
    return True
