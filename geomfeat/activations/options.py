"""Options of an extraction: how the features of layers are recorded."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from geomfeat.activations.hooks import Calls
from geomfeat.activations.random_projection import check_projection
from geomfeat.activations.reduction import Reduction
from geomfeat.errors import BadInput, require_kind
from geomfeat.models.functional import Readout

BY_CALL = "by call"  # the projection that a call has without options


@dataclass(frozen=True, eq=False)
class ExtractOptions:
    """How features are recorded, in `extract`, `analyze` and `compare`.

    Attributes:
        reduce: how a map or a sequence becomes (n, d), see `geomfeat.activations.reduce`; default "flatten".
        project: a number of features, to which wider layers are projected by a sparse random matrix, the same for a
            layer of that name at every checkpoint, given the seed; "auto" projects layers of more than 4096 features to
            2048; None projects none. Default "by call": None in `extract`, "auto" in `analyze` and `compare`.
        batch_size: samples per forward pass, default 256; no effect on the numbers.
        readout: what the outputs (n, C) of the network are: "last", "mean", "cls", "token:i", "masked" or "tokens:k" of
            its tokens, a function (output, inputs) -> (n, C), or its name, see `locate`. Default None: as there.
        io: "output" of the layers (default) or "input"; calls: of a layer that is called several times, "last"
            (default), "all", or one by number; see `recording`.
        mask: (n, tokens), true for valid tokens. Default None: the inputs' "attention_mask", or the complement of their
            boolean "src_key_padding_mask". Padding is no feature: "flatten" sets it to zero, and leaves out positions
            that are padding in every sample.
        batch_dim: the axis of the samples in the inputs, default 0; 1 for (time, samples, features) of recurrent layers
            with batch_first=False. Tensors without such an axis, as lengths (n,), have samples first.
        with_outputs: also the network's outputs (n, C), as `output_matrix` or `readout` reads them, in every
            Representation; default False.

    `analyze` and `compare` read outputs of layers for samples that come first, and decide by themselves whether outputs
    of the network are needed: they take the first four only.

    Raises BadInput for a batch_size below 1, or a project that is none of these.

    >>> ExtractOptions(reduce="mean", project=100).batch_size
    256
    """

    reduce: Reduction = "flatten"
    project: int | str | None = BY_CALL
    batch_size: int = 256
    readout: Readout | str | None = None
    io: Literal["output", "input"] = "output"
    calls: Calls = "last"
    mask: Any = None
    batch_dim: int = 0
    with_outputs: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise BadInput(f"batch_size={self.batch_size} must be at least 1")
        if self.project != BY_CALL:
            check_projection(self.project)

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        own = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        # Identity first: a mask has no single answer to whether it equals None.
        return {
            name: value
            for name, (value, usual) in own.items()
            if value is not usual and not (isinstance(value, str | int) and value == usual)
        }

    def with_projection(self, project: int | str | None) -> Self:
        """These options, with this projection where it was left to the call."""
        return replace(self, project=project) if self.project == BY_CALL else self


def merged(options: ExtractOptions | None, **beside: Any) -> ExtractOptions:
    """The options of one call of `extract`: those in `options`, and those given beside it (None: not given).

    Raises BadInput for one that is given in both places.

    >>> merged(ExtractOptions(batch_size=8), reduce="mean").project is None
    True
    """
    options = ExtractOptions() if options is None else options
    require_kind(options, ExtractOptions, "options")
    for name, value in beside.items():
        if value is None:
            continue
        if name in options.given():
            raise BadInput(f"{name}= is given beside options= and in it: leave out one of them")
        options = replace(options, **{name: value})
    return options.with_projection(None)
