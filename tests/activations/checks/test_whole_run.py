"""Samples keep their rows in whole batches too, where a handful of them would not show that they are moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.numerics import stream
from tests.option_groups import grouped

N = 200
# Rises from the first sample to the last by steps, so that a few samples from first to last are in order, but not all.
BY_STEPS = torch.arange(N).float() // 25 + torch.rand(N, generator=stream(0, "run rows"))


class _Net(nn.Module):
    """fc -> mixed -> out, where `change` says what becomes of the rows of `mixed`."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.mixed, self.out, self.change = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2), change

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.fc(x))
        return self.out(self.mixed(self.change(x, h)))


def _inputs() -> Tensor:
    x = torch.randn(N, 6, generator=stream(1, "run rows"))
    x[:, 0] = BY_STEPS
    return x


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sorted by what a few samples are in order of": lambda x, h: h[x[:, 0].argsort()],
    "turned round in large batches": lambda x, h: h.flip(0) if len(x) > 10 else h,
    "the mean of large batches taken away": lambda x, h: h - h.mean(0) if len(x) > 10 else h,
    "moved on where one sample is rare": lambda x, h: h.roll(1, 0) if bool((x[:, 0] == BY_STEPS[61]).any()) else h,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("batch_size", [64, 256])
def test_layers_whose_rows_move_in_whole_batches_are_left_out_or_refused(
    change: str, batch_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    net, x = _Net(CHANGES[change]), _inputs()
    kept = gf.extract(net, x, progress=False, options=gf.ExtractOptions(batch_size=batch_size))
    assert list(kept) == ["fc"]
    assert sum("left out" in text for text in caplog.messages) == 2
    with pytest.raises(BadInput, match=r"layer 'mixed'.*batch_size=1"):
        gf.extract(net, x, layers=["fc", "mixed"], progress=False, options=gf.ExtractOptions(batch_size=batch_size))
    with pytest.raises(BadInput, match=r"the network's output.*batch_size=1"):
        gf.extract(
            net, x, layers="fc", progress=False, options=gf.ExtractOptions(with_outputs=True, batch_size=batch_size)
        )


def test_the_row_is_named_that_a_sample_stands_in() -> None:
    net, x = _Net(CHANGES["turned round in large batches"]), _inputs()
    with pytest.raises(BadInput, match=r"stand in row \d+, so the forward pass sorts or reorders"):
        gf.extract(net, x, layers=["mixed"], progress=False)


@pytest.mark.parametrize("options", [{"project": 3}, {"with_outputs": True}, {"io": "input"}, {"batch_size": 7}])
def test_a_network_that_keeps_its_rows_is_taken_as_it_is(options: dict[str, Any]) -> None:
    net, x = _Net(lambda _, h: h), _inputs()
    kept = gf.extract(net, x, progress=False, **grouped(gf.extract, options))
    assert list(kept) == ["fc", "mixed", "out"]


def test_a_store_refuses_such_a_layer_too(tmp_path: Path) -> None:
    net, x = _Net(CHANGES["turned round in large batches"]), _inputs()
    with pytest.raises(BadInput, match=r"layer 'mixed'.*reorders its batch"):
        gf.extract(net, x, store=tmp_path / "store", progress=False)


def test_a_loader_is_checked_by_its_first_samples() -> None:
    net, x = _Net(CHANGES["turned round in large batches"]), _inputs()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=50)
    assert list(gf.extract(net, loader, progress=False)) == ["fc"]


def test_one_sample_at_a_time_has_nothing_to_be_moved_among() -> None:
    net, x = _Net(CHANGES["the mean of large batches taken away"]), _inputs()
    assert list(gf.extract(net, x[:20], progress=False, options=gf.ExtractOptions(batch_size=1))) == [
        "fc",
        "mixed",
        "out",
    ]


def test_a_model_that_draws_random_numbers_is_kept_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    net, x = _Net(lambda _, h: nn.functional.dropout(h)), _inputs()
    assert list(gf.extract(net, x, progress=False)) == ["fc", "mixed", "out"]
    assert any("random" in text for text in caplog.messages)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_whose_output_the_next_one_overwrites_keeps_its_rows(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)).to(dtype)
    kept = gf.extract(net, _inputs(), progress=False)
    assert list(kept) == ["0", "1", "2"]
    torch.testing.assert_close(kept["0"].x, net[0](_inputs().to(dtype)).detach())
