# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Is my network lazy or rich, and how do I move it?
#
# A lazy network learns like a model that is linear in its weights: its features stay. A rich one learns new features.
# Which of the two a training will be can be said before it begins, from the initial weights, some samples and the loss;
# and so can what to change. Here a small transformer that nobody has trained yet is forecasted, trained, and moved.

# %%
import copy
import os
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import geomfeat as gf
from geomfeat.models.transformer import transformer

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#c8641e", "#3a8a4d", "#8a8a8a"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
FULL = os.environ.get("GEOMFEAT_FULL", "0") == "1"  # 80 digits and two blocks, else 10 digits and one

data = gf.load_data("digits", split="train", n=80 if FULL else 10)
x, y = data.inputs, data.labels
model = transformer(width=16, depth=2 if FULL else 1, steps=8, seed=0)
TARGET = 0.2  # all trainings end at this share of the loss of outputs 0

# %% [markdown]
# ## Before training
#
# The forecast trains the network made linear in its weights, which takes seconds. R says how far features must move, in
# decades of their size; kappa the same of the tangent kernel. It also proposes a learning rate.

# %%
options = gf.ForecastOptions(n_bootstrap=10 if FULL else 2)
rate = gf.forecast(model, x, y, loss="mse", target_loss=TARGET, options=options).proposed_rate
sgd = torch.optim.SGD(model.parameters(), lr=rate)
expected = gf.forecast(model, x, y, loss="mse", target_loss=TARGET, optimizer=sgd, options=options)
print(expected)
print(expected.layers[["layer", "richness", "low", "high", "regime"]].round(2).to_string(index=False))

# %% [markdown]
# ## What to change
#
# Lower learning rates do not make a training lazier: R stays. The factor on the outputs does, since weights then have
# to change less for the same change of outputs. `advise` finds it, with the rate that goes with it, and forecasts the
# changed network to be sure.

# %%
advice = {
    "lazier": expected.advise(expected.richness - 1.0, init_scale=False),
    "richer": expected.advise(expected.richness + 0.5, init_scale=False),
}
for found in advice.values():
    print(found)
print(advice["lazier"].code)

# %% [markdown]
# ## Three trainings
#
# An ordinary loop: of the network as it is, and of the two that were advised, to the same loss.


# %%
def train(network, optimizer, most=6000):
    """Full batches to the target; returns the number of steps."""
    goal = nn.functional.one_hot(y, 10) - 0.1
    unit = goal.square().sum(1).mean()
    for step in range(most):
        loss = (network(x) - goal).square().sum(1).mean() / unit
        if loss <= TARGET:
            return step
        optimizer.zero_grad()
        (loss * unit).backward()
        optimizer.step()
    raise RuntimeError(f"the loss is still {loss:.2f}")


starts = {"as it is": (model, [{"params": list(model.parameters()), "lr": rate}])}
starts |= {name: found.apply(model, sgd) for name, found in advice.items()}
forecasts = {"as it is": expected.richness, **{name: found.richness for name, found in advice.items()}}
located = {}
for name, (start, groups) in starts.items():
    network = copy.deepcopy(start)
    rates = [group["lr"] for group in groups]
    steps = train(network, torch.optim.SGD(network.parameters(), lr=rates[0]))
    located[name] = gf.locate(
        network, x, y, initial=start, progress=False, options=gf.LocateOptions(loss="mse", n_bootstrap=2)
    )
    where = located[name]
    print(
        f"{name:8} {steps:5} steps: {where.regime}, R {where.richness:+.2f} (forecast {forecasts[name]:+.2f}), "
        f"M {where.movement:+.2f}, kernel changed by {where.kernel_change:.2f}"
    )

# %% [markdown]
# All three are where they were forecasted to be. The order is that of what happened: the lazier network changed its
# kernel less, and the richer one more, at the same loss.

# %%
for name in located:
    assert abs(located[name].richness - forecasts[name]) < 0.15
lazier, plain, richer = (located[name] for name in ("lazier", "as it is", "richer"))
assert lazier.richness < plain.richness < richer.richness
assert lazier.movement < plain.movement
assert lazier.kernel_change < plain.kernel_change < richer.kernel_change

figure, axes = plt.subplots(figsize=(4.8, 3.2), layout="constrained")
for (name, where), colour in zip(located.items(), (GREY, BLUE, ORANGE), strict=True):
    axes.plot(forecasts[name], where.richness, "o", color=colour, label=f"{name}: demand R")
    axes.plot(forecasts[name], where.movement, "s", color=colour, fillstyle="none", label=f"{name}: movement M")
ends = [min(forecasts.values()) - 0.2, max(forecasts.values()) + 0.2]
axes.plot(ends, ends, color=GREY, linewidth=0.6)
axes.set(xlabel="forecast of R, decades", ylabel="after training, decades", title="Where it was said to go")
axes.legend(frameon=False, fontsize=7)
figure.savefig(PICTURES / "13_forecast.png", dpi=120)

# %% [markdown]
# The command line says the same of a model in a file: `geomfeat forecast --model file.py:make --data digits --loss mse
# --advise lazy --out page.html`.
