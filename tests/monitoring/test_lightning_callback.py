"""The callback with Lightning's trainer, real where the package is there, and with one that makes the same calls."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.monitoring import MonitorOptions
from tests.monitoring.trainings import data, network

OPTIONS = MonitorOptions(max_share=None, n_probes=16)


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the one class that the callback needs."""
    package, pytorch = ModuleType("lightning"), ModuleType("lightning.pytorch")
    pytorch.Callback = type("Callback", (), {})  # pyright: ignore
    monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", pytorch)


class Module(nn.Module):
    automatic_optimization = True

    def __init__(self) -> None:
        super().__init__()
        self.net = network()


def test_the_calls_of_a_trainer_make_rows(lightning: None, tmp_path: Path) -> None:
    from geomfeat.monitoring import LightningCallback  # pyright: ignore

    (x, y), module = data(), Module()
    rule = torch.optim.SGD(module.parameters(), lr=0.2)
    trainer = SimpleNamespace(global_step=0, optimizers=[rule], accumulate_grad_batches=2)
    callback: Any = LightningCallback(x, y, network=lambda m: m.net, folder=tmp_path, every=2, options=OPTIONS)
    callback.on_train_start(trainer, module)
    for batch in range(8):
        loss = nn.functional.cross_entropy(module.net(x), y) / 2
        loss.backward()
        if batch % 2:
            rule.step()
            rule.zero_grad()
            trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, {"loss": loss.detach()}, None, batch)
    callback.on_train_end(trainer, module)
    assert [row.step for row in callback.monitor.rows] == [0, 1, 3, 4]
    assert callback.monitor.rows[1].get("loss") == pytest.approx(0.7, abs=0.1)  # not a half of it
    assert callback.monitor.rows[-1].get("rate") == 0.2
    other: Any = LightningCallback(x, folder=tmp_path / "other", network=lambda m: m.net, options=OPTIONS)
    other.on_train_start(trainer, module)
    trainer.global_step += 1
    with pytest.raises(BadInput, match="is not the one"):
        other.on_train_batch_end(trainer, Module(), None, None, 9)


def test_without_the_package_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import geomfeat.monitoring

    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match="needs the package lightning"):
        geomfeat.monitoring.LightningCallback  # pyright: ignore # noqa: B018
    with pytest.raises(AttributeError, match="no attribute"):
        geomfeat.monitoring.Nothing  # pyright: ignore # noqa: B018


@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="the package lightning is absent")
@pytest.mark.filterwarnings("ignore")
def test_a_real_trainer_is_followed_and_not_changed(tmp_path: Path) -> None:
    import lightning  # pyright: ignore

    from geomfeat.monitoring import LightningCallback  # pyright: ignore

    x, y = data(64)

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(network(), nn.Dropout(0.1))

        def forward(self, batch: Any) -> Any:
            return self.net(batch)

        def training_step(self, batch: Any, index: int) -> Any:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.2)

    def train(callbacks: list[Any]) -> nn.Module:
        lightning.seed_everything(0, verbose=False)
        net = Net()
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True)
        lightning.Trainer(
            max_epochs=2, accumulate_grad_batches=2, logger=False, enable_progress_bar=False, accelerator="cpu",
            enable_model_summary=False, enable_checkpointing=False, callbacks=callbacks,
        ).fit(net, loader)  # fmt: skip
        return net

    callback: Any = LightningCallback(x[:16], y[:16], folder=tmp_path, every=3, options=OPTIONS)
    followed, alone = train([callback]), train([])
    assert all(torch.equal(a, b) for a, b in zip(followed.parameters(), alone.parameters(), strict=True))
    assert [row.step for row in callback.monitor.rows] == [0, 1, 4, 7, 8]
