"""Features of inputs that come in batches: equal to those of the stacked tensor, with the labels of the batches."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from geomfeat.activations import ActivationStore, ExtractOptions, extract
from geomfeat.activations.stored_representations import fingerprint
from geomfeat.data.batch_streams import opened
from geomfeat.data.dataset import Dataset
from geomfeat.errors import BadInput, OutputExists
from geomfeat.models.nested_inputs import n_samples, take
from tests.activations.zoo import ZOO, lstm, mlp, transformer_encoder_masked
from tests.peak_memory import needs_peaks, printed_by

N = 23
LABELS = torch.arange(N) % 3


class Rows(torch.utils.data.Dataset[Any]):
    """Samples of nested inputs one by one, as loaders want them."""

    def __init__(self, inputs: Any, labels: Tensor | None = None) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return n_samples(self.inputs)

    def __getitem__(self, i: int) -> Any:
        sample = take(self.inputs, i)  # type: ignore[arg-type]
        return sample if self.labels is None else (sample, self.labels[i])


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("where", ["memory", "store"])
def test_every_network_of_the_zoo_sees_what_it_sees_in_the_stacked_tensor(
    name: str, where: str, tmp_path: Path
) -> None:
    model, inputs = ZOO[name](N)
    arguments: dict[str, Any] = {"options": ExtractOptions(batch_size=7, with_outputs=True), "progress": False}
    plain = extract(model, inputs, LABELS, **arguments)
    store = tmp_path if where == "store" else None
    found = extract(model, DataLoader(Rows(inputs, LABELS), batch_size=5), store=store, **arguments)
    assert list(found) == list(plain)
    for key, rep in plain.items():
        assert torch.equal(found[key].x, rep.x)
        assert torch.equal(found[key].outputs, rep.outputs)
        assert found[key].labels.tolist() == LABELS.tolist()
        assert dict(found[key].meta) == dict(rep.meta)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 500_000, "no room for nothing"


@pytest.mark.parametrize("how", ["last", "token_mean", "token_all"])
@pytest.mark.parametrize("where", ["memory", "store"])
def test_masks_come_with_the_batches(how: str, where: str, tmp_path: Path) -> None:
    model, inputs = transformer_encoder_masked(N)
    options = ExtractOptions(batch_size=7)
    arguments: dict[str, Any] = {"layers": "encoder", "reduce": how, "options": options, "progress": False}
    plain = extract(model, inputs, LABELS, **arguments)["encoder"]
    loader = DataLoader(Rows({**inputs, "label": LABELS}), batch_size=5)
    found = extract(model, loader, store=tmp_path if where == "store" else None, **arguments)["encoder"]
    assert torch.equal(found.x, plain.x)
    assert torch.equal(found.labels, plain.labels)
    assert dict(found.meta) == dict(plain.meta)


def test_a_mask_for_all_samples_goes_with_a_loader_too() -> None:
    model, x = lstm(N)
    mask = torch.arange(5) < (torch.arange(N) % 5 + 1)[:, None]
    options = ExtractOptions(mask=mask, batch_size=7)
    arguments: dict[str, Any] = {"layers": "rnn[0]", "reduce": "last", "options": options, "progress": False}
    plain = extract(model, x, **arguments)["rnn[0]"]
    assert torch.equal(extract(model, DataLoader(Rows(x), batch_size=5), **arguments)["rnn[0]"].x, plain.x)
    with pytest.raises(BadInput, match=rf"mask must be \({N}, tokens\)"):
        extract(
            model,
            DataLoader(Rows(x), batch_size=5),
            **{**arguments, "options": ExtractOptions(mask=torch.cat([mask, mask]))},
        )


@pytest.mark.parametrize("last", [1, 2, 8])
def test_datasets_and_iterators_are_taken_too(last: int) -> None:
    model, x = mlp(16 + last)
    labels = torch.arange(16 + last) % 2
    plain = extract(model, x, labels, progress=False)["3"]
    for source in (
        TensorDataset(x, labels),
        zip(x.split(8), labels.split(8), strict=True),
        ((a, b) for a, b in zip(x.split(8), labels.split(8), strict=True)),
        Dataset(x, labels),
        DataLoader(TensorDataset(x, labels), batch_size=8),
    ):
        found = extract(model, source, progress=False, options=ExtractOptions(batch_size=8))["3"]
        assert_close(found.x, plain.x)
        assert found.labels.tolist() == labels.tolist()


def test_one_sample_is_enough() -> None:
    model, x = mlp(1)
    for source in (TensorDataset(x), iter([x]), DataLoader(TensorDataset(x))):
        assert_close(extract(model, source, progress=False)["3"].x, extract(model, x, progress=False)["3"].x)


def test_labels_that_are_given_win_over_those_of_the_batches() -> None:
    model, x = mlp(N)
    own = torch.arange(N)
    loader = DataLoader(TensorDataset(x, LABELS), batch_size=8)
    assert extract(model, loader, own, progress=False)["3"].labels.tolist() == own.tolist()
    assert extract(model, loader, ["a"] * N, progress=False)["3"].classes == ("a",)
    with pytest.raises(BadInput, match=rf"labels has 5 entries, but there are {N} samples"):
        extract(model, loader, own[:5], progress=False)


def test_groups_beside_a_loader_are_checked() -> None:
    model, x = mlp(N)
    loader = DataLoader(TensorDataset(x, LABELS), batch_size=8)
    assert extract(model, loader, groups=LABELS, progress=False)["3"].groups.tolist() == LABELS.tolist()
    with pytest.raises(BadInput, match="groups has 4 entries"):
        extract(model, loader, groups=LABELS[:4], progress=False)


def test_labels_of_tokens_get_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    model, x = lstm(N)
    tokens = torch.zeros(N, 5, dtype=torch.long)
    with pytest.raises(BadInput, match=r"labels of tokens .*reduce='token_all'.*with_\(labels="):
        extract(model, x, tokens, progress=False)
    with caplog.at_level(logging.WARNING, logger="geomfeat"):
        assert extract(model, DataLoader(TensorDataset(x, tokens)), progress=False)["rnn[0]"].labels is None
    assert "which are no classes" in caplog.text


def test_a_shuffling_loader_keeps_inputs_and_labels_together_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    model, x = mlp(N)
    loader = DataLoader(TensorDataset(x, torch.arange(N)), batch_size=8, shuffle=True)
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING, logger="geomfeat"):
        found = extract(model, loader, progress=False)["3"]
    assert torch.equal(torch.get_rng_state(), before)
    assert_close(found.x, extract(model, x, progress=False)["3"].x[found.labels])
    assert sorted(found.labels.tolist()) == list(range(N))
    assert "rows are in the order of this pass" in caplog.text
    with pytest.raises(BadInput, match="shuffles, so groups="):
        extract(model, loader, groups=LABELS, progress=False)


def test_a_store_reads_its_inputs_twice_and_goes_on_with_them(tmp_path: Path) -> None:
    model, x = mlp(N)
    loader = DataLoader(TensorDataset(x, LABELS), batch_size=8)
    extract(model, loader, store=tmp_path, progress=False)
    again = extract(model, x, LABELS, store=tmp_path, progress=False)  # the tensor has the same sum
    assert ActivationStore(tmp_path).layers() == list(again)
    with pytest.raises(OutputExists, match="inputs"):
        extract(model, DataLoader(TensorDataset(x + 1), batch_size=8), store=tmp_path, progress=False)
    with pytest.raises(BadInput, match=r"can be read once only, but a store.*reads it again"):
        extract(model, iter([x]), store=tmp_path / "other", progress=False)
    with pytest.raises(BadInput, match=r"draws a new order for every pass, but a store"):
        extract(model, DataLoader(TensorDataset(x), shuffle=True), store=tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["mlp", "transformer_encoder_masked"])
def test_sums_of_streams_are_those_of_the_tensors(name: str) -> None:
    model, inputs = ZOO[name](N)
    assert fingerprint(opened(model, Rows(inputs), batch_size=4)[0]) == fingerprint(inputs)


def test_a_late_batch_that_does_not_fit_names_its_samples() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.sometimes = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.always(x)
            return self.sometimes(y) if float(x.max()) < 100 else y

    x = torch.arange(200.0).reshape(100, 2)
    with pytest.raises(BadInput, match="'sometimes' was not called for samples 50 to 60"):
        extract(
            Branching(),
            DataLoader(TensorDataset(x), batch_size=64),
            layers="sometimes",
            progress=False,
            options=ExtractOptions(batch_size=10),
        )


def test_time_first_batches_come_with_batch_dim() -> None:
    model = nn.GRU(3, 4)
    x = torch.randn(5, N, 3, generator=torch.Generator().manual_seed(0))
    plain = extract(
        model, x, layers="", reduce="last", progress=False, options=ExtractOptions(batch_dim=1, batch_size=7)
    )
    found = extract(
        model,
        iter(x.split(6, 1)),
        layers="",
        reduce="last",
        progress=False,
        options=ExtractOptions(batch_dim=1, batch_size=7),
    )
    for key, rep in plain.items():
        assert rep.n == N
        assert torch.equal(found[key].x, rep.x)


def test_progress_counts_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = mlp(N)
    extract(model, DataLoader(TensorDataset(x), batch_size=8))
    assert f"{N}/{N}" in capsys.readouterr().err
    extract(model, iter([x]))
    out, err = capsys.readouterr()
    assert f"{N}sample" in err
    assert out == ""


MEMORY = """
    import sys, torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from geomfeat.activations import ExtractOptions, extract
    from tests.peak_memory import PeakMemory
    torch.set_num_threads(1)

    class Wide(Dataset):
        def __init__(self, n):
            self.n = n
        def __len__(self):
            return self.n
        def __getitem__(self, i):
            return torch.full((4096,), float(i)), i % 3

    net = nn.Sequential(nn.Linear(4096, 2), nn.Tanh())
    options = ExtractOptions(batch_size=16)
    extract(net, DataLoader(Wide(600), batch_size=16), options=options, progress=False)
    peak = PeakMemory()
    found = extract(net, DataLoader(Wide(6000), batch_size=16), options=options, progress=False)
    assert found["1"].n == 6000
    sys.stdout.write(str(peak.added))
"""


@needs_peaks
def test_inputs_are_never_held_as_a_whole() -> None:
    grown = float(printed_by(textwrap.dedent(MEMORY)))  # 98 MB of inputs
    assert grown < 20, f"peak memory grew by {grown:.0f} MB"
