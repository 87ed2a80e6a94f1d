"""The phase diagram: exact early-stopping errors in the lazy corner, truncation in the active one, the line between."""

from __future__ import annotations

import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.regimes.linear_networks import PhaseDiagram, noisy_low_rank, phase_diagram
from geomfeat.regimes.linear_networks._phase_diagram import REGIMES

D, RANK, NOISE = 16, 3, 0.5
VARIANCES, WIDTHS = [-5.0, -3.0, -2.25, -1.25, 0.0, 1.0], [0.5, 2.0, 3.0, 8.0]  # off the line: none sums to 1


@pytest.fixture(scope="module")
def task() -> tuple[torch.Tensor, torch.Tensor]:
    return noisy_low_rank(D, RANK, NOISE)


@pytest.fixture(scope="module")
def diagram(task: tuple[torch.Tensor, torch.Tensor]) -> PhaseDiagram:
    signal, observed = task
    return phase_diagram(observed, VARIANCES, WIDTHS, signal=signal)


def test_lazy_networks_can_only_shrink_what_they_see(task, diagram: PhaseDiagram) -> None:
    """From a small map a lazy run passes through q Y: the best q leaves 1 - <S, Y>^2 / (|S|^2 |Y|^2)."""
    signal, observed = task
    cosine = float((signal * observed).sum() / (signal.norm() * observed.norm()))
    assert float(diagram.error[0, 3]) == pytest.approx(1 - cosine**2, rel=0.02)
    best = observed * (signal * observed).sum() / observed.square().sum()
    rank = float(best.square().sum() / torch.linalg.matrix_norm(best, 2) ** 2)
    assert float(diagram.stable_rank[0, 3]) == pytest.approx(rank, rel=0.02)


def test_active_networks_find_the_modes_of_the_signal(task, diagram: PhaseDiagram) -> None:
    signal, observed = task
    u, s, vh = torch.linalg.svd(observed)
    truncated = (u[:, :RANK] * s[:RANK]) @ vh[:RANK]
    error = float((truncated - signal).square().sum() / signal.square().sum())
    assert float(diagram.error[0, 1]) == pytest.approx(error, rel=0.1)
    assert float(diagram.error[0, 1]) < 0.4 * float(diagram.error[0, 3])


def test_regimes_lie_where_the_line_says(diagram: PhaseDiagram) -> None:
    place = diagram.log_variance[:, None] + diagram.log_width
    wide = diagram.widths >= D
    assert (diagram.regime[:, ~wide] == REGIMES.index("under-parameterized")).all()
    lazy = diagram.regime == REGIMES.index("lazy")
    assert (lazy == (place > 1.1))[:, wide].all()
    assert {REGIMES[i] for i in diagram.regime.flatten()} == set(REGIMES)
    torch.testing.assert_close(diagram.threshold.log() / torch.tensor(D).log(), place, rtol=1e-6, atol=1e-6)


def test_trained_modes_agree_with_the_regime(diagram: PhaseDiagram) -> None:
    assert (diagram.n_active[diagram.regime == 2] == 0).all()
    assert (diagram.n_active[diagram.regime == 1] >= RANK).all()
    assert (diagram.n_active[diagram.regime == 0] >= RANK).all()


def test_reordered_cells_read_the_same(task) -> None:
    signal, observed = task
    both = phase_diagram(observed, [-3.0, -1.0], [2.0, 3.0], signal=signal, max_steps=50)
    one = phase_diagram(observed, [-1.0], [3.0], signal=signal, max_steps=50)
    for name in ("error", "stable_rank", "n_active", "steps", "threshold", "regime"):
        torch.testing.assert_close(getattr(both, name)[1, 1], getattr(one, name)[0, 0])


def test_without_noise_the_target_is_learned(device: str) -> None:
    found = phase_diagram(noisy_low_rank(8, 2, 0.0)[1].to(device), [-2.0, 1.0], [2.0])
    assert float(found.error.max()) < 1e-3
    assert found.regime.flatten().tolist() == [1, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda: phase_diagram(torch.eye(3), [], [1.0]),
        lambda: phase_diagram(torch.eye(3), [0.0], []),
        lambda: phase_diagram(torch.eye(1), [0.0], [1.0]),
        lambda: phase_diagram(torch.eye(3), [0.0], [1.0], max_steps=0),
        lambda: noisy_low_rank(3, 4),
        lambda: noisy_low_rank(3, 1, -1.0),
    ],
)
def test_bad_input_is_refused(call) -> None:
    with pytest.raises(BadInput, match=r"give at least|must be from"):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phase_diagram(torch.zeros(3, 3), [0.0], [1.0]), "not zero"),
        (lambda: phase_diagram(torch.full((3, 3), float("nan")), [0.0], [1.0]), "target holds 9 NaN"),
        (lambda: phase_diagram(torch.eye(3), [float("nan")], [1.0]), "log_variance"),
        (lambda: phase_diagram(torch.eye(3), [0.0], [float("inf")]), "log_width"),
    ],
)
def test_matrices_and_axes_that_cannot_be_are_reported(call, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()
