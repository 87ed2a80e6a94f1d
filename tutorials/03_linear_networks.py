# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Linear networks: lazy and rich, exactly
#
# A two-layer linear network $\hat y = W_2 W_1 x$ on whitened inputs can be solved exactly when its start is
# $\lambda$-balanced, $W_2^\top W_2 - W_1 W_1^\top = \lambda I$ (Domine et al. 2024). Gradient flow conserves
# $\lambda$, and $\lambda$ decides how the network learns. Every curve below is a formula, not a simulation.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from geomfeat.regimes.linear_networks import (
    LinearTask,
    aligned_mode,
    balanced_network,
    layer_balance,
    learn_in_sequence,
    linear_flow,
)

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)

# %% [markdown]
# ## One mode: from sigmoid to exponential
#
# At $\lambda = 0$ a small network waits, then learns all at once; at large $|\lambda|$ it learns exponentially, as a
# linear model does. Time is counted in units in which both end together.

# %%
t = torch.linspace(0, 5, 200, dtype=torch.float64)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
for balance in (0.0, 1.0, 4.0, 20.0):
    rate = (balance**2 + 4) ** 0.5
    axes[0].plot(t, aligned_mode(1e-2, 1.0, balance, 2 * t / rate), label=f"λ = {balance:g}")
axes[0].set(xlabel="time × √(λ² + 4)/2", ylabel="singular value s", title="One aligned mode")
axes[0].legend()


# %% [markdown]
# ## Lazy, rich, lazy; and the funnel
#
# How far does the tangent kernel turn during training? In a square network it turns only near $\lambda = 0$: lazy,
# rich, lazy. In a funnel (more inputs than hidden units) a negative $\lambda$ puts large weights on a few random input
# directions, which have to turn towards the task: such a network first learns like a lazy one, and becomes rich late.
# The anti-funnel is its mirror image. (At $\lambda = 0$ a square network keeps the sign of $\det W_2 W_1$: a draw with
# the wrong sign stays at the saddle where its weakest mode is not learned.)


# %%
def task_of(inputs: int, outputs: int, seed: int) -> LinearTask:
    """Singular values 1 to 3 in random directions."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(outputs, 5, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(inputs, 5, generator=generator, dtype=torch.float64))
    return LinearTask((u * torch.linspace(1, 3, 5, dtype=torch.float64)) @ v.T)


def moved(shape: tuple[int, int, int], balance: float) -> float:
    """Final movement of the kernel, mean over three draws."""
    found = []
    for seed in range(3):
        start = balanced_network(*shape, balance, 1e-3, seed=seed)
        path = linear_flow(*start, task_of(shape[0], shape[2], seed), [0, 10 + 8 * abs(balance)])
        found.append(path.ntk_movement(torch.eye(shape[0]))[-1])
    return float(torch.stack(found).mean())


balances = [-15.0, -8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0, 15.0]
for name, shape in {"square 5-5-5": (5, 5, 5), "funnel 10-5-5": (10, 5, 5), "anti-funnel 5-5-10": (5, 5, 10)}.items():
    curve = [moved(shape, balance) for balance in balances]
    axes[1].plot(balances, curve, marker="o", markersize=3, label=name)
    print(f"{name:20}", " ".join(f"{value:.3f}" for value in curve))
axes[1].set(xlabel="λ", ylabel="1 − cos(K₀, K)", title="Turn of the tangent kernel")
axes[1].legend()

# %% [markdown]
# ## Tasks one after another
#
# Since $\lambda$ is conserved whatever the target, the solution simply restarts with a new task. Learning the second
# of two full-rank tasks undoes the first, lazily as well as richly; only the way there differs. At $\lambda = 0$ this
# draw also has the wrong sign for both tasks: its loss stays at 1/2, the weakest mode of each being missing.

# %%
tasks = [task_of(5, 5, seed) for seed in (1, 2)]
for balance in (0.0, 10.0):
    seen = learn_in_sequence(
        *balanced_network(5, 5, 5, balance, 1e-2), tasks, torch.linspace(0, 4, 100, dtype=torch.float64)
    )
    axes[2].plot(seen.times, seen.losses[0], label=f"first task, λ = {balance:g}")
    axes[2].plot(seen.times, seen.losses[1], "--", label=f"second task, λ = {balance:g}")
    last = seen.paths[-1]
    print(
        f"λ = {balance:g}: forgotten {float(seen.forgetting[0, 1]):.2f}; now", layer_balance(last.w1[-1], last.w2[-1])
    )
axes[2].set(xlabel="time", ylabel="loss", title="Two tasks in sequence")
axes[2].legend(fontsize="small")
figure.savefig(PICTURES / "linear_networks.png", dpi=100)
