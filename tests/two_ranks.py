"""What two processes of a group do together, for the tests.

Each rank saves what it found as FOLDER/rank-N.json, and numbers as FOLDER/rank-N.npz. At last rank 1 is killed while it
extracts, and rank 0 saves what it is told.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from geomfeat import distributed
from geomfeat.activations import ExtractOptions, extract, stored_representations as stored
from geomfeat.errors import GeomfeatError
from geomfeat.geometry.dimension import StreamingMoments
from geomfeat.geometry.manifolds import StreamingPoints
from geomfeat.geometry.probes import StreamingProbe
from geomfeat.geometry.similarity import StreamingCKA
from geomfeat.location import locate
from geomfeat.numerics import stream
from geomfeat.tangent import ntk, ntk_by_rank
from tests.monitoring.sharded_trainings import network as whole_network, sharded
from tests.warm_process import warm_context

N, C, BATCH = 503, 3, 32
WHO = Callable[[int], bool]


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, C))


class Stopping(nn.Module):
    """A network that calls a function after so many samples: an interruption, or a death."""

    def __init__(self, after: int, stop: Callable[[], Any]) -> None:
        super().__init__()
        self.net, self.seen, self.after, self.stop = network(), 0, after, stop

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        if self.seen > self.after:
            self.stop()
        return self.net(x)


def samples() -> tuple[Tensor, Tensor]:
    """Features far from zero, and labels of classes of unequal size."""
    noise = stream(0, "two ranks")
    labels = (torch.rand(N, generator=noise) ** 2 * C).long()
    x = torch.randn(N, 5, generator=noise) @ torch.randn(5, 5, generator=noise)
    return x + 20 + torch.randn(C, 5, generator=noise)[labels], labels


def whole_numbers() -> Tensor:
    return torch.randint(-50, 90, (N, 4), generator=stream(1, "two ranks")).float()


def cka_stream(rows: Iterator[Tensor], **options: Any) -> StreamingCKA:
    x, found = samples()[0], StreamingCKA(**options)
    for index in rows:
        found.update({"a": x[index], "b": torch.relu(x[index, :3] - 20) ** 2})
    return found


def moments(rows: Iterator[Tensor], x: Tensor) -> StreamingMoments:
    labels, found = samples()[1], StreamingMoments(C)
    for index in rows:
        found.update(x[index], labels[index])
    return found


def points(rows: Iterator[Tensor]) -> StreamingPoints:
    (x, labels), found = samples(), StreamingPoints(C, most=20, seed=3)
    for index in rows:
        found.update(x[index], labels[index], index)
    return found


def probe(mine: Callable[..., Iterator[Tensor]], x: Tensor) -> list[float]:
    """The accuracies of the folds, and where the read-outs of the first put some samples."""
    labels, stream = samples()[1], StreamingProbe(C, seed=2)
    for index in mine():
        stream.update(x[index], labels[index], index)
    fitted = stream.all_reduce().fitted()
    for index in mine():
        fitted.update(x[index], labels[index], index)
    point, weights, constant = fitted._read_outs[0]
    answers = (x[:20].double() - point) @ weights + constant
    return [*fitted.all_reduce().result().by_fold, *answers.flatten().tolist()]


def every() -> Iterator[Tensor]:
    """All samples, in batches."""
    yield from torch.arange(N).split(37)


def mine(block: int = 1) -> Iterator[Tensor]:
    """This rank's samples, in batches."""
    yield from torch.tensor(list(distributed.share(N, block=block))).split(37)


def of_sampler() -> Iterator[Tensor]:
    """This rank's samples by a DistributedSampler: every second one of an even number, so that none is repeated."""
    data = TensorDataset(torch.arange(N - 1))
    for (index,) in DataLoader(data, batch_size=37, sampler=DistributedSampler(data, shuffle=False)):
        yield index


def without_last() -> Iterator[Tensor]:
    yield from torch.arange(N - 1).split(37)


def numbers_of(found: StreamingMoments) -> dict[str, Any]:
    result = found.result()
    return {name: np.asarray(getattr(result, name)) for name in (
        "counts", "class_means", "mean", "eigenvalues", "participation_ratio", "participation_ratio_wishart",
        "effective_rank", "stable_rank", "nc1",
    )}  # fmt: skip


def streams(mine: Callable[..., Iterator[Tensor]], sampled: Callable[[], Iterator[Tensor]]) -> dict[str, Any]:
    """The numbers of streams of all ranks: each gives its own samples."""
    x, none = samples()[0], iter(())
    found = {
        "cka": cka_stream(mine(), dtype=torch.float64).all_reduce().result().values,
        "cka in float32": cka_stream(mine()).all_reduce().result().values,
        "cka of a sampler": cka_stream(sampled(), dtype=torch.float64).all_reduce().result().values,
        "probe": probe(mine, x),
        "exact probe": probe(mine, whole_numbers()),
        "points": points(mine()).all_reduce().result().x,
        "labels of points": points(mine()).all_reduce().result().labels,
        "one rank has all": numbers_of(moments(every() if distributed.is_first() else none, x).all_reduce())["nc1"],
    }
    blocks = cka_stream(mine(32), method="minibatch", block=32).all_reduce().result()
    found |= {"cka of blocks": blocks.values, "stderr of blocks": blocks.stderr}
    of_sampler, exact = moments(sampled(), x).all_reduce(), moments(mine(), whole_numbers()).all_reduce()
    found |= {f"moments {k}": v for k, v in numbers_of(moments(mine(), x).all_reduce()).items()}
    found |= {f"sampler {k}": v for k, v in numbers_of(of_sampler).items()}
    found |= {f"exact {k}": v for k, v in numbers_of(exact).items()}
    found |= {f"sums {k}": v for k, v in enumerate(exact._sums)}
    return {name: np.asarray(value) for name, value in found.items()}


def kernels() -> dict[str, Any]:
    x, net = samples()[0][:21], network()
    return {
        "kernel": ntk_by_rank(net, x).gram.numpy(),
        "kernel of others": ntk_by_rank(net, x[:5], x).gram.numpy(),
        "kernel, full": ntk_by_rank(net, x[:7], outputs="full").gram.numpy(),
        "kernel of one sample": ntk_by_rank(net, x[:1]).gram.numpy(),
    }


def extraction(folder: Path, model: nn.Module, inputs: Any = None) -> Any:
    x, labels = samples()
    options = ExtractOptions(batch_size=BATCH, with_outputs=True)
    return extract(
        model,
        x if inputs is None else inputs,
        labels,
        layers="type:Linear",
        store=folder,
        progress=False,
        options=options,
    )


def loader() -> DataLoader[Any]:
    data = TensorDataset(samples()[0])
    return DataLoader(data, batch_size=16, sampler=DistributedSampler(data, shuffle=False))


def refusal(call: Callable[[], Any]) -> str:
    """What an error says, which is one of geomfeat's on every rank."""
    try:
        call()
    except GeomfeatError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def refusals(folder: Path) -> dict[str, str]:
    first, x = distributed.is_first(), samples()[0]
    odd = x.clone()
    odd[-1] = torch.nan
    found = {
        "other weights": refusal(lambda: extraction(folder / "a", network(0 if first else 1))),
        "another checkpoint": refusal(lambda: extraction(folder / "fresh", network(5))),
        "other layers": refusal(lambda: other_layers().all_reduce()),
        "no samples": refusal(lambda: StreamingCKA().all_reduce()),
        "no samples for moments": refusal(lambda: StreamingMoments().all_reduce()),
        "no samples for a probe": refusal(lambda: StreamingProbe(C).all_reduce()),
        "NaN in the share of rank 1": refusal(lambda: extraction(folder / "b", network(), odd)),
        "other kernels": refusal(lambda: ntk_by_rank(network(), x[:4] if first else x[:5])),
        "another folder": refusal(lambda: extraction(folder / f"own-{distributed.rank()}", network())),
    }
    own = distributed.__version__
    distributed.__version__ = own if first else "0.0"
    found["other versions"] = refusal(lambda: extraction(folder / "c", network()))
    distributed.__version__ = own
    return found


def refusals_of_split_weights(folder: Path) -> dict[str, str]:
    """Of networks whose weights are spread over both ranks, as DTensors and flattened."""
    x, found = samples()[0][:8, :4], {}
    for form in ("parts", "joined"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of the older form
            net = sharded(whole_network(), form)
        calls: dict[str, Callable[[], Any]] = {
            "extract": lambda net=net: extraction(folder / "split", net, samples()[0][:, :4]),
            "ntk": lambda net=net: ntk(net, x),
            "ntk_by_rank": lambda net=net: ntk_by_rank(net, x),
            "locate": lambda net=net: locate(net, x, initial=whole_network(), progress=False),
        }
        found |= {f"{form}, {name}": refusal(call) for name, call in calls.items()}
    return found


def other_layers() -> StreamingCKA:
    found = StreamingCKA()
    found.update({"a" if distributed.is_first() else "b": samples()[0]})
    return found


def main(folder: Path) -> None:
    stored.BLOCK_BYTES = 1  # blocks of as few batches as there may be
    torch.set_num_threads(1)
    with distributed.process_group():
        rank = distributed.rank()
        found: dict[str, Any] = {
            "backend": torch.distributed.get_backend(),
            "rank": rank,
            "gathered": distributed.gathered({"rank": rank, "long": "x" * (1 + 99 * rank)}),
            "summed": distributed.summed([torch.tensor([rank + 1.0]), torch.tensor(3)])[0].item(),
            "share": [distributed.share(N).start, distributed.share(N).stop],
        }
        np.savez(folder / f"rank-{rank}.npz", **streams(mine, of_sampler), **kernels())
        extraction(folder / "fresh", network())
        extraction(folder / "of sampler", network(), loader())
        resumed = Stopping(10**9, lambda: None)
        extraction(folder / "interrupted alone", resumed)
        told = {**refusals(folder), **refusals_of_split_weights(folder)}
        found |= {"seen after resuming": resumed.seen, "refusals": told}
        (folder / f"rank-{rank}.json").write_text(json.dumps(found))
        stop = (lambda: os.kill(os.getpid(), signal.SIGKILL)) if rank == 1 else (lambda: None)
        start = time.monotonic()
        message = refusal(lambda: extraction(folder / "killed", Stopping(220, stop)))
        (folder / "killed.json").write_text(json.dumps({"told": message, "seconds": time.monotonic() - start}))


def run(folder: Path) -> list[int | None]:
    """Start both ranks, and wait for them: their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [warm_context().Process(target=_as_rank, args=(k, port, folder)) for k in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=240)
        process.kill()
    return [process.exitcode for process in started]


def _as_rank(rank: int, port: int, folder: Path) -> None:
    """As torchrun starts a process."""
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in named.items()})
    warnings.simplefilter("error")
    main(folder)
