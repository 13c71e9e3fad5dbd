# ruff: noqa: D100
# %% [markdown]
# # Which images fall, and to what?
# The Python API in cells. Open this file as a notebook in an editor that knows `# %%`, or run it: `python notebook.py`.

# %%
import matplotlib

matplotlib.use("Agg")  # leave this line out in a notebook

import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits

import bench

# %% Data: the last of scikit-learn's digits, as tensors in [0, 1].
data = load_digits()
images = torch.tensor(data.images[:, None] / 16).float()
labels = torch.tensor(data.target)
train, test = slice(0, 1437), slice(1437, 1597)


# %% Two linear models: one plain, one trained on images with noise.
def trained(noise: float) -> torch.nn.Module:
    """A linear classifier of the digits, trained on images with uniform noise of this size."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        x = (images[train] + noise * (2 * torch.rand_like(images[train]) - 1)).clamp(0, 1)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels[train]).backward()
        optimizer.step()
    return model


# %% Attack both: a budgeted attack, the adaptive ones, and one that looks for the smallest perturbation.
attacks = "pgd(steps=20),adaptive(steps=20),fmn"
runs = {
    name: bench.evaluate(trained(noise), images[test], labels[test], attacks, norm="linf", eps=0.1, name=name)
    for name, noise in (("plain", 0.0), ("noisy", 0.3))
}
print(runs["plain"])

# %% The number to quote is the worst row.
for name, run in runs.items():
    row = run.worst().iloc[0]
    print(f"{name}: {row.robust_accuracy:.1%} robust ({row.ci_low:.1%} to {row.ci_high:.1%})")

# %% Verdicts are a DataFrame, a row an image and attack: which digits fall most often?
verdicts = runs["plain"].verdicts
pgd = verdicts[verdicts["attack"] == "pgd(steps=20)"]
print((~pgd["broken"]).groupby(pgd["label"]).mean().rename("share that PGD leaves"))


# %% Pair the two models image by image. A minimal attack finds something at any size: hold its finds to eps.
def robust(run: bench.Run) -> pd.Series:
    """Whether each image is right and stands against every attack within eps."""
    rows = run.verdicts.assign(fell=run.verdicts["broken"] & (run.verdicts["size"] <= 0.1 * (1 + 1e-6)))
    images_of = rows.groupby("index")
    return (images_of["clean_pred"].first() == images_of["label"].first()) & ~images_of["fell"].any()


plain, noisy = robust(runs["plain"]), robust(runs["noisy"])
counts = {"both": plain & noisy, "plain alone": plain & ~noisy, "noisy alone": noisy & ~plain}
print("robust in", {where: int(which.sum()) for where, which in counts.items()})

# %% A minimal attack run once is a whole curve: the share whose smallest perturbation is larger than eps.
figure, ax = plt.subplots()
for name, run in runs.items():
    rows = run.verdicts[run.verdicts["attack"] == "fmn"]
    sizes = rows["size"].where(rows["broken"], torch.inf).mask(rows["clean_pred"] != rows["label"], 0.0)
    ax.step(sorted(sizes), [1 - place / len(sizes) for place in range(1, len(sizes) + 1)], where="post", label=name)
ax.set(xlabel="eps in linf", ylabel="robust accuracy", xlim=(0, 0.3))
ax.legend()
figure.savefig("accuracy_over_eps.png")

# %% The table for a paper.
print(runs["plain"].to_latex())
