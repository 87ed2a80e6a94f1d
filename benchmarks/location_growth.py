"""How the cost of `gf.locate` grows: CPU seconds and memory against one size at a time, with the exponents that fit.

    OMP_NUM_THREADS=1 python benchmarks/location_growth.py [SERIES ...]

Each point is a process of its own, so that its peak is its own. Language models of the shape of GPT-2 (last token, four
directions, blocks as layers) by number of parameters, probes, tokens and directions; and MLPs of 20,000 parameters by
number of outputs, all of them. Networks move at random by a fiftieth of their weights' spread. Memory is what the
process takes beyond its imports and the two networks. "shapes": one location each of ViT-B/16 (8 pictures of 224) and
ResNet-50 (8 pictures of 224) with random weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from keeping import added_memory

# Series -> (what grows, its values); sizes of a language model are (blocks, width, vocabulary).
BASE: dict[str, Any] = {"shape": (2, 128, 1000), "probes": 16, "tokens": 16, "directions": 4}
SHAPES = [(2, 64, 500), (2, 128, 1000), (4, 192, 2000), (6, 256, 4000), (8, 384, 8000)]
SERIES: dict[str, list[Any]] = {
    "parameters": SHAPES, "probes": [8, 16, 32, 64], "tokens": [16, 32, 64, 128], "directions": [1, 2, 4, 8],
    "outputs": [2, 5, 10, 20, 40], "shapes": ["ViT-B/16", "ResNet-50"],
}  # fmt: skip


def language_model(shape: tuple[int, int, int], seed: int) -> Any:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    blocks, width, words = shape
    return GPT2LMHeadModel(
        GPT2Config(n_layer=blocks, n_embd=width, n_head=width // 32, vocab_size=words, n_positions=128, bos_token_id=0,
                   eos_token_id=0)
    ).eval()  # fmt: skip


def picture_model(name: str) -> Any:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    if name == "ViT-B/16":
        return ViTForImageClassification(ViTConfig(num_labels=1000)).eval()
    return ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()


def moved(network: Any) -> Any:
    """A copy in which every weight is a fiftieth of its tensor's spread away."""
    import copy

    import torch

    end, draws = copy.deepcopy(network), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in end.parameters():
            p.add_(0.02 * p.std(correction=0).clamp_min(0.01) * torch.randn(p.shape, generator=draws))
    return end


def case(series: str, value: Any) -> tuple[Any, Any, dict[str, Any], float]:
    """A network before training, its inputs, the options of `locate`, and the size that grows."""
    import torch

    import geomfeat as gf

    draws = torch.Generator().manual_seed(2)
    if series == "outputs":
        from geomfeat.models.mlp import mlp

        return mlp(64, (100, 100), value, seed=0), torch.randn(64, 64, generator=draws), {}, value
    if series == "shapes":
        network = picture_model(value)
        pattern = "*.layer.[0-9]*" if value == "ViT-B/16" else "resnet.encoder.stages.*.layers.*"
        chosen = [n for n, _ in network.named_modules() if _is_block(n, value)] or [pattern]
        options = {"layers": chosen, "options": gf.LocateOptions(n_probes=8, projections=4)}
        return network, {"pixel_values": torch.randn(8, 3, 224, 224, generator=draws)}, options, 1
    how = {**BASE, {"parameters": "shape"}.get(series, series): value}
    network = language_model(how["shape"], 0)
    tokens = torch.randint(0, how["shape"][2], (how["probes"], how["tokens"]), generator=draws)
    size = sum(p.numel() for p in network.parameters()) if series == "parameters" else value
    options = {
        "layers": "block", "readout": "last",
        "options": gf.LocateOptions(projections=how["directions"], n_probes=how["probes"]),
    }  # fmt: skip
    return network, {"input_ids": tokens}, options, size


def _is_block(name: str, network: str) -> bool:
    parts = name.split(".")
    return parts[-1].isdigit() and parts[-2] in (("layer", "layers") if network == "ViT-B/16" else ("layers",))


def one(series: str, value: Any) -> dict[str, float]:
    """One location in this process."""
    import torch

    import geomfeat as gf

    torch.set_num_threads(1)
    start, inputs, options, size = case(series, tuple(value) if isinstance(value, list) else value)
    end = moved(start)
    with torch.no_grad():
        begin = time.process_time()
        start(**inputs) if isinstance(inputs, dict) else start(inputs)
        forward = time.process_time() - begin
    found: dict[str, float] = {}

    def work() -> None:
        begin = time.process_time()
        where = gf.locate(end, inputs, initial=start, progress=False, **options)
        found.update(seconds=time.process_time() - begin, richness=where.richness)

    gigabytes = added_memory(work) / 1e3
    return {"size": size, "forward": forward, "memory": gigabytes, **found}


def exponent(sizes: list[float], costs: list[float]) -> float:
    """The slope of log cost over log size, by least squares."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", nargs="*", help=", ".join(SERIES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*json.loads(given.one))))
        return
    print("| series | size | CPU s | forward passes | GB beyond the networks |\n|---|---|---|---|---|")
    fits = []
    for series in given.series or SERIES:
        found = []
        for value in SERIES[series]:
            words = [sys.executable, __file__, "--one", json.dumps([series, value])]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            found.append(row)
            passes = row["seconds"] / row["forward"]
            name = value if series == "shapes" else f"{row['size']:,}"
            print(f"| {series} | {name} | {row['seconds']:.1f} | {passes:.0f} | {row['memory']:.2f} |", flush=True)
        if series != "shapes":
            sizes = [row["size"] for row in found]
            whole, last = (exponent(sizes[i:], [row["seconds"] for row in found[i:]]) for i in (0, -2))
            fits.append(f"CPU seconds grow as {series}^{whole:.2f} over the whole range, ^{last:.2f} at its end.")
    print("\n" + "\n".join(fits))


if __name__ == "__main__":
    main()
