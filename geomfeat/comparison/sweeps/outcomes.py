"""What a training of a sweep gave, and what can become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from geomfeat.regimes.training.plain_training import PlainTraining
from geomfeat.regimes.training.result import Trained
from geomfeat.regimes.training.series import rounded_powers
from geomfeat.tangent import OptimizerRates

# Possible outcomes of a training.
MATCHED, COMPLETED = "matched", "completed"
UNMATCHED, STALLED, DIVERGED, FAILED, MISSING = "unmatched", "stalled", "diverged", "failed", "missing"
ABOVE = 1.001  # times the loss at the start, from which a network is worse than there, beyond rounding
QUANTITIES = (
    "train_loss", "test_loss", "train_accuracy", "test_accuracy", "steps", "eta", "converged",
    "sharpness_initial", "sharpness", "stability",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """What a training gave.

    Attributes:
        initial, trained: the network at the start and at its last finite weights; None where none could be built.
        snapshots: step -> network. outcome: "matched" to the target loss; "completed", where there is none;
            "unmatched" at the end of the budget; "stalled"; "diverged"; "failed". note: the reason, in words.
        numbers: quantity -> value (see QUANTITIES), where it is known. train_loss, test_loss: relative to f = 0;
            sharpness: the largest curvature of the relative loss (Gauss-Newton, in u = (w - w0) / gamma), of the first
            and the last weights; stability: eta times the first one; plain gradient descent is stable below 2.
        rates: of the raw weights at the end, see `Trained`.
    """

    initial: nn.Module | None
    trained: nn.Module | None
    outcome: str
    note: str = ""
    snapshots: Mapping[int, nn.Module] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    rates: OptimizerRates | None = None

    @property
    def usable(self) -> bool:
        """Whether the last weights are those of a network that has learned something."""
        return self.trained is not None and self.outcome not in (DIVERGED, FAILED)


def outcome_of(found: Trained | PlainTraining, target_loss: float | None) -> tuple[str, str]:
    """(what became of a training, the reason in words; "" where it ended as it should)."""
    if found.note.startswith("diverged"):
        return DIVERGED, found.note
    if not found.train_loss <= ABOVE * found.initial_loss:
        return DIVERGED, f"relative loss {found.train_loss:.3g} after {found.steps} steps, above that of the start"
    if found.converged:
        return (COMPLETED if target_loss is None else MATCHED), ""
    if found.note.startswith(("stalled", "no step", "no epoch")):
        return STALLED, found.note
    return UNMATCHED, found.note


def log_spaced(last: int, count: int) -> list[int]:
    """`count` steps from 1 to below `last`, evenly spaced in log(step); fewer where they coincide.

    >>> log_spaced(1000, 4)
    [1, 6, 32, 178]
    """
    return rounded_powers(last, count, count)
