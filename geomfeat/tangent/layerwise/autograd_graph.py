"""Every use of every parameter in one forward pass, read from the graph that autograd recorded.

The graph, unlike the list of modules, is complete: functional use, tied weights, subclassed layers and cells called
step by step all appear in it, and what a custom function hides is missing from plain gradients too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Node = Any  # torch.autograd.graph.Node, whose saved values are attributes made at run time


@dataclass(frozen=True, eq=False)
class Use:
    """A parameter, or the view of it that is used, as input number `position` of the operation behind `node`.

    Attributes:
        lookup: the embedding that looked rows of the parameter up for all samples at once (positions), where what
            comes out of it is added to a tensor of every sample: `node` is then that sum.
        scale: the number by which the view was multiplied before it was used: sqrt(1 / fan_in) in the NTK
            parameterization, say. What else was added to it, a constant, is not in any gradient.
    """

    parameter: str
    view: Tensor
    node: Node
    position: int
    lookup: Node | None = None
    scale: float = 1.0


def uses(output: Tensor, theta: Mapping[str, Tensor]) -> list[Use]:
    """All uses of the tensors `theta` (leaves) in the computation of `output`, always in the same order."""
    names = {id(t): name for name, t in theta.items()}
    consumers, leaves = _consumers(output.grad_fn)
    found = []
    for leaf in leaves:
        name = names.get(id(leaf.variable))
        if name is not None:
            found.extend(_followed(name, theta[name].detach(), leaf, 0, consumers))
    return found


def _consumers(root: Node) -> tuple[dict[Node, list[tuple[Node, int, int]]], list[Node]]:
    """Node -> (consumer, number of the consumer's input, number of the node's output), and the leaves."""
    consumers: dict[Node, list[tuple[Node, int, int]]] = {}
    leaves, waiting, seen = [], [root], {root}
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        for position, (source, output) in enumerate(node.next_functions):
            if source is None:
                continue
            consumers.setdefault(source, []).append((node, position, output))
            if source not in seen:
                seen.add(source)
                waiting.append(source)
                if hasattr(source, "variable"):
                    leaves.append(source)
    return consumers, leaves


def _followed(
    name: str, view: Tensor, source: Node, output: int, consumers: Mapping[Node, Any], scale: float = 1.0
) -> Iterator[Use]:
    """Uses of one output of a node, through operations that only look at the parameter another way, or scale it."""
    for node, position, number in consumers.get(source, ()):
        if number != output:
            continue
        factor = _factor(node, position, view)
        looked = (view,) if factor is not None else _views(node, view)
        if looked is None:
            spread = _spread_by(node, consumers)
            there = (node, position) if spread is None else spread
            yield Use(name, view, *there, lookup=None if spread is None else node, scale=scale)
        else:
            for i, part in enumerate(looked):
                yield from _followed(name, part, node, i, consumers, scale * (1.0 if factor is None else factor))


def _factor(node: Node, position: int, view: Tensor) -> float | None:
    """By what number an operation multiplies `view`, its input number `position`; None where it does something else."""
    match node.name():
        case "NegBackward0":
            return -1.0
        case "MulBackward0":
            number = node._saved_other if position == 0 else node._saved_self
        case "DivBackward0" if position == 0:
            number = node._saved_other
        case "MulBackward1" | "DivBackward1":  # by a number that torch was given as such, not as a tensor
            number = torch.as_tensor(node._saved_other, dtype=torch.float64)
        case "AddBackward0" | "SubBackward0" | "RsubBackward1":
            number = _sign(node, position)
        case _:
            return None
    # The other one may be a parameter too, on which the gradient of this one would depend, or hold the samples.
    constant = len(node.next_functions) == 1 or node.next_functions[1 - position][0] is None
    if number is None or number.ndim or not constant or tuple(node._input_metadata[0].shape) != view.shape:
        return None
    return 1 / float(number) if node.name().startswith("Div") else float(number)


def _sign(node: Node, position: int) -> Tensor:
    """The number before input number `position` of a sum or difference with a constant: 1 + w, say."""
    alpha = torch.tensor(float(node._saved_alpha))
    if node.name() == "RsubBackward1":  # a number less w
        return -alpha
    if position == 0:
        return torch.tensor(1.0)
    return alpha if node.name() == "AddBackward0" else -alpha


def _spread_by(node: Node, consumers: Mapping[Node, Any]) -> tuple[Node, int] | None:
    """The sum that gives every sample the rows that an embedding looked up once, and which of its inputs they are."""
    after = consumers.get(node, ())
    if node.name().rstrip("0123456789") != "EmbeddingBackward" or len(after) != 1:
        return None
    consumer, position, _ = after[0]
    if consumer.name().rstrip("0123456789") != "AddBackward":
        return None
    before, summed = (tuple(n._input_metadata[0].shape) for n in (node, consumer))
    return (consumer, position) if before != summed and before[-1] == summed[-1] else None


def _views(node: Node, view: Tensor) -> tuple[Tensor, ...] | None:
    """What a view operation makes of `view`; None where `node` is no such operation."""
    match node.name():
        case "TBackward0":
            return (view.t(),)
        case "TransposeBackward0":
            return (view.transpose(_signed(node._saved_dim0), _signed(node._saved_dim1)),)
        case "PermuteBackward0":
            return (view.permute([_signed(d) for d in node._saved_dims]),)
        case "UnsqueezeBackward0":
            return (view.unsqueeze(_signed(node._saved_dim)),)
        case "ViewBackward0":
            return (view.view(tuple(node._input_metadata[0].shape)),)
        case "SliceBackward0":
            # The end is stored as given: the largest whole number stands for "to the end".
            along = _signed(node._saved_dim)
            part = slice(_signed(node._saved_start), _signed(node._saved_end), node._saved_step)
            return (view.movedim(along, 0)[part].movedim(0, along),)
        case "SplitBackward0":
            return view.split(node._saved_split_size, _signed(node._saved_dim))
        case "SplitWithSizesBackward0":
            return view.split(list(node._saved_split_sizes), _signed(node._saved_dim))
        case "UnbindBackward0":
            return view.unbind(_signed(node._saved_dim))
        case "SelectBackward0":
            return (view.select(_signed(node._saved_dim), _signed(node._saved_index)),)
    return None


def _signed(number: int) -> int:
    """Negative dimensions are stored as unsigned numbers."""
    return number - 2**64 if number >= 2**63 else number
