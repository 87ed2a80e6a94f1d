"""The store: written once, resumed block by block, and damage is noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import zarr
from hypothesis import given, settings

from geomfeat.activations import ActivationStore
from geomfeat.errors import BadInput, OutputExists
from tests.peak_memory import PeakMemory, needs_peaks
from tests.warm_process import run_code


def rows(n: int = 10, d: int = 3, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d)).astype(dtype)


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    return ActivationStore(tmp_path / "store")


def begun(store: ActivationStore, x: np.ndarray, blocks: list[int], settings: Any = None) -> None:
    """Write some blocks of three rows of layer "fc" and stop."""
    writer = store.writer("fc", x.shape, str(x.dtype), 3, settings or {"reduce": "mean"})
    for k in blocks:
        writer.put(k, x[writer.rows(k)])


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 40),
    size=st.integers(1, 15),
    dtype=st.sampled_from(["float32", "float64"]),
    start=st.integers(0, 45),
    length=st.integers(0, 45),
)
def test_any_slice_of_rows_comes_back(
    tmp_path_factory: pytest.TempPathFactory, n: int, size: int, dtype: str, start: int, length: int
) -> None:
    store, x = ActivationStore(tmp_path_factory.mktemp("store")), rows(n, 4, dtype)
    writer = store.writer("fc", x.shape, dtype, size, {})
    for k in reversed(writer.missing()):
        writer.put(k, x[writer.rows(k)])
    writer.finish()
    window = slice(start, start + length)
    assert np.array_equal(store.read("fc", window), x[window])
    assert np.array_equal(store.read("fc"), x)
    assert store.read("fc").dtype == dtype


@pytest.mark.parametrize("layer", ["", "fc", "a.0[1][x]@2", "sp ace/slash", "ünï", "..", "outputs"])
def test_layer_names_of_all_kinds_are_kept_apart(store: ActivationStore, layer: str) -> None:
    store.write("other", [rows(4)])
    store.write(layer, [rows(5), rows(2)])
    assert sorted(store.layers()) == sorted(["other", layer])
    assert store.read(layer).shape == (7, 3)
    assert store.folder(layer).parent == store.root


def test_checkpoints_are_kept_apart(tmp_path: Path) -> None:
    for i, checkpoint in enumerate(["init", 100, "a/b"]):
        ActivationStore(tmp_path, checkpoint).write("fc", [rows() + i])
    for i, checkpoint in enumerate(["init", 100, "a/b"]):
        assert np.array_equal(ActivationStore(tmp_path, checkpoint).read("fc"), rows() + i)
    assert ActivationStore(tmp_path, "trained").layers() == []


def test_any_zarr_reader_opens_it_and_blocks_are_shards(store: ActivationStore) -> None:
    x = rows(1000, 5)
    writer = store.writer("fc", x.shape, "float32", 512, {})
    for k in writer.missing():
        writer.put(k, x[writer.rows(k)])
    writer.finish()
    array = zarr.open_array(str(store.folder("fc")), mode="r")
    assert array.metadata.zarr_format == 3
    assert array.shards == (512, 5)
    assert array.chunks == (256, 5)
    assert np.array_equal(array[:], x)


def test_a_layer_is_done_only_when_every_block_is_there(store: ActivationStore) -> None:
    x = rows()
    begun(store, x, [2, 0])
    assert store.layers() == []
    writer = store.writer("fc", x.shape, "float32", 7, {"reduce": "mean"})
    assert writer.rows_per_block == 3  # what it was begun with
    assert writer.missing() == [1, 3]
    with pytest.raises(BadInput, match=r"lacks blocks \[1, 3\]"):
        writer.finish()
    with pytest.raises(BadInput, match="is not complete: run the same extraction again"):
        store.read("fc")
    for k in writer.missing():
        writer.put(k, x[writer.rows(k)])
    writer.finish()
    writer.finish()
    assert store.layers() == ["fc"]
    assert np.array_equal(store.read("fc"), x)
    assert not list(store.root.rglob("*.tmp"))


def test_a_done_layer_is_not_written_again(store: ActivationStore) -> None:
    store.write("fc", [rows()], {"reduce": "mean"})
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    store.write("fc", [rows()], {"reduce": "mean"})
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before


@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_and_nothing_is_lost(store: ActivationStore, complete: bool) -> None:
    begun(store, rows(), [0, 1, 2, 3] if complete else [1])
    if complete:
        store.write("fc", [rows()], {"reduce": "mean"})
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    for shape, dtype, wish, message in [
        ((10, 3), "float32", {"reduce": "max"}, "reduce is 'mean' there, 'max' now"),
        ((9, 3), "float32", {"reduce": "mean"}, r"shape is \[10, 3\] there, \[9, 3\] now"),
        ((10, 3), "float64", {"reduce": "mean"}, "dtype is 'float32' there"),
        ((10, 3), "float32", {"reduce": "mean", "project": 5}, "project is None there, 5 now"),
    ]:
        with pytest.raises(OutputExists, match=f"{message}.*another store or checkpoint name, or delete"):
            store.writer("fc", shape, dtype, 3, wish)
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before


def test_a_checkpoint_made_from_something_else_is_refused(store: ActivationStore) -> None:
    store.claim({"weights": "a", "inputs": "x"})
    store.claim({"weights": "a", "inputs": "x"})
    with pytest.raises(OutputExists, match="weights is 'a' there, 'b' now"):
        store.claim({"weights": "b", "inputs": "x"})


def shard(store: ActivationStore) -> Path:
    return next(p for p in (store.folder("fc") / "c").rglob("*") if p.is_file())


def flip_a_byte(store: ActivationStore) -> None:
    data = bytearray(shard(store).read_bytes())
    data[5] ^= 1
    shard(store).write_bytes(bytes(data))


def truncate_shard(store: ActivationStore) -> None:
    shard(store).write_bytes(shard(store).read_bytes()[:20])


def delete_shard(store: ActivationStore) -> None:
    shard(store).unlink()


def break_array(store: ActivationStore) -> None:
    (store.folder("fc") / "zarr.json").write_text('{"zarr_format"')


def delete_array(store: ActivationStore) -> None:
    (store.folder("fc") / "zarr.json").unlink()


def other_shape(store: ActivationStore) -> None:
    shutil.rmtree(store.folder("fc") / "c")
    (store.folder("fc") / "zarr.json").unlink()
    zarr.create_array(str(store.folder("fc")), shape=(4, 2), chunks=(4, 2), dtype="float32")


def truncate_marker(store: ActivationStore) -> None:
    (store.folder("fc") / "done.json").write_text('{"layer": "fc", "sha')


def wrong_marker(store: ActivationStore) -> None:
    (store.folder("fc") / "done.json").write_text("[1, 2]")


def marker_without_digests(store: ActivationStore) -> None:
    file = store.folder("fc") / "done.json"
    plan = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in plan.items() if k != "sha256"}))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        truncate_shard,
        delete_shard,
        break_array,
        delete_array,
        other_shape,
        truncate_marker,
        wrong_marker,
        marker_without_digests,
    ],
    ids=lambda f: f.__name__,
)
def test_damage_names_the_place_and_the_remedy(store: ActivationStore, damage: Any) -> None:
    store.write("fc", [rows()])
    damage(store)
    with pytest.raises(BadInput, match=r"fc.*is damaged or truncated \(.*delete the folder .*fc and extract again"):
        store.read("fc")


def test_damage_in_one_block_leaves_the_others_readable(store: ActivationStore) -> None:
    x = rows()
    begun(store, x, [0, 1, 2, 3])
    store.write("fc", [x], {"reduce": "mean"})
    victim = store.folder("fc") / "c" / "1" / "0"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    assert np.array_equal(store.read("fc", slice(6, 10)), x[6:])
    with pytest.raises(BadInput, match="damaged"):
        store.read("fc", slice(5, 6))


def test_what_is_not_there_is_named_with_near_names(store: ActivationStore) -> None:
    with pytest.raises(BadInput, match=r"layer 'fc' in ActivationStore\(.* is missing; complete: none"):
        store.read("fc")
    store.write("fc1", [rows()])
    with pytest.raises(BadInput, match="complete: fc1"):
        store.read("fc")


def test_bad_arguments_are_named(store: ActivationStore, tmp_path: Path) -> None:
    store.write("fc", [rows()])
    with pytest.raises(BadInput, match="step 1"):
        store.read("fc", slice(0, 5, 2))
    with pytest.raises(BadInput, match=r"block 0 of new must be \(3, 2\), got \(2, 2\)"):
        store.writer("new", (5, 2), "float32", 3, {}).put(0, rows(2, 2))
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="must be a folder"):
        ActivationStore(tmp_path / "file")
    with pytest.raises(BadInput, match="must be a folder"):
        ActivationStore(tmp_path, "")
    with pytest.raises(BadInput, match="no rows"):
        store.write("empty", [])


def planned(store: ActivationStore, marker: str = "done.json", **changes: Any) -> None:
    """Another marker than was written."""
    file = store.folder("fc") / marker
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@needs_peaks
@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10**12, 3]}, {"shape": [10, 10**12]}, {"shape": [10**12, 3], "rows_per_block": 10**12},
        {"shape": [0, 3], "sha256": []}, {"shape": [10]}, {"shape": [-1, 3]}, {"shape": ["10", 3]}, {"shape": None},
        {"shape": [10.0, 3]}, {"dtype": "float64"}, {"dtype": "object"}, {"dtype": "no type"}, {"dtype": "<U5"},
        {"rows_per_block": 0}, {"rows_per_block": -3}, {"rows_per_block": 1}, {"sha256": []}, {"sha256": "abc"},
        {"sha256": [1]}, {"sha256": [None]}, {"settings": [1]}, {"layer": "other"}, {"layer": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_marker_that_does_not_fit_its_array_is_refused_before_anything_is_allocated(
    store: ActivationStore, changes: dict[str, Any]
) -> None:
    store.write("fc", [rows()])
    planned(store, **changes)
    peak = PeakMemory()
    with pytest.raises(BadInput, match=r"fc.*is damaged or truncated \(.*delete the folder .*fc and extract again"):
        store.read("fc")
    assert peak.added < 20


def test_a_marker_and_an_array_that_both_announce_too_much_are_refused(store: ActivationStore) -> None:
    store.write("fc", [rows()])
    size = 10**12
    planned(store, shape=[size, 3], rows_per_block=size)
    file = store.folder("fc") / "zarr.json"
    saved = json.loads(file.read_text())
    saved["shape"] = [size, 3]
    saved["chunk_grid"]["configuration"]["chunk_shape"] = [size, 3]
    saved["codecs"][0]["configuration"]["chunk_shape"] = [256, 3]
    file.write_text(json.dumps(saved))
    with pytest.raises(BadInput, match=r"(describes|has \d+ bytes, expected 12000000000000)"):
        store.read("fc")


def test_markers_that_are_nested_without_end_are_refused(store: ActivationStore) -> None:
    store.write("fc", [rows()])
    (store.folder("fc") / "done.json").write_text("[" * 100_000)
    with pytest.raises(BadInput, match=r"done\.json is damaged or truncated"):
        store.read("fc")


def test_a_layer_that_was_copied_from_elsewhere_is_not_taken_for_this_one(tmp_path: Path) -> None:
    first, second = ActivationStore(tmp_path, "init"), ActivationStore(tmp_path, "trained")
    for store, weights in ((first, "a"), (second, "b")):
        store.claim({"weights": weights})
        for layer in ("fc", "head"):
            store.write(layer, [rows()])
    shutil.rmtree(first.folder("head"))
    shutil.copytree(first.folder("fc"), first.folder("head"))
    with pytest.raises(BadInput, match="it belongs to layer 'fc', in place of layer 'head'"):
        first.read("head")
    shutil.rmtree(second.folder("fc"))
    shutil.copytree(first.folder("fc"), second.folder("fc"))
    with pytest.raises(BadInput, match="it belongs to other weights or inputs than its checkpoint"):
        second.read("fc")
    with pytest.raises(BadInput, match="other weights or inputs"):
        second.write("fc", [rows()])


@pytest.mark.parametrize("name", ["notes.txt", "zarr.json", "c/0/0", "c", "deep/notes.txt"])
def test_what_lies_in_a_layers_folder_is_left_alone(store: ActivationStore, name: str) -> None:
    mine = store.folder("fc") / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputExists, match=r"was not written by geomfeat, and a layer is to be written to .*fc"):
        store.write("fc", [rows()])
    assert mine.read_text() == "mine"
    assert [p for p in store.path.rglob("*") if p.is_file()] == [mine]


def test_facts_of_the_users_are_left_alone(store: ActivationStore) -> None:
    store.root.mkdir(parents=True)
    (store.root / "facts.json").write_text('{"mine": 1}')
    with pytest.raises(OutputExists, match=r"facts\.json was not written by geomfeat"):
        store.claim({"weights": "a"})
    assert (store.root / "facts.json").read_text() == '{"mine": 1}'


def test_a_file_in_the_place_of_a_layer_is_left_alone(store: ActivationStore) -> None:
    store.root.mkdir(parents=True)
    store.folder("fc").write_text("mine")
    with pytest.raises(OutputExists, match="fc is a file"):
        store.write("fc", [rows()])
    assert store.folder("fc").read_text() == "mine"


def test_what_lies_beside_a_layer_that_is_gone_on_with_is_left_alone(store: ActivationStore) -> None:
    begun(store, rows(), [])
    begun(store, rows(), [1])
    mine = [store.folder("fc") / "notes.txt", store.root / "notes.txt", store.path / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    store.write("fc", [rows()], {"reduce": "mean"})
    assert np.array_equal(store.read("fc"), rows())
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_an_interruption_before_the_first_block_can_be_gone_on_with(store: ActivationStore) -> None:
    begun(store, rows(), [0])
    planned(store, "progress.json", sha256=[None] * 4)
    (store.folder("fc") / "zarr.json").write_text("{")
    store.write("fc", [rows()], {"reduce": "mean"})
    assert np.array_equal(store.read("fc"), rows())


LIMIT = """
import resource, sys
import numpy as np
from geomfeat.activations import ActivationStore
from geomfeat.errors import WriteFailed
store, x = ActivationStore(sys.argv[1]), np.ones((3, 40000), "float32")
writer = store.writer("fc", (6, 40000), "float32", 3, {})
writer.put(0, x)
resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))
try:
    writer.put(1, x)
except WriteFailed as error:
    sys.stdout.write(str(error))
"""


def test_a_full_disk_names_the_layer_and_keeps_the_blocks_before(store: ActivationStore, tmp_path: Path) -> None:
    output = run_code(LIMIT, tmp_path, store.path).stdout
    assert f"{store.folder('fc')} cannot be written: File too large" in output
    writer = store.writer("fc", (6, 40000), "float32", 3, {})
    assert writer.missing() == [1]
    writer.put(1, np.ones((3, 40000), "float32"))
    writer.finish()
    assert np.array_equal(store.read("fc"), np.ones((6, 40000), "float32"))


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_no_store(path: str) -> None:
    with pytest.raises(BadInput, match=r"store=.* names nothing"):
        ActivationStore(path)


def test_load_gives_a_representation_with_its_settings(store: ActivationStore) -> None:
    store.write("fc", [rows()], {"reduce": "mean", "shape": (3, 4)})
    rep = store.load("fc", slice(2, 5))
    assert (rep.n, rep.d, rep.layer) == (3, 3, "fc")
    assert rep.meta == store.settings("fc") == {"reduce": "mean", "shape": [3, 4]}
