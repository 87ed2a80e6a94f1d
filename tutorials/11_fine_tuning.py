# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Where a fine-tuning sits between lazy and rich
#
# A fine-tuning begins from pretrained weights and often trains only a part of them: adapters, the last block, a new
# head. Three things have to be said before its place means anything: what it started from, which parameters it was free
# to move, and at which rates. `locate` reads the first two from the weights before and after.
#
# Here a small transformer learns to read digits row by row, and is then fine-tuned to tell even from odd ones.

# %%
import copy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

import geomfeat as gf
from geomfeat.models.transformer import transformer

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#c8641e", "#3a8a4d", "#8a8a8a"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
torch.manual_seed(0)

data = gf.load_data("digits", n=332)
pretraining = data.inputs[:300], data.labels[:300]
task = data.inputs[300:], data.labels[300:] % 2
BLOCKS = ["encoder.layers.0", "encoder.layers.1"]


def network(outputs):
    return transformer(outputs=outputs, width=16, steps=8)


# %% [markdown]
# ## Training
#
# An ordinary loop. To be compared, networks have to be trained to one loss, so it stops there.


# %%
def train(model, inputs, labels, optimizer, loss_left, most=3000):
    """Full batches, until the cross-entropy is below `loss_left`."""
    for step in range(most):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        if loss < loss_left:
            return step
        loss.backward()
        optimizer.step()
    raise RuntimeError(f"the loss is still {loss:.2f}")


pretrained = network(10)
steps = train(pretrained, *pretraining, torch.optim.Adam(pretrained.parameters(), lr=3e-3), 0.1)
print(f"pretrained in {steps} steps")

# %% [markdown]
# ## Four starts
#
# The head of the pretrained model has ten outputs, so the task needs a new one. The model *with* the new head, as it
# was before the first step, is the start; the pretrained body on its own would be refused. All variants share it, but
# for the one from scratch, and all train the head.
#
# A low-rank adapter (LoRA) replaces a matrix $W$ by $W + \frac{\alpha}{r} B A$ with $B = 0$ at the start. As a
# parametrization it is a few lines; a model with adapters of peft works in the same way.


# %%
class LowRank(nn.Module):
    def __init__(self, weight, rank, alpha=16.0):
        super().__init__()
        outputs, inputs = weight.shape
        self.a = nn.Parameter((2 * torch.rand(rank, inputs) - 1) / inputs**0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = alpha / rank

    def forward(self, weight):
        return weight + self.scale * self.b @ self.a


def with_adapters(model, rank):
    model = copy.deepcopy(model).requires_grad_(False)
    model.head.requires_grad_(True)
    for block in model.encoder.layers:
        for layer, name in ((block.self_attn, "in_proj_weight"), (block.linear1, "weight"), (block.linear2, "weight")):
            parametrize.register_parametrization(layer, name, LowRank(getattr(layer, name), rank))
    return model


new_head = copy.deepcopy(pretrained)
new_head.head = nn.Linear(16, 2)
head_only = copy.deepcopy(new_head).requires_grad_(False)
head_only.head.requires_grad_(True)
starts = {"from scratch": network(2), "full": new_head, "LoRA": with_adapters(new_head, 2), "head only": head_only}

runs, optimizers = {}, {}
for name, start in starts.items():
    runs[name] = copy.deepcopy(start)
    free = [p for p in runs[name].parameters() if p.requires_grad]
    optimizers[name] = torch.optim.SGD(free, lr=0.02)
    steps = train(runs[name], *task, optimizers[name], 0.3)
    print(f"{name:13} {sum(p.numel() for p in free):6,} parameters trained in {steps} steps")

# %% [markdown]
# ## Where they are
#
# The tangent space is that of the parameters whose values differ; the optimizer would give the same, since it holds
# nothing else. `tangent` says which space a number is of.

# %%
options = gf.LocateOptions(loss="cross-entropy", n_bootstrap=2)
found = {
    name: gf.locate(run, task[0], initial=starts[name], layers=BLOCKS, options=options, progress=False)
    for name, run in runs.items()
}
for name, where in found.items():
    print(f"{name:13} {where.regime}, measured in {where.tangent}")
    print(f"{'':13} R {where.richness:+.2f}  M {where.movement:+.2f}  kappa {where.kernel_demand:+.2f}", end="  ")
    print(f"kernel changed by {where.kernel_change:.2f}  gap {where.linearisation_gap:.2f}")
given = gf.locate(
    runs["LoRA"], task[0], initial=starts["LoRA"], layers=BLOCKS, optimizer=optimizers["LoRA"], options=options,
    progress=False,
)  # fmt: skip
assert given.tangent == found["LoRA"].tangent
assert np.isclose(given.richness, found["LoRA"].richness)
assert found["head only"].is_frozen
assert found["from scratch"].kernel_change > found["full"].kernel_change

# %% [markdown]
# - **From scratch** the tangent kernel changes by many times its size: what was learned has little to do with the
#   linear model at the start.
# - **Full** fine-tuning demands less of features and kernel: the pretrained features already tell digits apart. It is
#   nearer to the linear model, but in a network this small, with a new head, its kernel does not stay at rest.
# - **LoRA** is measured in its own parameters. That is another space, with another kernel, and another number.
# - A **head** alone is linear in what was trained: no feature moved, and the kernel cannot change. Its R is what this
#   change would have demanded had every parameter been free.

# %%
figure, (one, two) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
places = np.arange(len(found))
for quantity, label, colour in (
    ("richness", "demand R", BLUE), ("movement", "movement M", ORANGE), ("kernel_demand", "kernel demand", GREEN),
):  # fmt: skip
    values = [getattr(where, quantity) for where in found.values()]
    one.plot(places, [v if np.isfinite(v) else np.nan for v in values], "o", color=colour, label=label)
one.axhline(0, color=GREY, linewidth=0.6)
one.set(ylabel="decades", title="Demand and movement")
one.legend(frameon=False)
two.bar(places - 0.2, [where.kernel_change for where in found.values()], 0.4, color=BLUE, label="kernel change")
two.bar(
    places + 0.2, [where.linearisation_gap for where in found.values()], 0.4, color=ORANGE, label="linearisation gap"
)
two.set(title="What became of the tangent kernel")
two.legend(frameon=False)
for axes in (one, two):
    axes.set_xticks(places, list(found))
figure.savefig(PICTURES / "11_places.png", dpi=120)

# %% [markdown]
# ## Adapters apart, and merged
#
# Merged into the weights, the adapter is an ordinary change of the pretrained network. Function and features are the
# same, so M is too; demand and kernel are those of the full matrices, which could have moved anywhere. Say which of the
# two you report, and compare only numbers of one space.


# %%
def merged(model):
    """The pretrained architecture with the weights that a model with adapters computes with."""
    whole = copy.deepcopy(new_head)
    with torch.no_grad():
        for name, p in whole.named_parameters():
            path, _, own = name.rpartition(".")
            p.copy_(getattr(model.get_submodule(path), own))
    return whole


whole = gf.locate(
    merged(runs["LoRA"]), task[0], initial=merged(starts["LoRA"]), layers=BLOCKS, options=options, progress=False
)
for name, where in (("adapters", found["LoRA"]), ("merged", whole)):
    print(
        f"{name:9} R {where.richness:+.2f}  M {where.movement:+.2f}  kappa {where.kernel_demand:+.2f}"
        f"  kernel changed by {where.kernel_change:.2f}, in {where.tangent}"
    )
assert np.isclose(whole.movement, found["LoRA"].movement, atol=1e-4)

# %% [markdown]
# ## The draw of a new head
#
# Often the head that training began with was not saved. Another draw of it gives other numbers, the less so the wider
# the network: the spread over draws is the error to report.

# %%
over_draws = []
for seed in range(2):
    start = copy.deepcopy(new_head)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        start.head.reset_parameters()
    over_draws.append(
        gf.locate(runs["full"], task[0], initial=start, layers=BLOCKS, options=options, progress=False).richness
    )
print(f"R {found['full'].richness:+.2f} from the head of the training; other draws:", np.round(over_draws, 2))

# %% [markdown]
# ## Without derivatives
#
# `movement` asks less: one forward pass before and after, for models too large to be differentiated. Here it shows how
# far the features of each block moved, and how their geometry changed.

# %%
moved = {
    name: gf.movement(runs[name], task[0], task[1], initial=starts[name], layers=BLOCKS, progress=False)
    for name in ("from scratch", "full", "LoRA")
}
for name, result in moved.items():
    print(f"{name}\n{result.layers[['layer', 'movement', 'cka', 'weights']].round(2).to_string(index=False)}")

figure, axes = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
for (name, result), colour in zip(moved.items(), (GREY, BLUE, ORANGE), strict=True):
    axes.plot(range(2), result.layers["movement"], "o-", color=colour, label=name)
axes.set_xticks(range(2), ["block 1", "block 2"])
axes.set(ylabel="movement M (decades)", title="Features move less from pretrained weights")
axes.legend(frameon=False)
figure.savefig(PICTURES / "11_movement.png", dpi=120)
