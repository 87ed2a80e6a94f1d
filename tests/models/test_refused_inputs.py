"""What a network does not take is refused alike by every call: which layer, what it was given, and what to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.functional import functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.regimes.linearization import lazy_limit
from geomfeat.regimes.stability import sharpness
from geomfeat.tangent import jvp

N = 12


class _Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.fc, self.out = nn.EmbeddingBag(20, 8, padding_idx=0), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, ids: Tensor, offsets: Tensor | None = None) -> Tensor:
        return self.out(torch.tanh(self.fc(self.table(ids, offsets))))


class _Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.ones(5, 8)), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(x @ self.weight))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))


def _cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6), nn.ReLU(), nn.Linear(6, 2))


REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "whole numbers": (_mlp, torch.ones(N, 5).long(), r"'0' \(Linear of 5.*int64.*inputs\.float\(\)"),
    "truth values": (_mlp, torch.ones(N, 5) > 0, r"bool: give inputs\.float\(\)"),
    "bytes of images": (_cnn, torch.ones(N, 3, 8, 8).byte(), r"'0' \(Conv2d of 3.*uint8.*/ 255"),
    "whole numbers into bare parameters": (_Bare, torch.ones(N, 5).long(), r"int64: give inputs\.float\(\)"),
    "floats into a table": (_Bag, torch.ones(N, 4), r"'table' \(EmbeddingBag of 20.*inputs\.long\(\)"),
    "short integers into a table": (_Bag, torch.ones(N, 4).short(), r"int16: give token ids as integers"),
    "ids beyond a table": (_Bag, torch.full((N, 4), 31), r"from 31 to 31 where it has 0 to 19"),
    "another width": (_mlp, torch.ones(N, 7), r"was given \(\d+, 7\).*\(samples, \.\.\., 5\)"),
    "another width of bare parameters": (_Bare, torch.ones(N, 7), r"cannot be multiplied.*samples first"),
    "one number a sample": (_mlp, torch.ones(N), r"\(samples, \.\.\., 5\), a lone sample as x\[None\]"),
    "flat images": (_cnn, torch.ones(N, 192), r"it takes \(samples, 3, height, width\)"),
    "channels last": (_cnn, torch.ones(N, 8, 8, 3), r"give inputs\.movedim\(-1, 1\)"),
    "larger images": (_cnn, torch.ones(N, 3, 9, 9), r"'3' \(Linear of 144.*size \(height, width, length\)"),
    "too many arguments": (_mlp, (torch.ones(N, 5), torch.ones(N, 5)), r"forward takes \(input"),
    "another name": (_mlp, {"x": torch.ones(N, 5)}, r"under 'x'.*forward takes \(input"),
}


def _moved(net: nn.Module) -> nn.Module:
    end = copy.deepcopy(net)
    with torch.no_grad():
        for p in end.parameters():
            p.add_(0.1)
    return end


CALLS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "extract": lambda net, x: gf.extract(net, x, progress=False),
    "analyze": lambda net, x: gf.analyze(net, x, measures=["participation_ratio"], location=False, progress=False),
    "compare": lambda net, x: gf.compare(
        {"a": net, "b": _moved(net)}, x, progress=False, options=gf.CompareOptions(n_bootstrap=5, n_draws=5)
    ),
    "locate": lambda net, x: gf.locate(
        _moved(net), x, initial=net, progress=False, options=gf.LocateOptions(n_bootstrap=2)
    ),
    "ntk": gf.ntk,
    "jvp": lambda net, x: jvp(f := functional(net), x, dict(f.theta)),
    "train_at_gamma": lambda net, x: gf.train_at_gamma(net, x, torch.arange(N) % 2, gamma=1.0, max_steps=2),
    "lazy_limit": lambda net, x: lazy_limit(net, x, torch.arange(N) % 2),
    "sharpness": lambda net, x: sharpness(net, x, torch.arange(N) % 2),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("call", CALLS)
def test_inputs_that_a_network_does_not_take_are_refused_with_layer_and_remedy(call: str, what: str) -> None:
    make, x, words = REFUSED[what]
    with pytest.raises(BadInput, match=rf"cannot be called on these inputs.*({words})"):
        CALLS[call](make(), x)


@pytest.mark.parametrize("call", CALLS)
def test_token_ids_end_to_end_are_refused_with_what_to_give_instead(call: str) -> None:
    ids, offsets = torch.arange(1, 19).repeat(2)[:30], torch.arange(0, 24, 2)
    with pytest.raises(BadInput, match=r"with offsets, \(12,\).*padded to \(samples, length\).*padding_idx="):
        CALLS[call](_Bag(), (ids, offsets))


def test_padded_ids_are_what_ids_end_to_end_are() -> None:
    torch.manual_seed(0)
    net = _Bag()
    offsets = torch.arange(0, 24, 2)
    ids = torch.randint(1, 20, (26,), generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(N, 4, dtype=torch.long)
    for i, part in enumerate(ids.tensor_split(offsets[1:])):
        padded[i, : len(part)] = part
    torch.testing.assert_close(net(padded), net(ids, offsets))
    assert gf.extract(net, (padded, None), progress=False)["fc"].n == N


def test_tensors_of_several_lengths_that_are_no_ids_have_no_word_of_offsets() -> None:
    with pytest.raises(BadInput, match="same positive number of samples") as refused:
        n_samples((torch.ones(30), torch.ones(12)))
    assert "offsets" not in str(refused.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floating_inputs_are_taken_in_the_precision_of_the_network(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net, x = _mlp(), torch.randint(-3, 4, (N, 5)).float()
    expected, found = (gf.extract(net, t, progress=False)["2"].x for t in (x, x.to(dtype)))
    assert torch.equal(found, expected)
    torch.testing.assert_close(gf.ntk(net, x.to(dtype)).gram, gf.ntk(net, x).gram)


def test_an_error_of_the_model_itself_passes_through() -> None:
    class TooLong(ValueError):
        pass

    class Picky(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise TooLong("sequences of at most 3")

    for call in (CALLS["extract"], CALLS["ntk"]):
        with pytest.raises(TooLong, match="at most 3"):
            call(Picky(5, 2), torch.ones(N, 5))
