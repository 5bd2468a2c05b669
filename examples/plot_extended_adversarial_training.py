"""
Adversarial training for a budget at which it fails
===================================================

Adversarial training puts adversarial examples in the place of the training images. From
random weights it fails when the adversary may change much: the net learns to give the
same answer to everything, which no adversary can use. "Towards Deep Learning Models
Resistant to Large Perturbations" (Shaeiri, Nobahari and Rohban, 2020) starts from the
weights of a smaller budget instead (*extended*), or lets the budget grow by 0.01 an
epoch until the training loss jumps (*iterative*).

Data: scikit-learn's digits (8x8 pixels in [0, 1]; 1397 images to train, 400 to test);
every seed is 0, norm linf.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from robustfit import AdversarialClassifier, attack_estimator, robust_accuracy_score

torch.set_num_threads(1)  # nets this small gain nothing from more
SMALL, LARGE = 0.15, 0.25

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, random_state=0, stratify=y
)

# %%
# Four ways to train the same net
# -------------------------------
# ``n_warmup_epochs=0`` is the literal method; by default, ``eps`` grows in the first
# third of the epochs, because even the smaller budget is hard to begin with.
common = {"n_steps": 5, "n_epochs": 20, "random_state": 0}
trainings = {
    f"plain, {SMALL}": AdversarialClassifier(SMALL, **common),
    f"plain, {LARGE}": AdversarialClassifier(LARGE, n_warmup_epochs=0, **common),
    f"extended, {SMALL} to {LARGE}": AdversarialClassifier(
        eps_stages=(SMALL, LARGE), n_stage_epochs=8, **common
    ),
    f"iterative, 0 to {LARGE}": AdversarialClassifier(
        LARGE, eps_schedule="iterative", **common | {"n_epochs": 28}
    ),
}
for model in trainings.values():
    model.fit(X_train, y_train)

# %%
# Measure with AutoAttack
# -----------------------
# Both at the smaller budget and at one between the two: at 0.25, a quarter of the range
# of a pixel, little is left of an image of 8x8 pixels for any classifier.
n, measured_at = 60, (SMALL, 0.2)
print(f"{'accuracy in %':<24}{'natural':>9}", *(f"AA {eps:.2f}" for eps in measured_at))
for name, model in trainings.items():
    robust = [
        attack_estimator(
            model, X_test[:n], y_test[:n], attack="autoattack", eps=eps
        ).robust_accuracy
        for eps in measured_at
    ]
    natural = model.score(X_test, y_test)
    print(f"{name:<24}{natural:>9.1%}", *(f"{accuracy:>7.1%}" for accuracy in robust))
print(f"linf, AutoAttack (standard) on the first {n} of 400 test images")

# %%
# Where the loss goes
# -------------------
# The training loss is that of the adversarial images at the budget of the epoch; a net
# that guesses has log(10). On the right, robust accuracy against the budget (PGD with
# the margin loss, an upper bound).
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
budgets = np.linspace(0, 0.35, 8)
styles = ("C0-", "k:", "C1--", "C2-.")
for (name, model), style in zip(trainings.items(), styles, strict=True):
    loss = [record["train_loss"] for record in model.history_]
    left.plot(range(1, len(loss) + 1), loss, style, label=name)
    curve = [
        robust_accuracy_score(model, X_test, y_test, eps=e, n_steps=20, loss="margin")
        for e in budgets
    ]
    right.plot(budgets, curve, style, marker="o", markersize=3, label=name)
left.axhline(np.log(10), color="0.7", linewidth=1)
left.set(xlabel="epoch", ylabel="training loss under attack")
right.set(xlabel="eps (linf, pixels in [0, 1])", ylabel="robust accuracy", ylim=(0, 1))
right.legend(fontsize=8)
plt.show()
