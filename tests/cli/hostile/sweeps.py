"""Ways to damage the YAML file of a sweep."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], None]


def yaml_text(path: Path, chance: random.Random) -> None:
    deep = "[" * 20_000
    laughs = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{p}, *{p}]\n"
        for p, n in zip("abcdefghijklmnopqrstuvwxy", "bcdefghijklmnopqrstuvwxyz", strict=True)
    )
    path.write_text(
        chance.choice(
            [
                deep,
                "a: " * 20_000,
                "&a [*a]",
                "sigma: &a [*a]",
                "options: &a {x: *a}",
                laughs,
                "options:\n  a: &z [1]\n",
                "sigma: 2026-13-45",
                "? [1]\n: 2",
                "a: !!python/object:os.system x",
                "eta: !!timestamp x",
                "eta: !!int ''",
                "eta: !!float abc",
                "seeds: 0x",
                "\tsigma: 1",
                "sigma: 1\nsigma: 2",
                "- 1\n- 2",
                "3",
                "text",
                "null",
                "%YAML 9.9\n---\na: 1",
                "\x00",
                "sigma: .nan",
                "a: !!binary x",
                "seeds: 1:60:60",
                "'unclosed",
                "a: !!set [x]",
                "{" * 3000,
                "options: !!omap [1]",
                "eta: 1_000_",
                "a: *b",
                "x: !unknown 3",
                "1: 2",
                "null: 3",
            ]
        )
    )


SIZES = [0, -1, 10**9, 10**12, 10**30, 1.5, "x", [], [8, "x"], None, True, {"low": 1}, {"low": 2, "high": 1}, [[8]], ""]


def yaml_value(path: Path, chance: random.Random) -> None:
    """Another value in one place of a sweep."""
    import yaml

    content = yaml.safe_load(path.read_text())
    keys = [
        "width",
        "depth",
        "sigma",
        "eta",
        "seeds",
        "data",
        "architecture",
        "optimizer",
        "batch_size",
        "gamma",
        "r",
        "parameterization",
        "options",
        "design",
        "slurm",
        "train",
        "measure",
        "sigma_of",
        "unknown",
    ]
    inner = {
        "train": ["n", "max_steps", "target_loss", "loss", "snapshots", "momentum", "weight_decay", "centered"],
        "measure": ["measures", "location", "n", "layers", "seed", "probe", "snapshots"],
    }
    odd = [
        *SIZES,
        "npz:absent.npz",
        "npz:data.npz",
        "dat.py:raises",
        "dat.py:quits",
        "dat.py:good",
        "digits",
        {"a": 1},
        ["no_such_measure"],
        ["no.such.layer"],
        {"random": 10**12},
        {"random": 2},
        1e308,
        5e-324,
    ]
    key = chance.choice(keys)
    if key in inner and chance.random() < 0.8:
        content[key][chance.choice(inner[key])] = chance.choice(odd)
    else:
        content[key] = chance.choice(odd)
    path.write_text(yaml.safe_dump(content))


YAML: list[Damage] = [yaml_text, yaml_text, yaml_value, yaml_value, yaml_value, yaml_value]
