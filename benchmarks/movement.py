"""Time and memory of `gf.movement` beside plain forward passes, on a Llama of 1e9 parameters with random weights.

    python benchmarks/movement.py [--size 1e9|1e8] [--length 128 256 512] [--samples 8] [--folder DIR]

Writes two folders of bfloat16 weights in several files (2 x 2.2 GB at 1e9) into DIR, by default a temporary one, and
removes what it wrote. Each row is a process of its own: CPU seconds of the work (importing left out) with one thread,
and the largest resident memory of the process, some .45 GB of which are imports. Resident memory counts pages of mapped
files, which the system may drop. "loading" is what the plain pass needs besides: movement reads its weights within its
own time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from keeping import memory

SIZES: dict[str, dict[str, Any]] = {
    "1e9": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 32000},
    "1e8": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
            "num_key_value_heads": 4, "vocab_size": 16000},
}  # fmt: skip
PARTS = ("forward", "movement", "stream")


def write(folder: Path, size: str, seed: int) -> None:
    """A folder of `save_pretrained` with random weights, block by block, a file for each."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **SIZES[size], max_position_embeddings=4096, tie_word_embeddings=False, dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    folder.mkdir()
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in LlamaForCausalLM(config).named_parameters()}
    groups: dict[str, list[str]] = {}
    for name in shapes:
        parts = name.split(".")
        groups.setdefault(".".join(parts[:3]) if "layers" in parts else "rest", []).append(name)
    start, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    listed, total = {}, 0
    for i, (_, names) in enumerate(groups.items(), 1):
        file = f"model-{i:05d}-of-{len(groups):05d}.safetensors"
        tensors = {}
        for name in names:
            shape = shapes[name]
            value = torch.ones(shape) if "norm" in name else 0.02 * torch.randn(shape, generator=start)
            if seed:
                value += 0.005 * torch.randn(shape, generator=own)
            tensors[name] = value.bfloat16()
            total += 2 * value.numel()
            listed[name] = file
        save_file(tensors, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": listed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def measured(part: str, folder: Path, length: int, samples: int) -> dict[str, Any]:
    """Seconds, and gigabytes of memory, of one part in this process."""
    import torch
    import transformers

    import geomfeat as gf

    torch.set_num_threads(1)
    _ = transformers.LlamaForCausalLM, gf.movement, gf.load_model, gf.cka  # imported before the clock starts
    tokens = torch.randint(0, 16000, (samples, length), generator=torch.Generator().manual_seed(0))
    found: dict[str, Any] = {}
    began = time.process_time()
    if part == "forward":
        model = gf.load_model(f"hf:{folder / 'trained'}")
        found["loading"] = time.process_time() - began
        times = []
        for _ in range(2):
            began = time.process_time()
            with torch.no_grad():
                model(input_ids=tokens)
            times.append(time.process_time() - began)
        found |= {"first": times[0], "seconds": min(times)}
    else:
        moved = gf.movement(
            f"hf:{folder / 'trained'}", {"input_ids": tokens}, initial=f"hf:{folder / 'initial'}",
            batch_size=samples, stream=part == "stream", progress=False,
        )  # fmt: skip
        found |= {"seconds": time.process_time() - began, "M": moved.movement, "parameters": moved.n_parameters}
    return found | {"gigabytes": peak()}


def peak() -> float:
    """Largest resident memory of this process so far, GB."""
    return memory("VmHWM") / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="1e9")
    parser.add_argument(
        "--length", type=int, nargs="+", default=[128, 256, 512], help="tokens of a sequence; one row each"
    )
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where the two folders are written; must not hold any")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(measured(given.part, given.folder, given.length[0], given.samples)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        for seed, name in enumerate(("initial", "trained")):
            write(Path(made) / name, given.size, seed)
        plain = 0.0
        for length, part in product(given.length, PARTS):
            sizes = ["--length", str(length), "--samples", str(given.samples), "--folder", made]
            run = subprocess.run(
                [sys.executable, __file__, "--part", part, *sizes], check=True, stdout=subprocess.PIPE, text=True
            )
            found = json.loads(run.stdout.splitlines()[-1])
            plain = found["seconds"] if part == "forward" else plain
            shown = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v:.2f}" for k, v in found.items())
            print(f"{part}, {length} tokens: {shown}, {found['seconds'] / plain:.2f} forward passes", flush=True)


if __name__ == "__main__":
    main()
