"""One task learned in several ways from known starts, each located in the parameters that it trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.lab.tuning.adapters import LowRank, adapted, merged
from geomfeat.lab.tuning.starts import Starts, blocks, matrices, only
from geomfeat.location import LocateOptions, Location, locate
from geomfeat.regimes.training import TrainOptions, train_at_gamma
from geomfeat.tangent import ntk

LEFT = 0.1  # of the cross-entropy of equal outputs, where every training stops
MAIN_RATE = 0.1  # times 1 / (curvature at the start), of every variant but those that vary it
MOST_STEPS = 4000
HEAD, LAST, MATRICES = "head", "last block", "matrices"  # alone, from the prompted start; matrices: of the blocks
PROMPTED, NEW_HEAD, SCRATCH = "label words", "new head", "scratch"  # all parameters


@dataclass(frozen=True, eq=False)
class Tuned:
    """A network before and after learning the task. first_loss, loss: relative; steps of descent."""

    start: nn.Module
    end: nn.Module
    first_loss: float
    loss: float
    steps: int

    @property
    def trained(self) -> int:
        """Number of parameters that were trained."""
        return sum(p.numel() for p in self.start.parameters() if p.requires_grad)


def lora(rank: int) -> str:
    """Name of the variant with adapters of a rank."""
    return f"LoRA {rank}"


def networks(found: Starts, ranks: tuple[int, ...], seed: int) -> dict[str, nn.Module]:
    """Name of a variant -> the network before it, of which what is trained requires a gradient."""
    base = found.prompted
    return {
        SCRATCH: found.scratch, NEW_HEAD: found.new_head, PROMPTED: base,
        MATRICES: only(base, matrices(base)),
        **{lora(rank): adapted(base, matrices(base), rank, seed) for rank in ranks},
        LAST: only(base, blocks(base)[-1:]), HEAD: only(base, ["head"]),
    }  # fmt: skip


def tuned(start: nn.Module, tokens: Tensor, classes: Tensor, rate: float = MAIN_RATE) -> Tuned:
    """Descent without momentum, at `rate` over the curvature at the start, until LEFT of the loss is left."""
    how: dict[str, Any] = {"gamma": 1.0, "loss": "cross-entropy", "target_loss": LEFT,
                           "options": TrainOptions(centered=False, momentum=0.0)}  # fmt: skip
    largest = train_at_gamma(start, tokens, classes, max_steps=1, **how).lr
    run = train_at_gamma(start, tokens, classes, max_steps=MOST_STEPS, lr=rate * largest, **how)
    return Tuned(start, run.model, run.initial_loss, run.train_loss, run.steps)


def placed(
    start: nn.Module,
    end: nn.Module,
    tokens: Tensor,
    *,
    optimizer: Mapping[str, float] | None = None,
    share_left: float | None = None,
) -> Location:
    """Where a network is, by its blocks, in the parameters that moved and at these rates (default: equal ones)."""
    options = LocateOptions(n_bootstrap=2, loss="cross-entropy", share_left=share_left)
    return locate(
        end, tokens, initial=start, layers=blocks(start), optimizer=optimizer, options=options, progress=False
    )


def in_merged_weights(run: Tuned, tokens: Tensor, share_left: float | None) -> dict[str, float]:
    """R and kernel change of adapters in the weights they are merged into: at equal rates, and at `limit_rates`."""
    start, end = merged(run.start), merged(run.end)
    found = {}
    for space, rates in (("merged", None), ("infinite rank", limit_rates(start))):
        there = placed(start, end, tokens, optimizer=rates, share_left=share_left)
        found |= {f"R, {space}": there.richness, f"kernel change, {space}": there.kernel_change}
    return found


def limit_rates(model: nn.Module) -> dict[str, float]:
    """Rates of the weight matrices to which adapters of growing rank amount.

    While `up` is zero only it moves, so an adapter's kernel is s^2 sum_l <G_l down' down, G_l'> with the gradients G_l
    of the weights, where down' down tends to r / (3 inputs) times the identity (Malladi et al. 2023, section 7).
    """
    return {name: 1 / (3 * p.shape[1]) for name, p in model.named_parameters() if name in matrices(model)}


def limit_kernel(base: nn.Module, tokens: Tensor) -> Tensor:
    """Kernel of the weight matrices at `limit_rates`: an adapter's of infinite rank, over s^2 r."""
    rates = limit_rates(base)
    limit = torch.zeros(())
    for rate in set(rates.values()):
        names = [name for name in rates if rates[name] == rate]
        limit = limit + rate * ntk(base, tokens, params=names, outputs="full").gram
    return limit


def kernel_error(start: nn.Module, limit: Tensor, tokens: Tensor) -> float:
    """|K - K_inf| / |K_inf| of an adapter's kernel at the start, K_inf from `limit_kernel`."""
    low = next(m for m in start.modules() if isinstance(m, LowRank))
    limit = low.scale**2 * len(low.down) * limit
    own = ntk(start, tokens, params="*.up", outputs="full").gram
    return float((own - limit).norm() / limit.norm())


def numbers(run: Tuned, found: Location) -> dict[str, float | str]:
    """A row of the table."""
    return {
        "trained": run.trained, "first loss": run.first_loss, "loss": run.loss, "steps": run.steps,
        "R": found.richness, "M": found.movement, "kappa": found.kernel_demand, "kernel change": found.kernel_change,
        "gap": found.linearisation_gap, "regime": found.regime, "space": found.tangent,
        **{f"R of block {i + 1}": r for i, r in enumerate(found.layers["richness"])},
        **{f"M of block {i + 1}": m for i, m in enumerate(found.layers["movement"])},
    }  # fmt: skip
