# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Init scale and learning rate
#
# Every training has two knobs: the factor $\sigma$ on all initial weights, and the learning rate $\eta$. Which of them
# makes a network lazy or rich, and by how much? We train a grid of networks on the digits, all to the same train loss,
# locate each of them, and compare the slopes with theory:
#
# - The response of a network with $L$ layers of weights falls with $\sigma^{L-1}$, and its features with $\sigma$, so
#   the demand $R$ has slope $-L$ on $\log_{10}\sigma$.
# - Gradient flow does not depend on its step: $R$ and the excess $E = M - R$ have slope 0 on $\log_{10}\eta$, until
#   steps become so large that training leaves the flow. From there on $E$ rises.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import geomfeat as gf
from geomfeat.comparison.relations._relate import relate
from geomfeat.comparison.relations.phase_map import contours, grid_of, numbers_of
from geomfeat.report.pages.portrait import write_portrait_page
from geomfeat.report.pages.relate import write_relate_page

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
FULL = os.environ.get("GEOMFEAT_FULL", "0") == "1"  # 6 x 6 x 3 = 108 trainings, else 3 x 3 x 2 of smaller networks

# %% [markdown]
# ## The sweep
#
# The same as a file is `tutorials/configs/scale_by_rate.yaml`, for `geomfeat sweep`. Rates are not lowered
# when training diverges: those runs are rows that give the reason.

# %%
count, width, n = (6, 128, 500) if FULL else (3, 32, 200)
config = {
    "width": width, "seeds": 3 if FULL else 2,
    "sigma": {"low": 0.35, "high": 2.0, "count": count}, "eta": {"low": 0.01, "high": 1.0, "count": count},
    "train": {"n": n, "target_loss": 0.1 if FULL else 0.2, "max_steps": 1000},
    "measure": {
        "measures": ["capacity", "cka_linear_unbiased"] if FULL else ["participation_ratio_corrected"],
        "location": {"n_probes": 100} if FULL else {"n_probes": 40, "n_bootstrap": 4}, "n": 200 if FULL else 100,
    },
}  # fmt: skip
found = gf.sweep(config, "runs/scale_by_rate", progress=False)
print(found)

# %% [markdown]
# ## Measured and predicted slopes
#
# Intervals are over seeds. Trainings that diverged or missed the target loss are counted, and left out: they are not
# missing at random. In the full grid the trainings like gradient flow have slope -2.99 on sigma; those beyond the flow
# have -2.80, outside the margin of the theory, which assumes gradient flow.

# %%
related = relate(found.table)
for note in related.notes:
    print(note)
slopes = related.slopes[(related.slopes["measure"] == "location") & (related.slopes["layer"] == "")]
for row in slopes[slopes["expected"] != ""].itertuples():
    print(f"{row.quantity:9}on log10 {row.term:6}{row.cells:12}{row.slope:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"
          f"   theory {row.expected:4} {row.verdict}")  # fmt: skip

measured = slopes[(slopes["quantity"] == "richness") & (slopes["cells"] == "all")].set_index("term")["slope"]
assert abs(measured["sigma"] + 3) < 0.3
assert abs(measured["eta"]) < 0.15

# %% [markdown]
# ## The map
#
# Lines of equal richness are upright: the learning rate hardly matters for the demand. It decides whether training
# ends at all, and whether it is still like gradient flow. Marks: triangles are catapults, diamonds the edge of
# stability, crosses divergence.

# %%
grid = grid_of(numbers_of(found.table, "location", "richness"), "sigma", "eta")
figure, axes = plt.subplots(figsize=(5.4, 4), layout="constrained")
image = axes.pcolormesh(grid.log_x, grid.log_y, grid.value, cmap="cividis", shading="nearest")
figure.colorbar(image, label="richness R, decades")
for lines in contours(grid, np.linspace(np.nanmin(grid.value), np.nanmax(grid.value), 7)[1:-1]).values():
    for line in lines:
        axes.plot(*line.T, color="white", linewidth=1)
for phase, mark in (("catapult", "^"), ("edge of stability", "D"), ("diverged", "x")):
    i, j = np.nonzero(np.char.find(grid.phase.astype(str), phase) >= 0)
    axes.plot(grid.log_x[j], grid.log_y[i], mark, color="#c2410c", markerfacecolor="none", label=phase)
axes.set(xlabel="log10 init scale σ", ylabel="log10 learning rate η", facecolor="#e4e7eb")
axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize="small", frameon=False)
figure.savefig(PICTURES / "init_scale_and_learning_rate.png", dpi=100)

# %% [markdown]
# ## Pages
#
# `geomfeat relate` and `geomfeat portrait` write this, and all the rest, as pages to click through.

# %%
print(write_relate_page(related, found.table, "runs/scale_by_rate/relate.html", settings=found.config))
print(write_portrait_page(found.table, "runs/scale_by_rate/portrait.html", settings=found.config))
