"""Two real processes of a group against one: streams, extraction, kernels, what they refuse, and one that is killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

from geomfeat import distributed
from geomfeat.activations import ActivationStore, stored_representations as stored
from geomfeat.errors import BadInput
from geomfeat.tangent import ntk
from tests import two_ranks

EXACT = ("points", "labels of points", "sums ", "exact counts", "moments counts", "sampler counts")
IN_FLOAT32 = ("cka in float32", "cka of blocks", "stderr of blocks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both ranks left: see tests/two_ranks.py."""
    made = tmp_path_factory.mktemp("two ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "BLOCK_BYTES", 1)
        with pytest.raises(KeyboardInterrupt):
            two_ranks.extraction(made / "interrupted alone", two_ranks.Stopping(150, interrupt))
    before = time.monotonic()
    assert two_ranks.run(made) == [0, -9]
    assert time.monotonic() - before < 240
    return made


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank-{k}.json").read_text()) for k in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return two_ranks.streams(lambda block=1: two_ranks.every(), two_ranks.without_last)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ranks_know_each_other_and_share_the_samples(told: list[dict[str, Any]]) -> None:
    assert [found["rank"] for found in told] == [0, 1]
    assert [found["backend"] for found in told] == ["gloo", "gloo"]
    assert [found["share"] for found in told] == [[0, 251], [251, 503]]
    for found in told:
        assert found["gathered"] == [{"rank": 0, "long": "x"}, {"rank": 1, "long": 100 * "x"}]
        assert found["summed"] == 3


def test_two_ranks_have_the_numbers_of_one(folder: Path, alone: dict[str, Any]) -> None:
    """Bit for bit where sums are exact or samples are drawn; 1e-12 of them else, but for products in float32."""
    found = [np.load(folder / f"rank-{k}.npz") for k in range(2)]
    assert "cka" in alone
    for name, expected in alone.items():
        assert np.array_equal(found[0][name], found[1][name], equal_nan=True), name
        if name.startswith(EXACT):
            assert np.array_equal(found[0][name], expected), name
        else:
            limit = 1e-6 if name in IN_FLOAT32 else 1e-12
            np.testing.assert_allclose(found[0][name], expected, rtol=limit, atol=limit, err_msg=name)


def test_kernels_by_rank_are_those_of_one(folder: Path) -> None:
    x, net = two_ranks.samples()[0][:21], two_ranks.network()
    expected = {
        "kernel": ntk(net, x), "kernel of others": ntk(net, x[:5], x), "kernel, full": ntk(net, x[:7], outputs="full"),
        "kernel of one sample": ntk(net, x[:1]),
    }  # fmt: skip
    for k in range(2):
        found = np.load(folder / f"rank-{k}.npz")
        for name, kernel in expected.items():
            np.testing.assert_allclose(found[name], kernel.gram.numpy(), rtol=1e-12, err_msg=name)
        assert np.array_equal(found["kernel"], found["kernel"].T)


@pytest.mark.parametrize("name", ["fresh", "of sampler", "interrupted alone"])
def test_a_store_of_two_ranks_holds_what_memory_holds(name: str, folder: Path, told: list[dict[str, Any]]) -> None:
    net, (x, labels) = two_ranks.network(), two_ranks.samples()
    expected = two_ranks.extract(
        net, x, labels, layers="type:Linear", progress=False, options=two_ranks.ExtractOptions(batch_size=32)
    )
    prefix = "net." if name == "interrupted alone" else ""
    store = ActivationStore(folder / name)
    for layer, rep in expected.items():
        assert np.array_equal(store.read(prefix + layer), rep.x.numpy())
    assert not list(store.root.glob("*/progress*.json"))
    files = sorted(int(p.parent.name) for p in store.folder(f"{prefix}0").glob("c/*/0"))
    assert files == list(range(16))


def test_ranks_share_what_an_interrupted_process_left(told: list[dict[str, Any]]) -> None:
    """The one before wrote some of 503 samples; each of both sees about half of the rest, and those of the survey."""
    seen = [found["seen after resuming"] for found in told]
    assert max(seen) < two_ranks.N / 2
    assert abs(seen[0] - seen[1]) <= two_ranks.BATCH


def test_a_killed_rank_is_named_at_once_and_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "BLOCK_BYTES", 1)
    last = json.loads((folder / "killed.json").read_text())
    assert last["told"].startswith("RankLost: rank 1 of 2 has ended")
    assert last["seconds"] < 60
    store = ActivationStore(folder / "killed")
    records = [
        json.loads(p.read_text())
        for p in (store.folder("net.0") / "progress.json", store.folder("net.0") / "progress-1.json")
    ]
    written = {k for record in records for k, digest in enumerate(record["sha256"]) if digest is not None}
    assert {k for k, digest in enumerate(records[1]["sha256"]) if digest is not None} - set(range(8))
    assert 8 < len(written) < 16
    times = {k: (store.folder("net.0") / "c" / str(k) / "0").stat().st_mtime_ns for k in written}
    again = two_ranks.Stopping(10**9, interrupt)
    found = two_ranks.extraction(folder / "killed", again)
    assert again.seen < two_ranks.N - 32 * len(written) + 80
    assert times == {k: (store.folder("net.0") / "c" / str(k) / "0").stat().st_mtime_ns for k in written}
    fresh = ActivationStore(folder / "fresh")
    for layer in found:
        assert np.array_equal(store.read(layer), fresh.read(layer.removeprefix("net.")))


@pytest.mark.parametrize(("case", "both"), [
    ("other weights", "weights is '.*' on rank 0 and '.*' on rank 1: start all ranks with the same"),
    ("other versions", r"the version of geomfeat is '.*' on rank 0 and '0\.0' on rank 1"),
    ("other kernels", "x is '.*' on rank 0 and '.*' on rank 1"),
    ("other layers", r"layers is \['a'\] in one, \['b'\] in another"),
    ("no samples", "no process has samples"),
    ("no samples for moments", "no process has samples"),
    ("no samples for a probe", "no process has samples"),
    ("another checkpoint", "was made with other settings"),
    ("NaN in the share of rank 1", "layer '0' holds 8 NaN"),
    ("another folder", "give all processes one folder that they share"),
])  # fmt: skip
def test_an_error_of_one_rank_is_raised_by_both(case: str, both: str, told: list[dict[str, Any]]) -> None:
    for found in told:
        with pytest.raises(BadInput, match=both):
            raise BadInput(found["refusals"][case])
    if case == "NaN in the share of rank 1":
        assert "rank 1 of 2" in told[0]["refusals"][case]


@pytest.mark.parametrize("form", ["parts", "joined"])
@pytest.mark.parametrize(("call", "why"), [
    ("extract", r"extract\(\) with store= gives each rank its own samples, but .*leave store= out"),
    ("ntk", "neither moved nor copied, which derivatives, kernels and training need"),
    ("ntk_by_rank", "neither moved nor copied"),
    ("locate", "neither moved nor copied"),
])  # fmt: skip
def test_weights_that_are_split_are_refused_with_what_to_do(
    form: str, call: str, why: str, told: list[dict[str, Any]]
) -> None:
    how = {
        "parts": r"is spread over processes \(a DTensor",
        "joined": r"are flattened and spread over processes \(FSDP\)",
    }
    for found in told:
        message = found["refusals"][f"{form}, {call}"]
        for part in (why, how[form], r"get_model_state_dict\(model.*load them into a plain model on every rank"):
            with pytest.raises(BadInput, match=part):
                raise BadInput(message)


@pytest.mark.parametrize(("n", "world", "block"), [(0, 3, 1), (2, 5, 1), (100, 7, 1), (101, 4, 16), (64, 2, 64)])
def test_shares_are_all_samples_once(n: int, world: int, block: int) -> None:
    shares = [distributed.share(n, block=block, of=(k, world)) for k in range(world)]
    assert [i for own in shares for i in own] == list(range(n))
    assert all(own.start % block == 0 for own in shares if own)
    assert max(map(len, shares)) - min(map(len, shares)) < 2 * block


def test_one_process_has_all_of_it() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.together()) == (0, 1, False)
    assert distributed.is_first()
    assert distributed.share(4) == range(4)
    assert distributed.stacked(torch.ones(2)).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: distributed.share(-1), "n=-1"),
    (lambda: distributed.share(3, block=0), "block=0"),
    (lambda: distributed.share(3, of=(2, 2)), r"of=\(2, 2\)"),
])  # fmt: skip
def test_shares_that_cannot_be_are_refused(call: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call()


@pytest.mark.parametrize(("backend", "message"), [
    ("nccl", "backend='nccl': (this build of torch has no NCCL|no GPU is visible).*backend='gloo'"),
    ("mpi", "backend='mpi': use 'auto', 'gloo' or 'nccl'"),
])  # fmt: skip
def test_a_backend_that_is_not_there_is_refused(backend: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=message), distributed.process_group(backend):
        pass


def test_a_distributed_sampler_is_left_out_where_ranks_share_by_themselves() -> None:
    data = TensorDataset(torch.arange(7.0))
    given = DataLoader(data, batch_size=3, sampler=DistributedSampler(data, num_replicas=2, rank=1, seed=1))
    assert [rows.tolist() for (rows,) in distributed.of_all_samples(given)] == [[0, 1, 2], [3, 4, 5], [6]]
    plain = DataLoader(Subset(data, [2, 3]))
    assert distributed.of_all_samples(plain) is plain


def test_a_group_that_is_there_is_used_and_left(tmp_path: Path) -> None:
    own = torch.distributed
    own.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        with distributed.process_group("nccl"):
            assert distributed.gathered(3) == [3]
        assert own.is_initialized()
    finally:
        own.destroy_process_group()


def test_a_group_of_torchrun_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with distributed.process_group("gloo"):
        assert torch.distributed.get_backend() == "gloo"
    assert not torch.distributed.is_initialized()
