"""Ranking of models: errors that cover, tests that hold their level, real data in their known order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa import RDMs, compare_rdms, noise_ceiling, rank_by_rsa, rdm, stack_rdms
from geomfeat.geometry.rsa.bootstrap import resample, spread
from geomfeat.geometry.rsa.compare import COMPARATORS
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.shared_data import shared


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "ranking", *shape), dtype=torch.float64)


def study(k: int = 5, n: int = 10, d: int = 6, noise: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, RDMs]:
    """The patterns of the true model, and the RDMs of subjects that see them with noise."""
    truth = draw(n, d, seed=seed)
    return truth, stack_rdms([rdm(truth + noise * e) for e in draw(k, n, d, seed=seed + 1)], list("abcdefgh"[:k]))


def test_known_order_on_objects_seen_by_humans() -> None:
    data = np.load(shared("data/it-92-objects.npz"))
    subjects = RDMs(data["rdm_human_it_subjects"])
    models = {name: RDMs(data[f"rdm_{name}"]) for name in ("v1_model", "hmax", "monkey_it")}
    for comparator in ("rho_a", "correlation"):
        found = rank_by_rsa(models, subjects, comparator, n_bootstrap=300)
        assert found.names[0] == "monkey_it"
        by_name = dict(zip(found.names, found.mean.tolist(), strict=True))
        for name, model in models.items():
            assert by_name[name] == pytest.approx(float(compare_rdms(model, subjects, comparator).mean()), rel=1e-12)
        assert bool((found.p_pairwise[0, 1:] < 0.05).all())
        assert float(found.p_zero[0]) < 0.01
        assert found.ceiling == noise_ceiling(subjects, comparator)
        assert 0 < found.ceiling.lower < found.ceiling.upper < 1
        assert bool((found.low < found.mean).all() & (found.mean < found.high).all())


@pytest.mark.parametrize("comparator", COMPARATORS[:-1])
def test_samples_are_the_similarities_of_resampled_data(comparator: str, device: str) -> None:
    truth, data = study()
    models = {"true": truth, "other": draw(10, 4, seed=9)}
    found = rank_by_rsa(models, RDMs(data.vectors.to(device)), comparator, n_bootstrap=6, seed=3)
    stimuli, subjects = resample(10, 6, 3, "stimuli"), resample(5, 6, 3, "subjects")
    pairs = torch.triu_indices(10, 10, 1)
    for s in range(6):
        rows = torch.arange(10).repeat_interleave(stimuli[s].long())
        gaps = torch.where(rows[:, None] == rows[None], torch.nan, 0.0)[pairs[0], pairs[1]]
        picked = [RDMs.of_matrices(x.matrices[:, rows][:, :, rows]).vectors + gaps for x in (
            stack_rdms([rdm(models[name], dissimilarity="correlation") for name in found.names]), data)]  # fmt: skip
        values = compare_rdms(RDMs(picked[0]), RDMs(picked[1]), comparator)
        torch.testing.assert_close(found.samples[s].cpu(), values @ subjects[s] / 5)
    assert found.samples.shape == (6, 2)


def test_variance_of_two_crossed_factors_is_right_where_a_plain_bootstrap_is_not() -> None:
    """Similarities that are plain means over stimuli, of known variance A/n + B/k + E/(nk)."""
    n, k, sizes = 15, 6, (0.5, 0.3, 6.0)
    truth = sizes[0] / n + sizes[1] / k + sizes[2] / (n * k)
    estimated, plain = [], []
    for seed in range(200):
        of_stimuli, of_subjects, of_both = draw(n, 1, seed=seed), draw(1, k, seed=seed), draw(n, k, seed=seed)
        table = sizes[0] ** 0.5 * of_stimuli + sizes[1] ** 0.5 * of_subjects + sizes[2] ** 0.5 * of_both
        stimuli, subjects = resample(n, 200, seed, "stimuli"), resample(k, 200, seed, "subjects")
        resampled = (stimuli @ table / n)[:, None]
        found = spread(table.mean(0)[None], resampled, subjects, n, "both")
        estimated.append(float(found.variance))
        plain.append(float(found.samples.var()))
        assert found.dof == 5
    error = np.std(estimated) / 200**0.5
    assert abs(np.mean(estimated) - truth) < 4 * error
    assert np.mean(plain) > truth + 4 * error


def test_intervals_cover_the_value_of_the_population() -> None:
    """Stimuli and subjects drawn anew: the mean over many studies lies in about 95 % of the intervals."""
    values, low, high, p = [], [], [], []
    for seed in range(0, 160, 2):
        n = 20
        truth = draw(n, 5, seed=seed)
        weak = truth + 1.5 * draw(n, 5, seed=seed + 1000)
        strong = truth + 1.5 * draw(n, 5, seed=seed + 2000)
        data = stack_rdms([rdm(truth + e) for e in draw(6, n, 5, seed=seed + 1)])
        found = rank_by_rsa({"a": rdm(weak), "b": rdm(strong)}, data, "cosine", n_bootstrap=80, seed=seed)
        first = found.names.index("a")
        values.append(float(found.mean[first]))
        low.append(float(found.low[first]))
        high.append(float(found.high[first]))
        p.append(float(found.p_pairwise[0, 1]))
    mean = np.mean(values)
    covered = np.mean((np.array(low) <= mean) & (mean <= np.array(high)))
    assert 0.87 <= covered <= 1
    # Two equally good models: the test of their difference keeps its level.
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 4 * (0.05 * 0.95 / 80) ** 0.5


def test_tests_are_those_of_the_samples_spread() -> None:
    truth, data = study(n=14, noise=0.7)
    models = {"near": truth + 0.4 * draw(14, 6, seed=3), "true": truth, "other": draw(14, 6, seed=4)}
    models = {name: rdm(x) for name, x in models.items()}
    found = rank_by_rsa(models, data, "correlation", over="stimuli", n_bootstrap=200)
    assert found.names == ("true", "near", "other")
    larger = 14 / 13  # resampling shrinks a variance by it
    stderr = (found.samples.var(0) * larger).sqrt()
    torch.testing.assert_close(found.stderr, stderr)
    np.testing.assert_allclose(found.p_zero, stats.t.sf(found.mean / stderr, 13), rtol=1e-9)
    reach = stats.t.ppf(0.975, 13)
    torch.testing.assert_close(found.high - found.mean, reach * stderr)
    torch.testing.assert_close(found.mean - found.low, reach * stderr)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        gap = found.mean[i] - found.mean[j]
        error = ((found.samples[:, i] - found.samples[:, j]).var() * larger).sqrt()
        assert float(found.p_pairwise[i, j]) == pytest.approx(2 * stats.t.sf(float(gap.abs() / error), 13), rel=1e-9)
        assert float(found.p_pairwise[j, i]) == pytest.approx(float(found.p_pairwise[i, j]), rel=1e-9)
    assert float(found.p_pairwise[0, 0]) == 1
    assert float(found.p_ceiling[0]) > 0.5 > 0.01 > float(found.p_ceiling[2])


def test_what_is_resampled_is_what_varies() -> None:
    truth, data = study(k=6)
    alike = RDMs(data.vectors[:1].repeat(6, 1))
    model = {"true": truth, "other": draw(10, 3)}
    assert float(rank_by_rsa(model, alike, over="subjects", n_bootstrap=50).stderr.max()) < 1e-9
    errors = {
        over: rank_by_rsa(model, data, over=over, n_bootstrap=200).stderr for over in ("both", "stimuli", "subjects")
    }
    assert bool((errors["both"] >= errors["stimuli"].maximum(errors["subjects"]) * 0.9).all())


def test_one_subject_is_resampled_over_stimuli() -> None:
    truth, data = study(k=1, noise=0.3)
    found = rank_by_rsa({"fc1": Representation(truth), "V1": draw(10, 3)}, data, n_bootstrap=50)
    assert found.over == "stimuli"
    assert found.names == ("fc1", "V1")
    assert bool(found.p_ceiling.isnan().all())
    assert any("one subject" in note for note in found.notes)
    assert any("own copy" in note for note in found.notes)
    assert found.per_subject.shape == (2, 1)


def test_results_depend_on_the_seed_and_on_no_order_of_models() -> None:
    truth, data = study()
    a, b = truth, draw(10, 4)
    first = rank_by_rsa({"a": a, "b": b}, data, n_bootstrap=30, seed=1)
    again = rank_by_rsa({"b": b, "a": a}, data, n_bootstrap=30, seed=1)
    assert first.names == again.names
    torch.testing.assert_close(first.stderr, again.stderr)
    torch.testing.assert_close(first.p_pairwise, again.p_pairwise)
    assert not torch.equal(first.stderr, rank_by_rsa({"a": a, "b": b}, data, n_bootstrap=30, seed=2).stderr)
    every = stack_rdms([rdm(x, dissimilarity="correlation") for x in (a, b)], ["a", "b"])
    torch.testing.assert_close(rank_by_rsa(every, data, n_bootstrap=30, seed=1).stderr, first.stderr)


TRUTH, DATA = study()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rank_by_rsa({"a": TRUTH}, DATA, over="units"), "over='units'"),
        (lambda: rank_by_rsa({"a": TRUTH}, DATA, "tau"), "comparator='tau'"),
        (lambda: rank_by_rsa({"a": TRUTH}, DATA, n_bootstrap=1), "n_bootstrap=1"),
        (lambda: rank_by_rsa({"a": TRUTH[:5]}, DATA), "model 'a' has 5 rows for 10 conditions"),
        (lambda: rank_by_rsa({"a": rdm(TRUTH[:5])}, DATA), "model 'a' has other conditions"),
        (lambda: rank_by_rsa({"a": DATA}, DATA), "model 'a' has 5 RDMs"),
        (lambda: rank_by_rsa({}, DATA), "empty"),
        (lambda: rank_by_rsa({"a": TRUTH[:3]}, RDMs(torch.ones(3))), "3 conditions"),
        (lambda: rank_by_rsa({"flat": RDMs(torch.ones(45))}, DATA, "correlation"), "undefined for \\['flat'\\]"),
    ],
)
def test_bad_input_is_refused_clearly(call: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        call()


def test_samples_with_a_constant_subject_are_left_out_and_counted() -> None:
    """Only pairs of stimulus 0 differ in one subject's RDM: samples without it are those that fail, and no others."""
    truth, data = study(4, 8)
    vectors = data.vectors.clone()
    vectors[1] = 1.0
    vectors[1, :7] = torch.linspace(1, 2, 7, dtype=torch.float64)
    models = {"true": truth, "other": draw(8, 4, seed=9)}
    found = rank_by_rsa(models, RDMs(vectors), "spearman", n_bootstrap=200)
    counts = resample(8, 200, 0, "stimuli")
    without = (counts[:, 0] == 0) | ((counts > 0).sum(1) < 3)
    assert 0 < found.n_failed == int(without.sum()) < 200
    assert any(f"{found.n_failed} of 200 samples left out" in note for note in found.notes)
    again = rank_by_rsa(models, RDMs(vectors), "spearman", n_bootstrap=200)
    torch.testing.assert_close(found.samples, again.samples, rtol=0, atol=0)


def test_pairs_that_are_missing_anywhere_are_counted_in_a_note() -> None:
    truth, data = study(3, 12)
    model = rdm(truth, dissimilarity="correlation")
    vectors = data.vectors.clone()
    vectors[2, :40] = torch.nan
    gaps = model.vectors.clone()
    gaps[0, 40:59] = torch.nan
    found = rank_by_rsa({"true": RDMs(gaps)}, RDMs(vectors), "spearman", n_bootstrap=20)
    notes = [note for note in found.notes if "pairs of conditions are used" in note]
    assert len(notes) == 1
    assert notes[0].startswith("7 of 66 pairs of conditions are used: 59 are missing in at least one of 4 RDMs")


def test_a_note_names_the_rdm_that_is_constant_in_resamples() -> None:
    truth, data = study(4, 8)
    vectors = data.vectors.clone()
    vectors[1] = 1.0
    vectors[1, :7] = torch.linspace(1, 2, 7, dtype=torch.float64)
    found = rank_by_rsa({"true": truth}, RDMs(vectors, names=list("abcd")), "spearman", n_bootstrap=200)
    note = next(note for note in found.notes if "samples left out" in note)
    few = int(((resample(8, 200, 0, "stimuli") > 0).sum(1) < 3).sum())
    assert f"one dissimilarity in the RDM of 'b' ({found.n_failed - few})" in note
    assert ("fewer than 3 different stimuli" in note) == (few > 0)
    flat = RDMs(torch.cat([torch.linspace(1, 2, 7), torch.ones(21)]).double())
    found = rank_by_rsa({"true": truth, "flat": flat}, data, "correlation", n_bootstrap=200)
    note = next(note for note in found.notes if "samples left out" in note)
    assert "in the RDM of 'flat'" in note
    assert "too few" not in note


def test_a_note_of_few_stimuli_says_how_many_samples_have_them() -> None:
    truth, data = study(5, 4)
    found = rank_by_rsa({"true": truth}, data, "rho_a", n_bootstrap=300)
    few = int(((resample(4, 300, 0, "stimuli") > 0).sum(1) < 3).sum())
    assert found.n_failed == few > 0
    assert f"{few} of 300 samples left out: {few} have fewer than 3 different stimuli" in found.notes


def test_samples_that_are_all_constant_say_so() -> None:
    """One pair alone differs, and both samples lack it."""
    truth, data = study(3, 5)
    lone = torch.ones(10, dtype=torch.float64)
    lone[0] = 2.0
    seed = next(s for s in range(200) if not bool((resample(5, 2, s, "stimuli")[:, :2] > 0).all(1).any()))
    with pytest.raises(BadInput, match=r"0 of 2 bootstrap samples have similarities, .*in the RDM of 'lone'"):
        rank_by_rsa({"true": truth, "lone": RDMs(lone)}, data, "correlation", n_bootstrap=2, seed=seed)


def test_the_plot_and_the_text_hold_the_noise_ceiling_and_chance() -> None:
    truth, data = study(4, 8)
    found = rank_by_rsa({"true": truth, "none": truth.flip(0)}, data, "correlation", n_bootstrap=20)
    lines = {curve.label: next(iter(curve.y)) for curve in found._chart().curves[1:]}
    assert lines == {
        "lower noise ceiling": found.ceiling.lower, "upper noise ceiling": found.ceiling.upper,
        "lower noise ceiling by chance": found.ceiling.chance,
    }  # fmt: skip
    assert f"(by chance {found.ceiling.chance:.3f}, p = {found.ceiling.p_chance:.3f})" in str(found)
    alone = rank_by_rsa({"true": truth}, data.select(data.names[0]), "correlation", n_bootstrap=20)
    assert [curve.label for curve in alone._chart().curves[1:]] == ["upper noise ceiling"]
