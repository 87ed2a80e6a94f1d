"""Hostile calls: words for the command in a folder of `world`, in which they may damage a file first."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from tests.cli.hostile import user_code
from tests.cli.hostile.damage import damages_of, sealed, swapped
from tests.cli.hostile.values import KNOWN, PATHS
from tests.cli.hostile.world import ANALYZE, DATA, NET


@dataclass(frozen=True)
class Call:
    """`words` of the command. blame: a refusal must name one of these. may_write: folders that may be begun."""

    words: tuple[str, ...]
    blame: tuple[str, ...]
    about: str
    may_write: tuple[str, ...] = ()


EXTRACT = ["extract", *NET, *DATA, "--quiet"]
TO_NPZ = [*EXTRACT, "--npz", "out.npz"]
FRESH = [*ANALYZE[:-7], "--measures", "stable_rank", "--umap-layer", "none", "--probes", "8"]
FRESH[FRESH.index("study")] = "out"
NETWORKS = [
    "compare",
    "a=net.py:make@start.safetensors",
    "b=net.py:make@end.safetensors",
    *DATA,
    "--out",
    "out",
    "--measures",
    "stable_rank",
    "--quiet",
    "--boot",
    "5",
]
RECORDED = [
    "compare",
    "a=features.npz",
    "b=net.py:make@end.safetensors",
    *DATA,
    "--out",
    "out",
    "--measures",
    "stable_rank",
    "--quiet",
    "--boot",
    "5",
]
AGAIN = [
    "compare",
    "a=features.npz",
    "b=net.py:make@start.safetensors",
    *DATA,
    "--out",
    "comparison",
    "--measures",
    "stable_rank",
    "--quiet",
]
MATRICES = ["compare", "a=rdm.npz:area", "b=features.npz", "--out", "out", "--measures", "stable_rank", "--quiet"]
BRAIN = [*RECORDED, "--brain", "rdm.npz"]
BRAIN[1] = "a=ordered.npz"
SWEEP = ["sweep", "tiny.yaml", "--out", "out", "--quiet"]
IMAGES = ["extract", "--model", "net.py:images", "--data", "cifar10:cifar", "--npz", "out.npz", "--quiet"]

# What each call reads: files, and folders of which any file may be damaged.
READS: list[tuple[list[str], list[str]]] = [
    (TO_NPZ, ["data.npz", "data.npz", "end.safetensors"]),
    ([*TO_NPZ, "--trained", "end.pt"], ["end.pt"]),
    ([*TO_NPZ, "--split", "test"], ["data.npz"]),
    ([*EXTRACT, "--list"], ["data.npz", "end.safetensors"]),
    ([*EXTRACT, "--store", "store"], ["store", "store"]),
    ([*EXTRACT, "--store", "store", "--layers", "*"], ["store"]),
    (IMAGES, ["cifar"]),
    (FRESH, ["data.npz", "data.npz", "start.safetensors", "end.safetensors"]),
    ([*FRESH, "--checkpoints", "steps"], ["steps"]),
    ([*FRESH, "--ladder", "ladder.json"], ["ladder.json", "ladder.json"]),
    ([*FRESH, "--optimizer", "adam.pt"], ["adam.pt", "adam.pt"]),
    ([*FRESH, "--optimizer", "rates.json"], ["rates.json"]),
    (ANALYZE, ["study", "study"]),
    ([*ANALYZE, "--force"], ["study"]),
    (NETWORKS, ["start.safetensors", "data.npz"]),
    (RECORDED, ["features.npz", "features.npz"]),
    (MATRICES, ["rdm.npz", "features.npz"]),
    (BRAIN, ["rdm.npz", "rdm.npz"]),
    (AGAIN, ["comparison", "comparison"]),
    (["report", "study"], ["study", "study"]),
    (["report", "study", "--out", "page.html", "--figures", "figures"], ["study"]),
    (["relate", "sweep"], ["sweep", "sweep/runs", "sweep/sweep.json"]),
    (["portrait", "sweep"], ["sweep", "sweep/sweep.json"]),
    (["sweep", "tiny.yaml", "--out", "out", "--quiet", "--dry-run"], ["tiny.yaml", "tiny.yaml", "tiny.yaml"]),
    (SWEEP, ["tiny.yaml"]),
    (["sweep", "sweep.yaml", "--out", "sweep", "--quiet", "--dry-run"], ["sweep"]),
    (["sweep", "sweep.yaml", "--out", "sweep", "--quiet"], ["sweep"]),
    (["demo", "--quiet", "--out", "kept/notes.txt"], ["net.py"]),
]

GROWING = ("store", "study/parts", "out/parts", "sweep", "out/runs", "out/.claims", "out/.partial", "out/sweep.json")


def damaged(chance: random.Random) -> Call:
    words, reads = chance.choice(READS)
    place = Path(chance.choice(reads))
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    if place.is_dir() and place.name == "runs" and chance.random() < 0.3:
        swapped(place, chance)
        return Call(tuple(words), ("sweep",), "runs swapped", GROWING)
    path = chance.choice(files)
    damage = chance.choice(damages_of(path))
    damage(path, chance)
    also = ""
    if place.is_dir() and chance.random() < 0.6:
        sealed(path.parent)
        also = " and sealed"
    blame = (path.name, path.stem, str(place), path.parent.name)
    return Call(tuple(words), blame, f"{damage.__name__} {path}{also}", GROWING)


SAMPLES = ("samples", "inputs", "labels", "path=", "condition")  # what all options together are about
COMMON = [
    "--seed",
    "--n",
    "--batch-size",
    "--device",
    "--layers",
    "--reduce",
    "--project",
    "--model",
    "--data",
    "--readout",
]
OPTIONS: list[tuple[list[str], list[str]]] = [
    (TO_NPZ, [*COMMON, "--npz", "--trained", "--split", "--checkpoint"]),
    (EXTRACT, ["--store"]),
    ([*EXTRACT, "--list"], ["--device", "--data", "--model", "--n", "--readout"]),
    (
        FRESH,
        [
            *COMMON,
            "--measures",
            "--probes",
            "--projections",
            "--loss",
            "--ladder",
            "--umap-layer",
            "--name",
            "--out",
            "--trained",
            "--initial",
            "--checkpoints",
            "--optimizer",
        ],
    ),
    (
        RECORDED,
        [*COMMON[:7], "--data", "--out", "--brain", "--similarity", "--draws", "--boot", "--measures", "--readout"],
    ),
    (NETWORKS, [*COMMON[:7], "--data", "--brain", "--measures", "--readout"]),
    (["sweep", "tiny.yaml", "--out", "out", "--dry-run"], ["--out", "--engine", "--workers"]),
    (["sweep", "tiny.yaml", "--out", "out", "--quiet"], ["--engine"]),
    (["relate", "sweep"], ["--out", "--figures", "--measures", "--level", "--seed"]),
    (["portrait", "sweep"], ["--out", "--figures", "--x", "--y"]),
    (["report", "study"], ["--out", "--figures"]),
    (["validate", "--out", "out", "--only", "no_such_family", "--quiet"], ["--out", "--engine", "--workers"]),
    (["lab", "no-such-experiment"], ["--out", "--seed"]),
    (["demo", "--out", "kept/notes.txt"], []),
]


def odd_option(chance: random.Random) -> Call:
    Path("loop").symlink_to("loop")
    words, options = chance.choice([pair for pair in OPTIONS for _ in range(len(pair[1]))])
    option = chance.choice(options)
    value = chance.choice(KNOWN[option])
    given = list(words)
    if option in given and option not in ("--layers", "--measures"):
        at = given.index(option)
        del given[at : at + 2]
    given += chance.choice([[option, value], [f"{option}={value}"]])
    odd = [" ".join(part.split())[:20] for part in re.split("[/:=@]", value) if part.strip(" .")]
    fixed = tuple(w for w in words if w.startswith("no"))  # an option that is all right leaves the error of the words
    return Call(
        tuple(given),
        (option, option[2:].replace("-", "_"), *odd, *fixed, *SAMPLES),
        f"{option} {value[:40]!r}",
        GROWING,
    )


def odd_factory(chance: random.Random) -> Call:
    words = list(chance.choice([TO_NPZ, FRESH, NETWORKS, [*EXTRACT, "--list"], [*EXTRACT, "--store", "fresh"]]))
    kind = chance.choice(["net", "dat", "read"])
    source = {"net": user_code.NETWORKS, "dat": user_code.DATA, "read": user_code.READOUTS}[kind]
    name = chance.choice(user_code.names_in(source))
    spec = f"{kind}.py:{name}"
    option = {"net": "--model", "dat": "--data", "read": "--readout"}[kind]
    if kind == "net" and words[0] == "compare":
        words[1] = f"a={spec}"
    else:
        words += [option, spec]
        for strange in ("--trained", "--initial") if kind == "net" and chance.random() < 0.7 else ():
            if strange in words:  # weights that cannot fit would hide what the network itself does
                at = words.index(strange)
                del words[at : at + 2]
        if kind == "net" and words[0] == "analyze" and "--trained" not in words:
            words[0:1] = ["extract"]
            words = [*TO_NPZ[:1], "--model", spec, *DATA, "--npz", "out.npz", "--quiet"]
    blame = (
        spec,
        name,
        option,
        option[2:],
        "a=",
        "'a'",
        "layer",
        "the model",
        "weights",
        "outputs",
        "labels",
        "inputs",
        "x_test",
        f"{kind}.py",
    )
    return Call(tuple(words), blame, f"{option} {spec}", (*GROWING, "fresh"))


def odd_folder(chance: random.Random) -> Call:
    """A folder of another kind, or a place that is none."""
    Path("loop").symlink_to("loop")
    command = chance.choice(["report", "relate", "portrait"])
    value = chance.choice(
        [*PATHS, "study", "comparison", "sweep", "store", "steps", "cifar", "sweep/runs", "study/parts"]
    )
    out = chance.choice([[], ["--out", "page.html"], ["--out", "kept/page.html"]])
    words = [command, value, *out]
    if command == "report" and chance.random() < 0.3:
        words.insert(1, "study")
    return Call(
        tuple(words), (" ".join(value.split())[:20], "FOLDERS", "DIR", "folder", "empty"), f"{command} {value[:40]!r}"
    )


COMMANDS = [
    "analyze",
    "extract",
    "compare",
    "sweep",
    "relate",
    "portrait",
    "report",
    "validate",
    "lab",
    "measures",
    "demo",
]
WORDS = [
    "--help",
    "--no-such",
    "--debug",
    "-x",
    "--",
    "",
    "é",
    "--out",
    "--seed",
    "--quiet",
    "stable_rank",
    "no_such",
    "--version",
    "--list",
    "--markdown",
    "--shipped",
    "study",
    "--small",
    "--out=",
    "--quiet=1",
    "--n=",
    "---",
    "--outt=x",
    "-1",
    "--schema",
]


def odd_words(chance: random.Random) -> Call:
    command = chance.choice([*COMMANDS, "analyse", "", "measure", "-h"])
    words = [command, *(chance.choice(WORDS) for _ in range(chance.randrange(4)))]
    if command == "demo" and "--help" not in words:
        words += ["--out", "kept/notes.txt"]
    if command in ("lab", "validate"):
        words[1:1] = ["--list"]
    return Call(tuple(words), ("",), "words", ("out",))


KINDS = [damaged, damaged, damaged, damaged, odd_option, odd_option, odd_factory, odd_folder, odd_words]


def call_of(chance: random.Random) -> Call:
    """One hostile call; the current folder, a copy of a world, may be damaged for it."""
    return chance.choice(KINDS)(chance)
