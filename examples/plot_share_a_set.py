"""
Share a learned set
===================

A set on which nets become robust can be passed on as one file; whoever gets it trains
any net on it, naturally. Here a set is learned, measured, saved with a card, loaded
again and used by a net of another architecture.

Data: scikit-learn's digits (1797 images of 8x8 pixels, 1397 to train and 400 to test);
every seed is 0 unless a line says otherwise.
"""

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from robustfit import (
    RobustDatasetLearner,
    attack_estimator,
    load_robust_dataset,
    save_robust_dataset,
)
from robustfit.exceptions import DatasetFormatError
from robustfit.nets import LeNet5, default_classifier

EPS = 0.1
torch.set_num_threads(1)  # nets this small gain nothing from more

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, random_state=0, stratify=y
)
net = default_classifier((1, 8, 8), 10, max_epochs=40)
learner = RobustDatasetLearner(EPS, estimator=net, random_state=0, n_candidates=2)
learner.fit(X_train, y_train)


# %%
# Measure it
# ----------
# On a net of another initialisation, trained on the set from scratch. The number to
# write down is AutoAttack's.


def train_and_attack(net, X, y, seed):
    """Train naturally on a set; return what goes on its card."""
    torch.manual_seed(seed)
    net.fit(X, y)
    attacked = attack_estimator(
        net, X_test[:50], y_test[:50], attack="autoattack", eps=EPS
    )
    return {
        "robust_accuracy": attacked.robust_accuracy,
        "natural_accuracy": attacked.natural_accuracy,
        "attack": "autoattack",
        "norm": "linf",
        "eps": EPS,
        "n": len(attacked.robust),
        "classifier": net.module.__name__,
        "protocol": "scratch",
        "seed": seed,
    }


measured = train_and_attack(net, learner.X_robust_, learner.y_robust_, seed=1)

# %%
# Save it with a card
# -------------------
# The card says how the set was learned, from which images, and what was measured.

folder = Path(tempfile.mkdtemp())
saved = save_robust_dataset(
    folder / "digits-linf-0.1.npz",
    learner,
    source=(X_train, y_train),
    measured=[measured],
    license_note="CC BY 4.0, as the UCI digits",
)
print(saved)
shown = ("method", "threat_model", "source", "measured", "license", "versions")
print(json.dumps({k: saved.card[k] for k in shown}, indent=1))

# %%
# Load it elsewhere
# -----------------
# Checksums are compared on the way in, and no code of the file is run. The net is
# another one than the set was learned with.

dataset = load_robust_dataset(folder / "digits-linf-0.1.npz")
lenet = default_classifier((1, 8, 8), 10, max_epochs=40)
lenet.set_params(module=LeNet5, module__widen_factor=0.25)
results = {
    "SmallCNN, natural set": train_and_attack(net, X_train, y_train, seed=1),
    "SmallCNN, shared set": measured,
    "LeNet5, natural set": train_and_attack(lenet, X_train, y_train, seed=1),
    "LeNet5, shared set": train_and_attack(lenet, dataset.X, dataset.y, seed=1),
}
for name, result in results.items():
    print(
        f"{name:<24} natural {result['natural_accuracy']:.0%}, "
        f"AutoAttack {result['robust_accuracy']:.0%}"
    )
print(f"linf, eps={EPS}; n={measured['n']} of the 400 test images; trained with seed 1")

# %%
# A file that was cut off on its way says so:

path = folder / "cut.npz"
path.write_bytes((folder / "digits-linf-0.1.npz").read_bytes()[:-100])
try:
    load_robust_dataset(path)
except DatasetFormatError as error:
    print(f"{type(error).__name__}: {str(error).replace(str(folder), '...')}")

# %%
# Other forms
# -----------
# PNG files in a folder a class (rounded to 256 levels), or tensors for a DataLoader.

images = dataset.export_png(folder / "images")
print(sorted(p.name for p in images.iterdir())[:4], "...")
image, label = dataset.to_torch()[0]
print(tuple(image.shape), image.dtype, label)

figure, axes = plt.subplots(2, 7, figsize=(8, 2.6), layout="constrained")
rows = dataset.sample_indices[:7]
for title, line, pictures in zip(
    ("original", "shared"), axes, (X_train[rows], dataset.images[:7]), strict=True
):
    line[0].set_ylabel(title)
    for axis, picture in zip(line, pictures, strict=True):
        axis.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
plt.show()
