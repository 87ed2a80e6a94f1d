"""Where a recurrent network is between lazy and rich in what it says at each step of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.layer_selection import Patterns
from geomfeat.errors import BadInput
from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions
from geomfeat.location.result import Location
from geomfeat.models.functional import call
from geomfeat.models.outputs import output_tensor
from geomfeat.models.recurrent import SamplesFirst
from geomfeat.numerics import as_tensor


def locate_by_step(
    model: nn.Module,
    inputs: Any,
    *,
    initial: nn.Module,
    steps: Sequence[int] | None = None,
    time_first: bool = False,
    optimizer: Any = None,
    seed: int = 0,
    layers: Patterns = "*",
    device: str | torch.device | None = None,
    progress: bool = False,
    options: LocateOptions = LocateOptions(),
) -> dict[int, Location]:
    """The location of a causal recurrent network's output at each step, from its inputs up to that step.

    A module that is called at every step has the features of the last one there: the state at that step. A fused layer
    (nn.LSTM) has those of all steps so far.

    Args:
        model, initial: the network after and before training; it returns (n, outputs) at its last step, or (n, steps,
            outputs), of which the last is read.
        inputs: (n, T, ...); with `time_first` (T, n, ...), as the model then takes them.
        steps: which, from 0, negative from the end; default all.
        optimizer, layers, options: as for `locate`.

    Returns step -> location; where nothing is learned at a step its R says what was changed there all the same.

    Raises BadInput for inputs without steps, steps that are not there, and a network whose output at a step depends on
    later inputs.

    >>> from geomfeat.models.recurrent import rate_rnn
    >>> start, end = (rate_rnn(3, 8, 2, seed=seed) for seed in (0, 1))
    >>> x = torch.randn(12, 4, 3, generator=torch.Generator().manual_seed(0))
    >>> found = locate_by_step(end, x, initial=start, steps=[0, -1], options=LocateOptions(n_bootstrap=2))
    >>> list(found), found[3].layers["layer"].tolist()
    ([0, 3], ['rates'])
    """
    x = as_tensor(inputs, "inputs")
    if x.ndim < 2:
        raise BadInput(f"inputs have shape {tuple(x.shape)}: give (n, steps, ...), or (steps, n, ...) with time_first")
    if time_first:
        x, model, initial = x.transpose(0, 1), SamplesFirst(model), SamplesFirst(initial)
    total = x.shape[1]
    wanted = list(range(total)) if steps is None else [_numbered(step, total) for step in steps]
    _require_causal(model, x[:2])
    return {
        step: locate(
            model, x[:, : step + 1], initial=initial, optimizer=optimizer, readout=_last, seed=seed, layers=layers,
            device=device, progress=progress, options=options,
        )
        for step in wanted
    }  # fmt: skip


def _numbered(step: int, total: int) -> int:
    if not -total <= step < total:
        raise BadInput(f"steps: {step} is none of the {total} steps of the inputs")
    return step % total


def _last(output: Any, inputs: Any) -> Tensor:
    made = output_tensor(output, inputs)
    return made[:, -1] if made.ndim == 3 else made


def _require_causal(model: nn.Module, x: Tensor) -> None:
    """BadInput where the outputs of every step, if the model returns them, are not those of its inputs so far."""
    first = next(model.parameters(), x)
    x = x.to(first.device, first.dtype) if x.is_floating_point() else x.to(first.device)
    half = max(1, x.shape[1] // 2)
    with torch.no_grad():
        whole, beginning = (output_tensor(call(model, part)) for part in (x, x[:, :half]))
    if whole.ndim != 3:
        return
    apart = (whole[:, :half] - beginning).norm()
    if whole.shape[1] != x.shape[1] or float(apart) > torch.finfo(whole.dtype).eps ** 0.6 * float(whole.norm()):
        raise BadInput(
            "the model's output at a step is not that of its inputs up to this step (a network in both directions?), "
            "so it cannot be located step by step: use locate(readout='token:i')"
        )
