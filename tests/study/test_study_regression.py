"""Values to be learned in place of classes: what needs classes says so, and everything else is measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions
from geomfeat.study import StudyOptions, analyze

NOTE = "it needs class labels; the targets are real numbers"
FAST: dict[str, Any] = {
    "options": StudyOptions(umap=False), "progress": False, "location": LocateOptions(n_bootstrap=2)
}  # fmt: skip


def pair(outputs: int) -> tuple[nn.Module, nn.Module]:
    made = []
    for seed in (0, 1):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, outputs))
        if seed:
            with torch.no_grad():
                for p in net.parameters():
                    p.add_(0.1 * torch.randn_like(p))
        made.append(net)
    return made[0], made[1]


def inputs(n: int = 40) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "targets",
    [inputs()[:, 0].sin(), inputs()[:, :1].sin(), inputs()[:, :2].sin(), inputs()[:, :2].sin().numpy()],
    ids=["(n,)", "(n, 1)", "(n, 2)", "numpy"],
)
def test_a_regression_is_studied_as_it_is_located(targets: Any) -> None:
    start, end = pair(2 if targets.ndim == 2 and targets.shape[1] == 2 else 1)
    study = analyze(end, inputs(), targets, initial=start, **FAST)
    alone = locate(end, inputs(), targets, initial=start, progress=False, options=LocateOptions(n_bootstrap=2))
    assert study.location is not None
    assert study.location.richness == alone.richness
    rows = study.table.set_index("measure")
    for name in ("nc1", "capacity", "linear_probe_accuracy", "label_alignment_unbiased"):
        assert not rows.loc[[name], "ok"].any()
        assert set(rows.loc[[name], "note"]) == {NOTE}
    for name in ("participation_ratio", "weight_movement", "linearisation_gap"):
        assert rows.loc[[name], "ok"].all()
    assert study.settings["accuracy"] == {}


def test_a_regression_is_seen_over_time() -> None:
    start, end = pair(1)
    middle = pair(1)[1]
    with torch.no_grad():
        for p, a in zip(middle.parameters(), start.parameters(), strict=True):
            p.lerp_(a, 0.5)
    study = analyze(
        end,
        inputs(),
        inputs()[:, :1].sin(),
        initial=start,
        measures=["time_regime", "nc1"],
        location=False,
        progress=False,
        checkpoints={5: middle, 9: end},
        options=StudyOptions(umap=False),
    )
    rows = study.table.set_index("measure")
    assert rows.loc[["time_regime"], "ok"].any()
    assert set(rows.loc[["nc1"], "note"]) == {NOTE}


def test_classes_as_whole_numbers_in_floating_point_are_classes() -> None:
    start, end = pair(3)
    study = analyze(end, inputs(), torch.arange(40).double() % 3, initial=start, measures=["nc1"], **FAST)
    assert study.table.set_index("measure").loc[["nc1"], "ok"].all()
    assert "data" in study.settings["accuracy"] or study.settings["accuracy"] == {}
