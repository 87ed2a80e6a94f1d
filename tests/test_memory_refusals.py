"""Matrices between all samples or units: refused in one sentence where they do not fit, before they are allocated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from geomfeat import memory
from geomfeat.activations import extract
from geomfeat.errors import OutOfMemory
from geomfeat.geometry.rsa import noise_precision, rdm, rsa_estimates
from geomfeat.geometry.similarity import cka, cka_matrix, label_gram, linear_gram, rbf_gram
from geomfeat.numerics import stream
from geomfeat.registry import get
from geomfeat.types import Representation

X = torch.randn(600, 4, generator=stream(0, "large"))
LABELS = torch.arange(600) % 3
# Each makes a matrix of 600 x 600 numbers in float64: 2.9 MB.
SQUARE: dict[str, Callable[[], Any]] = {
    "linear_gram": lambda: linear_gram(X),
    "rbf_gram": lambda: rbf_gram(X),
    "label_gram": lambda: label_gram(LABELS),
    "rbf cka": lambda: cka(X, X.flip(1), kernel="rbf"),
    "rbf cka_matrix": lambda: cka_matrix([X, X.flip(1)], kernel="rbf"),
    "rdm": lambda: rdm(X),
    "rdm by correlation": lambda: rdm(X, dissimilarity="correlation"),
    "rsa_estimates": lambda: rsa_estimates(X, X.flip(1)),
    "noise_precision": lambda: noise_precision(X[:, :2].T.repeat(20, 1)),
}


@pytest.mark.parametrize("work", SQUARE.values(), ids=list(SQUARE))
def test_what_does_not_fit_is_refused_with_sizes_and_a_remedy(
    work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    work()
    monkeypatch.setattr(memory, "free_bytes", lambda device="cpu": 1_000_000)
    with pytest.raises(OutOfMemory, match=r"of 600 (samples|conditions|units) takes .* GB, and .* are free: [a-z]"):
        work()


def test_a_measure_that_does_not_fit_is_a_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device="cpu": 1_000_000)
    (found,) = get("cka_rbf_unbiased").run(Representation(X), Representation(X.flip(1))).values()
    assert not found.ok
    assert "are free" in found.note


def test_a_failed_allocation_inside_a_measure_is_a_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(torch, "cdist", full)
    (found,) = get("cka_rbf_unbiased").run(Representation(X), Representation(X.flip(1))).values()
    assert not found.ok
    assert "ran out of memory" in found.note


def test_features_that_do_not_fit_are_refused_before_the_first_pass_over_all_samples(tmp_path: Path) -> None:
    network, inputs = torch.nn.Sequential(torch.nn.Linear(4, 5000)), torch.ones(600, 4)  # 600 x 5000 float32: 12 MB
    wanted = r"holding 600 samples of 1 layer takes 0.012 GB, and .* are free: give store= a folder"
    with memory.memory_limit("5 MB"), pytest.raises(OutOfMemory, match=wanted):
        extract(network, inputs, layers="*", progress=False)
    assert extract(network, inputs, layers="*", store=tmp_path, progress=False)["0"].d == 5000
