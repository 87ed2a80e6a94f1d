"""The Hilbert-Schmidt independence criterion, biased and unbiased, with every leave-one-out value at no extra cost.

Both estimators do not change when a constant is added to all entries of a row and column of the Gram matrix off the
diagonal, so everything starts from centred Gram matrices K, L (row sums zero), which also keeps digits where features
have a large mean. Five vectors then say it all, with p = diag K, q = diag L:
    dots_i = sum_j K_ij L_ij,    L p,    K q.
Biased (Gretton et al. 2005, eq. 9; Kornblith et al. 2019, eq. 3):   (n-1)^2 HSIC_0 = sum_i dots_i.
Unbiased (Song et al. 2012, eq. 5): with zeroed diagonals, row sums k = -p, l = -q,
    n (n-3) HSIC_1 = sum(K*L) + sum(K) sum(L)/((n-1)(n-2)) - 2/(n-2) k.l.
Leaving out sample i changes each of the sums by terms of these vectors. For linear kernels the vectors come from
features alone, (n d1 d2) instead of n^2 (d1 + d2): K_i . L_i = x_i' (X'Y) y_i.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.leave_out_spectra import LeaveOut
from geomfeat.geometry.dimension.own_dots import blocks_of_rows, own_dots
from geomfeat.numerics import WORKING, double_centred, matmul, row_sums
from geomfeat.precision import Spread, unit_of

ESTIMATORS = ("unbiased", "biased")
# Units of rounding that an entry of a kernel may be off by: a sum of products over many parameters or features.
GRAM_UNITS = 32


@dataclass(frozen=True, eq=False)
class Centred:
    """A centred kernel between n samples, as a Gram matrix or as features whose inner products it is.

    Attributes:
        gram: (n, n), row and column sums zero; or None when `features` (n, d), of mean zero, say the same.
        rounding: Frobenius norm that the centred kernel may have of nothing but rounding.
        product, dots: (d, d) of the features, X'X, and (n,) row sums of the kernel's squares, where they are known.
    """

    n: int
    rounding: float
    gram: Tensor | None = None
    features: Tensor | None = None
    product: Tensor | None = None
    dots: Tensor | None = None

    @classmethod
    def of_gram(cls, gram: Float[Tensor, "n n"], precision: torch.dtype = WORKING) -> "Centred":
        """From a symmetric Gram matrix that came in a precision."""
        gram = gram.to(WORKING)
        units = GRAM_UNITS * torch.finfo(precision).eps
        return cls(gram.shape[0], units * float(gram.norm()), gram=double_centred(gram))

    @classmethod
    def of_features(cls, x: Float[Tensor, "n d"], precision: torch.dtype, near_one: bool = False) -> "Centred":
        """From features that came in a precision, for the linear kernel; in their own unit, or one with entries near 1.

        Features that are constant up to rounding are left out.
        """
        spread = Spread.of(x, precision)
        if near_one or spread.unit == 1:
            return cls.of_spread(spread)
        rounding = cls.of_spread(spread).rounding
        return cls(x.shape[0], rounding * spread.unit**2, features=spread.x * spread.unit)

    @classmethod
    def of_layer(cls, one: LeaveOut) -> "Centred":
        """From what all numbers of a layer share, for the linear kernel with entries near 1."""
        centered = cls.of_spread(one.spread)
        few = one.spread.x.shape[1] < centered.n
        return replace(centered, product=one.product, dots=one.dots) if few else centered

    @classmethod
    def of_spread(cls, spread: Spread) -> "Centred":
        """From centred points in their own unit."""
        off = spread.of_directions
        rounding = off * (2 * float(torch.linalg.vector_norm(spread.x)) + off)
        return cls(spread.x.shape[0], rounding, features=spread.x)

    @cached_property
    def matrix(self) -> Tensor:
        """The centred Gram matrix (n, n)."""
        if self.gram is not None:
            return self.gram
        assert self.features is not None
        return matmul(self.features, self.features.T)

    def times(self, vectors: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """The centred kernel times the columns of a matrix."""
        if self.gram is not None:
            return matmul(vectors.T, self.gram).T  # symmetric; along its rows in half the time
        assert self.features is not None
        return matmul(self.features, matmul(self.features.T, vectors))

    @cached_property
    def diagonal(self) -> Tensor:
        """Its diagonal (n,)."""
        return self.features.square().sum(1) if self.features is not None else self.matrix.diagonal()


@dataclass(frozen=True, eq=False)
class Moments:
    """What both HSIC estimators and their leave-one-out values are made of (see the module's text).

    Vectors (n,) of one pair of kernels, or (n, pairs) of several at once.
    """

    n: int
    dots: Tensor
    p: Tensor
    q: Tensor
    lp: Tensor
    kq: Tensor

    @classmethod
    def between(cls, a: Centred, b: Centred) -> "Moments":
        """Moments of a pair, through features where that is cheaper than Gram matrices."""
        if a.n != b.n:
            raise BadInput(f"the two kernels are between {a.n} and {b.n} samples: compare them on the same samples")
        p, q = a.diagonal, b.diagonal
        x, y = a.features, b.features
        # With fewer features than samples, products of features replace the (n, n) Gram matrices.
        if x is not None and y is not None and max(x.shape[1], y.shape[1]) < a.n:
            if a is b:
                times = x @ (x.T @ p)
                return cls(a.n, own_dots(x, a.product) if a.dots is None else a.dots, p, q, times, times)
            return cls(a.n, dots_between(x, y), p, q, y @ (y.T @ p), x @ (x.T @ q))
        k, l = a.matrix, b.matrix
        lp = l @ p
        return cls(a.n, row_sums(k, l), p, q, lp, lp if a is b else k @ q)

    def hsic(self, estimator: str) -> float:
        """HSIC of all n samples, of one pair."""
        return float(self.hsic_of_pairs(estimator))

    def hsic_of_pairs(self, estimator: str) -> Float[Tensor, "*pairs"]:
        """HSIC of all n samples, for every pair."""
        return hsic_of_sums(
            self.n, self.dots.sum(0), self.p.sum(0) * self.q.sum(0), (self.p * self.q).sum(0), estimator
        )

    def leave_one_out(self, estimator: str) -> Float[Tensor, "n *pairs"]:
        """HSIC of the n - 1 other samples, for every sample left out."""
        p, q, dots = self.p, self.q, self.dots
        pq = p * q
        # Rows of centred kernels sum to 0: without sample i, row j sums to -K_ij, and all rows together to K_ii.
        if estimator == "biased":
            return _biased(self.n - 1, dots.sum(0) - 2 * dots + pq, pq, dots - pq)
        # With zeroed diagonals, row j sums to -(K_jj + K_ij) without sample i, and all rows to 2 K_ii - tr K.
        total = (dots - pq).sum(0) - 2 * (dots - pq)
        sums = (2 * p - p.sum(0)) * (2 * q - q.sum(0))
        return _unbiased(self.n - 1, total, sums, pq.sum(0) - 4 * pq + self.lp + self.kq + dots)


def dots_between(x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], single: bool = False) -> Float[Tensor, "n"]:
    """sum_j K_ij L_ij = x_i' (X'Y) y_i for K = XX', L = YY'.

    `single`: the terms of samples in single precision, which data in single precision deserve; their sum is as exact.
    """
    cross = matmul(x.T, y)
    dots = torch.empty_like(x[:, 0])
    units = [unit_of(part) if single else 1.0 for part in (x, cross, y)]
    kind = torch.float32 if single else x.dtype
    middle = _in_units(cross, units[1], kind)
    for rows in blocks_of_rows(len(x)):
        left, right = _in_units(x[rows], units[0], kind), _in_units(y[rows], units[2], kind)
        dots[rows] = row_sums(matmul(left, middle), right).to(x.dtype)
    if single:
        dots *= units[0] * units[1] * units[2]
        dots += (cross.square().sum() - dots.sum()) / len(dots)
    return dots


def _in_units(x: Tensor, unit: Tensor | float, kind: torch.dtype) -> Tensor:
    """x over a unit in a precision; x itself where that changes nothing."""
    return x if kind == x.dtype else (x / unit).to(kind)


def hsic_of_sums(n: int, products: Tensor, sums: Tensor, diagonals: Tensor, estimator: str) -> Tensor:
    """HSIC from sums over centred kernels: sum_ij K_ij L_ij, (sum_i K_ii)(sum_i L_ii) and sum_i K_ii L_ii."""
    if estimator == "biased":
        return _biased(n, products, torch.zeros_like(products), torch.zeros_like(products))
    return _unbiased(n, products - diagonals, sums, diagonals)


def _biased(n: int, product: Tensor, sums: Tensor, rows: Tensor) -> Tensor:
    """tr(KHLH)/(n-1)^2 from sum(K*L), sum(K) sum(L) and the inner product of the row sums."""
    return (product + sums / n**2 - 2 / n * rows) / (n - 1) ** 2


def _unbiased(n: int, product: Tensor, sums: Tensor, rows: Tensor) -> Tensor:
    """Song et al. 2012, eq. 5, from the same three sums of the kernels with zeroed diagonals."""
    return (product + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))


def check_estimator(estimator: str, n: int) -> None:
    """BadInput for an unknown estimator, or too few samples for it."""
    if estimator not in ESTIMATORS:
        raise BadInput(f"estimator must be 'unbiased' (Song et al.) or 'biased' (Kornblith et al.), got {estimator!r}")
    least = 4 if estimator == "unbiased" else 2
    if n < least:
        raise BadInput(f"the {estimator} estimator needs at least {least} samples, got {n}: pass more inputs")
