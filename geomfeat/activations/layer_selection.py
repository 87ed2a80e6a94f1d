"""Which modules of a model: by name, glob, regular expression, type, predicate or kind.

Names are those of `named_modules()`, a shared module under its first name; where a part of the model is compiled, the
wrapper's `_orig_mod` is left out of them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from torch import nn

from geomfeat.errors import BadInput, LayerNotFound, near
from geomfeat.models.effective_weights import inside_parametrization
from geomfeat.models.functional import unwrapped
from geomfeat.models.modules import wrapper_names

Pattern = str | Callable[[str, nn.Module], bool]
Patterns = Pattern | Sequence[Pattern]

KINDS = ("*", "leaf", "block", "weights")
# Never called themselves: what they hold is.
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
# The network of a training program (Lightning's) in names of weights; the models given here are that network.
INNER = "model"
_SUFFIX = re.compile(r"(?P<name>.*?)(?P<call>@\d+)?(?P<path>(\[[^\[\]]+\])*)")


def modules_by_name(model: nn.Module) -> dict[str, nn.Module]:
    """Every module but the root and parametrizations of weights, by name, in module order."""
    found: dict[str, nn.Module] = {}
    for name, module in unwrapped(model).named_modules():
        clean = ".".join(part for part in name.split(".") if part != "_orig_mod")
        # What makes a weight of other tensors is no layer: its output is that weight.
        if clean and not inside_parametrization(clean):
            found[clean] = module  # the eager module replaces its compiled wrapper, which has the same clean name
    return found


def split_key(key: str) -> tuple[str, int | None, str]:
    """Module name, call index and path of a recorded tensor's name.

    >>> split_key("rnn.cell@3[1][0]")
    ('rnn.cell', 3, '[1][0]')
    """
    match = _SUFFIX.fullmatch(key)
    if match is None:
        return key, None, ""
    call = match["call"]
    return match["name"], int(call[1:]) if call else None, match["path"] or ""


def module_name(key: str) -> str:
    """The module that a recorded tensor comes from, for looking up its parameters.

    >>> module_name("rnn[1][0]")
    'rnn'
    """
    return split_key(key)[0]


def select_layers(model: nn.Module, patterns: Patterns, *, fired: Sequence[str] | None = None) -> list[str]:
    """Names of the modules that match, in module order, each once.

    Args:
        patterns: one or a list of
            a name ("layer3.0.conv1"; of a wrapped model also "module.layer3.0.conv1"), also with a call index and a
            path into a nested output ("rnn[0]", "cell@3");
            a glob ("layer3.*"; `*` also matches dots), "re:..." (searched anywhere in the name), "type:Conv2d"
            (a class name, also of a base class), a predicate (name, module) -> bool, or a kind:
            "*" everything but the root; "leaf" modules without children; "weights" modules with a weight matrix of
            their own, embedding tables aside (`hidden_weight_layers` also leaves out the read-out);
            "block" the repeated units: members of a Sequential or ModuleList that have children themselves, such as
            residual blocks and transformer layers. The outermost ones, but not stages: a Sequential of units is
            looked into, and so is a member that is alone of its class and holds units itself.
        fired: names of the modules that a forward pass calls (`fired_layers`); only exact names go beyond these.

    Raises LayerNotFound, with near names, for a pattern that matches nothing.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> select_layers(net, ["type:Linear", "1"])
    ['0', '1', '2']
    """
    modules = modules_by_name(model)
    listed = as_list(patterns)
    chosen: set[str] = set()
    for pattern in inside(model, listed):
        found = _matching(pattern, modules, model)
        if fired is not None and not (isinstance(pattern, str) and is_exact(pattern, modules)):
            found = [name for name in found if name in set(fired)]
        if not found:
            raise LayerNotFound(_nothing_matches(pattern, modules))
        chosen.update(found)
    order = {name: i for i, name in enumerate(["", *modules])}
    return sorted(chosen, key=lambda key: (order[module_name(key)], split_key(key)[1] or 0, split_key(key)[2]))


def as_list(patterns: Patterns) -> list[Pattern]:
    """One pattern or several, as a list; BadInput for anything else."""
    if isinstance(patterns, str) or callable(patterns):
        return [patterns]
    if not isinstance(patterns, Iterable):
        raise BadInput(f"layers must be a pattern or a list of patterns, got {patterns!r}")
    return list(patterns)


def inside(model: nn.Module, patterns: Patterns) -> list[Pattern]:
    """Patterns as the unwrapped model shows its names: without a wrapper's part where they match nothing with it.

    A regular expression is then searched in the names as the wrapped model shows them.

    >>> inside(nn.DataParallel(nn.Sequential(nn.ReLU())), "module.0"), inside(nn.Sequential(nn.ReLU()), "model.0")
    (['0'], ['0'])
    """
    listed, modules, wrappers = as_list(patterns), modules_by_name(model), wrapper_names(model)
    parts = (wrappers[i:j] for i in range(len(wrappers)) for j in range(len(wrappers), i, -1))
    beginnings = [".".join(part) + "." for part in (*parts, (INNER,))]
    found: list[Pattern] = []
    for pattern in listed:
        if isinstance(pattern, str) and pattern and not _matching(pattern, modules, model):
            found.append(next((p for p in _within(pattern, beginnings) if _matching(p, modules, model)), pattern))
        else:
            found.append(pattern)
    return found


def _within(pattern: str, beginnings: Iterable[str]) -> Iterator[Pattern]:
    """The pattern as it would be inside of each of these beginnings of names."""
    for start in beginnings:
        if pattern.startswith("re:"):
            expression = re.compile(pattern[3:])
            yield lambda name, _, start=start, expression=expression: bool(expression.search(start + name))
        elif pattern.startswith(start):
            yield pattern.removeprefix(start)


def is_kind(pattern: Pattern) -> bool:
    """Whether a pattern names a kind of module rather than particular ones."""
    return isinstance(pattern, str) and pattern in KINDS


def is_exact(pattern: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a pattern is the name of one module, or of one tensor that it makes; "" is the root."""
    return not is_kind(pattern) and (pattern == "" or pattern in modules or module_name(pattern) in modules)


def _matching(pattern: Pattern, modules: Mapping[str, nn.Module], model: nn.Module) -> list[str]:
    if not isinstance(pattern, str):
        if not callable(pattern):
            raise BadInput(f"a layer pattern is a string or a predicate (name, module) -> bool, got {pattern!r}")
        return [name for name, module in modules.items() if pattern(name, module)]
    if pattern in KINDS:
        return _of_kind(pattern, modules, model)
    if is_exact(pattern, modules):
        return [pattern]
    callable_ones = {name: m for name, m in modules.items() if not isinstance(m, _CONTAINERS)}
    if pattern.startswith("re:"):
        try:
            expression = re.compile(pattern[3:])
        except re.error as cause:
            raise BadInput(f"layer pattern {pattern!r} is not a regular expression: {cause}") from cause
        return [name for name in callable_ones if expression.search(name)]
    if pattern.startswith("type:"):
        wanted = pattern[5:]
        return [n for n, m in callable_ones.items() if any(wanted == base.__name__ for base in type(m).__mro__)]
    return [name for name in callable_ones if fnmatch.fnmatchcase(name, pattern)]


def _of_kind(kind: str, modules: Mapping[str, nn.Module], model: nn.Module) -> list[str]:
    modules = {name: m for name, m in modules.items() if not isinstance(m, _CONTAINERS)}
    if kind == "leaf":
        return [name for name, module in modules.items() if not _has_children(module)]
    if kind == "weights":
        return weight_layers(modules)
    if kind == "block":
        units = set(repeated_units(unwrapped(model)))
        return [name for name in modules if name in units]
    return list(modules)


def weight_layers(modules: Mapping[str, nn.Module]) -> list[str]:
    """Names of the modules with a weight matrix of their own.

    A layer with an adapter of peft counts as the whole: what is inside of it are terms of its output, one of them 0 at
    the start.
    """
    wholes = tuple(f"{name}." for name, module in modules.items() if _adapted(module) is not None)
    return [name for name, module in modules.items() if has_weight_matrix(module) and not name.startswith(wholes)]


def has_weight_matrix(module: nn.Module) -> bool:
    """Whether a module itself has a parameter with two or more dimensions, other than an embedding table.

    A layer with an adapter has those of the layer that it adapts.
    """
    base = _adapted(module)
    if base is not None:
        return has_weight_matrix(base)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return False
    if hasattr(module, "_packed_params"):  # quantised: the weights are no parameters
        return True
    # The reparametrised weight of torch.nn.utils.parametrize lives in a child; the module is still the layer.
    own = [*own_parameters(module).values(), *getattr(module, "parametrizations", nn.Module()).parameters()]
    return any(parameter.ndim >= 2 for parameter in own)


def _adapted(module: nn.Module) -> nn.Module | None:
    """What a layer of peft adapts; None for any other module."""
    base = getattr(module, "base_layer", None)
    return base if isinstance(base, nn.Module) and hasattr(module, "adapter_layer_names") else None


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """A module's parameters outside its submodules, with those in its lists and dicts of parameters, by name.

    >>> list(own_parameters(nn.ParameterList([nn.Linear(2, 1).bias])))
    ['0']
    """
    own = dict(module.named_parameters(recurse=False))
    for name, child in module.named_children():
        if isinstance(child, nn.ParameterList | nn.ParameterDict):
            own |= {f"{name}.{inner}": parameter for inner, parameter in own_parameters(child).items()}
    return own


def holder_of_bare_parameters(model: nn.Module) -> tuple[str, nn.Module] | None:
    """The model, or the module that it only wraps, with its name, if it holds parameters outside of its submodules.

    >>> holder_of_bare_parameters(nn.Sequential(nn.Linear(2, 1)))
    ('0', Linear(in_features=2, out_features=1, bias=True))
    """
    name, module = "", model
    while not own_parameters(module):
        inner = [(n, child) for n, child in module.named_children() if any(True for _ in child.parameters())]
        if len(inner) != 1:
            return None
        name, module = f"{name}.{inner[0][0]}".removeprefix("."), inner[0][1]
    return name, module


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _eager(module: nn.Module) -> nn.Module:
    return getattr(module, "_orig_mod", module)


def repeated_units(model: nn.Module) -> list[str]:
    """Names of the repeated units of a model, none of them inside another; see `select_layers`.

    >>> repeated_units(nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(2))))
    ['0', '1']
    """
    return list(_units(model))


def _units(parent: nn.Module, prefix: str = "") -> Iterator[str]:
    children = [(f"{prefix}{name}", _eager(child)) for name, child in parent.named_children()]
    classes = [type(child) for _, child in children if _has_children(child)]
    for name, child in children:
        member = isinstance(parent, nn.Sequential | nn.ModuleList) and not isinstance(child, _CONTAINERS)
        inner = list(_units(child, f"{name}."))
        alone = classes.count(type(child)) == 1
        if member and _has_children(child) and not (inner and (alone or _is_stage(child))):
            yield name
        else:
            yield from inner


def _is_stage(module: nn.Module) -> bool:
    held = list(module.children())
    return type(module) is nn.Sequential and 2 * sum(map(_has_children, held)) > len(held)


def _nothing_matches(pattern: Pattern, modules: Mapping[str, nn.Module]) -> str:
    shown = repr(pattern) if isinstance(pattern, str) else f"the predicate {getattr(pattern, '__name__', pattern)!r}"
    hint = near(pattern, modules) if isinstance(pattern, str) else ", ".join(list(modules)[:5])
    return f"no layer matches {shown}; near: {hint}. All {len(modules)} layers: geomfeat extract --list"
