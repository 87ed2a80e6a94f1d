"""Point clouds with known capacity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomfeat.numerics import WORKING, stream


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "clouds"), dtype=WORKING)


def signs(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 2, shape, generator=stream(seed, "signs")).to(WORKING) * 2 - 1


def segments(n_manifolds: int, radius: float) -> Tensor:
    """(P, 2, 2P): centre e_i, ends e_i +- R e_{P+i}."""
    eye = torch.eye(2 * n_manifolds, dtype=WORKING)
    centers, axes = eye[:n_manifolds], radius * eye[n_manifolds:]
    return torch.stack([centers + axes, centers - axes], 1)


def discs(n_manifolds: int, radius: float, points: int) -> Tensor:
    """(P, points, 3P): regular polygons around unit centres, in mutually orthogonal spans."""
    angle = 2 * math.pi * torch.arange(points, dtype=WORKING) / points
    one = torch.stack([torch.ones_like(angle), radius * angle.cos(), radius * angle.sin()], 1)
    out = torch.zeros(n_manifolds, points, 3 * n_manifolds, dtype=WORKING)
    for i in range(n_manifolds):
        out[i, :, 3 * i : 3 * i + 3] = one
    return out


def simplices(n_manifolds: int, points: int) -> Tensor:
    """(P, M, P M): M orthonormal points each."""
    return torch.eye(n_manifolds * points, dtype=WORKING).reshape(n_manifolds, points, -1)


def subspaces(n_manifolds: int, d: int) -> Tensor:
    """(P, 2d, P d): +-u_1 .. +-u_d."""
    axes = simplices(n_manifolds, d)
    return torch.cat([axes, -axes], 1)


def spheres(n_manifolds: int, points: int, n: int, radius: float, d: int, seed: int = 0) -> Tensor:
    """(P, M, N): random points of d-dimensional spheres around random unit centres."""
    centers = torch.nn.functional.normalize(normal(n_manifolds, 1, n, seed=seed), dim=2)
    axes = normal(n_manifolds, d, n, seed=seed + 1) / n**0.5
    on_sphere = torch.nn.functional.normalize(normal(n_manifolds, points, d, seed=seed + 2), dim=2)
    return centers + radius * on_sphere @ axes
