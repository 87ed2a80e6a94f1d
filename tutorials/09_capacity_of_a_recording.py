# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # The manifold capacity of a recording
#
# How easily could a linear read-out separate categories by these voxels, what decides it, and how much of the answer is
# noise? The data are those of Haxby et al. (2001): a subject looks at pictures of eight categories in twelve runs,
# while fMRI records 530 voxels of one slice.
#
# The data lie outside this repository. Where they are missing, the same analysis runs on a simulated recording.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import geomfeat as gf
from geomfeat.numerics import numpy_stream

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
HERE = Path(__file__).resolve().parents[2] if "__file__" in globals() else Path.cwd().parents[1]
FILE = Path(os.environ.get("GEOMFEAT_SHARED") or HERE / "shared") / "data" / "haxby-1slice.npz"
NAMES = np.array(["house", "scrambledpix", "cat", "shoe", "bottle", "scissors", "chair", "face"])
SMALL = ["bottle", "scissors", "shoe", "chair"]


def simulated(n_runs=12, n_voxels=530, volumes=9):
    """Eight categories, small things alike, in noise of few directions that the volumes of a block share."""
    noise = numpy_stream(0, "simulated recording")
    patterns = noise.standard_normal((8, 30))
    small = np.isin(NAMES, SMALL)
    patterns[small] = patterns[small][:1] + 0.4 * patterns[small]
    category = np.tile(np.repeat(np.arange(8), volumes), n_runs)
    run = np.repeat(np.arange(1, n_runs + 1), 8 * volumes)
    of_blocks = noise.standard_normal((8 * n_runs, 30))[(run - 1) * 8 + category]
    inner = 0.35 * patterns[category] + of_blocks + 0.8 * noise.standard_normal((len(run), 30))
    voxels = inner @ noise.standard_normal((30, n_voxels)) / 30**0.5
    return voxels + 0.5 * noise.standard_normal(voxels.shape), category, run


if FILE.is_file():
    with np.load(FILE) as data:
        responses, category, run = (data[k] for k in ("responses", "category", "run"))
    source = "Haxby 2001, one subject, one slice"
else:
    responses, category, run = simulated()
    source = "a SIMULATED recording"
    print(f"{FILE.name} is not next to the checkout: what follows is {source}, and says nothing about brains")
recording = gf.Recording(responses, NAMES[category], run=run, name=source)
print(recording)

# %% [markdown]
# ## Runs are the unit
#
# Volumes of a run follow each other within seconds, and so do their errors: 108 volumes of a category are not 108
# observations. A read-out that is tested on volumes whose neighbours it was trained on looks far better than one that
# is tested on runs it has not seen. With `run=` in the recording, geomfeat leaves out whole runs, here and in every
# error below.

# %%
by_run = gf.linear_probe(recording.to_representation())
by_volume = gf.linear_probe(recording.to_representation(groups=None))
print(f"tested on other runs    {by_run.accuracy:.3f} ± {by_run.stderr:.3f} (chance {by_run.chance:.3f})")
print(f"tested on other volumes {by_volume.accuracy:.3f} ± {by_volume.stderr:.3f}: not an accuracy on new data")
assert by_run.accuracy > by_run.chance + 5 * by_run.stderr
assert by_volume.accuracy > by_run.accuracy + 5 * by_run.stderr

# %% [markdown]
# The signal-to-noise ratio says how large differences between categories are beside the noise of a volume. It is made
# of products of different runs alone, so noise adds nothing to it. One mean for each category and run has a higher
# one; these 96 means are the points of the manifolds below, twelve for each category.

# %%
means = recording.condition_means(by="run")
(volume_snr,), (mean_snr,) = recording.signal_to_noise().values(), means.signal_to_noise().values()
print(f"signal to noise: {volume_snr:.3f} of a volume, {mean_snr:.3f} of a mean over the volumes of a run")
assert 0 < volume_snr < mean_snr < 1

# %% [markdown]
# ## Capacity beside its controls
#
# A capacity has no absolute scale: a few points in many dimensions are easy to separate whatever they mean. So it
# stands beside two controls, categories shuffled over the points, and the noise alone, without any difference between
# categories. The error is over runs: each is left out once, under the same random directions.

# %%
QUANTITIES = ["capacity", "dimension", "radius", "center_alignment", "axis_alignment", "center_axis_alignment"]
found = gf.capacity_with_controls(means.to_representation(), n_draws=60)
print(found)
shuffled, noise_alone = found.controls["shuffled"], found.controls["noise"]
assert found.capacity > max(shuffled["capacity"], noise_alone["capacity"]) + 2 * found.capacity_se
assert found.radius < min(shuffled["radius"], noise_alone["radius"])

# %% [markdown]
# The categories beat both controls, and the geometry says why: their manifolds are smaller for their distance from the
# origin (radius). But most of the number is what points in 530 voxels have anyway: noise alone reaches four fifths of
# it or so.

# %%
share = noise_alone["capacity"] / found.capacity
print(f"noise alone has {share:.0%} of the capacity")
assert 0.6 < share < 0.95

# %% [markdown]
# ## Without the noise of the trials
#
# These points differ within a category because the brain is noisy, not because stimuli differ. To ask for the geometry
# of *stimuli*, several stimuli must make a class, and each must be repeated. Here the eight categories are taken as
# stimuli of three classes, and the twelve runs as repeats. `noise_corrected_capacity` takes the variance that the
# repeats show to be noise off the manifolds, and extrapolates over the number of averaged runs.

# %%
CLASSES = {
    "face": "living",
    "cat": "living",
    "house": "scene",
    "scrambledpix": "scene",
    **dict.fromkeys(SMALL, "thing"),
}
corrected = gf.noise_corrected_capacity(recording, CLASSES, n_draws=40)
print(corrected)
assert corrected.capacity > corrected.measured.capacity
assert corrected.estimates["radius"].value < corrected.measured.radius
assert corrected.capacity - corrected.noise.capacity < 2 * corrected.capacity_se

# %% [markdown]
# The noise had widened the manifolds: without it their radius is smaller and their capacity higher. Twelve runs are not
# enough to say more. The corrected capacity lies within two standard errors of what noise alone would give, so this
# slice does not show that the three classes are manifolds of their own.
#
# ## Compare at equal numbers
#
# The capacity falls with the number of points in a manifold. Three runs seem to have a far larger one than nine, though
# they are of one brain and one task. `matched_capacities` draws as many points (and voxels) from each, again and again.

# %%
parts = {"3 runs": recording.select(run=[1, 2, 3]), "9 runs": recording.select(run=list(range(4, 13)))}
sets = {name: part.condition_means(by="run").to_representation() for name, part in parts.items()}
as_given = {name: gf.capacity(points, n_draws=40, resample=None) for name, points in sets.items()}
matched = gf.matched_capacities(sets, repeats=4, n_draws=40)
gap, gap_error = matched.difference("3 runs", "9 runs")
print({name: round(one.capacity, 3) for name, one in as_given.items()}, "as given")
print(f"matched at {matched.n_points} points: difference {gap:+.3f} ± {gap_error:.3f}")
assert as_given["3 runs"].capacity > 2 * as_given["9 runs"].capacity
assert abs(gap) < 2 * gap_error

# %% [markdown]
# ## Which categories collide?
#
# Crossnobis distances are products of differences in different runs, so equal patterns have a distance of 0 on average.
# Each has a standard error over runs, from the spread of the conditions.

# %%
distances = gf.rdm(responses, NAMES[category], dissimilarity="crossnobis", runs=run, errors=True)
table = distances.to_frame().sort_values("value", ignore_index=True)
print(table.iloc[[0, 1, 2, -3, -2, -1]].to_string(index=False))
among_small = table["condition_a"].isin(SMALL) & table["condition_b"].isin(SMALL)
others = table[~among_small & ~table["condition_a"].isin(SMALL) & ~table["condition_b"].isin(SMALL)]
told_apart = table["value"] > 2 * table["stderr"]
print(f"{int(told_apart[among_small].sum())} of {int(among_small.sum())} pairs of small things are above two errors")
assert table["value"][among_small].mean() < others["value"].mean() / 2
house_and_face = table[(table["condition_a"] == "face") & (table["condition_b"] == "house")].iloc[0]
assert house_and_face["value"] > 3 * house_and_face["stderr"]

# %% [markdown]
# House and face are far apart; small things that one handles are about as far from each other as the noise allows to
# see.
#
# ## The page
#
# All measures at once, with units, trials, runs and the signal-to-noise ratio beside each number, are on the page of
# the recording. On the command line: `geomfeat analyze --recording FILE:x=responses,condition=category,run=run`.

# %%
study = gf.analyze_recording(means, measures=["participation_ratio", "linear_probe_accuracy"], progress=False)
page = study.to_html("recording.html")
text = page.read_text(encoding="utf-8")
assert f"530 units, 96 trials in {len(np.unique(run))} runs" in text
assert "error over 12 runs" in text

# %%
BLUE, GREY, ORANGE = "#1f5fa8", "#8a8a8a", "#d55e00"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
figure, axes = plt.subplots(1, 4, figsize=(14, 3.7), layout="constrained", width_ratios=[1.3, 0.9, 0.8, 1.3])
panel, place = axes[0], np.arange(len(QUANTITIES))
base = np.array([shuffled[name] for name in QUANTITIES])
value, error = (np.array([getattr(found, name + end) for name in QUANTITIES]) / base for end in ("", "_se"))
panel.axhline(1, color=GREY, linewidth=1)
panel.plot(place, [noise_alone[name] / shuffled[name] for name in QUANTITIES], "o", mfc="none", color=GREY)
panel.errorbar(place, value, error, fmt="o", color=BLUE, capsize=3)
words = ["capacity", "dimension", "radius", "centre\nalignment", "axis\nalignment", "centre-axis\nalignment"]
panel.set_xticks(place, words, rotation=45, ha="right", rotation_mode="anchor")
panel.set(ylabel="ratio to shuffled categories", title="Geometry of eight categories")
panel = axes[1]
bars = [
    ("corrected", corrected.capacity, corrected.capacity_se, BLUE),
    ("measured", corrected.measured.capacity, corrected.measured.capacity_se, ORANGE),
    ("shuffled", corrected.shuffled.capacity, 0, GREY),
    ("noise alone", corrected.noise.capacity, 0, GREY),
]
for i, (_, one, spread, color) in enumerate(bars):
    panel.errorbar(i, one, spread, fmt="o", color=color, capsize=3)
panel.set_xticks(range(4), [bar[0] for bar in bars], rotation=45, ha="right", rotation_mode="anchor")
panel.set(ylim=(0, None), ylabel="capacity", title="Three classes of stimuli")
panel = axes[2]
for i, name in enumerate(parts):
    panel.plot(i - 0.1, as_given[name].capacity, "s", color=GREY, label=None if i else "as given")
    panel.errorbar(i + 0.1, matched.mean["capacity"][i], matched.se["capacity"][i], fmt="o", color=BLUE, capsize=3,
                   label=None if i else "matched")  # fmt: skip
panel.set_xticks(range(2), list(parts))
panel.set(xlim=(-0.5, 1.5), ylim=(0, None), title="Runs of one brain")
panel.legend(frameon=False)
panel = axes[3]
image = panel.imshow(distances.matrices[0].numpy(), cmap="cividis", vmin=0)
panel.set_xticks(range(8), distances.conditions, rotation=45, ha="right", rotation_mode="anchor")
panel.set_yticks(range(8), distances.conditions)
panel.spines[:].set_visible(False)
panel.tick_params(length=0)
panel.set(title="Crossnobis distances")
figure.colorbar(image, ax=panel, shrink=0.8)
figure.suptitle(source, x=0.005, ha="left", color=GREY)
figure.savefig(PICTURES / "09_recording.png", dpi=110)

# %% [markdown]
# *First:* each quantity relative to shuffled categories, with errors over runs (blue), and of noise alone (grey rings).
# *Second:* the capacity of three classes of stimuli with and without the noise. *Third:* three and nine runs as given
# and at equal numbers. *Fourth:* which categories are alike.
#
# Twelve runs of one subject's slice are a small sample: these are statements about this recording.
