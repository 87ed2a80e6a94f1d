# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Manifold capacity
#
# The responses to one class are a cloud of points, its *manifold*. How many manifolds per dimension can a linear
# read-out separate, and which property decides it: how far they spread (radius), in how many directions (dimension), or
# how similar they are (alignments)? Manifold capacity is one number that follows from this geometry. Here it is
# compared with exact answers, and then measured in a small network.
#
# ## Five lines

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import geomfeat as gf
from geomfeat.geometry.manifolds import (
    ball_capacity,
    capacity_by_layer,
    capacity_curve,
    capacity_difference,
    common_draws,
    predicted_capacity,
    replica_capacity,
    shuffled_control,
    simulated_capacity,
    what_changed,
)
from geomfeat.models.mlp import mlp
from geomfeat.numerics import WORKING, stream

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#c8641e", "#3a8a4d", "#8a8a8a"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})

data = gf.load_data("digits", n=200)
images = data.inputs.flatten(1)
found = gf.capacity(images, data.labels, n_draws=300)
print(found)

# %% [markdown]
# Each draw takes a random direction and a random labelling of the classes by plus and minus, and projects the direction
# on the cone that the labelled points span. The mean squared length of the projection, per class, is 1 / capacity.
# Every number above has its standard error over the draws; variation over images is not included. Compare alignments
# with their floor, the value for random directions.
#
# Each projection is checked against the conditions that define it, and one that fails them is counted and left out:

# %%
print(f"{int(found.certified.sum())} of {found.n_draws} draws certified, worst violation {found.max_violation:.0e}")
assert found.n_uncertified == 0

# %% [markdown]
# Capacity equals utility times $(1 + R^{-2})$ over dimension, exactly:

# %%
product = found.utility * (1 + found.radius**-2) / found.dimension
print(f"capacity {found.capacity:.6f}, utility (1 + 1/radius^2) / dimension {product:.6f}")
assert abs(product / found.capacity - 1) < 1e-9

# %% [markdown]
# ## Against exact answers
#
# For manifolds that share no direction the capacity is known in closed form: segments of half-length $R$ around unit
# centres have $1 / (1/2 + (2/\pi) \arctan R)$, balls have an integral (`ball_capacity`), of which segments and discs
# are the cases of one and two dimensions. And linearly independent points have 2 under random labels, however
# correlated they are. The curves of the next figure are these answers; nothing is fitted.


# %%
def orthogonal_balls(on_sphere, radius):
    """(P, M, P (D + 1)) from unit vectors (P, M, D): a unit centre and D axes of its own for each manifold."""
    n_manifolds, n_points, d = on_sphere.shape
    points = torch.zeros(n_manifolds, n_points, n_manifolds, d + 1, dtype=WORKING)
    for i in range(n_manifolds):
        points[i, :, i, 0] = 1
        points[i, :, i, 1:] = radius * on_sphere[i]
    return points.flatten(2)


def on_sphere(n_manifolds, n_points, d):
    noise = torch.randn(n_manifolds, n_points, d, generator=stream(0, "sphere", d), dtype=WORKING)
    return torch.nn.functional.normalize(noise, dim=2)


def polygon(n_manifolds, corners):
    angle = torch.arange(corners, dtype=WORKING) * 2 * torch.pi / corners
    return torch.stack([angle.cos(), angle.sin()], 1).expand(n_manifolds, corners, 2)


def measured(clouds, **options):
    """Capacities and standard errors of several sets of manifolds, each with random numbers of its own."""
    every = [gf.capacity(cloud, seed=seed, **options) for seed, cloud in enumerate(clouds)]
    return np.array([c.capacity for c in every]), np.array([c.capacity_se for c in every])


def within_four_errors(name, value, error, exact):
    z = np.abs(value - exact) / error
    print(f"{name:32} largest distance from the exact answer: {z.max():.1f} standard errors ({len(value)} sets)")
    assert z.max() < 4


radii = np.array([0.1, 0.2, 0.5, 1.0, 2.0, 5.0])
ends = torch.tensor([[1.0], [-1.0]], dtype=WORKING).expand(12, 2, 1)
segments = measured([orthogonal_balls(ends, r) for r in radii], n_draws=400)
discs = measured([orthogonal_balls(polygon(12, 60), r) for r in radii], n_draws=400)
of_segments = 1 / (0.5 + 2 / np.pi * np.arctan(radii))
within_four_errors("segments, by radius", *segments, of_segments)
within_four_errors("discs, by radius", *discs, [ball_capacity(r, 2) for r in radii])
assert np.allclose(of_segments, [ball_capacity(r, 1) for r in radii])

# %% [markdown]
# A ball is not a finite set of points. What can be measured is a sample of it, and a sample is easier to separate than
# the ball: its capacity lies above the curve, the more so the more dimensions the points have to cover. Adding points
# brings it down towards the curve and, but for the error of the draws, never below.

# %%
dimensions = [1, 2, 3, 5, 8, 12]
coarse = measured([orthogonal_balls(on_sphere(5, 50, d), 0.5) for d in dimensions], n_draws=400)
fine = measured([orthogonal_balls(on_sphere(5, 1000, d), 0.5) for d in dimensions], n_draws=400)
counts = [2, 4, 8, 16, 64, 256, 1024]
curve = capacity_curve(orthogonal_balls(on_sphere(5, 1024, 5), 0.5), sizes=counts, repeats=3, n_draws=150)
floor = ball_capacity(0.5, 5)
print(f"5-balls of radius .5: {floor:.6f}; samples of them:")
for m, value, error in zip(counts, curve.mean["capacity"], curve.se["capacity"], strict=True):
    print(f"  {m:5} points  {value:.3f} ± {error:.3f}")

# %% [markdown]
# With correlated centres the tasks differ. Under random labels the capacity stays 2; one point against the others
# becomes easy when all are similar, since one direction then labels almost all of them. A capacity belongs to its
# labels, and `Capacity` stores which ones they were.

# %%
correlations = np.array([0.0, 0.25, 0.5, 0.75, 0.95])


def correlated_points(rho, n_points=20):
    eye = torch.eye(n_points + 1, dtype=WORKING)
    return (rho**0.5 * eye[0] + (1 - rho) ** 0.5 * eye[1:])[:, None]


by_labels = {
    kind: measured([correlated_points(rho) for rho in correlations], n_draws=n_draws, dichotomies=kind)
    for kind, n_draws in (("random", 400), ("one-vs-rest", 600))
}
within_four_errors("points, by correlation", *by_labels["random"], 2)
for rho, a, b in zip(correlations, by_labels["random"][0], by_labels["one-vs-rest"][0], strict=True):
    print(f"  correlation {rho:.2f}: random {a:.2f}, one-vs-rest {b:.2f}")


# %%
def dots(panel, x, found, color, label, marker="o"):
    value, error = found
    panel.errorbar(
        x, value, error, fmt=marker, color=color, markersize=4.5, capsize=2, elinewidth=1, label=label, zorder=3
    )


figure, axes = plt.subplots(2, 2, figsize=(9, 6.6), layout="constrained")
panel = axes[0, 0]
r = np.geomspace(0.07, 7, 50)
panel.plot(r, 1 / (0.5 + 2 / np.pi * np.arctan(r)), color=BLUE, linewidth=1)
panel.plot(r, [ball_capacity(a, 2) for a in r], color=ORANGE, linewidth=1)
dots(panel, radii, segments, BLUE, "segments")
dots(panel, radii, discs, ORANGE, "discs (60 corners)", "s")
panel.set_xscale("log")
panel.set_xticks(radii, [f"{a:g}" for a in radii])
panel.minorticks_off()
panel.set(xlabel="radius R (lengths of the centre)", ylim=(0, 2.05), title="Radius")
panel.legend(frameon=False, title="lines: exact")

panel = axes[0, 1]
d = np.linspace(0.8, 13, 40)
panel.plot(d, [ball_capacity(0.5, a) for a in d], color=GREY, linewidth=1, label="balls, exact")
dots(panel, dimensions, coarse, ORANGE, "50 points of each", "s")
dots(panel, dimensions, fine, BLUE, "1000 points of each")
panel.set_xticks(dimensions)
panel.set(xlabel="dimension D (R = .5)", ylim=(0, None), title="Dimension")
panel.legend(frameon=False)

panel = axes[1, 0]
panel.axhline(2, color=BLUE, linewidth=1, label="random labels, exact: 2")
dots(panel, correlations, by_labels["random"], BLUE, "random labels")
dots(panel, correlations, by_labels["one-vs-rest"], ORANGE, "one-vs-rest", "s")
panel.set_xticks(correlations)
panel.set(xlabel="cosine between any two of 20 points", ylim=(0, None), title="Correlation of centres")
panel.legend(frameon=False, loc="upper left")

panel = axes[1, 1]
panel.axhline(floor, color=GREY, linewidth=1, label="the ball itself, exact")
dots(panel, counts, (curve.mean["capacity"], curve.se["capacity"]), BLUE, "samples of the ball")
panel.set_xscale("log", base=2)
panel.set_xticks(counts, [str(m) for m in counts])
panel.minorticks_off()
panel.set(xlabel="points per manifold M (D = 5, R = .5)", ylim=(0, None), title="Number of points")
panel.legend(frameon=False)
for panel in axes.flat:
    panel.set_ylabel("capacity (manifolds per dimension)")
figure.savefig(PICTURES / "02_exact.png", dpi=130)

# %% [markdown]
# So compare capacities at equal numbers of points, or show the curve: where it still falls, as in the last panel at a
# few dozen points, the number is about the sample as much as about the manifold.
#
# ## What training does to a network
#
# A small network learns the digits above at a rich output scale. Its layers are measured on other digits that it never
# saw, as many, before and after training. `capacity_by_layer` gives all layers the same noise over the samples, so that
# differences have smaller errors than with independent draws.

# %%
start = mlp(seed=0)
run = gf.train_at_gamma(start, data.inputs, data.labels, gamma=30.0, target_loss=0.05)
held_out = gf.load_data("digits", split="test", n=200)
with torch.no_grad():
    right = (run.model(held_out.inputs).argmax(1) == held_out.labels).float().mean()
print(f"trained on {len(data.inputs)} images; on {len(held_out.inputs)} others it is right in {right:.0%}")
LAYERS = {"flatten": "images", "act1": "layer 1", "act2": "layer 2"}
N_DRAWS = 300


def layers_of(model):
    return gf.extract(model, held_out.inputs, layers=list(LAYERS), labels=held_out.labels, progress=False)


features = {"before": layers_of(start), "after": layers_of(run.model)}
by_layer = {when: capacity_by_layer(reps, n_draws=N_DRAWS) for when, reps in features.items()}
shuffled = {
    when: {k: shuffled_control(rep, draws=common_draws(rep, n_draws=N_DRAWS // 3)) for k, rep in reps.items()}
    for when, reps in features.items()
}
for k, layer in LAYERS.items():
    for when in by_layer:
        c, s = by_layer[when][k], shuffled[when][k]
        print(
            f"{layer:8} {when:7} capacity {c.capacity:.3f} ± {c.capacity_se:.3f} (shuffled {s.capacity:.3f})  "
            f"dimension {c.dimension:.2f} ± {c.dimension_se:.2f}  radius {c.radius:.3f} ± {c.radius_se:.3f}  "
            f"utility {c.utility:.3f} ± {c.utility_se:.3f}"
        )

# %% [markdown]
# The paired difference, with the error that common draws give it and the one that independent draws would have given:

# %%
trained = [k for k in LAYERS if k != "flatten"]
change = {k: capacity_difference(by_layer["before"][k], by_layer["after"][k]) for k in trained}
deeper = {when: capacity_difference(c["act1"], c["act2"]) for when, c in by_layer.items()}
named = {f"{LAYERS[k]}\nafter - before": diff for k, diff in change.items()}
named |= {f"layer 2 - 1\n{when} training": diff for when, diff in deeper.items()}
for name, diff in named.items():
    label = name.replace("\n", ", ")
    print(
        f"{label:28} {diff.difference:+.3f} ± {diff.difference_se:.4f} paired, ± {diff.difference_se_unpaired:.4f} if "
        f"not (worth {diff.gain:.1f} times the draws)"
    )
assert change["act2"].difference > 4 * change["act2"].difference_se

# %% [markdown]
# The sources of the change: the logarithms of the three factors add up to that of the capacity. Training makes the
# manifolds smaller and lower-dimensional; utility falls, which reduces the gain.

# %%
parts = {k: what_changed(by_layer["before"][k], by_layer["after"][k]) for k in trained}
for k, part in parts.items():
    print(
        f"{LAYERS[k]}: log capacity {part.capacity:+.2f} = utility {part.utility:+.2f}, radius {part.radius:+.2f}, "
        f"dimension {part.dimension:+.2f}"
    )
    assert min(part.radius, part.dimension) > 0 > part.utility

# %%
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.7), layout="constrained", width_ratios=[1.1, 1, 1.15])
panel = axes[0]
place = np.arange(len(LAYERS))
for (when, of), color, marker in zip(by_layer.items(), (GREEN, BLUE), ("s", "o"), strict=True):
    for source, line, label in ((of, "-", f"{when} training"), (shuffled[when], ":", f"{when}, labels shuffled")):
        panel.errorbar(
            place,
            [source[k].capacity for k in LAYERS],
            [source[k].capacity_se for k in LAYERS],
            fmt=marker + line,
            color=color,
            alpha=1 if line == "-" else 0.6,
            markersize=4,
            capsize=3,
            label=label,
        )
panel.set_xticks(place, list(LAYERS.values()))
panel.set(xlim=(-0.3, 2.3), ylim=(0, None), ylabel="capacity (classes per dimension)", title="Capacity by layer")
panel.legend(frameon=False, loc="upper left")

panel = axes[1]
terms = {"capacity": GREY, "utility": GREEN, "radius": ORANGE, "dimension": BLUE}
for i, (term, color) in enumerate(terms.items()):
    panel.bar(
        np.arange(len(trained)) + 0.2 * (i - 1.5),
        [getattr(parts[k], term) for k in trained],
        0.18,
        yerr=[getattr(parts[k], f"{term}_se") for k in trained],
        color=color,
        ecolor="black",
        capsize=2,
        label=term if term != "capacity" else "capacity (sum of the three)",
    )
panel.axhline(0, color="black", linewidth=0.8)
panel.set_xticks(range(len(trained)), [LAYERS[k] for k in trained])
panel.set(ylabel="change of the logarithm by training", title="Sources of the change")
low, high = panel.get_ylim()
panel.set_ylim(low, high + 0.45 * (high - low))
panel.legend(frameon=False, loc="upper left")

panel = axes[2]
place = np.arange(len(named))[::-1]
value = [diff.difference for diff in named.values()]
unpaired = [diff.difference_se_unpaired for diff in named.values()]
panel.axvline(0, color="black", linewidth=0.8)
panel.errorbar(
    value, place, xerr=unpaired, fmt="none", ecolor=GREY, elinewidth=7, alpha=0.4, label="error of independent draws"
)
panel.errorbar(
    value,
    place,
    xerr=[diff.difference_se for diff in named.values()],
    fmt="o",
    color=BLUE,
    markersize=4,
    capsize=3,
    label="error of common draws",
)
panel.set_yticks(place, list(named))
panel.set(xlabel="difference of capacity", ylim=(-0.5, len(named) - 0.5), title="Paired differences")
panel.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.375))
figure.savefig(PICTURES / "02_network.png", dpi=130)

# %% [markdown]
# *Left:* dotted lines are the control, one shuffle of the labels over the points: the same points and sizes of classes,
# without meaning. Only what lies above it is about the classes. *Middle:* bars up raise the capacity ("dimension" up
# means fewer dimensions); the error bars are those of independent draws, too large here. *Right:* each difference with
# its two errors. All errors are over the draws, for these images and this one network.
#
# ## Other estimates of capacity
#
# The projection lies in a face of its cone, and the mean dimension of that face is the mean squared length of the
# projection. Counting dimensions gives the same capacity from the same draws, with less error:

# %%
last = by_layer["after"]["act2"]
print(
    f"from lengths {last.capacity:.4f} ± {last.capacity_se:.4f}, from faces {last.capacity_faces:.4f} ± "
    f"{last.capacity_faces_se:.4f}: worth {(last.capacity_se / last.capacity_faces_se) ** 2:.1f} times the draws"
)
assert last.capacity_faces_se < last.capacity_se
assert abs(last.capacity - last.capacity_faces) < 4 * np.hypot(last.capacity_se, last.capacity_faces_se)

# %% [markdown]
# The faces also predict an experiment: project the features to fewer and fewer random dimensions, until only half of
# the labellings can be separated. `simulated_capacity` does the experiment, `predicted_capacity` reads its outcome off
# the faces that are there already. (Every labelling tried is separable before the projection.) It is another number
# than the capacity: the dimensions at which half of the labellings are separable, in place of a mean over them.

# %%
rep = features["after"]["act2"]
simulated = simulated_capacity(rep, n_trials=100, seed=1)
predicted, predicted_se = predicted_capacity(last.faces, len(last.classes), rank=simulated.rank)
assert simulated.frac_nonseparable == 0
print(
    f"simulated {simulated.capacity:.3f} ± {simulated.capacity_se:.3f}, predicted {predicted:.3f} ± {predicted_se:.3f}"
)
assert abs(simulated.capacity - predicted) < 4 * np.hypot(simulated.capacity_se, predicted_se)

# %% [markdown]
# The replica mean-field theory subtracts the mean of all points and then treats each manifold alone, as if the centres
# and axes of the others were random; GLUE takes their correlations as they are.

# %%
replica = replica_capacity(rep, n_draws=N_DRAWS)
centered = gf.capacity(rep, n_draws=N_DRAWS, center="global")
print(f"replica mean-field {replica.capacity:.3f} ± {replica.capacity_se:.3f}")
for name, c in (("GLUE", last), ("GLUE, minus the mean", centered)):
    print(f"{name} {c.capacity:.3f} ± {c.capacity_se:.3f}, center_alignment {c.center_alignment:.2f}")

# %% [markdown]
# ## Which classes collide?
#
# In the trained second layer, `per_pair` has the cosine between the centres of any two classes, and `per_manifold` what
# each class costs: its share of the mean squared projection. The costs add up to classes / capacity.

# %%
cosine, cosine_se = last.per_pair.center_cosine.numpy(), last.per_pair.center_cosine_se.numpy()
names = [str(c) for c in last.classes]
first, second = np.triu_indices(len(names), 1)
for k in np.argsort(-cosine[first, second])[:3]:
    i, j = first[k], second[k]
    print(f"{names[i]} and {names[j]}: cosine of centres {cosine[i, j]:.3f} ± {cosine_se[i, j]:.3f}")
costs = {}
assert last.frac_inside == by_layer["before"]["act2"].frac_inside == 0
for when, c in (("before", by_layer["before"]["act2"]), ("after", last)):
    cost, cost_se = c.per_manifold.cost.numpy(), c.per_manifold.cost_se.numpy()
    costs[when] = cost, cost_se
    dear, cheap = cost.argmax(), cost.argmin()
    print(
        f"{when} training: {names[dear]} costs most, {cost[dear]:.2f} ± {cost_se[dear]:.2f}, {names[cheap]} least, "
        f"{cost[cheap]:.2f} ± {cost_se[cheap]:.2f}; sum {cost.sum():.1f}"
    )
    assert abs(cost.sum() * c.capacity / len(names) - 1) < 1e-9
similar = np.nanmean(cosine, axis=1)
together = np.corrcoef(similar, costs["after"][0])[0, 1]
print(f"correlation over classes of the mean cosine with the others and the cost after training: {together:.2f}")
assert together > 0.5

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained", width_ratios=[1.1, 1])
panel = axes[0]
image = panel.imshow(cosine, cmap="Blues", vmin=0, vmax=1)
for i, j in np.argwhere(~np.eye(len(names), dtype=bool)):
    color = "white" if cosine[i, j] > 0.6 else "black"
    panel.text(j, i, f"{cosine[i, j]:.2f}", ha="center", va="center", fontsize=6.5, color=color)
panel.set_xticks(range(len(names)), names)
panel.set_yticks(range(len(names)), names)
panel.spines[:].set_visible(False)
panel.tick_params(length=0)
panel.set(xlabel="digit", ylabel="digit", title="Cosine of centres, layer 2 after training")
figure.colorbar(image, ax=panel, label="cosine", shrink=0.85)
panel = axes[1]
for k, ((when, (cost, cost_se)), color) in enumerate(zip(costs.items(), (GREEN, BLUE), strict=True)):
    place = np.arange(len(names)) + 0.4 * (k - 0.5)
    panel.bar(place, cost, 0.36, yerr=cost_se, color=color, ecolor="black", capsize=2, label=f"{when} training")
    panel.axhline(
        cost.mean(), color=color, linewidth=1, linestyle=":", label=f"its mean, 1 / capacity = {cost.mean():.2f}"
    )
panel.set_xticks(range(len(names)), names)
top = max((cost + cost_se).max() for cost, cost_se in costs.values())
panel.set(xlabel="digit", ylabel="cost (dimensions)", ylim=(0, 1.35 * top), title="What each class costs, layer 2")
panel.legend(frameon=False, loc="upper left", ncols=2)
figure.savefig(PICTURES / "02_collisions.png", dpi=130)

# %% [markdown]
# Two classes whose centres point the same way differ only in the small remainder: the classes most similar to the
# others cost most. (The diagonal is left out. Where draws lie inside their cone, as a few may on the images of the
# first section, the costs depend on a choice of multipliers; here `frac_inside` is 0.)
