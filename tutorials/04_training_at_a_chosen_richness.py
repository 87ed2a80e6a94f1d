# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Training at a chosen richness
#
# Divide the change of a network's outputs by a number and train that instead:
#
# $$f = \frac{\mathrm{net}(w) - \mathrm{net}(w_0)}{\gamma}$$
#
# To fit the same targets, the network then has to change its outputs by $\gamma$ times as much. At small $\gamma$ a
# tiny change of the weights does it, and the network stays at its linearisation: *lazy*. At large $\gamma$ the
# features have to move: *rich*. Nothing else changes, neither the start nor the data nor the loss that is reached.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import geomfeat as gf
from geomfeat.models.mlp import mlp
from geomfeat.regimes.training import parameter_groups, relative_loss

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)

data = gf.load_data("digits", n=60)
x, y = data.inputs, data.labels
WIDTH = 64
start = mlp(hidden=(WIDTH, WIDTH), parameterization="ntk", seed=0)

# %% [markdown]
# ## One knob, four names
#
# Papers use the same knob under other names, and two of them depend on the width $n$ and on how the network is read
# out. `Richness` converts between them and states its convention with every number. In NTK parameterization (a
# $1/\sqrt n$ read-out), $\alpha = 1/\gamma$ (Chizat), $\gamma_0 = \gamma/\sqrt n$ (Bordelon and Pehlevan) and
# $\gamma = n^r$ (Karkada), where $r = 0$ is the NTK limit and $r = 1/2$ is muP.

# %%
for knob in (
    gf.Richness.from_alpha(10.0, WIDTH),
    gf.Richness.from_r(0.0, WIDTH),
    gf.Richness.from_r(0.5, WIDTH),
    gf.Richness.from_gamma0(1.0, WIDTH),
    gf.Richness.from_gamma0(1.0, WIDTH, readout="1/n"),
):
    print(knob)

# %% [markdown]
# The last line is the training of the line before it, written for a mean-field network, whose outputs are $\sqrt n$
# smaller: the same $\gamma_0$ and $r$, another $\alpha$. A value outside the scale raises an error that says what it
# would mean:

# %%
try:
    gf.Richness.from_r(0.8, WIDTH)
except gf.BadInput as refused:
    print(refused)

# %% [markdown]
# ## From lazy to rich
#
# `train_at_gamma` takes $\gamma$ or a `Richness`. The learning rate on the weights is $\eta_0\gamma^2$, with $\eta_0$
# from the curvature, so all runs need about as many steps, and all stop at the same share of the loss.

# %%
knobs = [gf.Richness.from_alpha(alpha, WIDTH) for alpha in (100.0, 10.0)]
knobs += [gf.Richness.from_r(r, WIDTH) for r in (0.0, 0.25, 0.5)]
knobs += [gf.Richness.from_gamma0(4.0, WIDTH)]
demand, movement = [], []
for knob in knobs:
    run = gf.train_at_gamma(
        start, x, y, gamma=knob, target_loss=0.05, options=gf.TrainOptions(test=(data.test_inputs, data.test_labels))
    )
    where = gf.locate(run.model, x, y, initial=start, progress=False)
    demand.append(where.richness)
    movement.append(where.movement)
    print(f"gamma {knob.gamma:7.3f}: {run.steps:3} steps, test {run.test_accuracy:.1%}, "
          f"demand {where.richness:+.2f}, movement {where.movement:+.2f}, {where.regime}")  # fmt: skip

# %% [markdown]
# The demand $R$ is computed without $\gamma$, and follows it with slope 1. The movement $M$ equals it while the network
# is lazy, and then falls below: rich learning needs less movement than the linearised network would.

# %%
gammas = np.array([knob.gamma for knob in knobs])
figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
axes.plot(gammas, demand, "o", label="demand R")
axes.plot(gammas, movement, "s-", label="movement M")
offset = np.mean(demand - np.log10(gammas))
axes.plot(gammas, np.log10(gammas) + offset, "k--", linewidth=1, label="slope 1")
axes.set(xscale="log", xlabel="output scale γ", ylabel="decades of the features' size", title="One knob, one network")
axes.legend()
figure.savefig(PICTURES / "richness_knob.png", dpi=100)
slope = np.polyfit(np.log10(gammas), demand, 1)[0]
print(f"slope of R on log10 gamma: {slope:.2f}")
assert abs(slope - 1) < 0.1

# %% [markdown]
# ## Rates by layer, weight decay, checkpoints, other optimizers
#
# Training runs on $u = (w - w_0)/\gamma$, so that any torch optimizer scales by itself. `lr_multipliers` sets rates by
# layer (0 freezes one), `weight_decay` shrinks the raw weights, and `snapshot_steps="log"` keeps checkpoints.

# %%
run = gf.train_at_gamma(
    start, x, y, gamma=1.0, target_loss=0.05,
    options=gf.TrainOptions(
        weight_decay=1e-4, lr_multipliers={"fc1": 0.0}, snapshot_steps="log",
        optimizer=lambda groups: torch.optim.Adam(groups, lr=3e-3),
    ),
)  # fmt: skip
for snapshot in run.snapshots_list:
    print(snapshot.at, f"{snapshot.conditions['loss']:.3f}")
print("the first layer moved by", float((run.model.fc1.weight - start.fc1.weight).detach().abs().max()))

# %% [markdown]
# ## In your own training loop
#
# `at_richness` wraps a network of any kind; its forward pass gives $f$, and training it trains the network.
# `parameter_groups` scales the learning rate: by $\gamma^2$ for gradient descent, by $\gamma$ for Adam and similar
# methods, whose steps do not depend on the size of the gradient. `train_at_gamma` finds a stable $\eta_0$ itself.

# %%
net = mlp(hidden=(WIDTH, WIDTH), parameterization="ntk", seed=0)
wrapped = gf.at_richness(net, gf.Richness.from_alpha(10.0, WIDTH))
eta0 = gf.train_at_gamma(start, x, y, gamma=0.1, max_steps=1).lr
optimizer = torch.optim.SGD(parameter_groups(wrapped, lr=eta0))
for _ in range(100):
    optimizer.zero_grad()
    loss = relative_loss(wrapped(x), y)
    loss.backward()
    optimizer.step()
same = gf.train_at_gamma(start, x, y, gamma=0.1, lr=eta0, max_steps=100, options=gf.TrainOptions(momentum=0.0))
print(f"own loop {float(loss.detach()):.4f} before its last step, train_at_gamma {same.train_loss:.4f} after it")
apart = float((same.model.fc1.weight - net.fc1.weight).detach().norm())
print(
    f"the weights differ by {apart:.1e}, and moved by {float((net.fc1.weight - start.fc1.weight).detach().norm()):.1e}"
)
