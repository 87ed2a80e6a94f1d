"""What each layer will deliver: small forward passes find the axis of the samples and the width, and check the rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomfeat.activations._network_input import Feed
from geomfeat.activations.checks.sequence_lengths import mask_at
from geomfeat.activations.checks.small_batches import (
    Rows,
    batch_statistics,
    differing,
    follow_order,
    nudged_inputs,
    only_rounding,
    precision_of_model,
    random_keys,
    sampled,
    some_rows,
    what_is_seen,
)
from geomfeat.activations.hidden_layers import tried
from geomfeat.activations.hooks import recording, tensors_by_path
from geomfeat.activations.layer_selection import module_name
from geomfeat.activations.options import ExtractOptions
from geomfeat.activations.random_projection import project, projected_width, projection_matrix
from geomfeat.activations.reduction import at_positions, dense, plain, reduce
from geomfeat.errors import BadInput, LayerDidNotFire
from geomfeat.models.functional import Readout, output_matrix, output_tensor
from geomfeat.models.readouts.reading import reading_of
from geomfeat.models.readouts.token_masks import valid_tokens
from geomfeat.numerics import WORKING, require_finite

_log = logging.getLogger(__name__)

Look = Callable[[str, Tensor, Tensor | None], Any]
# Samples in the batch whose rows are checked, and the key of the network's output among those of the layers.
CHECKED, OUTPUTS = 7, "@outputs"
RANDOM = (
    "the model draws random numbers in evaluation too (functional dropout without training=self.training?), or keeps "
    "a state between calls"
)


@dataclass(frozen=True, eq=False)
class Wish:
    """How to read a network: the options of `extract`, the seed, and what reads the outputs."""

    options: ExtractOptions
    seed: int
    readout: Readout | None

    @classmethod
    def of(cls, options: ExtractOptions, seed: int, model: nn.Module) -> Self:
        """Wish with these options, and what reads the outputs of the model."""
        return cls(options, seed, reading_of(model, options.readout))


@dataclass(frozen=True, eq=False)
class Site:
    """One tensor of one layer: where its samples are, and how it becomes features.

    Attributes:
        key: its name. axis: the dimension that counts samples. shape: of one sample. width: number of features d.
        tokens: number of tokens, padding included, where "token_all" makes rows of them; None where rows are samples.
        matrix: the sparse projection, if there is one. precision: that the layer computes in, before it is widened.
        positions: (tokens,), true for those that are flattened: that are no padding in some sample; None for all.
    """

    key: str
    axis: int
    shape: tuple[int, ...]
    width: int
    tokens: int | None
    dtype: torch.dtype
    wish: Wish
    matrix: Tensor | None = None
    precision: torch.dtype = WORKING
    positions: Tensor | None = None

    def features(self, tensor: Tensor, mask: Tensor | None) -> Tensor:
        """(n, d) features of a batch; (tokens, d) where rows are tokens."""
        tensor, mask = at_positions(*_sample_first(tensor, self.axis, mask), self.positions)
        out = reduce(tensor, self.wish.options.reduce, mask=mask)
        return out if self.matrix is None else project(out, self.matrix)

    def of_samples(self, tensor: Tensor, mask: Tensor | None) -> Tensor:
        """(n, d) by which samples are compared: the features, or the mean over tokens where rows are tokens."""
        tensor, mask = at_positions(*_sample_first(tensor, self.axis, mask), self.positions)
        out = reduce(tensor, self.wish.options.reduce if self.tokens is None else "token_mean", mask=mask)
        return out if self.matrix is None else project(out, self.matrix)

    def valid(self, tensor: Tensor, mask: Tensor | None) -> Tensor:
        """(n, tokens) of a batch, true for those that "token_all" makes rows of."""
        tensor, mask = _sample_first(tensor, self.axis, mask)
        return torch.ones(tensor.shape[:2], dtype=torch.bool) if mask is None else mask.cpu() != 0


def _sample_first(tensor: Tensor, axis: int, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    tensor, mask = dense(tensor, mask)
    return tensor.movedim(axis, 0), mask


@dataclass(eq=False)
class Sites:
    """What was found.

    Attributes:
        sites: by key, in the order of recording. output_axis: of the samples in the network's output.
        problems: what has no samples, or does not fit the reduction. disordered: whose rows are not the samples.
        rows: (k,) the samples whose rows were checked. checked: what `rows` compares of them, by key.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    output_axis: int = 0
    problems: dict[str, BadInput] = field(default_factory=dict)
    disordered: dict[str, BadInput] = field(default_factory=dict)
    rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    checked: Rows = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Survey:
    """Small forward passes over a few samples of a feed; the network's output is included if it was wished for."""

    model: nn.Module
    feed: Feed
    names: Sequence[str]
    named: Collection[str]
    wish: Wish
    _looks: list[tuple[Look, Tensor | None]] = field(default_factory=list, init=False, repr=False)

    def find(self) -> Sites:
        """The sites of the layers.

        The model runs on two and on three samples: the axis that grows is the samples', wherever a layer puts it (an
        LSTM's final state, sequence-first attention). Then the rows must follow the samples, see `rows`. A layer that
        was asked for by name must fire, have samples and fit the reduction; others are left out with a log message.

        Raises LayerDidNotFire or BadInput, naming the layer.
        """
        with self.passes():
            return self._found()

    def _found(self) -> Sites:
        found, small = Sites(), {}
        unfinite: dict[str, BadInput] = {}
        positions = self.feed.positions() if self.wish.options.reduce == "flatten" else None
        self._run(self.feed.first(2), lambda key, tensor, _: small.update({key: _shape(tensor)}))

        def build(key: str, tensor: Tensor, mask: Tensor | None) -> None:
            try:
                if key == OUTPUTS:
                    found.output_axis = _sample_axis(small.get(key), tensor)
                    return
                site, reduced = _site(key, small.get(key), tensor, mask, self.wish, positions)
            except BadInput as problem:
                found.problems[key] = problem
                return
            try:
                require_finite(reduced, "it")
            except BadInput as problem:
                unfinite[key] = problem
                return
            found.sites[key] = site

        output = self._run(self.feed.first(3), build)
        self._judge(unfinite, output, found)
        self._require_fired([*found.sites, *found.problems])
        batch_size = self.wish.options.batch_size
        if batch_size > 1:
            found.rows = self.feed.spread_rows(min(CHECKED, batch_size))
            found.checked = self.check_rows(self.feed.head().take(found.rows), found)
        self._leave_out(found)
        return found

    def _judge(self, unfinite: dict[str, BadInput], output: Any, found: Sites) -> None:
        """Notes NaN and infinite layers as problems; BadInput where a network passes them on to its output."""
        made = [t for t in tensors_by_path(output).values() if t.is_floating_point() or t.is_complex()]
        # Infinities that the output does not inherit are meant, as those of a mask are.
        passed_on = not made or not all(bool(torch.isfinite(plain(t)).all()) for t in made)
        for key, problem in unfinite.items():
            if passed_on:
                raise BadInput(str(problem).replace("it", name_of(key), 1)) from problem
            found.problems[key] = problem

    def _leave_out(self, found: Sites) -> None:
        """Raises for what was asked for by name (and the output), and drops the rest with a message."""
        for key, problem in found.problems.items():
            if key == OUTPUTS or self.is_named(key):
                raise BadInput(f"{name_of(key)}: {problem}") from problem
            _log.info("layer %r is left out: %s", key, problem)
        for key, problem in found.disordered.items():
            if key == OUTPUTS or self.is_named(key):
                raise problem
            _log.warning("left out: %s", problem)
            del found.sites[key]
        if not found.sites and found.disordered:
            raise next(iter(found.disordered.values()))

    def is_named(self, key: str) -> bool:
        """Whether a layer was given by its name, or by that of its module."""
        return key in self.named or module_name(key) in self.named

    @contextmanager
    def passes(self) -> Iterator[None]:
        """One recording for all passes inside."""
        lengths: dict[str, Tensor] = {}

        def seen(key: str, tensor: Tensor) -> tuple[()]:
            look, mask = self._looks[-1]
            look(key, tensor, mask_at(key, tensor, mask, lengths))
            return ()

        how = self.wish.options
        with recording(self.model, list(self.names), io=how.io, calls=how.calls, transform=seen, lengths=lengths):
            yield

    def _run(self, feed: Feed, look: Look) -> Any:
        """The output of one of the `passes`; `look` sees key, tensor and mask of every layer, and of the output."""
        ready = feed.ready(feed.inputs, self.model)
        self._looks.append((look, valid_tokens(feed.inputs) if feed.mask is None else feed.mask))
        try:
            output = tried(self.model, ready)
            if self.wish.options.with_outputs:
                output_matrix(output, ready, self.wish.readout)
                look(OUTPUTS, output_tensor(output, ready, self.wish.readout), self._looks[-1][1])
            return output
        finally:
            self._looks.pop()

    def _require_fired(self, keys: Sequence[str]) -> None:
        for name in self.names:
            if not any(key == name or module_name(key) == name for key in keys):
                if name in self.named:
                    raise LayerDidNotFire(did_not_fire(name))
                _log.info("layer %r returns no tensor: left out", name)

    def rows_of(self, feed: Feed, found: Sites, shapes: dict[str, set[tuple[int, ...]]] | None = None) -> Rows:
        """What `rows` compares of every site; into `shapes` that of one sample where no mask says what is padding."""
        rows: dict[str, Tensor] = {}

        def look(key: str, tensor: Tensor, mask: Tensor | None) -> None:
            if key == OUTPUTS:
                rows[key] = sampled(_flat(tensor, found.output_axis))
            elif key in found.sites:
                site = found.sites[key]
                rows[key] = sampled(site.of_samples(tensor, mask))
                if shapes is not None and mask is None and not tensor.is_nested:
                    shapes.setdefault(key, set()).add(tensor.shape[: site.axis] + tensor.shape[site.axis + 1 :])

        self._run(feed, look)
        return rows

    def check_rows(self, group: Feed, found: Sites) -> Rows:
        """The rows of a batch; notes the sites whose rows are not the samples, with what the rows are instead."""
        k, eps = group.n, precision_of_model(self.model)
        shapes: dict[str, set[tuple[int, ...]]] = {}
        batch = self.rows_of(group, found, shapes)
        backwards = self.rows_of(group.take(torch.arange(k - 1, -1, -1)), found)
        parts = {key: len(rows) for key, rows in batch.items() if len(rows) != k}
        found.disordered |= {key: BadInput(f"{name_of(key)}: {some_rows(n, k)}") for key, n in parts.items()}
        batch = {key: rows for key, rows in batch.items() if key not in parts}
        alone = self.rows_of(group.take(torch.tensor([k - 1, k - 1])), found, shapes)
        wrong = differing(batch, backwards, alone, eps)
        if not wrong:
            return batch
        random = random_keys(batch, self.rows_of(group, found), eps)
        nudge = nudged_inputs(group.inputs, eps)
        nudged = None if nudge is None else self.rows_of(Feed(nudge, group.mask, group.batch_dim), found)
        for key in [key for key in batch if key in wrong]:
            what = name_of(key)
            if key in random:
                _log.warning("%s differs between two passes of the same inputs: %s", what, RANDOM)
            elif only_rounding(key, batch, backwards, alone, nudged):
                continue
            elif (cause := batch_statistics(self.model)) and follow_order(key, batch, backwards, eps):
                _log.warning("%s depends on the other samples of a batch, through %s", what, cause)
            else:
                padded = len(shapes.get(key, ())) > 1
                found.disordered[key] = BadInput(f"{what}: {what_is_seen(batch[key], alone[key], eps, padded)}")
        return batch


def name_of(key: str) -> str:
    """What to call a key in a message."""
    return "the network's output" if key == OUTPUTS else f"layer {key!r}"


def did_not_fire(name: str, where: str = "in a forward pass") -> str:
    """What to say of a layer that was not called."""
    return (
        f"layer {name!r} was not called {where}. Likely causes: its parent computes with its weights directly (fused "
        "attention: select the parent), the model is scripted, a branch was not taken, or a call index is too high. "
        "All layers that are called: geomfeat extract --list"
    )


def flat_output(output: Any, inputs: Any, readout: Readout | None, axis: int) -> Tensor:
    """A network's output as (n, C), its samples along `axis`."""
    output_matrix(output, inputs, readout)
    return _flat(output_tensor(output, inputs, readout), axis)


def _flat(output: Tensor, axis: int) -> Tensor:
    output = output.movedim(axis, 0)
    return output.flatten(1) if output.ndim > 1 else output[:, None]


def _shape(tensor: Tensor) -> tuple[int, ...] | None:
    return None if tensor.is_nested else tuple(tensor.shape)


def _site(
    key: str, small: tuple[int, ...] | None, three: Tensor, mask: Tensor | None, wish: Wish, positions: Tensor | None
) -> tuple[Site, Tensor]:  # fmt: skip
    axis = 0 if three.is_nested else _sample_axis(small, three)
    tensor, mask = _sample_first(three, axis, mask)
    how = wish.options
    tokens = tensor.shape[1] if tensor.ndim > 2 and how.reduce == "token_all" else None
    shape = tuple(tensor.shape[1:])
    tensor, mask = at_positions(tensor, mask, positions)
    reduced = reduce(tensor, how.reduce, mask=mask)
    k = projected_width(reduced.shape[1], how.project)
    matrix = None if k is None else projection_matrix(reduced.shape[1], k, key, wish.seed)
    width = reduced.shape[1] if k is None else k
    if width == 0:
        raise BadInput(f"it has no features (shape {tuple(three.shape)})")
    precision = three.dtype if three.is_floating_point() else WORKING
    return Site(key, axis, shape, width, tokens, reduced.dtype, wish, matrix, precision, positions), reduced


def _sample_axis(small: tuple[int, ...] | None, three: Tensor) -> int:
    large = tuple(three.shape)
    axes = [i for i, sizes in enumerate(zip(small or (), large, strict=False)) if sizes == (2, 3)]
    if small is None or len(small) != len(large) or len(axes) != 1:
        raise BadInput(
            f"for 2 and 3 samples its shapes are {small} and {large}, so no dimension is that of the samples (one "
            "value for all samples, or windows folded into the batch?): select another layer"
        )
    return axes[0]
