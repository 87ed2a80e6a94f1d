"""Measure in the middle of a training without a trace: random states, autocast and gradient modes are as before after.

The network itself is never called: a copy of its code is, with its present weights (`weights_now`), so that neither its
modes, buffers, hooks nor gradients can change.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from geomfeat.models.functional import Functional, in_dtype, unwrapped
from geomfeat.models.modules import real_pairs
from geomfeat.numerics import whole_seed


@contextmanager
def undisturbed(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, gradients are on, autocast is off, and what draws random numbers draws those of `seed`."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that user code draws from
    gpus = [device] if device.type == "cuda" else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=gpus))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        torch.set_rng_state(torch.Generator().manual_seed(whole_seed(seed)).get_state())
        if gpus:
            torch.cuda.manual_seed(whole_seed(seed))
        random.seed(seed)
        np.random.seed(whole_seed(seed) % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002


def bare(model: nn.Module) -> nn.Module:
    """The network without wrappers, also without the forward pass under autocast that accelerate puts on it.

    It shares all modules and tensors with the one that is trained.
    """
    model = unwrapped(model)
    if "_original_forward" not in vars(model):
        return model
    plain = copy.copy(model)
    plain.__dict__.pop("forward", None)
    plain.__dict__.pop("_original_forward")
    return plain


def weights_now(f: Functional, model: nn.Module) -> Functional:
    """`f` of a network at an earlier moment, at its present weights and buffers; weights are copied if types differ."""
    values = {name: real_pairs(p.detach()) for name, p in model.named_parameters()}
    # A forward pass in evaluation mode may count its calls in a buffer.
    values |= {name: b.detach().clone() for name, b in model.named_buffers()}
    placed = {name: in_dtype(value.to(f.device), f.dtype) for name, value in values.items()}
    theta = {name: placed[name] for name in f.theta}
    now = replace(f, theta=theta, fixed={name: placed[name] for name in f.fixed}, scale={})
    now.known.update(f.known)
    return now
