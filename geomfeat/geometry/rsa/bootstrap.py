"""Errors of mean similarities from resampling stimuli, subjects, or both."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.numerics import WORKING, stream

OVER = ("both", "stimuli", "subjects")


@dataclass(frozen=True, eq=False)
class BootstrapSpread:
    """Variances of M mean similarities and of their differences.

    Attributes:
        samples: (n_bootstrap, M) the means in each sample.
        variance: (M,). difference: (M, M) variance of mean i minus mean j.
        dof: degrees of freedom for t. n_failed: samples left out because a similarity was undefined in them.
    """

    samples: Tensor
    variance: Tensor
    difference: Tensor
    dof: int
    n_failed: int


def resample(n: int, n_bootstrap: int, seed: int, what: str) -> Float[Tensor, "s n"]:
    """How often each of n things is drawn in each of n_bootstrap bootstrap samples of n."""
    drawn = torch.randint(n, (n_bootstrap, n), generator=stream(seed, "rsa bootstrap", what))
    return torch.zeros(n_bootstrap, n, dtype=WORKING).scatter_add_(1, drawn, torch.ones(n_bootstrap, n, dtype=WORKING))


def spread(
    full: Float[Tensor, "M k"], resampled: Float[Tensor, "s M k"], subjects: Float[Tensor, "s k"], n: int, over: str
) -> BootstrapSpread:
    """Variances of the means over subjects.

    Args:
        full: similarities of M models with k subjects, all n stimuli. resampled: the same in samples of the stimuli.
        subjects: how often each sample holds each subject. over: "both", "stimuli" or "subjects".

    Resampling multiplies a variance by (n - 1) / n, which is undone. Resampling both counts the interaction of stimuli
    and subjects too often: with independent effects of stimuli (A), subjects (B) and both (E), a mean similarity
    has the variance A/n + B/k + E/(nk), and with a = k/(k-1), b = n/(n-1) the expected variances of the three
    bootstraps are V_k = (B/k + E/(nk)) / a,  V_n = (A/n + E/(nk)) / b,  V_nk = V_k + V_n + E/(nk) / (ab), so that
        a V_k + b V_n - ab (V_nk - V_k - V_n)
    is right; kept between the larger of a V_k, b V_n and V_nk (Schuett et al. 2023).
    """
    k = full.shape[1]
    of_stimuli = resampled.mean(2)
    of_subjects = subjects @ full.T / k
    of_both = torch.einsum("smk,sk->sm", resampled, subjects) / k
    series = {"stimuli": of_stimuli, "subjects": of_subjects, "both": of_both}[over]
    fine = series.isfinite().all(1) & of_stimuli.isfinite().all(1)
    a, b = k / max(k - 1, 1), n / (n - 1)
    if over == "stimuli":
        covariances, dof = [b * _covariance(of_stimuli[fine])], n - 1
    elif over == "subjects":
        covariances, dof = [a * _covariance(of_subjects[fine])], k - 1
    else:
        covariances, dof = [_covariance(x[fine]) for x in (of_subjects, of_stimuli, of_both)], min(n, k) - 1
    variances = [c.diagonal() for c in covariances]
    differences = [v[:, None] + v[None] - 2 * c for v, c in zip(variances, covariances, strict=True)]
    if over == "both":
        variances, differences = [_both(variances, a, b)], [_both(differences, a, b)]
    return BootstrapSpread(
        series[fine], variances[0].clamp_min(0), differences[0].clamp_min(0), dof, int((~fine).sum())
    )


def _both(variances: list[Tensor], a: float, b: float) -> Tensor:
    of_subjects, of_stimuli, of_both = variances
    value = a * of_subjects + b * of_stimuli - a * b * (of_both - of_subjects - of_stimuli)
    return value.maximum(a * of_subjects).maximum(b * of_stimuli).minimum(of_both)


def _covariance(series: Tensor) -> Tensor:
    left = series - series.mean(0)
    return left.T @ left / max(len(series) - 1, 1)
