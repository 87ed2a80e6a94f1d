"""An optimizer of parameters that are spread over processes, as one of the whole copy (FSDP)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from geomfeat.distributed import is_first
from geomfeat.monitoring.distributed import WRAPPED, is_a
from geomfeat.monitoring.whole_copy import WholeCopy, whole
from geomfeat.tangent.optimizer_state import FACTORS, SIZES, SQUARES, STEP, is_adaptive

# Of an optimizer's state, what says how large gradients are; momentum stays where it is.
WANTED = (*SQUARES, *SIZES, *FACTORS, STEP)
State = dict[nn.Parameter, dict[str, Any]]


class WholeOptimizer(torch.optim.Optimizer):
    """Groups and state of an optimizer, by the parameters of a whole copy. It is read, and makes no steps.

    Args:
        trained: the optimizer. All processes must make this, and call `fill`, at the same time.
        copy: of the network whose parameters it has; those that the network has not are left out.
    """

    def __init__(self, trained: Any, copy: WholeCopy) -> None:
        self._trained, self._copy = trained, copy
        self._wrapped = any(is_a(module, WRAPPED) for module in copy.trained.modules())
        groups, state = self._gathered()
        super().__init__(groups if is_first() else [nn.Parameter(torch.empty(0))], {})
        self._hold(state)

    def fill(self) -> None:
        """The present sizes of gradients; those of plain rates have none."""
        if any(is_adaptive(group) for group in self._trained.param_groups):
            self._hold(self._gathered()[1])

    def release(self) -> None:
        """Give up the memory of the state."""
        self.state.clear()

    def _hold(self, state: State) -> None:
        self.state.clear()
        for p, own in state.items():
            self.state[p] = own

    def _gathered(self) -> tuple[list[dict[str, Any]], State]:
        return self._of_wrapped() if self._wrapped else self._of_parts()

    def _of_parts(self) -> tuple[list[dict[str, Any]], State]:
        """Of parameters that are the network's own."""
        groups, state, twins = [], {}, self._copy.parameters_of() if is_first() else {}
        for group in self._trained.param_groups:
            for p in group["params"]:
                found = {k: whole(v) for k, v in self._trained.state.get(p, {}).items() if k in WANTED}
                if id(p) in twins:
                    state[twins[id(p)]] = found
            groups.append({**group, "params": [twins[id(p)] for p in group["params"] if id(p) in twins]})
        return groups, state

    def _of_wrapped(self) -> tuple[list[dict[str, Any]], State]:
        """Of parameters that a wrapper has joined into one, or cut; torch has a function for these."""
        from torch.distributed.fsdp import (
            FullOptimStateDictConfig,
            FullStateDictConfig,
            FullyShardedDataParallel,
            StateDictType,
        )

        how = FullOptimStateDictConfig(rank0_only=True, offload_to_cpu=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's about its own functions
            with FullyShardedDataParallel.state_dict_type(
                self._copy.trained, StateDictType.FULL_STATE_DICT, FullStateDictConfig(), how
            ):
                found: Mapping[str, Any] = FullyShardedDataParallel.optim_state_dict(self._copy.trained, self._trained)
        if self._copy.network is None:
            return [], {}
        named = dict(self._copy.network.named_parameters())
        groups = [{**g, "params": [named[n] for n in g["params"] if n in named]} for g in found["param_groups"]]
        state = {named[n]: {k: v for k, v in s.items() if k in WANTED} for n, s in found["state"].items() if n in named}
        return groups, state
