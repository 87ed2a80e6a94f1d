"""The tasks by name, as a SPEC of data has them: task:NAME[:option=value,...]."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from geomfeat.data.dataset import Dataset
from geomfeat.data.tasks._context_dependent_choice import context_dependent_choice
from geomfeat.data.tasks._delayed_match import delayed_match
from geomfeat.data.tasks._two_alternative_choice import two_alternative_choice
from geomfeat.data.tasks._working_memory import working_memory
from geomfeat.data.tasks.trials import TaskTrials
from geomfeat.errors import BadInput, near

TASKS: dict[str, Callable[..., TaskTrials]] = {
    f.__name__.replace("_", "-"): f
    for f in (two_alternative_choice, delayed_match, context_dependent_choice, working_memory)
}
LEARN = "learn"
LEARNED = ("choice", "steps")
APART = 1_000_003  # of the seed of test trials from that of the others: farther than seeds in use lie from each other


def task_dataset(text: str) -> Dataset:
    """The data of "NAME[:option=value,...]": n trials to train on, and half as many, with another seed, to test.

    Options are those of the task's function, numbers; several are joined by "+" (coherences=0.2+0.8, delay=1+4). And
    learn=choice (default), the right answer, for networks that return (n, classes); or learn=steps, the targets of all
    scored steps, for networks that are called with x and mask, and return (n, steps, outputs), 0 outside of the mask.

    Raises BadInput, with near names, for an unknown task or option, and values that the task does not take.

    >>> data = task_dataset("delayed-match:n=40,items=3")
    >>> data.inputs.shape, data.test_inputs.shape, data.classes
    (torch.Size([40, 12, 4]), torch.Size([20, 12, 4]), ('non-match', 'match'))
    """
    name, _, rest = text.partition(":")
    if name not in TASKS:
        raise BadInput(f"there is no task {name!r}; near: {near(name, TASKS)}. All: {', '.join(TASKS)}")
    known = inspect.signature(TASKS[name]).parameters
    options: dict[str, Any] = {}
    learn = LEARNED[0]
    for part in rest.split(",") if rest else ():
        option, _, value = part.partition("=")
        if option == LEARN:
            if value not in LEARNED:
                raise BadInput(f"{LEARN}={value!r} must be one of {', '.join(LEARNED)}")
            learn = value
            continue
        if option not in known:
            raise BadInput(
                f"task {name} has no option {option!r}; near: {near(option, known)}. All: {LEARN}, {', '.join(known)}"
            )
        options[option] = _value(option, value, known[option].default)
    n, seed = options.pop("n", known["n"].default), options.pop("seed", known["seed"].default)
    train = TASKS[name](n, seed=seed, **options)
    test = TASKS[name](max(1, n // 2), seed=seed + APART, **options)
    return train.dataset(test, every_step=learn == "steps")


def _value(name: str, text: str, default: Any) -> Any:
    """A number, or several where the default has several or is a number of steps."""
    kind = float if isinstance(default, float | tuple) else int
    try:
        values = [kind(part) for part in text.split("+")]
    except ValueError as cause:
        raise BadInput(f"{name}={text!r} must be {'numbers' if kind is float else 'whole numbers'}") from cause
    if isinstance(default, tuple) or (name == "delay" and len(values) == 2):
        return tuple(values)
    if len(values) > 1:
        raise BadInput(f"{name}={text!r} must be one number")
    return values[0]
