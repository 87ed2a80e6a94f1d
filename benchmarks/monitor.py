"""What a monitor costs a training at its default settings: a language model of a million parameters.

    OMP_NUM_THREADS=1 python benchmarks/monitor.py [--steps 1000] [--write]

The shape of GPT-2 (4 blocks, 128 units, 1,500 tokens), AdamW, 16 sequences of 32 tokens a step, a language of random
transitions between tokens. The same training runs with a monitor and without, in turn, each in a process of its own:
CPU time of either, sums of the last weights compared bit for bit, and the most memory. The goal is 5 % of the training
time (`max_share`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import geomfeat as gf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.keeping import keep, machine, memory

VOCABULARY, LENGTH, BATCH = 1500, 32, 16


def network() -> nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=4, n_embd=128, n_head=4, vocab_size=VOCABULARY, n_positions=LENGTH, bos_token_id=0, eos_token_id=0,
        loss_type="ForCausalLM",
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def sentences(count: int) -> torch.Tensor:
    """Every token is followed by one of four others."""
    draws = torch.Generator().manual_seed(1)
    following = torch.randint(0, VOCABULARY, (VOCABULARY, 4), generator=draws)
    rows = [torch.randint(0, VOCABULARY, (count,), generator=draws)]
    for _ in range(LENGTH - 1):
        rows.append(following[rows[-1], torch.randint(0, 4, (count,), generator=draws)])
    return torch.stack(rows, 1)


def train(steps: int, monitored: bool) -> dict[str, Any]:
    """One training in this process."""
    torch.set_num_threads(1)
    net, tokens = network(), sentences(4096)
    rule = torch.optim.AdamW(net.parameters(), lr=1e-3)
    folder, prepared, monitor = tempfile.mkdtemp(), 0.0, None
    if monitored:
        begin = time.process_time()
        monitor = gf.Monitor(net, {"input_ids": tokens[:64]}, folder=folder, optimizer=rule)
        prepared = time.process_time() - begin
    torch.manual_seed(2)
    begin, first, inside = time.process_time(), 0.0, 0.0
    for step in range(1, steps + 1):
        batch = tokens[torch.randint(0, len(tokens), (BATCH,))]
        rule.zero_grad()
        loss = net(input_ids=batch, labels=batch).loss
        loss.backward()
        rule.step()
        if monitor is not None:
            now = time.process_time()
            monitor.step(step, loss)
            took = time.process_time() - now
            first, inside = (took, inside) if step == 1 else (first, inside + took)
    seconds = time.process_time() - begin
    found: dict[str, Any] = {
        "seconds": seconds, "memory": memory("VmHWM"),
        "sum": [float(p.detach().double().sum()) for p in net.parameters()],
        "parameters": sum(p.numel() for p in net.parameters()),
    }  # fmt: skip
    if monitor is not None:
        rows = len(monitor.rows)
        share, every = monitor.share, monitor.every
        monitor.close()
        found |= {
            "prepared": prepared, "first": first, "inside": inside, "rows": rows, "share": share, "every": every,
            "each": monitor.rows[-2].seconds, "lines": [row.line() for row in monitor.rows[:: max(1, rows // 6)]],
            "events": [f"step {e.step}: {e.text}" for e in monitor.events],
        }  # fmt: skip
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--steps", type=int, default=1000)
    words.add_argument("--write", action="store_true", help="keep the table in RESULTS.md")
    words.add_argument("--run", choices=("with", "without"), help="one training, as JSON")
    asked = words.parse_args()
    if asked.run:
        sys.stdout.write(json.dumps(train(asked.steps, asked.run == "with")))
        return
    found = {}
    for name in ("without", "with"):
        command = [sys.executable, __file__, "--steps", str(asked.steps), "--run", name]
        found[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    bare, own = found["without"], found["with"]
    assert bare["sum"] == own["sum"], "the monitor changed the training"
    rest = own["seconds"] - own["first"] - own["inside"]
    after = (own["seconds"] - own["first"]) / bare["seconds"] - 1
    lines = [
        machine(["torch", "transformers"], 1),
        "",
        "| what | value | goal |",
        "|---|---|---|",
        f"| parameters; steps | {own['parameters']:,}; {asked.steps} | |",
        f"| CPU time of the training without a monitor | {bare['seconds']:.1f} s | |",
        f"| with it, less its first measurement | {own['seconds'] - own['first']:.1f} s: {100 * after:+.1f} % | 5 % |",
        f"| CPU time in `step`, less its first | {own['inside']:.1f} s: {100 * own['inside'] / rest:.1f} % | 5 % |",
        f"| share of the time that the monitor says it took | {100 * own['share']:.1f} % | 5 % |",
        f"| preparation and first measurement, once | {own['prepared']:.1f} + {own['first']:.1f} s | |",
        f"| rows; steps between them at the end; seconds of one | {own['rows']}; {own['every']}; {own['each']:.2f} | |",
        f"| most memory without, and with | {bare['memory']:.0f}, {own['memory']:.0f} MB | |",
        "| weights at the end, with and without | the same sums, bit for bit | the same |",
    ]
    sys.stdout.write("\n".join([*lines, "", *own["lines"], *own["events"], ""]))
    if asked.write:
        keep("monitor", lines)


if __name__ == "__main__":
    main()
