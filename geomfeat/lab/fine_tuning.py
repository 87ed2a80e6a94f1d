"""Fine-tuning: one small task from pretrained and fresh weights, in all parameters, adapters, a block or the head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from geomfeat.charts import Curve, Plot
from geomfeat.lab.registry import experiment
from geomfeat.lab.result import Check, Findings
from geomfeat.lab.tuning.adapters import ALPHA, adapted
from geomfeat.lab.tuning.language import Language, language
from geomfeat.lab.tuning.starts import Starts, matrices, starts
from geomfeat.lab.tuning.variants import (
    HEAD,
    LAST,
    LEFT,
    MAIN_RATE,
    MATRICES,
    NEW_HEAD,
    PROMPTED,
    SCRATCH,
    in_merged_weights,
    kernel_error,
    limit_kernel,
    lora,
    networks,
    numbers,
    placed,
    tuned,
)
from geomfeat.numerics import Device

WIDTH, DEPTH = {"full": 32, "small": 16}, 2
PRETRAINING = {"full": 300, "small": 100}  # steps
SAMPLES = {"full": 32, "small": 16}
SEEDS = {"full": 3, "small": 1}
RANKS = {"full": (1, 8, 64), "small": (1, 64)}
RATES = {"full": (0.02, MAIN_RATE, 0.5), "small": (MAIN_RATE, 0.5)}
WIDTHS = {"full": (16, 64), "small": ()}  # besides WIDTH, for the three starts
KERNEL_RANKS, DRAWS, PROBES = (1, 4, 16, 64), {"full": 12, "small": 4}, 16
SHARE_LEFT = {"full": None, "small": 0.01}  # of the change where the linear response stops; None: the usual nine

Table = Any  # pandas annotates selections of a frame as anything that pandas knows


@experiment(
    name="fine-tuning",
    title="Fine-tuning: where it starts, and what is trained",
    question="How far do features and kernel move when a small task is learned from pretrained or fresh weights, in "
    "all parameters, adapters, one block or the head alone?",
    theory="A head alone is linear in what is trained: no feature moves, κ = −∞. The kernel of an adapter of rank r is "
    "that of the matrices it adapts, each at a rate of 1 / inputs, up to a relative error ~ r^(−1/2); so its demand R "
    "tends to theirs. Descent at a small rate follows the gradient flow, whatever the rate. Published for large "
    "language models: fine-tuning by a prompt, whose start already half knows the task, is near the kernel's dynamics; "
    "training from scratch is not.",
    source="Malladi et al. 2023; Hu et al. 2021, section 4.1; order and size at small networks: measured here",
)
def run(size: str, seed: int, progress: bool, device: Device = "cpu") -> Findings:
    draws = [100 * seed + k for k in range(SEEDS[size])]
    steps = len(draws) * (6 + len(RANKS[size]) + 3 * len(WIDTHS[size]))
    rows: list[dict[str, Any]] = []
    errors: dict[int, float] = {}
    with tqdm(total=steps, desc="fine-tuning", disable=not progress, leave=False) as bar:
        for draw, width in product(draws, (WIDTH[size], *WIDTHS[size])):
            lang = language(draw)
            found = starts(lang, width, DEPTH, PRETRAINING[size], draw, device)
            errors = errors or _kernel_errors(found, lang, size, draw)
            rows += _of_seed(found, lang, size, draw, bar)
    table = pd.DataFrame(rows)
    main = table[table["width"] == WIDTH[size]]
    checks = _checks(main, errors, size)
    plots = [_places(main, size), _kernels(main, size), _by_start(table), _by_block(main), _ranks(main, size),
             _errors_plot(errors)]  # fmt: skip
    plots += [_widths(table)] if WIDTHS[size] else []
    kernel = pd.DataFrame({"variant": "kernel of adapters", "rank": list(errors), "kernel error": errors.values()})
    settings = {"width": WIDTH[size], "blocks": DEPTH, "pretraining steps": PRETRAINING[size], "samples": SAMPLES[size],
                "loss left": LEFT, "rate times curvature": RATES[size], "alpha": ALPHA, "seeds": draws}  # fmt: skip
    return Findings(_answer(main, size), plots, checks, pd.concat([table, kernel]), settings, _notes(main))


def _of_seed(found: Starts, lang: Language, size: str, draw: int, bar: Any) -> list[dict[str, Any]]:
    """Rows of every variant, or at another width than the main one of the three starts."""
    width, rows = found.scratch.get_parameter("head.weight").shape[1], list[dict[str, Any]]()
    where = found.scratch.get_parameter("head.weight").device
    tokens, _, classes = (part.to(where) for part in lang.sequences(SAMPLES[size], draw, "task"))
    main, share = width == WIDTH[size], SHARE_LEFT[size]
    for name, start in networks(found, RANKS[size] if main else (), draw).items():
        if not main and name not in (SCRATCH, NEW_HEAD, PROMPTED):
            continue
        for rate in RATES[size] if main and name == PROMPTED else (MAIN_RATE,):
            done = tuned(start, tokens, classes, rate)
            row = numbers(done, placed(done.start, done.end, tokens, share_left=share))
            if name == lora(max(RANKS[size])) or (name.startswith("LoRA") and size == "full"):
                row |= in_merged_weights(done, tokens, share)
            rows.append({"variant": name, "width": width, "seed": draw, "rate": rate, **row})
        bar.update()
    return rows


def _kernel_errors(found: Starts, lang: Language, size: str, draw: int) -> dict[int, float]:
    """Rank -> root mean square over draws of the relative error of an adapter's kernel."""
    base = found.prompted
    tokens = lang.sequences(PROBES, draw, "task")[0].to(base.get_parameter("head.weight").device)
    limit = limit_kernel(base, tokens)

    def error(rank: int, number: int) -> float:
        return kernel_error(adapted(base, matrices(base), rank, number), limit, tokens)

    numbers = range(DRAWS[size])
    return {r: math.sqrt(np.mean([error(r, number) ** 2 for number in numbers])) for r in KERNEL_RANKS}


def _mean(table: Table, variant: str, column: str, rate: float = MAIN_RATE) -> float:
    """Mean over seeds; NaN where a seed has no finite value."""
    values = table.loc[(table["variant"] == variant) & (table["rate"] == rate), column].to_numpy(float)
    return float(values.mean()) if np.isfinite(values).all() else math.nan


def _of(table: Table, variant: str, rate: float = MAIN_RATE) -> Table:
    return table[(table["variant"] == variant) & (table["rate"] == rate)].set_index("seed")


def _checks(main: Table, errors: dict[int, float], size: str) -> list[Check]:
    head, scratch, full = (_of(main, name) for name in (HEAD, SCRATCH, PROMPTED))
    slowest, next_rate = RATES[size][:2]
    largest = _of(main, lora(max(RANKS[size])))
    slope = np.polyfit(np.log(list(errors)), np.log(list(errors.values())), 1)[0]
    not_richer = sum(
        int((scratch[name] <= other[name]).sum())
        for other in (full, _of(main, NEW_HEAD))
        for name in ("R", "kernel change", "gap")
    )
    return [
        Check("head alone: runs with a finite movement or kernel demand",
              float(np.isfinite(head[["M", "kappa"]].to_numpy(float)).sum()), 0, 0),
        Check("head alone: largest kernel change", float(head["kernel change"].abs().max()), 0, 1e-9),
        Check("head alone: largest linearisation gap", float(head["gap"].abs().max()), 0, 1e-9),
        Check("kernel of an adapter: slope of its error on rank", float(slope), -0.5, 0.12),
        Check(f"R at rank {max(RANKS[size])} less R of an infinite rank",
              float((largest["R"] - largest["R, infinite rank"]).mean()), 0, 0.06, "decades"),
        Check(f"R at rate {next_rate:g} less R at rate {slowest:g}",
              float((_of(main, PROMPTED, next_rate)["R"] - _of(main, PROMPTED, slowest)["R"]).abs().max()), 0, 0.02,
              "decades"),
        Check("times that R, kernel change or gap from scratch is not above that from pretrained weights",
              not_richer, 0, 0),
        Check("loss left: largest distance below the target", float((LEFT - main["loss"]).max()) / LEFT, 0, 0.0101),
    ]  # fmt: skip


def _answer(main: Table, size: str) -> str:
    def words(variant: str) -> str:
        return f"R {_mean(main, variant, 'R'):+.2f}, κ {_mean(main, variant, 'kappa'):+.2f}, kernel changed by " \
            f"{_mean(main, variant, 'kernel change'):.2f}, gap {_mean(main, variant, 'gap'):.2f}"  # fmt: skip

    low, high = (lora(f(RANKS[size])) for f in (min, max))
    start, fresh = (_mean(main, name, "first loss") for name in (PROMPTED, SCRATCH))
    return (
        f"At one training loss: from scratch {words(SCRATCH)}; from pretrained weights with a new head "
        f"{words(NEW_HEAD)}; by label words, whose loss starts at {start:.2f} in place of {fresh:.2f}, "
        f"{words(PROMPTED)}. From this start, {low} has R "
        f"{_mean(main, low, 'R'):+.2f} and κ {_mean(main, low, 'kappa'):+.2f}, {high} "
        f"{_mean(main, high, 'R'):+.2f} and {_mean(main, high, 'kappa'):+.2f}, the matrices themselves "
        f"{_mean(main, MATRICES, 'R'):+.2f} and {_mean(main, MATRICES, 'kappa'):+.2f}; the last block alone "
        f"{_mean(main, LAST, 'R'):+.2f} and {_mean(main, LAST, 'kappa'):+.2f}."
    )


def _notes(main: Table) -> list[str]:
    first = {name: _mean(main, name, "first loss") for name in (PROMPTED, NEW_HEAD, SCRATCH)}
    return [
        "Language of topics: the network is pretrained to predict a hidden word, the task is to tell two classes of "
        "topics apart. By label words, its outputs are the logits of one word for each class.",
        "Relative loss at the start: " + ", ".join(f"{name} {value:.2f}" for name, value in first.items()) + ".",
        f"Adapters: W + (α / r) B A with α = {ALPHA:g}, A uniform of variance 1 / (3 inputs), B zero. For one change "
        "of the function their kernel changes more than that of the merged weights (column 'kernel change, merged'): "
        "it also depends on their own factors.",
        "R of the last block is a mean over the blocks that moved: the last one.",
        "Head alone: R is the demand with all parameters free to move.",
    ]


def _names(size: str) -> list[str]:
    return [SCRATCH, NEW_HEAD, PROMPTED, MATRICES, *map(lora, sorted(RANKS[size], reverse=True)), LAST, HEAD]


def _curve(main: Table, names: Sequence[str], column: str, label: str) -> Curve:
    """A number of every variant, mean and standard error over seeds."""
    errors = []
    for name in names:
        values = _of(main, name)[column].to_numpy(float)
        good = np.isfinite(values).all() and len(values) > 1
        errors.append(float(values.std(ddof=1) / math.sqrt(len(values))) if good else 0.0)
    return Curve(label, range(len(names)), [_mean(main, name, column) for name in names], errors, kind="scatter")


def _places(main: Table, size: str) -> Plot:
    names = _names(size)
    curves = [
        _curve(main, names, *pair) for pair in (("R", "demand R"), ("M", "movement M"), ("kappa", "kernel demand κ"))
    ]
    return Plot("Demand, movement and kernel demand by what was trained", "", "decades", curves, x_ticks=names,
                caption="Mean over seeds. Of a head alone no feature moves and the kernel cannot change.")  # fmt: skip


def _kernels(main: Table, size: str) -> Plot:
    names = [name for name in _names(size) if name != HEAD]
    curves = [_curve(main, names, *pair) for pair in (("kernel change", "kernel change"), ("gap", "linearisation gap"))]
    return Plot("What became of the tangent kernel, in the space that was trained", "", "share", curves, x_ticks=names,
                log_y=True, caption="A head alone has 0 of both.")  # fmt: skip


def _by_block(main: Table) -> Plot:
    blocks = range(DEPTH)
    curves = [
        Curve(name, list(blocks), [_mean(main, name, f"R of block {i + 1}") for i in blocks])
        for name in (SCRATCH, NEW_HEAD, PROMPTED, MATRICES, LAST)
    ]
    return Plot("Demand by block", "", "demand R (decades)", curves, x_ticks=[f"block {i + 1}" for i in blocks],
                caption="Where the last block alone is trained, the first one does not move.")  # fmt: skip


def _by_start(table: Table) -> Plot:
    """Kernel demand of every run in all parameters over what its start knows of the task."""
    runs = table[table["rate"] == MAIN_RATE]
    picked = {name: runs[runs["variant"] == name] for name in (SCRATCH, NEW_HEAD, PROMPTED)}
    curves = [
        Curve(name, one["first loss"].tolist(), one["kappa"].tolist(), kind="scatter") for name, one in picked.items()
    ]
    return Plot("Kernel demand by what the start knows", "relative loss at the start", "κ (decades)", curves,
                caption="Every seed and width. The kernel moves above about .1 and is at rest below −.2.")  # fmt: skip


def _ranks(main: Table, size: str) -> Plot:
    ranks = list(RANKS[size])
    limit = _mean(main, lora(max(ranks)), "R, infinite rank")
    merged = [_mean(main, lora(r), "R, merged") for r in ranks]
    curves = [
        Curve("in the adapters", ranks, [_mean(main, lora(r), "R") for r in ranks]),
        Curve("merged, equal rates", ranks, merged),
        Curve("infinite rank", [ranks[0], ranks[-1]], [limit, limit], kind="theory"),
    ]
    return Plot("Demand of adapters, by rank", "rank", "demand R (decades)", curves, log_x=True,
                caption="The demand tends to that of the matrices, each at a rate of 1 / inputs.")  # fmt: skip


def _errors_plot(errors: dict[int, float]) -> Plot:
    ranks = list(errors)
    line = [errors[ranks[-1]] * (ranks[-1] / r) ** 0.5 for r in ranks]
    curves = [Curve("measured", ranks, list(errors.values())), Curve("r^(−1/2)", ranks, line, kind="theory")]
    return Plot("Kernel of adapters at the start", "rank", "distance to infinite rank, relative", curves, log_x=True,
                log_y=True, caption="Root mean square over draws of the first factor.")  # fmt: skip


def _widths(table: Table) -> Plot:
    widths = sorted(table["width"].unique().tolist())
    curves = [
        Curve(name, widths, [_mean(table[table["width"] == w], name, "kappa") for w in widths])
        for name in (SCRATCH, NEW_HEAD, PROMPTED)
    ]
    return Plot("Kernel demand by width", "width", "kernel demand κ (decades)", curves, log_x=True,
                caption="Above about .1 the kernel moves, below −.2 it is at rest.")  # fmt: skip
