"""Streaming extractions: equal to those in memory, resumable after an interruption, small in memory."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from geomfeat.activations import ActivationStore, ExtractOptions, extract, stored_representations as stored
from geomfeat.errors import BadInput, OutputExists
from tests.activations.zoo import ZOO, conv_bn_residual, gru_cell_loop, mlp, transformer_encoder_masked
from tests.peak_memory import needs_peaks, printed_by


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one batch."""
    monkeypatch.setattr(stored, "BLOCK_BYTES", 1)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ZOO)
def test_a_store_gives_what_memory_gives(name: str, tmp_path: Path) -> None:
    model, inputs = ZOO[name]()
    labels = torch.arange(6)
    plain = extract(
        model, inputs, labels=labels, progress=False, options=ExtractOptions(batch_size=2, with_outputs=True)
    )
    kept = extract(
        model,
        inputs,
        labels=labels,
        progress=False,
        store=tmp_path,
        options=ExtractOptions(batch_size=2, with_outputs=True),
    )
    assert list(kept) == list(plain)
    assert len(kept) == len(plain)
    for key, rep in plain.items():
        again = kept[key]
        assert_close(again.x, rep.x, rtol=0, atol=0)
        assert_close(again.outputs, rep.outputs, rtol=0, atol=0)
        assert torch.equal(again.labels, labels)
        assert dict(again.meta) == dict(rep.meta)
        assert again.layer == key


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("project", [None, 3])
@pytest.mark.parametrize("masked", [True, False])
def test_tokens_as_rows_are_stored_padded_and_read_without_padding(
    tmp_path: Path, project: int | None, masked: bool
) -> None:
    model, inputs = transformer_encoder_masked()
    if not masked:
        inputs = {"src": inputs["src"]}
    arguments: dict[str, Any] = {
        "layers": ["encoder", "head"], "labels": torch.arange(6), "reduce": "token_all", "project": project,
        "progress": False, "options": ExtractOptions(batch_size=4, with_outputs=True),
    }  # fmt: skip
    plain, kept = extract(model, inputs, **arguments), extract(model, inputs, **arguments, store=tmp_path)
    assert plain["encoder"].n == (20 if masked else 30)
    for key in ("encoder", "head"):
        assert_close(kept[key].x, plain[key].x, rtol=0, atol=0)
        assert torch.equal(kept[key].labels, plain[key].labels)
        assert torch.equal(kept[key].outputs, plain[key].outputs)
        assert dict(kept[key].meta) == dict(plain[key].meta)


class Interrupted(nn.Module):
    """Counts the samples it has seen, and is interrupted when it has seen enough."""

    def __init__(self, after: int | None) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.seen, self.after = 0, after

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        if self.after is not None and self.seen > self.after:
            raise KeyboardInterrupt
        return self.head(self.fc(x))


def interrupted(after: int | None) -> Interrupted:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Interrupted(after)


@pytest.mark.usefixtures("small_blocks")
def test_an_interruption_keeps_the_finished_blocks_and_a_rerun_goes_on(tmp_path: Path) -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    arguments: dict[str, Any] = {"options": ExtractOptions(batch_size=4), "progress": False, "store": tmp_path}
    model = interrupted(after=17 + 9)  # 17 samples find and check the layers, two batches pass, the third is cut off
    with pytest.raises(KeyboardInterrupt):
        extract(model, x, **arguments)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(module.training for module in model.modules())
    assert ActivationStore(tmp_path).layers() == []
    again = interrupted(after=None)
    kept = extract(again, x, **arguments)
    assert again.seen == 17 + 12
    fresh = extract(interrupted(None), x, progress=False, options=ExtractOptions(batch_size=4))
    for key in fresh:
        assert_close(kept[key].x, fresh[key].x, rtol=0, atol=0)
    third = interrupted(None)
    extract(third, x, **arguments)
    assert third.seen == 17
    more = interrupted(None)
    extract(more, x, layers=[""], **arguments)
    assert more.seen == 15 + 20
    assert ActivationStore(tmp_path).layers() == ["", "fc", "head"]


@pytest.mark.usefixtures("small_blocks")
def test_a_rerun_with_another_batch_size_goes_on_too(tmp_path: Path) -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(KeyboardInterrupt):
        extract(interrupted(after=26), x, store=tmp_path, progress=False, options=ExtractOptions(batch_size=4))
    again = interrupted(None)
    kept = extract(again, x, store=tmp_path, progress=False, options=ExtractOptions(batch_size=3, with_outputs=True))
    fresh = extract(interrupted(None), x, progress=False, options=ExtractOptions(with_outputs=True))
    for key in fresh:
        assert_close(kept[key].x, fresh[key].x)
        assert_close(kept[key].outputs, fresh[key].outputs)


def test_other_weights_inputs_or_settings_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    model, x = mlp()
    extract(model, x, store=tmp_path, progress=False)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    other = mlp()[0]
    with torch.no_grad():
        other[0].bias[0] += 1e-3
    with pytest.raises(OutputExists, match="weights"):
        extract(other, x, store=tmp_path, progress=False)
    with pytest.raises(OutputExists, match="inputs"):
        extract(model, x + 1, store=tmp_path, progress=False)
    with pytest.raises(OutputExists, match=r"inputs.*n is 6 there, 5 now"):
        extract(model, x[:5], store=tmp_path, progress=False)
    with pytest.raises(OutputExists, match="project"):
        extract(model, x, store=tmp_path, project=2, progress=False)
    cnn, images = conv_bn_residual()
    elsewhere = tmp_path.parent / "cnn"
    extract(cnn, images, layers="stem", reduce="mean", store=elsewhere, progress=False)
    with pytest.raises(OutputExists, match="reduce is 'mean' there, 'max' now"):
        extract(cnn, images, layers="stem", reduce="max", store=elsewhere, progress=False)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_checkpoints_share_a_store_by_name(tmp_path: Path) -> None:
    model, x = mlp()
    other = mlp()[0].double()
    first = extract(model, x, store=ActivationStore(tmp_path, "init"), progress=False)
    second = extract(other, x, store=ActivationStore(tmp_path, "trained"), progress=False)
    assert first["0"].x.dtype == torch.float32
    assert second["0"].x.dtype == torch.float64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["init", "trained"]


@pytest.mark.usefixtures("small_blocks")
def test_nan_late_in_the_inputs_names_the_layer_and_keeps_earlier_blocks(tmp_path: Path) -> None:
    model, _ = mlp()
    x = torch.ones(10, 5)
    x[9] = float("nan")
    with pytest.raises(BadInput, match="layer '0' holds"):
        extract(model, x, store=tmp_path, progress=False, options=ExtractOptions(batch_size=4))
    assert (tmp_path / "trained" / "0" / "progress.json").is_file()


def test_calls_and_paths_can_be_stored(tmp_path: Path) -> None:
    model, x = gru_cell_loop()
    kept = extract(model, x, layers="cell", store=str(tmp_path), progress=False, options=ExtractOptions(calls="all"))
    plain = extract(model, x, layers="cell", progress=False, options=ExtractOptions(calls="all"))
    assert list(kept) == ["cell@0", "cell@1", "cell@2", "cell@3"]
    assert_close(kept["cell@2"].x, plain["cell@2"].x)
    with pytest.raises(KeyError):
        kept["cell@9"]


def test_fingerprints_tell_values_shapes_precisions_and_names_apart() -> None:
    x = torch.zeros(4)
    different = [x, x + 1, x.reshape(2, 2), x.int(), x.double(), (x,), (x, x), {"a": x}, {"b": x}, x.bool(), x[:0]]
    assert len({stored.fingerprint(value) for value in different}) == len(different)
    strided = torch.arange(6.0).reshape(2, 3).T
    assert stored.fingerprint(strided) == stored.fingerprint(strided.contiguous())
    assert stored.fingerprint(x.bfloat16()) != stored.fingerprint(x.half())


MEMORY = """
    import sys, torch
    from torch import nn
    from geomfeat.activations import extract, stored_representations
    from tests.peak_memory import PeakMemory
    torch.set_num_threads(1)
    stored_representations.BLOCK_BYTES = 2**22
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.spread = nn.Identity()
        def forward(self, x):
            return self.spread(x.repeat(1, 512)).sum(1)
    inputs = torch.randn(int(sys.argv[2]), 8)
    extract(Wide(), inputs[:600], store=sys.argv[1] + "/warm", progress=False)
    peak = PeakMemory()
    extract(Wide(), inputs, store=sys.argv[1] + "/big", progress=False)
    sys.stdout.write(str(peak.added))
"""


@needs_peaks
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    grown = float(printed_by(textwrap.dedent(MEMORY), str(tmp_path), "4000"))  # 66 MB of features
    assert grown < 24, f"peak memory grew by {grown:.0f} MB"
    assert sum(p.stat().st_size for p in (tmp_path / "big").rglob("*") if p.is_file()) > 4000 * 4096 * 4
