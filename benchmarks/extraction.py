"""What extraction costs: hooks against a plain forward pass, and streaming to disk.

    python benchmarks/extraction.py            # both tables, some minutes
    python benchmarks/extraction.py --quick

Overhead: sixteen residual convolution blocks, in evaluation mode without gradients, over several batches; plain and
extracting passes take turns, and the median of their ratios is given. Times are the process's own CPU time, which
other work on the machine disturbs less than the wall clock; `extract` includes its two small passes (five samples)
that find the shapes. Streaming: features of a layer go to a store in a process of its own,
whose peak resident memory is the system's own account (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations import ExtractOptions, extract, recording

Row = dict[str, Any]


class Block(nn.Module):
    """A residual block of two convolutions with BatchNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))


def overhead(repeats: int, batch: int, batches: int, channels: int = 64, side: int = 8) -> list[Row]:
    """Ratio of time with hooks on 16 blocks to time without, for several ways to keep what they see."""
    model = nn.Sequential(*[Block(channels) for _ in range(16)]).eval()
    x = torch.randn(batches * batch, channels, side, side, generator=torch.Generator().manual_seed(0))
    names = [str(i) for i in range(16)]

    def plain() -> None:
        with torch.no_grad():
            for part in x.split(batch):
                model(part)

    def recorded(transform: Callable[[str, Tensor], Any] | None) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad(), recording(model, names, transform=transform):
                for part in x.split(batch):
                    model(part)

        return run

    def extracted(how: str) -> Callable[[], Any]:
        options = ExtractOptions(reduce=how, batch_size=batch)
        return lambda: extract(model, x, layers=names, progress=False, options=options)

    ways = {
        "hooks that keep nothing": recorded(lambda _key, _tensor: None),
        "recording, copies of 16 maps": recorded(None),
        "recording, mean over space": recorded(lambda _key, tensor: tensor.mean((2, 3))),
        "extract, reduce='mean'": extracted("mean"),
        "extract, reduce='flatten'": extracted("flatten"),
    }
    plain()
    return [{"way": way, "samples": len(x), **compared(plain, run, repeats)} for way, run in ways.items()]


def compared(plain: Callable[[], Any], run: Callable[[], Any], repeats: int) -> Row:
    """Median times, and the median of the ratios of neighbours in time."""
    run()
    times = [(timed(plain), timed(run)) for _ in range(repeats)]
    return {
        "plain_s": statistics.median(plain for plain, _ in times),
        "with_s": statistics.median(run for _, run in times),
        "ratio": statistics.median(run / plain for plain, run in times),
    }


def timed(run: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


class Wide(nn.Module):
    """Random features: 64 inputs to `width`, so that the input stays small beside what is stored."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(64, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.features(x)))


def stream(n: int, width: int, folder: Path) -> Row:
    """Stream one layer of n samples in this process, and say how long and how much memory it took."""
    inputs = torch.randn(n, 64, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    kept = extract(Wide(width), inputs, layers="features", store=folder, progress=False)
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"layers": list(kept), "n": n, "width": width, "seconds": seconds, "bytes": written, "peak_kib": peak}


def streaming(n: int, width: int) -> list[Row]:
    """`stream` in a process of its own, beside writing as many bytes plainly."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--stream", str(n), str(width), str(Path(folder) / "store")]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        block = torch.zeros(2**24).numpy()
        start = time.perf_counter()
        with (Path(folder) / "plain").open("wb") as file:
            for _ in range(max(1, row["bytes"] // block.nbytes)):
                file.write(block.data)
        plain = time.perf_counter() - start
    return [
        {
            "n": n,
            "width": width,
            "seconds": row["seconds"],
            "MB_per_s": row["bytes"] / 1e6 / row["seconds"],
            "plain_write_s": plain,
            "peak_GB": row["peak_kib"] * 1024 / 1e9,
        }
    ]


def shown(title: str, rows: list[Row]) -> list[Row]:
    """Print a table, and hand the rows on."""
    print(f"\n{title}")
    names = list(rows[0])
    cells = [[f"{row[n]:.3f}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    widths = [max(len(c) for c in column) for column in zip(names, *cells, strict=True)]
    for line in (names, *cells):
        print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)))
    return rows


def main(arguments: list[str] | None = None) -> list[Row]:
    """Both tables, as rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and samples")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stream", nargs=3, metavar=("N", "WIDTH", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.stream:
        n, width, folder = options.stream
        print(json.dumps(stream(int(n), int(width), Path(folder))))
        return []
    repeats, batches, n = (3, 2, 5000) if options.quick else (7, 8, 50_000)
    rows = shown(f"Hook overhead over 16 blocks (median of {repeats})", overhead(repeats, 64, batches))
    return rows + shown("Streaming to a store", streaming(n, 4096))


if __name__ == "__main__":
    main()
