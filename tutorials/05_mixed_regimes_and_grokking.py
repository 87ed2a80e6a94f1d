# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Lazy and rich at once, and one after the other
#
# A network need not be lazy or rich as a whole. A two-layer linear network $A = W_2 W_1$ of width $w$, its weights
# drawn with variance $\sigma^2$, has a threshold $c = \sigma^2 w$: modes (singular values of $A$) below it learn as in
# the lazy limit, modes above it as in the rich one (Tu, Aranguri and Jacot 2024). One formula holds on both sides:
#
# $$\dot A = -\left[(A A^\top + c^2)^{1/2}\, G + G\, (A^\top A + c^2)^{1/2}\right], \qquad G = A - Y.$$

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from geomfeat.numerics import WORKING, stream
from geomfeat.regimes.linear_networks import (
    activity_threshold,
    descend_products,
    mixed_flow,
    mode_regimes,
    n_active,
    noisy_low_rank,
    phase_diagram,
    random_products,
)
from geomfeat.regimes.linear_networks._phase_diagram import REGIMES

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#c8641e", "#3a8a4d", "#8a8a8a"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})

d, width, sigma, rate = 10, 100_000, 0.1 / 1000**0.5, 1e-3
c = activity_threshold(sigma, width)
left, right = (torch.linalg.qr(torch.randn(d, d, generator=stream(0, i), dtype=WORKING)).Q for i in ("u", "v"))
target = (left * torch.logspace(1, -1, d, dtype=WORKING)) @ right
print(f"threshold {c:.2f}: {int(n_active(target, c))} of {d} modes of the target are above it")

# %% [markdown]
# ## The formula against gradient descent
#
# Gradient descent is run in the products $W_2 W_1$, $W_1^\top W_1$ and $W_2 W_2^\top$, which is exact and costs the
# same at every width; the start is drawn with the exact law of the weights' products. It is compared with the mixed
# flow and its two limits: the lazy flow, every mode at rate $2c$, and the balanced flow, $c = 0$.

# %%
steps = sorted({round(10 ** (1 + 0.1 * k)) for k in range(24)})
times = [rate * k for k in steps]
start = random_products(d, d, width, sigma)
runs = descend_products(start, target, rate, steps)
descent = torch.stack([p.map for p in runs])
flows = {
    "mixed": mixed_flow(start.map, target, c, times),
    "lazy only": torch.stack([target + (start.map - target) * torch.tensor(-2 * c * t).exp() for t in times]),
    "balanced only": mixed_flow(start.map, target, 0.0, times),
}
errors = {name: (flow - descent).norm(dim=(1, 2)) / descent.norm(dim=(1, 2)) for name, flow in flows.items()}
for name, error in errors.items():
    print(f"{name:14} largest relative error {float(error.max()):.3f}")
assert errors["mixed"].max() < 0.03 < 0.3 < min(errors["lazy only"].max(), errors["balanced only"].max())


# %%
def modes(path):
    """How much of every mode of the target a path of maps holds."""
    return torch.einsum("oi,toj,ij->ti", left, path, right)


figure, (one, two) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
for i in range(0, d, 3):
    one.loglog(times, modes(descent)[:, i].abs(), ".", color=GREY, markersize=4)
    one.loglog(times, modes(flows["mixed"])[:, i].abs(), color=ORANGE if i < d // 2 else BLUE)
one.axhline(c, color=GREEN, linestyle="--")
one.text(times[0], c * 1.15, "threshold", color=GREEN)
one.set(xlabel="time", ylabel="mode of the map", title="Modes: descent (dots), mixed flow (lines)")
for (name, error), colour in zip(errors.items(), (ORANGE, BLUE, GREY), strict=True):
    two.loglog(times, error, color=colour, label=name)
two.set(xlabel="time", ylabel="relative error", title="Three flows against gradient descent")
two.legend(frameon=False)
figure.savefig(PICTURES / "mixed_flow.png", dpi=140)

# %% [markdown]
# ## Which modes were lazy: from the weights alone
#
# A trained pair of layers shows the regime of each of its modes without the initial weights: $\rho$ estimates $s / c$
# from the size of a mode's weights relative to the mode's strength.

# %%
generator, units = stream(0, "weights"), 5000
w1, w2 = ((c / units) ** 0.5 * torch.randn(s, generator=generator, dtype=WORKING) for s in ((units, d), (d, units)))
for _ in range(1000):
    gap = w2 @ w1 - target
    w1, w2 = w1 - 0.004 * w2.mT @ gap, w2 - 0.004 * gap @ w1.mT
found = mode_regimes(w1, w2)
for s, rho in zip(found.strengths, found.rho, strict=True):
    print(f"strength {float(s):6.2f}   rho {float(rho):7.2f}   strength / threshold {float(s) / c:7.2f}")
assert (found.rho / (found.strengths / c)).log10().abs().median() < 0.033

# %% [markdown]
# ## The phase diagram
#
# 900 networks, one in every cell of initial variance and width, learn a signal of two modes seen under noise. In a
# lazy cell all modes are learned at one rate, so the noise comes along with the signal; below the line
# $\log_d \sigma^2 + \log_d w = 1$ the signal's modes turn rich, run ahead, and stopping early leaves the noise out.

# %%
signal, observed = noisy_low_rank(12, 2, noise=0.4)
axis = {"log_variance": torch.linspace(-5, 1, 30).tolist(), "log_width": torch.linspace(0.25, 4, 30).tolist()}
diagram = phase_diagram(observed, **axis, signal=signal, max_steps=300)

figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained", sharey=True)
panels = (
    (diagram.regime, "regime", plt.get_cmap("viridis", len(REGIMES))),
    (diagram.n_active, "active modes of the trained map", "viridis"),
    (diagram.error.log10(), "log10 of the smallest error", "magma"),
)
for panel, (values, title, colours) in zip(axes, panels, strict=True):
    image = panel.pcolormesh(axis["log_width"], axis["log_variance"], values, cmap=colours, shading="nearest")
    panel.plot([1, 4], [0, -3], color="white")
    panel.axvline(1, color="white", linestyle=":")
    panel.set(xlabel="log$_d$ width", title=title)
    bar = figure.colorbar(image, ax=panel)
    if title == "regime":
        image.set_clim(-0.5, 3.5)
        bar.set_ticks(range(len(REGIMES)), labels=REGIMES)
axes[0].set_ylabel("log$_d$ initial variance")
figure.savefig(PICTURES / "phase_diagram.png", dpi=140)

lazy, rest = (diagram.error[mask].median() for mask in (diagram.regime == 2, diagram.regime < 2))
print(f"smallest error, median over cells: lazy {float(lazy):.3f}, active and mixed {float(rest):.3f}")
assert rest < lazy / 2

# %% [markdown]
# ## First lazy, then rich: grokking
#
# Regimes mix over time too. A network that adds modulo 23, started from large weights and trained with weight decay,
# fits its training samples within fifty steps and its test samples hundreds of steps later. `transitions` puts the
# events in order. Its kernel's turn is the angle between the centred tangent kernel and the first one; `late_share` is
# how much of the turn came after the fit.

# %%
from geomfeat.regimes.grokking import modular_addition, train_with_decay, transitions

task = modular_addition(23)
runs = {
    "large start, decay": train_with_decay(task, init_scale=3.0, decay=1.0, steps=1500),
    "small start, decay": train_with_decay(task, init_scale=0.1, decay=1.0, steps=1500),
    "large start, no decay": train_with_decay(task, init_scale=3.0, decay=0.0, lr=0.006, steps=800),
}
series = {name: run.series() for name, run in runs.items()}
reports = {name: transitions(s) for name, s in series.items()}
for name, r in reports.items():
    print(
        f"{name:22} {r.verdict:20} fit {r.fit_time:5.0f}   test {r.test_time:5.0f}   "
        f"turn at fit {r.turn_at_fit:.2f} of {r.furthest_turn:.2f}   late share {r.late_share:.2f}"
    )
assert [r.verdict for r in reports.values()] == ["lazy-then-rich", "rich from the start", "lazy throughout"]

figure, (one, two) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
for (name, s), colour in zip(series.items(), (ORANGE, BLUE, GREY), strict=True):
    one.semilogx(s.steps[1:], s.train_accuracy[1:], ":", color=colour)
    one.semilogx(s.steps[1:], s.test_accuracy[1:], color=colour, label=name)
    two.semilogx(s.steps[1:], s.kernel.turn[1:], color=colour, label=name)
grokking = reports["large start, decay"]
for time in (grokking.fit_time, grokking.test_time):
    two.axvline(time, color=ORANGE, linestyle="--", linewidth=0.8)
one.set(xlabel="step", ylabel="accuracy", title="Train (dotted) and test")
two.set(xlabel="step", ylabel="turn of the kernel, radians", title="The kernel turns between fit and test (dashed)")
two.legend(frameon=False)
figure.savefig(PICTURES / "grokking.png", dpi=140)

# %% [markdown]
# The small start learns its test samples late as well, but its kernel had turned before it fitted: a delay alone does
# not show the regime.
#
# ## The output scale alone
#
# In a polynomial network nothing but the output scale $\alpha$ delays the test loss (Kumar et al. 2024). The
# linearised network learns equally fast at every $\alpha$; the weights move as $1/\alpha$, so the distance of the
# kernel falls as $\alpha^{-2}$.

# %%
from geomfeat.regimes.grokking import polynomial_grokking

alphas, rate = (0.5, 1.0, 2.0, 4.0, 8.0), 10.0
found = polynomial_grokking(alphas, seeds=(1,), steps=1000, rate=rate)
for alpha in alphas:
    s = found.series[1, alpha]
    r = transitions(s)
    print(
        f"alpha {alpha:3}   gap {rate * (r.test_time - r.fit_time):6.0f} steps   kernel distance "
        f"{s.kernel.distance[-1]:.4f}   {r.verdict}"
    )
ends = [found.series[1, alpha].kernel.distance[-1] for alpha in alphas]
assert abs(ends[-2] / ends[-1] - 4) < 0.2

figure, axis_of_losses = plt.subplots(figsize=(5, 3.2), layout="constrained")
for alpha, colour in zip((0.5, 2.0, 8.0), (BLUE, GREEN, ORANGE), strict=True):
    s = found.series[1, alpha]
    times = [rate * step for step in s.steps[1:]]
    axis_of_losses.loglog(times, s.train_loss[1:], ":", color=colour)
    axis_of_losses.loglog(times, s.test_loss[1:], color=colour, label=f"$\\alpha$ = {alpha:g}")
axis_of_losses.set(xlabel="step at rate $N / \\alpha^2$", ylabel="relative loss", title="Train (dotted) and test")
axis_of_losses.legend(frameon=False)
figure.savefig(PICTURES / "polynomial_grokking.png", dpi=140)
