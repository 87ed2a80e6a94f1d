# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # The manifold capacity of a recording
#
# How easily could a linear read-out separate categories by these voxels, and which property of the responses decides
# it: how far they spread (radius), in how many directions (dimension), or how similar the categories are (alignments)?
# Manifold capacity answers with one number and its geometry. The data are those of Haxby et al. (2001): a subject
# looks at pictures of eight categories in twelve runs, while fMRI records 530 voxels of one slice.
#
# The data lie outside this repository. Where they are missing, the same analysis runs on a simulated recording.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from geomfeat.geometry.manifolds import capacity, capacity_curve
from geomfeat.numerics import jackknife_stderr, numpy_stream

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
HERE = Path(__file__).resolve().parents[2] if "__file__" in globals() else Path.cwd().parents[1]
FILE = Path(os.environ.get("GEOMFEAT_SHARED") or HERE / "shared") / "data" / "haxby-1slice.npz"


def simulated(n_runs=12, n_voxels=530, volumes=9):
    """Eight categories with centres of their own, responses that drift by run, noise shared by neighbouring volumes."""
    noise = numpy_stream(0, "simulated recording")
    names = ["house", "scrambledpix", "cat", "shoe", "bottle", "scissors", "chair", "face"]
    centers = noise.standard_normal((8, n_voxels))
    centers[3:6] = 0.6 * centers[3:6] + 0.8 * noise.standard_normal(n_voxels)  # shoe, bottle, scissors: similar
    category = np.tile(np.repeat(np.arange(8), volumes), n_runs)
    run = np.repeat(np.arange(1, n_runs + 1), 8 * volumes)
    block = (run - 1) * 8 + category
    shared_noise = noise.standard_normal((8 * n_runs, n_voxels))[block]
    own_noise = noise.standard_normal((len(run), n_voxels))
    return 0.4 * centers[category] + 0.7 * shared_noise + 0.6 * own_noise, category, run, np.array(names)


if FILE.is_file():
    with np.load(FILE) as data:
        responses, category, run, names = (data[k] for k in ("responses", "category", "run", "names"))
    source = "Haxby 2001, one subject, one slice"
else:
    responses, category, run, names = simulated()
    source = "a SIMULATED recording"
    print(f"{FILE.name} is not next to the checkout: what follows is {source}, and says nothing about brains")
runs = np.unique(run)
print(
    f"{source}: {responses.shape[0]} volumes x {responses.shape[1]} voxels, {len(names)} categories, {len(runs)} runs"
)

# %% [markdown]
# ## Runs are the unit
#
# Volumes of a run follow each other within seconds, and so do their errors: 108 volumes of a category are not 108
# observations. Runs are minutes apart. So a point of a category's manifold is its mean response in one run, and every
# standard error below is a jackknife over runs: leave one run out, repeat everything, and see how much it moves. Each
# of the repeats uses the same random directions, so that the error is that of the data, not of the random numbers.


# %%
def run_means(category):
    """(categories, runs, voxels)"""
    return np.stack([[responses[(category == c) & (run == r)].mean(0) for r in runs] for c in range(len(names))])


QUANTITIES = ["capacity", "dimension", "radius", "center_alignment", "axis_alignment", "center_axis_alignment"]


def geometry(points, n_draws=80, **options):
    found = capacity(points, n_draws=n_draws, **options)
    return np.array([getattr(found, name) for name in QUANTITIES]), found


def with_jackknife(points, **options):
    """The quantities and their standard errors over runs."""
    value, found = geometry(points, **options)
    rest = np.array([geometry(np.delete(points, i, axis=1), **options)[0] for i in range(points.shape[1])])
    return value, np.array([jackknife_stderr(column) for column in rest.T]), found


points = run_means(category)
value, error, found = with_jackknife(points)
print(f"capacity {value[0]:.3f} ± {error[0]:.3f} over runs (± {found.capacity_se:.3f} over the random directions)")

# %% [markdown]
# ## Against shuffled categories
#
# A capacity has no absolute scale: a few points in many dimensions are easy to separate whatever they mean. The control
# keeps everything but the meaning: within each run, the categories of the *blocks* are shuffled, so that a shuffled
# manifold also has one mean per run, with the same noise and the same drift between runs.


# %%
def shuffled_points(seed):
    noise = numpy_stream(seed, "shuffled categories")
    return np.stack([points[noise.permutation(len(names)), i] for i in range(len(runs))], axis=1)


N_SHUFFLES = 12
control = np.array([geometry(shuffled_points(seed))[0] for seed in range(N_SHUFFLES)])
print(f"{'':24}{'categories':>20}{'shuffled':>20}")
for name, v, e, c in zip(QUANTITIES, value, error, control.T, strict=True):
    print(f"{name:24}{f'{v:.3f} ± {e:.3f}':>20}{f'{c.mean():.3f} ± {c.std(ddof=1):.3f}':>20}")
print(f"chance level of the alignments in {points.shape[2]} voxels: {found.alignment_floor:.3f}")
assert value[0] > control[:, 0].max(), "real categories are easier to separate than shuffled ones"

# %% [markdown]
# The categories beat every shuffle, and the geometry says why: their manifolds are smaller for their distance from the
# origin (radius) and spread in fewer directions (dimension). A shuffled category mixes all of them, so shuffled centres
# come out more similar. All alignments are above the level of random directions, whatever the labels: voxels are
# correlated with each other. (A jackknife repeat has 11 points per manifold, not 12, and a slightly larger capacity;
# that shifts all repeats together and leaves their spread as it is.)
#
# ## Which task does the read-out solve?
#
# With random dichotomies any subset of the categories is separated from the rest; with one-vs-rest, one category at a
# time. They are different tasks with different capacities, so always report the task with the number.

# %%
tasks = {"random dichotomies": "random", "one against the rest": "one-vs-rest"}
by_task = {}
for task, kind in tasks.items():
    one, its_error, _ = with_jackknife(points, dichotomies=kind)
    other = np.array([geometry(shuffled_points(seed), dichotomies=kind)[0][0] for seed in range(N_SHUFFLES)])
    by_task[task] = one[0], its_error[0], other.mean(), other.std(ddof=1)
    print(f"{task:22} {one[0]:.3f} ± {its_error[0]:.3f}, shuffled {other.mean():.3f} ± {other.std(ddof=1):.3f}")

# %% [markdown]
# ## Which categories collide?
#
# Two categories whose centres point the same way differ only in the small remainder. The cosine between two
# centres of one set of runs is inflated by noise that both share (they were recorded in the same runs), so each centre
# of the odd runs is compared with each centre of the even runs. The diagonal is then not 1: it says how well a
# category repeats, and a pair collides if its cosine comes near that.

# %%
odd, even = points[:, runs % 2 == 1].mean(1), points[:, runs % 2 == 0].mean(1)


def cosines(a, b):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


across = (cosines(odd, even) + cosines(even, odd)) / 2
upper = np.triu_indices(len(names), 1)
worst = np.argsort(-across[upper])[:3]
for k in worst:
    i, j = upper[0][k], upper[1][k]
    print(f"{names[i]} and {names[j]}: {across[i, j]:+.2f}, themselves {across[i, i]:.2f} and {across[j, j]:.2f}")
assert np.diag(across).mean() > across[upper].mean()

# %% [markdown]
# ## How many voxels does it take?
#
# The same categories from random subsets of the voxels, smaller ones within larger ones, under common random numbers.
# In 16 voxels the points fill the space, and the capacity is 8 categories / 16 dimensions whatever they mean; only the
# distance between the two curves is information, and it is there from 64 voxels on. The last panel varies the number of
# runs: more points per category are harder to separate, and the curve has not settled at 12. A capacity is a number
# for its number of points, and must be compared at equal ones.

# %%
voxels = [16, 32, 64, 128, 256, points.shape[2]]
counts = [2, 3, 4, 6, 8, 12]
settings = {"repeats": 3, "n_draws": 50}
curves = {}
for label, x in (("categories", points), ("shuffled within runs", shuffled_points(0))):
    curves[label] = (
        capacity_curve(x, along="features", sizes=voxels, **settings),
        capacity_curve(x, along="points", sizes=counts, **settings),
    )
    print(f"{label:22} {[round(float(a), 3) for a in curves[label][0].mean['capacity']]} at {voxels} voxels")

# %%
BLUE, GREY = "#1f5fa8", "#8a8a8a"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", width_ratios=[1.15, 1, 1])
panel = axes[0]
place = np.arange(len(QUANTITIES))
scale = control.mean(0)
panel.axhline(1, color=GREY, linewidth=1)
panel.errorbar(
    place, np.ones(len(place)), control.std(0, ddof=1) / scale, fmt="none", ecolor=GREY, elinewidth=7, alpha=0.4
)
panel.errorbar(place, value / scale, error / scale, fmt="o", color=BLUE, capsize=3)
panel.set_xticks(
    place, ["capacity", "dimension", "radius", "centre\nalignment", "axis\nalignment", "centre-axis\nalignment"]
)
plt.setp(panel.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
panel.set(ylabel="ratio to shuffled categories", title="Geometry of eight categories")
for panel, k, what in ((axes[1], 0, "voxels"), (axes[2], 1, "runs per category")):
    for (label, pair), color in zip(curves.items(), (BLUE, GREY), strict=True):
        curve = pair[k]
        panel.errorbar(
            curve.sizes,
            curve.mean["capacity"],
            curve.se["capacity"],
            fmt="o-",
            color=color,
            capsize=3,
            markersize=4,
            label=label,
        )
    panel.set_xscale("log", base=2)
    panel.set_xticks(curve.sizes, [str(s) for s in curve.sizes])
    panel.minorticks_off()
    panel.set(
        xlabel=what, ylabel="capacity (categories per dimension)", ylim=(0, None), title=f"Capacity against {what}"
    )
axes[2].legend(frameon=False)
figure.suptitle(source, x=0.005, ha="left", color=GREY)
figure.savefig(PICTURES / "09_geometry.png", dpi=130)

# %% [markdown]
# *Left:* each quantity relative to its mean over 12 shuffles (grey bars: one standard deviation of the shuffles; blue
# bars: standard error over runs). *Middle, right:* capacity of sub-samples, with the standard error over sub-samples
# and random directions.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=[1.25, 1])
panel = axes[0]
limit = np.abs(across).max()
image = panel.imshow(across, cmap="RdBu_r", vmin=-limit, vmax=limit)
for i in range(len(names)):
    for j in range(len(names)):
        dark = abs(across[i, j]) > 0.6 * limit
        panel.text(
            j,
            i,
            f"{across[i, j] + 0.0:.2f}".replace("-0.00", "0.00"),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else "black",
        )
panel.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
panel.set_yticks(range(len(names)), names)
panel.spines[:].set_visible(False)
panel.tick_params(length=0)
panel.set(title="Cosine of centres, odd against even runs")
figure.colorbar(image, ax=panel, label="cosine", shrink=0.8)
panel = axes[1]
for k, (one, its_error, other, spread) in enumerate(by_task.values()):
    panel.errorbar(k - 0.08, one, its_error, fmt="o", color=BLUE, capsize=3, label="categories" if k == 0 else None)
    panel.errorbar(
        k + 0.08, other, spread, fmt="s", color=GREY, capsize=3, label="shuffled within runs" if k == 0 else None
    )
panel.set_xticks(range(len(by_task)), list(by_task))
panel.set(
    xlim=(-0.5, len(by_task) - 0.5),
    ylim=(0, None),
    ylabel="capacity (categories per dimension)",
    title="Capacity by task",
)
panel.legend(frameon=False, loc="lower right")
figure.suptitle(source, x=0.005, ha="left", color=GREY)
figure.savefig(PICTURES / "09_collisions.png", dpi=130)

# %% [markdown]
# *Left:* which categories collide. In Haxby's data, small things that one handles (shoe, bottle, scissors) are about as
# like each other as themselves, while house and face are distinct; a diagonal near 0 is a category that hardly repeats.
# *Right:* the two tasks, with standard errors over runs (categories) and standard deviations over shuffles.
#
# Twelve run means of one subject's slice are a small sample: these are statements about this recording, and the curve
# over runs says that more runs would lower the number.
