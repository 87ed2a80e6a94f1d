"""Where capacity does not measure separability: t lies in every cone, |p|^2 = |t|^2, and the capacity is P / rank.

Classes that no hyperplane separates fill the span of all points, whatever their labels: noise in few units reads higher
than signal in many. Such a capacity counts units. Dichotomies that give all classes the same sign ask for no separation
of classes (features without negative values always satisfy them), so they do not count here.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.geometry.manifolds.cones.project import ConeProjections

# Share of the draws with t inside its cone from which on a capacity is called one at the floor.
NEAR_ONE = 0.9
AT_FLOOR = "at the floor"


def floor_of(found: ConeProjections, y: Float[Tensor, "draws P"]) -> bool:
    """Is t inside its cone in nearly every certified draw whose labels differ (in every draw, where none do)?"""
    counted = found.certified
    mixed = counted & (y.amax(1) != y.amin(1))
    counted = mixed if bool(mixed.any()) else counted
    return bool(counted.any()) and float(found.inside[counted].to(torch.float64).mean()) >= NEAR_ONE


def floor_note(n_manifolds: int, rank: int) -> str:
    """Begins with `AT_FLOOR`, by which tables and pages know such a number."""
    return (
        f"{AT_FLOOR}: no dichotomy leaves room, so the capacity is P / rank = {n_manifolds}/{rank} = "
        f"{n_manifolds / rank:.3g}, what points without any structure give, and says nothing of separability: "
        "do not compare or rank it; use fewer samples or more units"
    )


def without_floor(notes: tuple[str, ...]) -> tuple[str, ...]:
    """The other notes."""
    return tuple(note for note in notes if not at_floor(note))


def at_floor(note: object) -> bool:
    """Is this the note of a number at the floor?

    >>> at_floor(floor_note(4, 12)), at_floor("3 draws not certified, left out"), at_floor(None)
    (True, False, False)
    """
    return isinstance(note, str) and AT_FLOOR in note
