"""Participation ratio of the signal, from repeated noisy recordings of the same stimuli.

Trial a of stimulus i is x_i^a = s_i + noise, of any covariance but independent between trials and between stimuli.
Noise adds its own covariance to that of trial averages. It drops out of products of different trials: for stimuli
1, 2, 3, 4, all distinct, and trials a != b, c != e

    tr C     = E <x_1^a - x_2^a, x_1^b - x_2^b> / 2
    tr C^2   = E <x_1^a - x_2^a, x_3^c - x_4^c> <x_1^b - x_2^b, x_3^e - x_4^e> / 4

where C is the covariance of the signal. Averages over all such stimuli and trials are without bias in (tr C)^2 and in
tr C^2, for any number of stimuli from 4 and of trials from 2 on. The sums over trials come from those over all a, b and
over a = b; the sums over distinct stimuli from row sums, column sums and squares of the matrices of products.
"""

from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.eigenspectrum import NoVariance
from geomfeat.labels import as_groups
from geomfeat.numerics import as_tensor, require_finite
from geomfeat.precision import Spread, precision_of


def participation_ratio_of_trials(x: Any) -> float:
    """(tr C)^2 / tr C^2 of the covariance C of the signal, without the noise that differs from trial to trial.

    x[a, i] is trial a of stimulus i; noise must be independent between trials and between stimuli. No Gaussian
    assumption, no bias from few stimuli or trials in either moment; the ratio of few is noisy, and can be negative or
    infinite where there is hardly any signal.

    Raises BadInput for other shapes, NaN, fewer than 2 trials or 4 stimuli, NoVariance if all entries are equal.

    >>> import torch
    >>> noise = torch.Generator().manual_seed(0)
    >>> signal = torch.randn(100, 5, generator=noise, dtype=torch.float64) @ torch.eye(5, 40, dtype=torch.float64)
    >>> trials = signal + torch.randn(8, 100, 40, generator=noise, dtype=torch.float64)
    >>> 4 < participation_ratio_of_trials(trials) < 6
    True
    """
    precision, x = precision_of(x), as_tensor(x, "x")
    if x.ndim != 3 or 0 in x.shape:
        raise BadInput(f"x must be (trials, stimuli, units), got shape {tuple(x.shape)}")
    require_finite(x, "x")
    n_trials, n = x.shape[:2]
    if n_trials < 2 or n < 4:
        raise BadInput(
            f"{n_trials} trials of {n} stimuli: separating signal from noise needs at least 2 trials of 4 stimuli"
        )
    spread = Spread.of(x.flatten(0, 1), precision)
    if not spread.varies:
        raise NoVariance("all trials of all stimuli are equal: no signal; check the recording")
    work = spread.x.view(x.shape)
    total = work.sum(0)
    pairs = n_trials * (n_trials - 1)
    # |s_i - s_j|^2 from different trials.
    distance = (_squared(total) - sum(_squared(trial) for trial in work)) / pairs
    square_of_trace = _mean_over_disjoint_pairs(distance) / 4
    every = _mean_square(total @ total.T)
    one = sum(_mean_square(trial @ total.T) for trial in work)
    both = sum(_mean_square(a @ b.T) for a in work for b in work)
    return float(square_of_trace / ((every - 2 * one + both) / pairs**2))


def participation_ratio_of_unequal_trials(x: Any, stimulus: Any) -> float:
    """The same number where stimuli have different numbers of trials, at least 2 each; every stimulus weighs the same.

    Args:
        x: (n, d) trials. stimulus: (n,) which one each trial is of, numbers or names. Noise must be independent between
            all trials.

    With m_i the mean of the n_i trials of stimulus i, products of different trials stand in for squares of the signal:

        s_i.s_i     <- sum_{a != b} x_i^a.x_i^b / (n_i (n_i - 1))
        (s_1.s_3)^2 <- sum_{a != b, c != e} x_1^a.x_3^c x_1^b.x_3^e / (n_1 (n_1 - 1) n_3 (n_3 - 1))
        s_1.s_3 s_1.s_4 <- sum_{a != b} x_1^a.m_3 x_1^b.m_4 / (n_1 (n_1 - 1))

    in the moments of the head of this file.

    Raises BadInput for other shapes, NaN, a stimulus of one trial, fewer than 4 stimuli, NoVariance as above.

    >>> x = [[1.0, 0], [1, 0], [-1, 0], [-1, 0], [0, 1], [0, 1], [0, 1], [0, -1], [0, -1]]
    >>> round(participation_ratio_of_unequal_trials(x, list("aabbcccdd")), 6)
    3.0
    """
    precision, x = precision_of(x), as_tensor(x, "x")
    if x.ndim != 2 or 0 in x.shape:
        raise BadInput(f"x must be (trials, units), got shape {tuple(x.shape)}")
    require_finite(x, "x")
    which = torch.unique(as_groups(stimulus, "stimulus", len(x)).to(x.device), return_inverse=True)[1]
    fewest, n = int(torch.bincount(which).min()), int(which.max()) + 1
    if fewest < 2 or n < 4:
        raise BadInput(
            f"stimulus: {n} stimuli, of {fewest} trials or more: separating signal from noise needs at least 2 trials "
            "of 4 stimuli"
        )
    spread = Spread.of(x, precision)
    if not spread.varies:
        raise NoVariance("all trials of all stimuli are equal: no signal; check the recording")
    return _of_unequal_trials(spread.x, which)


def _of_unequal_trials(x: Tensor, stimulus: Tensor) -> float:
    """x: (n, d), centred. stimulus: 0, 1, ... of each."""
    counts = torch.bincount(stimulus)
    n, size = len(counts), counts.to(x.dtype)
    pairs = size * (size - 1)
    shares = torch.zeros(n, len(x), dtype=x.dtype, device=x.device)
    shares[stimulus, torch.arange(len(x), device=x.device)] = 1.0
    total = shares @ x
    means = total / size[:, None]
    own = (total.square().sum(1) - shares @ x.square().sum(1)) / pairs
    of_means = means @ means.T
    distance = (own[:, None] + own - 2 * of_means).fill_diagonal_(0.0)
    square_of_trace = _mean_over_disjoint_pairs(distance) / 4
    gram = x @ x.T
    of_rows = gram @ shares.T  # (trials, stimuli): sums over the trials of the second
    one, two = shares @ of_rows.square(), shares @ gram.square() @ shares.T
    squares = (of_means * size[:, None] * size).square() - one - one.T + two
    squares = (squares / (pairs[:, None] * pairs)).fill_diagonal_(0.0)
    of_means = of_means.fill_diagonal_(0.0)
    along = (of_rows / size).masked_fill(shares.T > 0, 0.0)
    rows = of_means.sum(1)
    # Of each first stimulus, the sum over two others, less those that are one and the same.
    shared = size.square() * (rows.square() - of_means.square().sum(1))
    shared = shared - shares @ (along.sum(1).square() - along.square().sum(1))
    triples = (shared / pairs).sum() / (n * (n - 1) * (n - 2))
    square = squares.sum() / (n * (n - 1)) - 2 * triples + _mean_over_disjoint_pairs(of_means)
    return float(square_of_trace / square)


def _squared(x: Tensor) -> Tensor:
    """Squared distances (n, n) between rows."""
    gram = x @ x.T
    norms = gram.diagonal()
    return (norms[:, None] + norms - 2 * gram).fill_diagonal_(0.0)


def _mean_over_disjoint_pairs(distance: Tensor) -> Tensor:
    """Mean of D_12 D_34 over distinct 1, 2, 3, 4, of a symmetric D with zero diagonal."""
    n, rows = len(distance), distance.sum(1)
    # All pairs of pairs, minus those with a sample in common (in one of four ways), plus those with two: taken twice.
    total = rows.sum().square() - 4 * rows.square().sum() + 2 * distance.square().sum()
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def _mean_square(k: Tensor) -> Tensor:
    """Mean of (k_13 - k_14 - k_23 + k_24)^2 / 4 over distinct 1, 2, 3, 4; k need not be symmetric."""
    n = len(k)
    k = k.clone().fill_diagonal_(0.0)
    rows, columns, total = k.sum(1), k.sum(0), k.sum()
    squares, mirrored = k.square().sum(), (k * k.T).sum()
    by_row, by_column = rows.square().sum(), columns.square().sum()
    apart = total.square() - by_row - by_column - 2 * rows @ columns + squares + mirrored
    same_row_or_column = (by_row - squares + by_column - squares) / (n * (n - 1) * (n - 2))
    return squares / (n * (n - 1)) - same_row_or_column + apart / (n * (n - 1) * (n - 2) * (n - 3))
