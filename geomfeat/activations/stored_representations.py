"""Stream an extraction to a store, block by block, and read its layers back as Representations, one at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from geomfeat.activations._extraction_loop import Job
from geomfeat.activations._feature_sites import Site
from geomfeat.activations._metadata import representation, settings_of
from geomfeat.activations._row_block import columns
from geomfeat.activations.hooks import leaves_by_path
from geomfeat.activations.zarr_store import ActivationStore, LayerWriter
from geomfeat.distributed import failing_together, is_first, rank, require_alike, share, together, world_size
from geomfeat.errors import BadInput
from geomfeat.labels import Labels
from geomfeat.models.streamed_inputs import READ, LazyInputs
from geomfeat.numerics import require_finite
from geomfeat.types import Representation

# All layers of a block are in memory at once; a block is at least one batch.
BLOCK_BYTES = 2**26
OUTPUTS = "@outputs"


class StoredRepresentations(Mapping[str, Representation]):
    """The layers of an extraction in a store; a layer is loaded at every access and not cached."""

    def __init__(self, store: ActivationStore, job: Job, labels: Labels | None, groups: Tensor | None = None) -> None:
        self.store = store
        self._sites, self._mask, self._labels, self._groups = dict(job.sites), job.mask, labels, groups
        self._with_outputs = job.wish.options.with_outputs

    def __getitem__(self, layer: str) -> Representation:
        site = self._sites[layer]
        x = torch.from_numpy(self.store.read(layer))
        outputs = torch.from_numpy(self.store.read(OUTPUTS)) if self._with_outputs else None
        tokens = None
        if site.tokens is not None:
            x, tokens = x.reshape(-1, site.width), torch.full((len(x),), site.tokens)
            if self._mask is not None:
                x, tokens = x[self._mask.flatten()], self._mask.sum(1)
        return representation(site, x, tokens, self._labels, outputs, self._groups)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __repr__(self) -> str:
        return f"StoredRepresentations({self.store!r}, layers={list(self)})"


def stream(job: Job, store: Any, labels: Labels | None, groups: Tensor | None = None) -> StoredRepresentations:
    """Run the job block by block into `store` (a folder or an ActivationStore), leaving out what is there already.

    In a process group all ranks write, each its share of the blocks; the first begins and seals the layers.

    Raises OutputExists if the store's checkpoint holds other weights, inputs or settings, BadInput where ranks differ
    in them, and RankLost where one has ended: what was written stays.
    """
    store = store if isinstance(store, ActivationStore) else ActivationStore(os.fspath(store))
    weights = {name: value for name, value in job.model.state_dict().items() if isinstance(value, Tensor)}
    facts = {"inputs": fingerprint(job.inputs), "weights": fingerprint(weights), "n": job.n}
    settings = {f"how layer {key!r} is recorded": _settings(job, site) for key, site in job.sites.items()}
    require_alike({**facts, "layers": list(job.sites), **settings}, "extract() with store=")
    writers: dict[str, LayerWriter] = {}
    with failing_together():
        if is_first():
            store.claim(facts)
            writers = _writers(job, store)
            for writer in writers.values() if together() else ():
                writer.begin()
    with failing_together():
        writers = writers or _writers(job, store)
        groups_of_layers = _missing(writers)
    with failing_together():
        for k, names in groups_of_layers:
            _write_block(job, k, {key: writers[key] for key in names})
    with failing_together():
        for writer in writers.values() if is_first() else ():
            writer.finish()
    job.bar.update(job.bar.total - job.bar.n if job.bar.total else 0)
    return StoredRepresentations(store, job, labels, groups)


def _settings(job: Job, site: Site) -> dict[str, Any]:
    return settings_of(site) | {"mask": None if job.mask is None else fingerprint(job.mask)}


def _missing(writers: Mapping[str, LayerWriter]) -> list[tuple[int, list[str]]]:
    """This rank's share of the blocks that are still to be written, each with its layers."""
    todo = []
    for size in sorted({w.rows_per_block for w in writers.values()}):
        missing = {key: w.missing() for key, w in writers.items() if w.rows_per_block == size}
        for k in sorted({k for blocks in missing.values() for k in blocks}):
            todo.append((k, [key for key, blocks in missing.items() if k in blocks]))
    own = share(len(todo))
    return todo[own.start : own.stop]


def _writers(job: Job, store: ActivationStore) -> dict[str, LayerWriter]:
    widths = {key: columns(site, padded=True) for key, site in job.sites.items()}
    batch_size = job.wish.options.batch_size
    row_bytes = sum(widths[key] * site.dtype.itemsize for key, site in job.sites.items())
    batches = max(1, BLOCK_BYTES // (row_bytes * batch_size))
    # Whole batches, so that the numbers are the same; blocks for every rank, and none much larger than all samples:
    # each of its chunks has a place in the index that is written, whether there are samples for it or not.
    batches = min(batches, -(-job.n // (batch_size * world_size())))
    rows = batches * batch_size
    writers = {}
    for key, site in job.sites.items():
        dtype = str(site.dtype).removeprefix("torch.")
        writers[key] = store.writer(key, (job.n, widths[key]), dtype, rows, _settings(job, site), part=rank())
    if job.wish.options.with_outputs:
        outputs = job.run(0, 1, []).outputs
        if outputs is not None:
            dtype = str(outputs.dtype).removeprefix("torch.")
            writers[OUTPUTS] = store.writer(OUTPUTS, (job.n, outputs.shape[1]), dtype, rows, {}, part=rank())
    return writers


def _write_block(job: Job, k: int, writers: Mapping[str, LayerWriter]) -> None:
    rows = next(iter(writers.values())).rows(k)
    block = job.run(rows.start, rows.stop, [key for key in writers if key != OUTPUTS], padded=True)
    for key, writer in writers.items():
        found = block.outputs if key == OUTPUTS else block.features[key]
        if found is None:
            raise BadInput(f"the model gave no outputs for samples {rows.start} to {rows.stop}")
        what = "the network's output" if key == OUTPUTS else f"layer {key!r}"
        writer.put(k, require_finite(found, what).numpy())


def fingerprint(value: Any) -> str:
    """sha256 of nested tensors: names, shapes, precisions and bytes.

    >>> fingerprint(torch.zeros(2)) == fingerprint({"x": torch.zeros(2)})
    False
    """
    digest = hashlib.sha256()
    one = value.first(1) if isinstance(value, LazyInputs) else value
    for name, tensor in leaves_by_path(one):
        shape = (value.n, *tensor.shape[1:]) if isinstance(value, LazyInputs) else tuple(tensor.shape)
        digest.update(f"{type(one).__name__}{name}{shape}{tensor.dtype}".encode())
        for part in _parts(value, name):
            digest.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parts(value: Any, name: str) -> Iterator[Tensor]:
    """One of the tensors, some rows at a time; lazy inputs are read again for each: the checksum is the same."""
    if isinstance(value, LazyInputs):
        for _, batch in value.batches(READ):
            yield dict(leaves_by_path(batch))[name]
        return
    tensor = dict(leaves_by_path(value))[name]
    rows = tensor.detach().reshape(max(1, len(tensor) if tensor.ndim else 1), -1)
    yield from rows.split(max(1, BLOCK_BYTES // max(1, rows[:1].nbytes)))
