"""Kernel (ridge) regression with a given kernel, with its leave-one-out predictions in closed form.

With A = K + ridge I and coefficients a = A^-1 Y, leaving out sample i changes its own residual to
    e_i = ([A^-1]_ii)^-1 a_i    (Rasmussen and Williams 2006, eq. 5.12, whose K holds the noise)
with [A^-1]_ii a number, or the block of a sample's outputs in a full tangent kernel. At ridge 0 and a singular K every
result is the limit ridge -> 0, which is the least-norm solution: A^-1 = M + N/ridge with M the pseudo-inverse and N the
projector on the null space of K. The limit of e_i then solves N_ii e = (N Y)_i, and M_ii e = (M Y)_i in the directions
where N_ii is zero.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomfeat.display import BaseResult, pair_columns
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._cka import as_gram
from geomfeat.labels import as_goal
from geomfeat.memory import require_memory
from geomfeat.numerics import WORKING, as_tensor, require_finite, safe_eigh
from geomfeat.precision import precision_of
from geomfeat.types import Kernel


@dataclass(frozen=True, eq=False)
class Predictions(BaseResult):
    """What a kernel regression says of some samples.

    Attributes:
        values: (n, C) predicted targets.
        mean_squared_error: Mean over samples and outputs; None where no targets were given.
        accuracy: Share of samples whose largest output is their class, in [0, 1]; None where targets are no classes.

    `to_frame()`: one row for each sample and output: sample, output, value.
    """

    values: Tensor
    mean_squared_error: float | None
    accuracy: float | None

    def _columns(self) -> dict[str, Any]:
        n, outputs = self.values.shape
        table = pair_columns(range(n), range(outputs), value=self.values)
        return {"sample": table["row"], "output": table["column"], "value": table["value"]}


@dataclass(frozen=True, eq=False)
class KernelRegression(BaseResult):
    """The result of `kernel_regression`.

    Attributes:
        coefficients: (n, C): predictions are K @ coefficients (rows of one sample flattened for a full kernel).
        train, leave_one_out, test: Predictions; `leave_one_out` for each sample by the fit to all others.
        rank: Number of eigenvalues of the training kernel above rounding.
        size: Number of its rows. At ridge 0 and rank < size the solution is the one of least norm.
        note: What is special about this fit, or "".

    `to_frame()`: one row for each set of samples: of, mean_squared_error, accuracy, rank, size.
    """

    coefficients: Tensor
    train: Predictions
    leave_one_out: Predictions
    test: Predictions | None
    rank: int
    size: int
    note: str

    def _columns(self) -> dict[str, Any]:
        parts = {"train": self.train, "leave_one_out": self.leave_one_out, "test": self.test}
        known = {name: part for name, part in parts.items() if part is not None}
        return {
            "of": list(known),
            "mean_squared_error": [part.mean_squared_error for part in known.values()],
            "accuracy": [part.accuracy for part in known.values()],
            "rank": self.rank,
            "size": self.size,
        }


@dataclass(frozen=True, eq=False)
class _Targets:
    """values (n, C), and whether each row names a class."""

    values: Tensor
    classes: bool


def kernel_regression(
    train: Kernel | Tensor,
    targets: Any,
    test: Kernel | Tensor | None = None,
    test_targets: Any = None,
    ridge: float = 0.0,
) -> KernelRegression:
    """Least squares in the function space of a kernel: coefficients (K + ridge I)^-1 Y (Saunders et al. 1998).

    Args:
        train: (n, n), one kernel for all outputs (a trace NTK); or (n C, n C), sample-major (a full NTK).
        targets: (n,) whole numbers: classes, taken as one-hot; or (n,) or (n, C) values; one-hot rows are classes.
        test: (n_test, n) kernel between test and training samples, or (n_test C, n C).
        test_targets: As `targets`, for the test samples.
        ridge: Added to the diagonal, in the units of the kernel. 0 gives the interpolating or least-norm solution.

    There is no intercept, and the prediction where the kernel vanishes is 0. To linearise a network pass the targets
    minus its outputs at initialisation. Raises BadInput for shapes that disagree, a kernel with clearly negative
    eigenvalues, or a zero one.

    >>> kernel_regression(torch.eye(2), torch.tensor([1.0, 2.0]), ridge=1.0).train.values.flatten().tolist()
    [0.5, 1.0]
    """
    gram = as_gram(train, "train")
    if not 0 <= ridge < float("inf"):
        raise BadInput(f"ridge must be a number >= 0, got {ridge}")
    y, y_test = _targets(targets, test_targets, gram)
    block = gram.shape[0] // len(y.values)
    stacked = y.values.reshape(gram.shape[0], -1)  # (n, C), or (n C, 1) for a full kernel

    values, vectors, cut = _spectrum(gram, _unit(train))
    rank = int((values > cut).sum())
    least_norm = ridge == 0 and rank < len(values)
    inverse = torch.where(values > cut, 1 / values, 0.0) if least_norm else 1 / (values + ridge)
    coefficients = vectors @ (inverse[:, None] * (vectors.T @ stacked))

    null = vectors[:, values <= cut] if least_norm else None
    residual = _left_out(vectors, inverse, null, stacked, coefficients, block).reshape(y.values.shape)
    fitted = (gram @ coefficients).reshape(y.values.shape)
    return KernelRegression(
        coefficients.reshape(y.values.shape),
        _predictions(fitted, y),
        _predictions(y.values - residual, y),
        None if test is None else _predictions(_test_values(test, coefficients, block), y_test),
        rank,
        len(values),
        _note(rank, len(values), ridge, cut),
    )


def _spectrum(gram: Tensor, unit: float) -> tuple[Tensor, Tensor, float]:
    """Eigenvalues (those within rounding of 0 set to 0), eigenvectors, and the cut between the two kinds."""
    require_memory(3 * gram.numel() * gram.element_size(), f"the eigenvectors of a kernel of {len(gram)} rows",
                   "use fewer samples", gram.device)  # fmt: skip
    values, vectors = safe_eigh(gram)
    largest = float(values[-1])
    if not largest > 0:
        raise BadInput("the training kernel has no positive eigenvalue (is it zero everywhere?): nothing can be fitted")
    cut = len(values) * unit * largest
    if float(values[0]) < -max(cut, 1e-6 * largest):
        raise BadInput(
            f"the training kernel has eigenvalues from {float(values[0]):.3g} to {largest:.3g}: it must be positive "
            "semi-definite; check that it is not centred by an unbiased estimator or of distances"
        )
    return torch.where(values > cut, values, 0.0), vectors, cut


def _unit(kernel: Kernel | Tensor) -> float:
    """The rounding of the precision that the kernel came in."""
    return torch.finfo(kernel.precision if isinstance(kernel, Kernel) else precision_of(kernel)).eps


def _left_out(
    vectors: Tensor, inverse: Tensor, null: Tensor | None, y: Tensor, coefficients: Tensor, block: int
) -> Tensor:
    """(n, block, columns): targets minus the predictions of the fits without each sample (see the module's text)."""
    of_sample = vectors.reshape(-1, block, vectors.shape[1])
    blocks = (of_sample * inverse) @ of_sample.mT
    right = coefficients.reshape(len(blocks), block, -1)
    if null is None:
        return torch.linalg.solve(blocks, right)
    of_null = null.reshape(-1, block, null.shape[1])
    null_right = (null @ (null.T @ y)).reshape(right.shape)
    # An entry of a projector is seen to about eps; its square root parts what is zero from what is small.
    share, axes = torch.linalg.eigh(of_null @ of_null.mT)
    seen = share > torch.finfo(WORKING).eps ** 0.5
    first = axes @ (torch.where(seen, 1 / share, 0.0)[..., None] * (axes.mT @ null_right))
    # In the other directions M decides: the identity stands in for M in those that N has decided.
    hidden = (~seen).to(WORKING)
    within = hidden[..., None] * (axes.mT @ blocks @ axes) * hidden[:, None, :] + torch.diag_embed(seen.to(WORKING))
    rest = hidden[..., None] * (axes.mT @ (right - blocks @ first))
    return first + axes @ torch.linalg.solve(within, rest)


def _test_values(test: Kernel | Tensor, coefficients: Tensor, block: int) -> Tensor:
    gram = as_tensor(test.gram if isinstance(test, Kernel) else test, "test", WORKING).to(coefficients.device)
    rows = coefficients.shape[0]
    if gram.ndim != 2 or gram.shape[1] != rows or gram.shape[0] % block:
        raise BadInput(
            f"test has shape {tuple(gram.shape)}, needed is (test samples, {rows}) in rows of {block} a sample"
        )
    return (require_finite(gram, "kernel 'test'") @ coefficients).reshape(gram.shape[0] // block, -1)


def _predictions(values: Tensor, y: _Targets | None) -> Predictions:
    if y is None:
        return Predictions(values, None, None)
    if values.shape != y.values.shape:
        raise BadInput(f"test_targets are {tuple(y.values.shape)}, but the test kernel gives {tuple(values.shape)}")
    right = (values.argmax(1) == y.values.argmax(1)).to(WORKING).mean()
    return Predictions(values, float((values - y.values).square().mean()), float(right) if y.classes else None)


def _targets(targets: Any, test_targets: Any, gram: Tensor) -> tuple[_Targets, _Targets | None]:
    y = as_goal(targets, "targets").to(gram.device)
    z = None if test_targets is None else as_goal(test_targets, "test_targets").to(gram.device)
    if z is not None and (z.ndim != y.ndim or z.is_floating_point() != y.is_floating_point()):
        raise BadInput(
            f"targets are {tuple(y.shape)} {y.dtype}, test_targets {tuple(z.shape)} {z.dtype}: give both in one form"
        )
    rows = gram.shape[0]
    if y.ndim not in (1, 2) or 0 in y.shape or rows % len(y):
        raise BadInput(f"targets must be (n,) or (n, C) for a kernel of {rows} rows, got shape {tuple(y.shape)}")
    if y.ndim == 1 and not y.is_floating_point():
        classes = _classes(y, z, rows // len(y))
        return _one_hot(y, classes), None if z is None else _one_hot(z, classes)
    if rows not in (len(y), y.numel()):
        raise BadInput(
            f"a kernel of {rows} rows fits neither {len(y)} samples nor {len(y)} samples times "
            f"{y.numel() // len(y)} outputs: give targets of the same samples and outputs"
        )
    return _values(y), None if z is None else _values(z)


def _classes(y: Tensor, z: Tensor | None, outputs: int) -> Tensor:
    """The classes that occur; for a full kernel the numbers of its outputs."""
    found = (y if z is None else torch.cat([y, z])).unique()
    if outputs == 1:
        return found
    if int(found[0]) < 0 or int(found[-1]) >= outputs:
        raise BadInput(f"labels must be from 0 to {outputs - 1}, the outputs of the kernel, got {found.tolist()[:20]}")
    return torch.arange(outputs, device=y.device)


def _one_hot(labels: Tensor, classes: Tensor) -> _Targets:
    return _Targets((labels[:, None] == classes[None, :]).to(WORKING), True)


def _values(y: Tensor) -> _Targets:
    y = y.to(WORKING).reshape(len(y), -1)
    one_hot = y.shape[1] > 1 and bool(((y == 0) | (y == 1)).all()) and bool((y.sum(1) == 1).all())
    return _Targets(y, one_hot)


def _note(rank: int, size: int, ridge: float, cut: float) -> str:
    if rank == size or ridge > cut:
        return ""
    if ridge == 0:
        return f"the kernel has rank {rank} of {size}: the solution of least norm is given; pass ridge > 0 for another"
    return (
        f"ridge={ridge:.3g} is within the rounding of a kernel of rank {rank} of {size}: pass at least {cut:.1g}, or 0"
    )
