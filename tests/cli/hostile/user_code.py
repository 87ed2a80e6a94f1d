"""The Python files of a user in a hostile world: factories of networks, data and readouts, most of which misbehave."""

from __future__ import annotations

NETWORKS = """
import sys
import warnings

import torch
from torch import nn


def make():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def wide():
    return nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 3))


def images():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))


def tokens():
    return nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 3))


def raises():
    raise RuntimeError("no such network\\non two lines")


def quits():
    sys.exit(0)


def quits_with_words():
    sys.exit("no licence found")


def endless():
    return endless()


def number():
    return 3


def nothing():
    return None


def needs(size):
    return nn.Linear(size, 3)


def out_of_memory():
    return nn.Linear(10**9, 10**9)


def empty():
    return nn.Sequential()


def without_hidden():
    return nn.Linear(6, 3)


def on_meta():
    with torch.device("meta"):
        return make()


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, 3))


def warns():
    warnings.warn("old code", DeprecationWarning)
    return make()


def whole():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).long()


def half():
    return make().half()


class Odd(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.body, self.how = make(), how

    def forward(self, x):
        if self.how == "raises":
            raise ValueError("forward cannot do this\\nat all")
        if self.how == "quits":
            sys.exit(0)
        if self.how == "endless":
            return self.forward(x)
        found = self.body(x)
        return {"nan": found * float("nan"), "mapping": {"a": found, "b": found}, "none": None, "text": "text",
                "scalar": found.sum(), "fewer": found[:1], "list": [found, [found]]}[self.how]


def of_kind(how):
    return lambda: Odd(how)


forward_raises, forward_quits, forward_endless = of_kind("raises"), of_kind("quits"), of_kind("endless")
forward_nan, forward_mapping, forward_none = of_kind("nan"), of_kind("mapping"), of_kind("none")
forward_text, forward_scalar, forward_fewer = of_kind("text"), of_kind("scalar"), of_kind("fewer")
forward_list = of_kind("list")
ready = make()
text = "make"
"""

DATA = """
import sys

import numpy as np
import torch

x, y = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3


def good():
    return x, y


def alone():
    return x


def raises():
    raise OSError("the disk is gone")


def raises_key():
    return {}["x"]


def raises_type():
    return len(3)


def quits():
    sys.exit(0)


def endless():
    return endless()


def number():
    return 3


def nothing():
    return None


def words():
    return "x and y"


def wrong_width():
    return torch.zeros(24, 9), y


def one_axis():
    return torch.randn(24), y


def five_axes():
    return torch.randn(24, 1, 1, 1, 6), y


def ragged():
    return [[1.0, 2.0], [3.0]], [0, 1]


def objects():
    return np.array([object(), object()]), [0, 1]


def with_nan():
    return x * float("nan"), y


def no_samples():
    return x[:0], y[:0]


def one_sample():
    return x[:1], y[:1]


def complex_numbers():
    return x + 1j, y


def wrong_length():
    return x, y[:5]


def fractions():
    return x, y + 0.5


def nan_labels():
    return x, torch.full((24,), float("nan"))


def two_columns():
    return x, torch.zeros(24, 2)


def mixed_labels():
    return x, np.array([None, "a"] * 12, dtype=object)


def negative_labels():
    return x, y - 5


def huge_labels():
    return x, y + 2**40


def one_class():
    return x, y * 0


def own_classes():
    return x, torch.arange(24)


def three():
    return x, y, y


def mapping_without_x():
    return {"inputs_of_mine": x, "y": y}


def mapping_of_words():
    return {"x": "words", "y": y}


def empty_mapping():
    return {}


def generator():
    yield x


def on_meta():
    return torch.zeros(24, 6, device="meta"), y


def sparse():
    return x.to_sparse(), y


def needs(size):
    return x


ready = (x, y)
"""

READOUTS = """
import sys


def first(outputs):
    return outputs


def raises(outputs):
    raise RuntimeError("no readout")


def quits(outputs):
    sys.exit(0)


def text(outputs):
    return "text"


def nothing(outputs):
    return None


def scalar(outputs):
    return outputs.sum()


def one_axis(outputs):
    return outputs[:, 0]


def needs_two(outputs, more):
    return outputs


number = 3
"""

BROKEN = {
    "syntax.py": "def make(:\n",
    "quits.py": "import sys\nsys.exit(0)\n",
    "raises.py": "raise RuntimeError('at import')\n",
    "absent.py": "import no_such_package_at_all\n",
    "nul.py": "x = 1\0\n",
    "endless.py": "def f(): return f()\nf()\n",
    "latin.py": b"# caf\xe9\nmake = 1\n",
}


def names_in(source: str) -> list[str]:
    """What can be named in one of these files."""
    space: dict[str, object] = {}
    exec(compile(source, "user", "exec"), space)
    return sorted(name for name in space if not name.startswith("_"))
