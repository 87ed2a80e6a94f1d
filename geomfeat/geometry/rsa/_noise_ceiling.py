"""How similar the RDM of the true model could be to the subjects' RDMs, given how much the subjects differ."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.display import BaseResult
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa._ranks import levels, mid_ranks, net_concordance
from geomfeat.geometry.rsa.compare import (
    FEWEST_STIMULI,
    HELD,
    RANKED,
    ROUNDING,
    aligned,
    all_ranks,
    missing_pairs,
    pair_counts,
    rank_products,
    similarities,
)
from geomfeat.geometry.rsa.rdms import RDMs, square
from geomfeat.numerics import WORKING, stream

# p value above which a ceiling counts as one of chance.
LEVEL = 0.05
TINY = torch.finfo(WORKING).tiny


@dataclass(frozen=True)
class NoiseCeiling(BaseResult):
    """Bounds on the mean similarity that the true model would have with the subjects.

    Attributes:
        lower: mean similarity of each subject with the best RDM of the OTHER subjects; NaN for one subject.
        upper: mean similarity of each subject with the best RDM of all, that subject included: nothing does better.
        comparator: what they are similarities by.
        chance: the lower ceiling of subjects who share no geometry, the mean over permutations; NaN for one subject.
        p_chance: one-sided p value that the lower ceiling is no higher than by chance.
        notes: what limits them, in sentences.
    """

    lower: float
    upper: float
    comparator: str
    chance: float = math.nan
    p_chance: float = math.nan
    notes: tuple[str, ...] = ()


def noise_ceiling(data: RDMs, comparator: str = "cosine", *, n_permutations: int = 100, seed: int = 0) -> NoiseCeiling:
    """Lower and upper noise ceiling of several subjects' RDMs (Nili et al. 2014).

    The best RDM is the one of highest mean similarity: the mean of RDMs scaled to unit length (cosine, whitened_cosine;
    of whitened length for the latter), of z-scores (correlation), of ranks (rho_a), of z-scored ranks (spearman). For
    kendall_tau_a no such RDM is known in closed form and mean ranks stand in: the upper bound is then not a strict one.

    Chance is where the lower ceiling lies with the conditions of each subject in an order of its own, n_permutations
    times: an exact test of whether the subjects share any geometry that a model could explain. 0 leaves it out.

    Raises BadInput as `compare_rdms`, and for subjects without any similarity, by name: RDMs of zeros, or constant ones
    (correlation, spearman).

    >>> data = RDMs(torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [1.0, 2.0, 4.0]]))
    >>> found = noise_ceiling(data, "rho_a")
    >>> round(found.lower, 3), round(found.upper, 3)
    (0.667, 0.833)
    """
    vectors, _, n = aligned(data, data, comparator)
    everything = vectors.new_ones(1, n)
    own = similarities(vectors, vectors, comparator, everything)[0].diagonal()
    if bool(own.isnan().any()):
        constant = [name for name, value in zip(data.names, own.tolist(), strict=True) if value != value]
        raise BadInput(
            f"{comparator} is undefined for {len(constant)} of {len(data.names)} subjects ({', '.join(constant[:5])}): "
            "their RDMs are constant over the pairs that are measured in all: leave them out, or use 'rho_a'"
        )
    lower, upper = ceilings_per_subject(vectors, comparator, everything)
    notes = ["one subject: the lower ceiling is undefined, and the upper one is 1"] if len(vectors) == 1 else []
    notes += missing_pairs(data)
    if comparator == "kendall_tau_a" and len(vectors) > 1:
        notes.append("the upper ceiling of kendall_tau_a is that of mean ranks: another RDM might exceed it a little")
    value = float(lower.mean())
    chance, p_chance = _against_chance(data, value, comparator, n_permutations, seed)
    if p_chance > LEVEL:
        notes.append(
            f"the lower noise ceiling ({value:.3f}) is no higher than by chance ({chance:.3f}, p = {p_chance:.2f}): "
            "these subjects may share no geometry that a model could explain"
        )
    return NoiseCeiling(value, float(upper.mean()), comparator, chance, p_chance, tuple(notes))


def _against_chance(data: RDMs, found: float, comparator: str, n_permutations: int, seed: int) -> tuple[float, float]:
    """(mean lower ceiling under permutations of each subject's conditions, p value of the ceiling found)."""
    k, n = data.n_rdms, data.n_conditions
    vectors = data.vectors / data.vectors.nan_to_num().abs().amax(1, keepdim=True).clamp_min(TINY)
    if k < 2 or n_permutations < 1:
        return math.nan, math.nan
    order = torch.rand(n_permutations, k, n, generator=stream(seed, "noise ceiling", "permutations")).argsort(2)
    rows, columns = torch.triu_indices(n, n, 1)
    pair = square(torch.arange(vectors.shape[1]), n)
    if n >= FEWEST_STIMULI and not bool(vectors.isnan().any()):
        permuted = _of_whole_rdms(vectors, comparator, order)
    else:
        permuted = _of_rdms_with_gaps(vectors, comparator, n, pair[order[:, :, rows], order[:, :, columns]])
    known = [value for value in permuted if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    # The ceiling found is one of the orders; sums in another order differ by rounding.
    reached = sum(value >= found - ROUNDING for value in known)
    return sum(known) / len(known), (1 + reached) / (1 + len(known))


def _of_rdms_with_gaps(vectors: Tensor, comparator: str, n: int, moves: Tensor) -> list[float]:
    """Mean lower ceilings of n conditions with the pairs of each subject moved (permutations, k, p)."""
    permuted = []
    for places in moves:
        moved = vectors.gather(1, places.to(vectors.device))
        missing = moved.isnan().any(0)  # gaps move with their conditions, and may leave no pair
        if not bool(missing.all()):
            moved = moved.masked_fill(missing, torch.nan)
            permuted.append(float(ceilings_per_subject(moved, comparator, moved.new_ones(1, n))[0].mean()))
    return permuted


def _of_whole_rdms(vectors: Tensor, comparator: str, order: Tensor) -> list[float]:
    """Mean lower ceilings with each subject's conditions in an order (permutations, k, n) of its own, many at once.

    What a subject's RDM is compared by, ranks or a unit vector, moves with the conditions and is found once.
    """
    n = order.shape[2]
    ranked, whitened, whole = comparator in RANKED, comparator == "whitened_cosine", square(vectors, n)
    if whitened:  # with all pairs present by double centring, after which the diagonal counts too
        whole = whole - whole.mean(1, keepdim=True) - whole.mean(2, keepdim=True) + whole.mean((1, 2), keepdim=True)
    rows, columns = torch.ones(n, n).triu(0 if whitened else 1).nonzero().T
    entries = whole[:, rows, columns]
    if whitened:  # each pair is there once, not twice
        entries = torch.where((rows == columns).to(entries.device), entries / 2**0.5, entries)
    known = levels(entries) if comparator == "kendall_tau_a" else None
    if ranked:
        entries = all_ranks(entries, entries.new_ones(1, len(rows)))[0]
    elif comparator == "correlation":
        entries = entries - entries.mean(1, keepdim=True)
    place = torch.zeros(n, n, dtype=torch.int64)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows))
    out = []
    for some in order.split(max(1, HELD // (3 * (len(vectors) + 1) * len(rows)))):
        moves = place[some[:, :, rows], some[:, :, columns]]
        moved = entries.expand(len(some), -1, -1).gather(2, moves.to(entries.device))
        if ranked:
            of_each = None if known is None else known.expand(len(some), -1, -1).gather(2, moves)
            lower, _ = _of_ranks(moved, comparator, moved.new_ones(len(some), len(rows)), of_each)
        else:
            unit = moved / torch.linalg.vector_norm(moved, dim=2, keepdim=True)
            lower, _ = _by_products(unit @ unit.mT)
        out += lower.mean(1).tolist()
    return out


def ceilings_per_subject(
    data: Float[Tensor, "k p"], comparator: str, counts: Float[Tensor, "s n"]
) -> tuple[Float[Tensor, "s k"], Float[Tensor, "s k"]]:
    """Similarity of each subject with the best RDM of the others and of all, in resamples of the stimuli as for
    `similarities`; data from `aligned`."""
    if len(data) < 1:
        raise BadInput("data hold no RDM: give those of the subjects")
    if comparator not in RANKED:
        return _by_products(similarities(data, data, comparator, counts))
    kept = ~data[0].isnan()
    step = max(1, HELD // (3 * (len(data) + 1) * data.shape[1]))
    parts = [_by_ranks(data[:, kept], comparator, pair_counts(part)[:, kept]) for part in counts.split(step)]
    lower, upper = (torch.cat(bounds) for bounds in zip(*parts, strict=True))
    few = ((counts > 0).sum(1) < FEWEST_STIMULI)[:, None]
    return lower.masked_fill(few, torch.nan), upper.masked_fill(few, torch.nan)


def _by_products(gram: Tensor) -> tuple[Tensor, Tensor]:
    """From the products G of the subjects' unit vectors u: u_k' sum(u) / |sum(u)|, and without u_k in the sum."""
    along, own = gram.sum(2), gram.diagonal(dim1=1, dim2=2)
    length = along.sum(1, keepdim=True)
    rest = length - 2 * along + own
    # A difference of float64 sums of unit vectors.
    rest = torch.where(rest > ROUNDING * length, rest, torch.nan)
    return (along - own) / rest.sqrt(), along / torch.where(length > 0, length, torch.nan).sqrt()


def _by_ranks(data: Tensor, comparator: str, weights: Tensor) -> tuple[Tensor, Tensor]:
    known = levels(data)[None] if comparator == "kendall_tau_a" else None
    return _of_ranks(all_ranks(data, weights), comparator, weights, known)


def _of_ranks(ranks: Tensor, comparator: str, weights: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """From ranks (s, k, p): the best RDM is one of ranks only, whose mean ranks are ranked again in every sample.

    known: `levels` (s, k, p) of each subject in each sample, or (1, k, p) in all, for kendall_tau_a.
    """
    scores = ranks - (weights.sum(1)[:, None, None] + 1) / 2
    if comparator == "spearman":
        square = (weights[:, None] * scores.square()).sum(2, keepdim=True)
        # A subject whose pairs are all tied in a sample has no z-scores, and the sample no best RDM.
        scores = scores / torch.where(square > 0, square, torch.nan).sqrt()
    total = scores.sum(1)
    everyone = range(ranks.shape[1])
    if known is not None:
        pairs = weights.sum(1) * (weights.sum(1) - 1) / 2
        lower = [
            net_concordance(known[:, k].contiguous(), levels(total - scores[:, k]), weights) / pairs for k in everyone
        ]
        best = levels(total)
        upper = [net_concordance(known[:, k].contiguous(), best, weights) / pairs for k in everyone]
    else:
        rest = [mid_ranks(total - scores[:, k], weights)[:, None] for k in everyone]
        lower = [rank_products(rest[k], ranks[:, k : k + 1], comparator, weights)[:, 0, 0] for k in everyone]
        upper = list(rank_products(mid_ranks(total, weights)[:, None], ranks, comparator, weights)[:, 0].T)
    if ranks.shape[1] == 1:
        lower = [torch.full_like(lower[0], torch.nan)]
    return torch.stack(lower, 1), torch.stack(upper, 1)
