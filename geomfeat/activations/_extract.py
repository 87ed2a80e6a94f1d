"""Hook a network, run the inputs through it in batches, and return one Representation per layer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from geomfeat.activations._extraction_loop import Job
from geomfeat.activations._feature_sites import Site, Sites, Survey, Wish, name_of
from geomfeat.activations._layer_choice import choose_layers, labels_or_layers
from geomfeat.activations._metadata import representation
from geomfeat.activations._network_input import Feed, checked_mask, samples_first
from geomfeat.activations.checks.time_axis import require_samples_off_the_time_axis
from geomfeat.activations.hidden_layers import home, placed
from geomfeat.activations.layer_selection import Patterns, inside
from geomfeat.activations.model_state import evaluating
from geomfeat.activations.options import ExtractOptions, merged
from geomfeat.activations.reduction import Reduction, check_reduction
from geomfeat.data.batch_streams import Stream, opened
from geomfeat.distributed import of_all_samples, world_size
from geomfeat.errors import BadInput, LayerDidNotFire
from geomfeat.labels import Labels, as_groups, as_labels
from geomfeat.memory import require_memory
from geomfeat.models.copying import GATHER, over_processes
from geomfeat.models.functional import unwrapped
from geomfeat.models.nested_inputs import Inputs, as_inputs, n_samples
from geomfeat.models.readouts.prefixes import repeated, sampled, together
from geomfeat.types import Representation

_log = logging.getLogger(__name__)


def extract(
    model: nn.Module,
    inputs: Inputs,
    labels: Any = None,
    *,
    layers: Patterns = "*",
    reduce: Reduction = "flatten",
    project: int | str | None = None,
    groups: Any = None,
    store: Any = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
    options: ExtractOptions | None = None,
) -> Mapping[str, Representation]:
    """Extract the features of the layers of a model, for all samples: layer -> Representation.

    The model runs in evaluation mode, without gradients, in its own precision and on its device (on a copy, if
    `device` is another one). Afterwards, also after an error, it is unchanged: hooks, flags, buffers, random state.

    Args:
        inputs: a tensor, a tuple (positional) or a mapping (keyword arguments); samples first (see `ExtractOptions` for
            other axes). Or a DataLoader, Dataset or iterator of batches, read once and never held as a whole; a batch
            is such inputs, or a tuple of them and labels (in a mapping: under "labels"), which are used if none are
            given.
        labels: (n,) classes, numbers or names; see `as_labels`. groups: (n,) which samples belong together (views of
            one object, trials of one session), or None; samples are then held out by whole groups.
        layers: see `select_layers` ("weights": `hidden_weight_layers`). A layer given by its name must be called in
            every batch and have samples; of every other pattern those that do are taken, and a log message says which
            are left out. A pattern (or list of names) given third, in place of labels, is taken as layers.
        reduce: how a map or sequence becomes (n, d); see `geomfeat.activations.reduce`. project: number of features
            of a sparse random projection, for wider layers, or "auto". Give them here or in options.
        store: a folder, or an ActivationStore: write to disk, resume an interrupted run, and read a layer when it is
            accessed. Without it all features are held in memory. In a process group of torch.distributed every rank
            must call, with all samples (a DistributedSampler is left out), and writes its share of them.
        options: batch size, readout, inputs or outputs of layers, calls, mask, axis of the samples, see
            `ExtractOptions`.

    A few samples are passed in a batch, in reverse order and alone: a layer whose rows are not its samples raises
    BadInput, or is left out if a pattern chose it. Padding of packed sequences and nested tensors is never read.

    Names are those of `recording`: "rnn[1][0]" for nested outputs, "cell@2" for call 2 of `calls="all"`. Whatever axis
    a layer gives to the samples, rows of the result are samples. `meta` records "reduce", "shape" (of one sample, not
    reduced), "project" and its "seed", "io", "calls" and, for "token_all", "tokens_per_sample".

    Raises LayerNotFound, LayerDidNotFire, BadInput (labels of the wrong length; NaN in a layer), and OutputExists for
    a store that holds other weights, inputs or settings; OutOfMemory for features that do not fit in memory.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> reps = extract(net, torch.ones(5, 2), layers=["type:Linear"], progress=False)
    >>> {name: (rep.n, rep.d) for name, rep in reps.items()}
    {'0': (5, 3), '2': (5, 1)}
    """
    how = merged(options, reduce=None if reduce == "flatten" else reduce, project=project)
    wish = Wish.of(how, seed, unwrapped(model))
    if store is not None:
        _require_whole(model)
        inputs = of_all_samples(inputs)
    feed, labels, groups, layers, n = _prepared(
        model, inputs, labels, groups, layers, how.mask, store, batch_size=how.batch_size, batch_dim=how.batch_dim
    )
    wish, feed, rows = _sampled(model, wish, feed)
    if rows is not None:
        n, groups = feed.n, together(groups, rows)
        labels = None if labels is None else replace(labels, codes=repeated(labels.codes, rows))
    model, layers = placed(model, device), inside(model, layers)
    names, named, found = _surveyed(model, feed, layers, wish)
    with tqdm(total=_expected(feed), desc="extract", unit="sample", disable=not progress) as bar:
        job = Job(model, feed, names, found.sites, wish, found.output_axis, bar, found, named)
        if store is not None:
            from geomfeat.activations.stored_representations import stream  # brings zarr, which only stores need

            labels, groups = _completed(feed, labels, groups)
            return stream(job, store, labels, groups)
        _require_room(found.sites, n)
        block, sites = job.run(0, n, list(found.sites)), found.sites
    labels, groups = _completed(feed, labels, groups)
    return {
        key: representation(sites[key], x, block.tokens.get(key), labels, block.outputs, groups)
        for key, x in block.features.items()
    }


def _require_room(sites: Mapping[str, Site], n: int | None) -> None:
    """OutOfMemory where the features do not fit; a stream of unknown length is not looked at."""
    if n is not None:
        size = n * sum(site.width * (site.tokens or 1) * site.dtype.itemsize for site in sites.values())
        what = f"holding {n} samples of {len(sites)} {'layer' if len(sites) == 1 else 'layers'}"
        require_memory(size, what, "give store= a folder to write them to, fewer layers, or project= a width")


def readable_layers(
    model: nn.Module,
    inputs: Inputs,
    *,
    layers: Patterns = "weights",
    device: str | torch.device | None = None,
    seed: int = 0,
    options: ExtractOptions | None = None,
) -> dict[str, int]:
    """The layers that `extract` with these arguments would return, and their numbers of features d, without a full run.

    Raises what `extract` raises; what a pattern matches beyond layers that can be read is left out with a log message.

    >>> readable_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(5, 2))
    {'0': 3}
    """
    how = merged(options)
    look: dict[str, int] = {"batch_size": how.batch_size, "batch_dim": how.batch_dim}
    feed = _prepared(model, inputs, None, None, layers, how.mask, None, **look)[0]
    wish, feed, _ = _sampled(model, Wish.of(how, seed, unwrapped(model)), feed)
    model, layers = placed(model, device), inside(model, layers)
    found = _surveyed(model, feed, layers, wish)[2]
    return {key: site.width for key, site in found.sites.items()}


def _sampled(model: nn.Module, wish: Wish, feed: Feed) -> tuple[Wish, Feed, Tensor | None]:
    """Wish and feed where tokens are samples, with the sequence (n,) of each; else as they are, and None."""
    if isinstance(feed.inputs, Stream) and not feed.inputs.again:
        return wish, feed, None
    readout, inputs, rows = sampled(unwrapped(model), wish.readout, feed.inputs, wish.seed)
    if rows is None:
        return wish, feed, None
    if feed.mask is not None:
        raise BadInput("readout='tokens:k' reads the attention mask of the inputs: leave mask= out")
    return replace(wish, readout=readout), replace(feed, inputs=inputs), rows


def _surveyed(model: nn.Module, feed: Feed, layers: Patterns, wish: Wish) -> tuple[list[str], set[str], Sites]:
    """Layers to record, those given by name, and what they deliver, found by small forward passes."""
    check_reduction(wish.options.reduce, feed.own_mask())

    def probe(k: int) -> Any:
        return feed.ready(feed.first(k).inputs, model)

    names, named = choose_layers(model, probe(2), layers, wish.readout)
    where = home(model)[0]
    require_samples_off_the_time_axis(model, probe, where)
    with evaluating(model, where, wish.seed), torch.no_grad():
        found = Survey(model, feed, names, named, wish).find()
    _require_sites(found, layers)
    return names, named, found


def _require_whole(model: nn.Module) -> None:
    """BadInput for weights that are spread over the processes which are to share the samples."""
    split = over_processes(model) if world_size() > 1 else ""
    if split:
        raise BadInput(
            f"extract() with store= gives each rank its own samples, but {split}, and every forward pass needs all "
            f"ranks: {GATHER}; or leave store= out, and give all ranks the same samples"
        )


def _prepared(
    model: nn.Module, inputs: Any, labels: Any, groups: Any, layers: Any, mask: Any, store: Any, **look: int
) -> tuple[Feed, Labels | None, Tensor | None, Any, int | None]:
    """The inputs, and what belongs to their samples, checked: feed, labels, groups, layers, number of samples.

    The number is None for inputs in batches that are read once, whose number is known at the end.
    """
    inputs, labels = opened(unwrapped(model), inputs, labels, **look)
    if isinstance(inputs, Stream):
        _check_beside(inputs, store=store, groups=groups, mask=mask)
        n = None if store is None else n_samples(inputs)
    else:
        inputs = samples_first(as_inputs(inputs), look["batch_dim"])
        n = n_samples(inputs)
    labels, layers = labels_or_layers(model, labels, layers, n)
    labels = None if labels is None else as_labels(labels, n=n)
    groups = None if groups is None else as_groups(groups, n=n)
    feed = Feed(inputs, checked_mask(mask, n), look["batch_dim"])
    return (feed if store is None else feed.with_whole_mask()), labels, groups, layers, n


def _require_sites(found: Sites, layers: Patterns) -> None:
    """An error where no layer can be taken: with the reason of the first, or because none is called."""
    if found.sites:
        return
    for key, problem in found.problems.items():
        raise BadInput(f"none of the layers {layers!r} can be taken; {name_of(key)}: {problem}")
    raise LayerDidNotFire(
        f"none of the layers {layers!r} is called in a forward pass and returns a row for each sample"
    )


def _expected(feed: Feed) -> int | None:
    return feed.inputs.expected if isinstance(feed.inputs, Stream) else feed.n


def _check_beside(streamed: Stream, **given: Any) -> None:
    """BadInput for arguments that need the samples in a known order, or twice, with a stream that is read once."""
    if given["store"] is not None:
        streamed.require_again("a store, which saves a checksum of the samples,")
    for name in ("groups", "mask"):
        if given[name] is not None and streamed.shuffled:
            raise BadInput(
                f"inputs is a DataLoader that shuffles, so {name}= would not belong to its samples: give it with "
                "shuffle=False"
            )
    if streamed.shuffled:
        _log.warning("the DataLoader shuffles: rows are in the order of this pass, and another pass has another order")


def _completed(feed: Feed, labels: Labels | None, groups: Tensor | None) -> tuple[Labels | None, Tensor | None]:
    """Labels and groups after a stream has been read: labels of its batches if none are given, lengths checked."""
    if not isinstance(feed.inputs, Stream):
        return labels, groups
    n, given = feed.n, feed.inputs.labels if labels is None else labels
    checked_mask(feed.mask, n)
    return None if given is None else as_labels(given, n=n), None if groups is None else as_groups(groups, n=n)
