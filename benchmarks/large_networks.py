"""What a location of a language model costs: CPU seconds, forward passes, and peak memory, one size a process.

    OMP_NUM_THREADS=1 python benchmarks/large_networks.py [small | medium | large | bare | bare-large]
    OMP_NUM_THREADS=1 python benchmarks/large_networks.py [outputs | outputs-medium]

Networks of the shape of GPT-2, with made-up weights: before training as they are drawn, after it moved at random by a
fiftieth of their spread. 16 sequences of 16 tokens, 4 projections, the blocks as layers and the last token as read-out;
"bare" is `locate` with its defaults on the smallest network and 64 sequences of 32 tokens, "bare-large" on the largest
and 64 of 16. "outputs" compares R through four directions of the 1,000 or 8,000 outputs, through all of them with a
guess at their kernel, and without, after a training.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from keeping import memory
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import geomfeat as gf
from geomfeat.location.demand import FEW_SHARES, linearised_task, solve
from geomfeat.location.initial_states import observe
from geomfeat.models.readouts.reading import reading_of
from geomfeat.network import Network

SIZES = {
    "small": {"n_layer": 2, "n_embd": 128, "n_head": 4, "vocab_size": 1000},
    "medium": {"n_layer": 8, "n_embd": 384, "n_head": 6, "vocab_size": 8000},
    "large": {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257},
}


def network(size: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = GPT2Config(n_positions=64, bos_token_id=0, eos_token_id=0, **SIZES[size])
    return GPT2LMHeadModel(config).eval()


def moved(start: nn.Module, size: str) -> nn.Module:
    """The network after a training that never was: every weight a fiftieth of its tensor's spread away."""
    end, draws = network(size, 0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in end.parameters():
            p.add_(0.02 * p.std().clamp_min(0.01) * torch.randn(p.shape, generator=draws))
    return end


# Rate, steps and numbers of probes of `outputs`.
TRAININGS = {"small": (0.3, 60, (16, 32)), "medium": (0.05, 25, (16,))}


def outputs(size: str) -> None:
    """What very many outputs cost and how right R is: a network that was trained on the probes."""
    rate, steps, numbers = TRAININGS[size]
    words = SIZES[size]["vocab_size"]
    start, end = network(size, 0), network(size, 0)
    tokens = torch.randint(0, words, (32, 16), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(end.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            end(input_ids=tokens).logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
        ).backward()
        optimizer.step()
    for n in numbers:
        for name, choice in (("4 directions", {"projections": 4}), ("all, guided", {}), ("all", None)):
            begin = time.process_time()
            if choice is None:
                richness = through_all(start, end, tokens, n)
            else:
                options = gf.LocateOptions(n_probes=n, n_bootstrap=2, **choice)
                richness = gf.locate(
                    end, {"input_ids": tokens}, initial=start, readout="last", progress=False, options=options
                ).richness
            print(f"{size}, {n} probes, {name}: R {richness:+.3f}, {time.process_time() - begin:.1f} CPU s", flush=True)


def through_all(start: nn.Module, end: nn.Module, tokens: torch.Tensor, n: int) -> float:
    """R alone, through all outputs by products without a guess, and without an interval."""
    reading, inputs = reading_of(end, "last", None), {"input_ids": tokens}
    trained = observe(Network.prepare(end, inputs, initial=start, readout=reading), None, n_probes=n).network
    before, after = trained.at(start).f, trained.f
    with torch.no_grad():
        given = before.inputs(trained.inputs)
        change = after(after.theta, given) - before(before.theta, given)
    task = linearised_task(before, trained.inputs, change, trained.layers.names, shares=FEW_SHARES, method="products")
    return solve(task).richness


def main(what: str) -> None:
    torch.set_num_threads(1)
    if what.startswith("outputs"):
        return outputs(what.partition("-")[2] or "small")
    bare = what.startswith("bare")
    size = {"bare": "small", "bare-large": "large"}.get(what, what)
    start = network(size, 0)
    end = moved(start, size)
    n, length = 64 if bare else 16, 32 if what == "bare" else 16
    tokens = torch.randint(0, SIZES[size]["vocab_size"], (n, length), generator=torch.Generator().manual_seed(2))
    begin = time.process_time()
    with torch.no_grad():
        start(input_ids=tokens)
    forward, begin = time.process_time() - begin, time.process_time()
    options: dict[str, Any] = {}
    if not bare:
        blocks = [f"transformer.h.{i}" for i in range(SIZES[size]["n_layer"])]
        options = {"layers": blocks, "readout": "last", "options": gf.LocateOptions(projections=4)}
    print(gf.plan_location(end, {"input_ids": tokens}, initial=start, **options))
    begin = time.process_time()
    where = gf.locate(end, {"input_ids": tokens}, initial=start, progress=False, **options)
    seconds = time.process_time() - begin
    count = sum(p.numel() for p in start.parameters()) / 1e6
    print(where)
    print(
        f"{what}: {count:.1f} million parameters; {seconds:.1f} CPU s = {seconds / forward:.0f} forward passes; "
        f"peak {memory('VmHWM') / 1e3:.1f} GB"
    )
    return None


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "small")
