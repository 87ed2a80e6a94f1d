"""Cluster-based permutation test over time (Maris & Oostenveld 2007): in which bins do numbers differ from 0?

Each run, session or subject gives one number in each bin: a difference of two conditions or areas, or a number less
its chance. Where nothing differs, the sign of a run's whole course is as good as its opposite (the labels of the pair
may be exchanged within the run). Bins whose statistic passes a threshold are joined with their neighbours of the same
sign to clusters; the mass of a cluster is the sum of its statistics. Its p is the share of sign flips under which the
largest cluster of all bins has at least this mass. Whether there is any difference is so decided once, for all bins:
the probability of any false cluster is at most the error rate. The test says that there is a difference, and its
cluster where it is seen; the first bin of a cluster is not itself tested, so it dates an onset to about a bin or two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from geomfeat.charts import Curve, Plot
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput
from geomfeat.numerics import as_tensor, numpy_stream

# Sign flips that are counted together; more would not fit the cache.
BLOCK = 2048
# Masses that differ by rounding alone are equal.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Cluster:
    """Neighbouring bins of one sign: from `start` to `stop` (the centres of its first and last bin), mass and p."""

    start: float
    stop: float
    first: int
    last: int
    mass: float
    p: float


@dataclass(frozen=True, eq=False)
class ClusterTest(PlottableResult):
    """Where numbers over time differ from 0.

    Attributes:
        time: (T,) of the bins. value, stderr: (T,) what was tested. statistic: (T,) of each bin. threshold: what the
            statistic must pass for a bin to belong to a cluster.
        clusters: by time; a p at most `error_rate` is significant, corrected for all bins.
        n_permutations: sign flips used, the data as they are included; exact: whether these are all there are.
        n_groups: runs, sessions or subjects. smallest_p: that any data with so many groups can reach.

    `to_frame()`: a row for each cluster. The picture is of the numbers with their errors, with a bar below the bins of
    each significant cluster.
    """

    time: np.ndarray
    value: np.ndarray
    stderr: np.ndarray
    statistic: np.ndarray
    threshold: float
    clusters: tuple[Cluster, ...]
    error_rate: float
    n_permutations: int
    exact: bool
    n_groups: int
    smallest_p: float
    title: str = ""
    label: str = "value"
    notes: tuple[str, ...] = ()

    @property
    def significant(self) -> np.ndarray:
        """(T,) which bins are in a significant cluster."""
        out = np.zeros(len(self.time), dtype=bool)
        for one in self.found:
            out[one.first : one.last + 1] = True
        return out

    @property
    def found(self) -> tuple[Cluster, ...]:
        """The significant clusters."""
        return tuple(one for one in self.clusters if one.p <= self.error_rate)

    def _columns(self) -> dict[str, Any]:
        names = ("start", "stop", "first", "last", "mass", "p")
        return {name: [getattr(one, name) for one in self.clusters] for name in names}

    def _chart(self) -> Plot:
        bars = [(one.start, one.stop) for one in self.found]
        error = None if np.isnan(self.stderr).all() else np.nan_to_num(self.stderr).tolist()
        curve = Curve("", self.time.tolist(), self.value.tolist(), error, "band", bars)
        return Plot(self.title, "time (s)", self.label, [curve])

    def __str__(self) -> str:
        how = "all" if self.exact else "random"
        head = f"Cluster-based permutation test of {len(self.time)} bins over {self.n_groups} groups, "
        head += f"{self.n_permutations} sign flips ({how}): {len(self.found)} significant of {len(self.clusters)}"
        lines = [f"  {c.start:g} to {c.stop:g} s: mass {c.mass:.3g}, p = {c.p:.3g}" for c in self.clusters]
        return "\n".join([head + " clusters", *lines, *(f"  note: {note}" for note in self.notes)])


def cluster_test(
    x: Any,
    time: Any = None,
    *,
    forming_p: float = 0.05,
    error_rate: float = 0.05,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> ClusterTest:
    """In which bins the mean over groups differs from 0: two-sided t statistics, clusters by their mass.

    Args:
        x: (groups, bins) a number of each run, session or subject in each bin, such as the difference of two areas.
        time: (bins,) seconds; default 0, 1, 2, ...
        forming_p: of a single bin (two-sided), from which it belongs to a cluster. It changes what clusters are found
            (a lower one: short and strong, a higher one: long and weak), not the error rate.
        error_rate: probability of any significant cluster where nothing differs.
        n_permutations: random sign flips; where all 2^(g-1) are no more than these, they are enumerated.

    Raises BadInput for other shapes, infinite or missing values, rates outside (0, 1), and for so few groups that the
    smallest p that can be reached, 2^-(g-1), is above the error rate.

    >>> x = np.random.default_rng(0).standard_normal((10, 30))
    >>> x[:, 12:] += 2  # from bin 12 on
    >>> [(c.first, c.last) for c in cluster_test(x).found]
    [(12, 29)]
    """
    values = as_tensor(x, "x").double().numpy()
    if values.ndim != 2 or not np.isfinite(values).all():
        raise BadInput(f"x must be (groups, bins) finite numbers, got {values.shape} with {_missing(values)} missing")
    signs, exact, smallest = sign_flips(len(values), n_permutations, error_rate, seed)
    _share("forming_p", forming_p)
    threshold = float(stdtrit(len(values) - 1, 1 - forming_p / 2))
    observed = t_statistics(values, signs[:1])[0]
    largest = np.concatenate(
        [
            np.maximum(*(largest_masses(side * t_statistics(values, part), threshold) for side in (1, -1)))
            for part in np.split(signs, range(BLOCK, len(signs), BLOCK))
        ]
    )
    both = [clusters_of(side * observed, threshold, largest, times_of(time, values.shape[1])) for side in (1, -1)]
    return ClusterTest(
        times_of(time, values.shape[1]), values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values)), observed,
        threshold, tuple(sorted([*both[0], *both[1]], key=lambda c: c.first)), error_rate, len(signs), exact,
        len(values), smallest,
    )  # fmt: skip


def exchange_test(
    grams: np.ndarray,
    time: Any = None,
    *,
    forming_p: float = 0.05,
    error_rate: float = 0.05,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> ClusterTest:
    """In which bins a cross-validated squared length is above 0: labels are exchanged within groups, one-sided.

    grams: (bins, groups, groups) inner products of the groups' (weighted) difference vectors, see
    `geometry.trajectories.CrossValidated`. Exchanging the two conditions of a group turns its vector around, so that
    the squared length is again a sum of products of different groups. The statistic is that sum in standard deviations
    over the exchanges, the threshold of a bin their quantile 1 - forming_p. Raises BadInput as `cluster_test`.
    """
    bins, count = grams.shape[:2]
    signs, exact, smallest = sign_flips(count, n_permutations, error_rate, seed)
    _share("forming_p", forming_p)
    between = grams * (1 - np.eye(count))
    sums = np.einsum("ng,tgh,nh->nt", signs, between, signs, optimize=True)
    spread = np.sqrt((sums**2).mean(0))
    scores = np.divide(sums, spread, out=np.zeros_like(sums), where=spread > 0)
    threshold = np.quantile(scores, 1 - forming_p, axis=0)
    # A bin passes with a statistic above its own threshold; what counts is by how many standard deviations it is off 0.
    largest = largest_masses(scores, threshold)
    found = clusters_of(scores[0], threshold, largest, times_of(time, bins))
    nothing = np.full(bins, np.nan)
    return ClusterTest(
        times_of(time, bins), nothing, nothing, scores[0], float(np.median(threshold)), tuple(found), error_rate,
        len(signs), exact, count, smallest,
    )  # fmt: skip


def sign_flips(groups: int, n_permutations: int, error_rate: float, seed: int) -> tuple[np.ndarray, bool, float]:
    """(n, groups) of +1 and -1, the first all +1; whether these are all that differ; and the smallest p.

    A course and its opposite give the same largest mass, so the first group keeps its sign.

    >>> sign_flips(6, 100, 0.05, 0)[0].shape, sign_flips(6, 100, 0.05, 0)[2]
    ((32, 6), 0.03125)
    """
    _share("error_rate", error_rate)
    smallest = 2.0 ** -(groups - 1)
    if smallest > error_rate:
        needed = math.ceil(1 - math.log2(error_rate))
        raise BadInput(
            f"{groups} groups: the smallest p that can be reached is 2^-{groups - 1} = {smallest:.3g}, above "
            f"{error_rate:g}; give at least {needed} runs, sessions or subjects"
        )
    if n_permutations < math.ceil(1 / error_rate):
        raise BadInput(f"n_permutations={n_permutations}: for p of {error_rate:g} draw {math.ceil(1 / error_rate)}")
    if groups - 1 < 30 and 2 ** (groups - 1) <= n_permutations:
        bits = np.arange(2 ** (groups - 1))[:, None] >> np.arange(groups - 1)
        flips = np.concatenate([np.ones((len(bits), 1)), 1 - 2.0 * (bits & 1)], axis=1)
        return flips, True, smallest
    flips = numpy_stream(seed, "sign flips").integers(0, 2, (n_permutations, groups)) * 2.0 - 1
    flips[0] = 1
    return flips, False, max(smallest, 1 / n_permutations)


def t_statistics(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """(n, bins) t statistic of the mean over groups of signs (n, g) times x (g, bins); 0 where all are 0."""
    count = len(x)
    mean, square = signs @ x / count, (x**2).mean(0)
    variance = np.maximum(square - mean**2, 0) / (count - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(mean / np.sqrt(variance), nan=0.0, posinf=np.inf, neginf=-np.inf)


def largest_masses(statistic: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """(n,) the largest mass of neighbouring bins above the threshold, for each row of (n, bins); 0 without any.

    >>> largest_masses(np.array([[3.0, 3.0, 0.0, 4.0], [0.0, 1.0, 0.0, 0.0]]), 2.0).tolist()
    [6.0, 0.0]
    """
    above = np.where(statistic > threshold, statistic, 0.0)
    running = largest = np.zeros(len(statistic))
    for column in above.T:
        running = np.where(column > 0, running + column, 0.0)
        largest = np.maximum(largest, running)
    return largest


def clusters_of(
    statistic: np.ndarray, threshold: float | np.ndarray, largest: np.ndarray, time: np.ndarray
) -> list[Cluster]:
    """Clusters of (bins,) above the threshold; p: the share of `largest` (of all sign flips) that is as large."""
    above = np.concatenate([[False], statistic > threshold, [False]])
    edges = np.flatnonzero(np.diff(above.astype(int)))
    found = []
    for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        mass = float(np.cumsum(statistic[first:stop])[-1])
        share = float((largest >= mass * (1 - ROUNDING)).mean())
        found.append(Cluster(float(time[first]), float(time[stop - 1]), first, stop - 1, mass, share))
    return found


def times_of(time: Any, bins: int) -> np.ndarray:
    """(bins,) time stamps as given, or 0, 1, 2, ...; BadInput for another number of them."""
    found = np.arange(bins, dtype=float) if time is None else as_tensor(time, "time").double().numpy()
    if found.shape != (bins,):
        raise BadInput(f"time must have an entry for each of {bins} bins, got {found.shape}")
    return found


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise BadInput(f"{name}={value}: give a probability between 0 and 1, such as 0.05")


def _missing(values: np.ndarray) -> int:
    return int((~np.isfinite(values)).sum())
