"""Operation -> how a parameter acts in it. What is not in the table is left to the Jacobian."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from geomfeat.tangent.layerwise import rules_conv, rules_elementwise, rules_embedding, rules_linear
from geomfeat.tangent.layerwise.autograd_graph import Use
from geomfeat.tangent.layerwise.rules_conv import ConvTerm
from geomfeat.tangent.layerwise.rules_elementwise import ElementwiseTerm
from geomfeat.tangent.layerwise.rules_embedding import EmbeddingTerm
from geomfeat.tangent.layerwise.rules_linear import LinearTerm

# One use of a parameter: what turns the gradient at its output into gradients of each sample. `weight` is the part of
# the parameter that acts, `oriented(delta)` the gradient with its axes in the rule's order; `deltas(delta, samples)` is
# sample i's gradient itself, or, where there are `inputs(samples)`, gives it as the sum over t of delta_it input_it'.
# `scaled(number)` is the same use of number times the weight: the weight's own gradient is so many times as large.
OuterTerm = LinearTerm | ConvTerm | EmbeddingTerm
Term = OuterTerm | ElementwiseTerm
Rule = Callable[[Any, int, Tensor], Term | None]
RULES: dict[str, tuple[Rule, ...]] = {
    "AddmmBackward": (rules_linear.addmm, rules_elementwise.addmm_bias),
    "MmBackward": (rules_linear.mm,),
    "ConvolutionBackward": (rules_conv.convolution, rules_elementwise.convolution_bias),
    "EmbeddingBackward": (rules_embedding.embedding,),
    "AddBackward": (rules_elementwise.add,),
    "SubBackward": (rules_elementwise.subtract,),
    "MulBackward": (rules_elementwise.multiply,),
    "ExpandBackward": (rules_elementwise.expand,),
    "NativeLayerNormBackward": (rules_elementwise.layer_norm,),
    "NativeGroupNormBackward": (rules_elementwise.group_norm,),
    "NativeBatchNormBackward": (rules_elementwise.batch_norm,),
}


def operation(use: Use) -> str:
    """The name of the operation behind a use, without the number of its overload."""
    name = use.node.name().rstrip("0123456789")
    return name if use.lookup is None else f"{name} of a look-up"


def term(use: Use) -> Term | None:
    """The rule's reading of a use; None without a rule for it."""
    found = _unscaled_term(use)
    return found if found is None or use.scale == 1 else found.scaled(use.scale)


def _unscaled_term(use: Use) -> Term | None:
    if use.lookup is not None:
        return rules_embedding.added_to_all(use.node, use.position, use.lookup, use.view)
    for rule in RULES.get(operation(use), ()):
        try:
            found = rule(use.node, use.position, use.view)
        # Overloads of an operation save other values: those without a tensor where the rule wants one have no rule.
        except AttributeError:
            continue
        if found is not None:
            return found
    return None
