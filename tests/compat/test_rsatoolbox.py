"""Exchange with rsatoolbox both ways, and its numbers beside geomfeat's: RDMs, comparisons, ceilings, resamples."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from geomfeat.compat import from_rsatoolbox, to_rsatoolbox
from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, compare_rdms, noise_ceiling, noise_precision, rdm, stack_rdms
from geomfeat.geometry.rsa.compare import similarities
from geomfeat.numerics import stream
from geomfeat.types import Representation

PEER_COMPARATORS = {
    "cosine": "cosine", "correlation": "corr", "spearman": "spearman", "rho_a": "rho-a", "kendall_tau_a": "tau-a",
    "whitened_cosine": "cosine_cov",
}  # fmt: skip


@pytest.fixture(scope="module")
def peer() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("rsatoolbox", reason="needs rsatoolbox")
    return package


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "peer", *shape), dtype=torch.float64)


def several(k: int, seed: int = 0) -> RDMs:
    truth = draw(9, 6)
    parts = [rdm(truth + e, list("cabfdeigh")) for e in draw(k, 9, 6, seed=seed)]
    return stack_rdms(parts, [f"s{i}" for i in range(k)])


def test_rdms_go_there_and_come_back(peer: Any) -> None:
    ours = several(3)
    theirs = to_rsatoolbox(ours)
    assert theirs.dissimilarity_measure == "squared euclidean"
    np.testing.assert_array_equal(theirs.get_matrices(), ours.matrices)
    back = from_rsatoolbox(theirs)
    assert torch.equal(back.vectors, ours.vectors)
    assert (back.names, back.conditions, back.dissimilarity) == (ours.names, ours.conditions, ours.dissimilarity)
    bare = from_rsatoolbox(peer.rdm.RDMs(ours.vectors.numpy()))
    assert (bare.names, bare.conditions[:2], bare.dissimilarity) == (("0", "1", "2"), (0, 1), "")


def test_data_go_there_and_come_back(peer: Any) -> None:
    names = ["cat", "dog", "cat", "ape"]
    theirs = to_rsatoolbox(Representation(draw(4, 3), layer="fc1"), conditions=names, runs=[0, 0, 1, 1])
    back = from_rsatoolbox(theirs)
    assert torch.equal(back.x, draw(4, 3))
    assert back.labels.tolist() == [1, 2, 1, 0]
    assert back.meta["conditions"] == ["ape", "cat", "dog"]
    assert back.meta["observations"]["run"] == [0, 0, 1, 1]
    assert back.layer == "fc1"
    labelled = to_rsatoolbox(Representation(draw(4, 3), labels=torch.tensor([2, 0, 1, 2])))
    assert labelled.obs_descriptors["condition"] == [2, 0, 1, 2]
    assert from_rsatoolbox(peer.data.Dataset(draw(4, 3).numpy())).labels is None


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # the peer's own, with whole-numbered runs
def test_dissimilarities_agree(peer: Any) -> None:
    conditions, runs = list("cabd" * 3), [0] * 4 + [1] * 4 + [2] * 4
    x = Representation(draw(12, 5))
    data = to_rsatoolbox(x, conditions=conditions, runs=runs)
    precision = noise_precision(draw(30, 5, seed=1))
    for ours, theirs in (
        ("squared_euclidean", "euclidean"), ("correlation", "correlation"), ("squared_mahalanobis", "mahalanobis"),
        ("crossnobis", "crossnobis"),
    ):  # fmt: skip
        given: dict[str, Any] = {"precision": precision} if "nobis" in ours else {}
        found = rdm(x, conditions, dissimilarity=ours, runs=runs if ours == "crossnobis" else None, **given)
        expected = peer.rdm.calc_rdm(data, theirs, "condition", noise=precision.numpy(), cv_descriptor="run")
        np.testing.assert_allclose(found.vectors, expected.dissimilarities, rtol=1e-9, atol=1e-12)
        assert from_rsatoolbox(expected).dissimilarity == ours
        assert from_rsatoolbox(expected).conditions == found.conditions


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_the_documented_differences_are_there(peer: Any) -> None:
    """A condition missing in a run, trials of other numbers, noise of each run, pairs missing in one RDM."""
    conditions, runs = np.array(list("cabd" * 3)), np.repeat(range(3), 4)
    x, precision = draw(12, 5), noise_precision(draw(30, 5, seed=1))

    def theirs(rows: list[int], **given: Any) -> Any:
        data = to_rsatoolbox(Representation(x[rows]), conditions=conditions[rows], runs=runs[rows])
        return peer.rdm.calc_rdm(data, "crossnobis", "condition", cv_descriptor="run", **given).dissimilarities

    def ours(rows: list[int], **given: Any) -> Any:
        return rdm(x[rows], conditions[rows], dissimilarity="crossnobis", runs=runs[rows], **given).vectors

    every = list(range(12))
    with pytest.raises(ValueError, match="broadcast"):
        theirs(every[1:])
    assert bool(ours(every[1:]).isfinite().all())
    twice = [*every, 0, 1, 5]
    x = torch.cat([x, draw(3, 5, seed=2)])[[*every, 12, 13, 14]]
    conditions, runs = conditions[twice], runs[twice]
    assert np.abs(theirs(list(range(15))) - ours(list(range(15))).numpy()).max() > 0.01
    same = theirs(every, noise=[precision.numpy()] * 3)
    np.testing.assert_allclose(ours(every, precision=dict.fromkeys(range(3), precision)), same, rtol=1e-8, atol=1e-12)
    other = [precision.numpy(), 4 * precision.numpy(), precision.numpy()]
    mixed = ours(every, precision=dict(enumerate(map(torch.from_numpy, other))))
    assert np.abs(mixed.numpy() - theirs(every, noise=other)).max() > 0.01
    a, b = several(1, seed=5), several(1)
    gaps = a.vectors.clone()
    gaps[0, :3] = torch.nan
    with pytest.raises(ValueError, match="nan positions"):
        peer.rdm.compare(to_rsatoolbox(RDMs(gaps)), to_rsatoolbox(RDMs(b.vectors)), "cosine")
    both = [peer.rdm.RDMs(torch.where(gaps.isnan(), torch.nan, r.vectors).numpy()) for r in (a, b)]
    for how in ("cosine", "rho_a", "whitened_cosine"):
        found = compare_rdms(RDMs(gaps), RDMs(b.vectors), how)
        np.testing.assert_allclose(found, peer.rdm.compare(*both, PEER_COMPARATORS[how]), rtol=1e-8)


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
@pytest.mark.parametrize("comparator", PEER_COMPARATORS)
def test_similarities_ceilings_and_resamples_agree(peer: Any, comparator: str) -> None:
    models, data = several(2, seed=5), several(4)
    one, other, how = to_rsatoolbox(models), to_rsatoolbox(data), PEER_COMPARATORS[comparator]
    np.testing.assert_allclose(compare_rdms(models, data, comparator), peer.rdm.compare(one, other, how), rtol=1e-9)
    # rsatoolbox drops the zero self-pairs of a stimulus drawn twice, as its NaN.
    stimuli = [0, 0, 0, 2, 3, 3, 5, 7, 8]
    counts = torch.bincount(torch.tensor(stimuli), minlength=9)[None].double()
    expected = peer.rdm.compare(*(x.subsample_pattern("index", stimuli) for x in (one, other)), how)
    found = similarities(models.vectors, data.vectors, comparator, counts)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    lower, upper = peer.inference.noise_ceiling.boot_noise_ceiling(other, how)
    ceiling = noise_ceiling(data, comparator)
    if comparator == "whitened_cosine":  # it pools by unwhitened lengths, which is not the best RDM
        assert ceiling.upper > upper
        assert ceiling.upper == pytest.approx(upper, abs=0.02)
    else:
        assert (ceiling.lower, ceiling.upper) == (pytest.approx(lower, rel=1e-9), pytest.approx(upper, rel=1e-9))


def test_bad_input_is_refused_clearly(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = Representation(draw(4, 3))
    for call, words in (
        (lambda: to_rsatoolbox(x.x), "value is a Tensor"),
        (lambda: to_rsatoolbox(x, conditions=[1, 2]), "conditions has 2 entries, but there are 4 samples"),
        (lambda: to_rsatoolbox(several(2), runs=[1]), "belong to a Representation"),
        (lambda: from_rsatoolbox(x), "value is a Representation"),
    ):
        with pytest.raises(BadInput, match=words):
            call()
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    with pytest.raises(BadInput, match="pip install rsatoolbox"):
        to_rsatoolbox(x)
