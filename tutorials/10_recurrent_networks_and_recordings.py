# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # A recurrent network beside a recording of two areas
#
# Which moments of a recurrent network resemble which area, and from when on? A rate network learns a choice that
# depends on a context, and is compared with a simulated recording, of which we know what its two areas encode and when.
#
# In a trial motion and colour each speak for left or right, and a context says which of them counts (Mante et al.
# 2013). After eight steps the network answers. The eight conditions are two contexts by two signs of motion and colour.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import geomfeat as gf
from geomfeat.data.tasks import context_dependent_choice
from geomfeat.models.recurrent import rate_rnn
from geomfeat.numerics import numpy_stream
from geomfeat.regimes.training import PlainOptions, train_plainly

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
trials = context_dependent_choice(64, seed=0)
(first, stop), answer = trials.periods["stimulus"], trials.inputs.shape[1] - 1
# In the order of the task's labels: the context, and the signs of motion and colour.
conditions = tuple(f"{context}: {m}{c}" for context in ("motion", "colour") for m in "-+" for c in "-+")
print(trials)

# %% [markdown]
# ## Where the network is, step by step
#
# The location of a network's output says whether the learned change asked for new features (R above 0: rich) or not.
# A recurrent network has an output at every step, and so a location at every step.

# %%
start = rate_rnn(5, 32, 1, gain=1.2, every_step=True, seed=0)
run = train_plainly(
    start, trials.masked_inputs, trials.masked_targets,
    options=PlainOptions(lr=0.02, max_steps=250, target_loss=0.01),
)  # fmt: skip
network = run.trained
with torch.no_grad():
    right = (network(trials.inputs)[:, answer, 0] > 0) == trials.choices.bool()
places = gf.locate_by_step(
    network, trials.inputs, initial=run.initial, optimizer=run.rates, steps=[first + 1, answer],
    options=gf.LocateOptions(n_bootstrap=2, n_probes=32),
)  # fmt: skip
early, late = places[first + 1].richness, places[answer].richness
print(f"{right.float().mean():.0%} right; R {early:+.2f} in the stimulus, {late:+.2f} at the response")
assert right.float().mean() > 0.9
assert late > 0.2
assert late > early + 0.5

# %% [markdown]
# The response, which is what is trained, needs new features. Early in the stimulus, where no output is scored, the
# change is a by-product. Initial weights of low rank make the response richer still (`geomfeat lab rnn-init`).
#
# ## Three layers
#
# For the comparison the network has three layers: its input, averaged over the stimulus, the rates at the end of the
# stimulus, and the rates at the response. Labels name the condition of each trial.

# %%
over_steps = gf.extract(network, trials.inputs, layers="rates", options=gf.ExtractOptions(calls="all"), progress=False)
features = {
    "input": trials.inputs[:, first:stop].mean(1),
    "rates, stimulus": over_steps[f"rates@{stop - 1}"].x,
    "rates, response": over_steps[f"rates@{answer}"].x,
}
layers = {name: gf.Representation(x, trials.labels, name, {}, classes=conditions) for name, x in features.items()}

# %% [markdown]
# ## A recording of two areas
#
# Eight runs of 24 trials, 25 units in each area, 50 ms bins. The sensory area encodes the input, motion, colour and
# context, from 0.1 s on. The choice area encodes what the network has at the response, from 0.3 s on. Units of an area
# mix these at random, and every trial has noise of its own.


# %%
def recorded(seed, units=25, runs=8, each=3):
    """(trials, units, time) of two areas whose signals begin at 0.1 and 0.3 s."""
    draws = numpy_stream(seed, "two areas")
    time = -0.1 + 0.05 * np.arange(14)
    shown = np.tile(np.repeat(np.arange(len(conditions)), each), runs)
    run_of = np.repeat(np.arange(runs), each * len(conditions))
    parts = []
    for source, onset in (("input", 0.1), ("rates, response", 0.3)):
        x = features[source].double().numpy()
        means = np.stack([x[trials.labels.numpy() == k].mean(0) for k in range(len(conditions))])
        means = (means - means.mean(0)) / (means - means.mean(0)).std(0).mean()
        mixed = means @ draws.standard_normal((means.shape[1], units)) / means.shape[1] ** 0.5
        signal = mixed[shown][:, :, None] * (time > onset - 0.01)
        parts.append(signal + 2.5 * draws.standard_normal(signal.shape))
    area = ["sensory"] * units + ["choice"] * units
    x = np.concatenate(parts, 1)
    return gf.Recording(x, np.array(conditions)[shown], run=run_of, area=area, time=time, name="simulated")


recording = recorded(seed=0)
ratios = recording.signal_to_noise()
print(recording, {area: round(ratio, 2) for area, ratio in ratios.items()})
assert min(ratios.values()) > 0.1

# %% [markdown]
# ## When the areas tell the conditions apart
#
# `gf.over_time` measures every bin with the same trials and draws. The accuracy of a linear read-out, tested on runs
# that it was not fitted to, is compared with chance by a cluster-based permutation test, corrected for all bins.

# %%
course = gf.over_time(recording, "linear_probe_accuracy", progress=False)
begins = {}
for area in recording.areas:
    test = course.select(area=area).test(1 / len(conditions))
    begins[area] = test.found[0].start
    print(f"{area}: {test.found[0].start:.2f} to {test.found[0].stop:.2f} s, p = {test.found[0].p:.3f}")
assert abs(begins["sensory"] - 0.1) < 0.06
assert abs(begins["choice"] - 0.3) < 0.06

# %% [markdown]
# The difference between the areas is tested in the same way, run by run. The sensory area is ahead from its own
# onset to about that of the choice area. Where a cluster begins and ends is known to a bin or two.

# %%
ahead = course.difference(areas=("sensory", "choice")).test()
print(ahead)
assert abs(ahead.found[0].start - 0.1) < 0.06
assert abs(ahead.found[0].stop - 0.25) < 0.11

# %% [markdown]
# ## Which layer resembles which area
#
# `gf.compare` brings recordings and networks to the same rows, the means of the eight conditions. Each area has a
# dissimilarity matrix for every run; how much these differ gives the noise ceiling, which no layer can be expected to
# exceed. Where the recording has a time axis, likeness is also measured in every bin.

# %%
options = gf.CompareOptions(n_bootstrap=100)
both = gf.compare({"network": layers, "simulated": recording}, measures=[], progress=False, options=options)
print(both)
ranking = both.ranking[["brain", "layer", "similarity", "stderr", "ceiling_lower", "ceiling_upper"]]
print(ranking.round(2).to_string(index=False))
best = both.ranking[both.ranking["rank"] == 1].set_index("brain")["layer"]
assert best["sensory of simulated"] == "input"
assert best["choice of simulated"] == "rates, response"
begun = {(one["area"], one["layer"]): one["start"] for one in both.settings["clusters"]}
assert abs(begun["choice", "rates, response"] - 0.3) < 0.06
assert abs(begun["sensory", "input"] - 0.1) < 0.06

# %% [markdown]
# The page shows the areas, with their units, trials, runs and signal-to-noise ratio, the three layers, their matrices
# in one colour scale, the ranking with its ceiling, and the likeness over time. From files, on the command line:
# `geomfeat compare network=layers.npz simulated=recording:FILE --out runs/both`.

# %%
page = both.to_html("two_areas.html")
text = page.read_text(encoding="utf-8")
for words in ("Likeness to areas", "Dissimilarity matrices", "Likeness over time", "signal to noise", "noise ceiling"):
    assert words in text, words

# %%
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a8a8a"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
panel = axes[0]
for area, color in (("sensory", BLUE), ("choice", ORANGE)):
    rows = course.select(area=area).table
    panel.plot(rows["time"], rows["value"], color=color, label=area)
    low, high = rows["value"] - rows["stderr"], rows["value"] + rows["stderr"]
    panel.fill_between(rows["time"], low, high, color=color, alpha=0.2, linewidth=0)
panel.axhline(1 / len(conditions), color=GREY, linewidth=1, linestyle=":")
panel.set(xlabel="time (s)", ylabel="accuracy over runs", title="Eight conditions read out")
panel.legend(frameon=False)
for panel, area in zip(axes[1:], ("sensory", "choice"), strict=True):
    rows = both.courses[both.courses["area"] == area]
    for name, color in zip(layers, (BLUE, GREEN, ORANGE), strict=True):
        mine = rows[rows["layer"] == name]
        panel.plot(mine["time"], mine["similarity"], color=color, label=name)
        low, high = mine["similarity"] - mine["stderr"], mine["similarity"] + mine["stderr"]
        panel.fill_between(mine["time"], low, high, color=color, alpha=0.2, linewidth=0)
    for bound in ("ceiling_lower", "ceiling_upper"):
        panel.plot(mine["time"], mine[bound], color=GREY, linewidth=1, linestyle=":")
    panel.set(xlabel="time (s)", ylabel="RSA (rho_a)", title=f"Likeness to the {area} area")
axes[1].legend(frameon=False)
figure.savefig(PICTURES / "10_two_areas.png", dpi=110)

# %% [markdown]
# *Left:* accuracy in each bin, with errors over runs; the dotted line is chance. *Middle, right:* how similar the
# geometry of each layer is to that of an area, with the noise ceiling of each bin (dotted).
#
# What was put in is found: the sensory area resembles the input most, from 0.1 s on, the choice area the response, from
# 0.3 s on. The input stays below the ceiling, though the area holds nothing else: a correlation over five channels is
# not that over 25 random mixtures of them. So a layer below the ceiling does not always lack what an area represents.
