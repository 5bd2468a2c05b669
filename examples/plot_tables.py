"""
Tables: a budget for each feature
=================================

Features of a table have units of their own, and some of them an adversary cannot touch.
Where ``eps`` is an array, each feature has its own budget, 0 for those that stay as
they are; ``clip_range`` may be two arrays as well. Every attack honours both.

Data: scikit-learn's breast cancer table, 30 measurements of cell nuclei, and a made-up
table with a category; every seed is 0.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from robustfit import AdversarialClassifier, SecurityCurveDisplay, attack_estimator
from robustfit.attacks import Square
from robustfit.exceptions import IntegerFeatureWarning

torch.set_num_threads(1)  # nets this small gain nothing from more
table = load_breast_cancer()
X_train, X_test, y_train, y_test = train_test_split(
    table.data, table.target, test_size=100, random_state=0
)

# %%
# What the adversary may do
# -------------------------
# Budgets are in units of each column's standard deviation. The ten standard errors
# (columns 10 to 19) are out of reach, and nothing that is measured is below zero.
deviation = X_train.std(axis=0)
scale = np.where(np.char.endswith(table.feature_names, "error"), 0.0, deviation)
positive = (np.zeros(30), np.full(30, np.inf))
print(f"{(scale == 0).sum()} of {scale.size} features stay as they are")

# %%
# Three models
# ------------
# Training sees scaled columns, so its budgets are scaled, too: half a deviation, or 0.
# The attack sees the whole pipeline, and its budgets are those of the table.
linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
forest = RandomForestClassifier(50, random_state=0)
robust = make_pipeline(
    StandardScaler(),
    AdversarialClassifier(
        0.5 * (scale > 0), clip_range=None, n_steps=5, n_epochs=25, random_state=0
    ),
)
models = {"logistic regression": linear, "forest": forest, "adversarial net": robust}
for model in models.values():
    model.fit(X_train, y_train)

# %%
# Robust accuracy at a budget
# ---------------------------
# Forests have no gradients: Square sees their scores only, and its number may be too
# high.
budget = {"eps": 0.5 * scale, "clip_range": positive}
results = {}
for name, model in models.items():
    attack = Square(300) if model is forest else "autoattack"
    results[name] = attack_estimator(model, X_test, y_test, attack=attack, **budget)
    print(f"{name:<22}{results[name].natural_accuracy:>8.1%}"
          f"{results[name].robust_accuracy:>8.1%}")  # fmt: skip

# %%
# At every budget, and where it was spent
# ---------------------------------------
# The curve's budgets are multiples of ``scale``. On the right, how far each feature was
# moved where the linear model fell: standard errors not at all.
_, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
eps = np.linspace(0, 1.5, 31)
for name in ("logistic regression", "adversarial net"):
    SecurityCurveDisplay.from_estimator(
        models[name], X_test, y_test, scale=scale, clip_range=positive, eps=eps,
        n_steps=20, name=name, ax=left,
    )  # fmt: skip
few = np.arange(0, 1.51, 0.5)
found = [
    attack_estimator(
        forest, X_test, y_test, attack=Square(200), eps=e * scale, clip_range=positive
    ).robust_accuracy
    for e in few
]
left.plot(few, found, "s--", color="0.4", label="forest (Square)")
left.legend(fontsize="small")
left.set_xlabel("Budget (standard deviations of each feature)")
fell = results["logistic regression"]
fell_rows = fell.natural_correct & ~fell.robust
moves = np.abs(fell.X_adv - X_test)[fell_rows].mean(axis=0) / deviation
right.barh(np.arange(30), moves)
right.set_yticks(np.arange(30), table.feature_names, fontsize=6)
right.invert_yaxis()
right.set_xlabel("Mean move (standard deviations)")
plt.show()

# %%
# Columns, categories and whole numbers
# -------------------------------------
# Gradients pass through a ``ColumnTransformer`` of scalers and functions, too. A
# category in one-hot columns gets the budget 0. The number of accounts is a whole
# number: the attack moves it to fractions, which robustfit says, as an adversary that
# has to keep it whole can do less than the number reported allows it.
rng = np.random.default_rng(0)
income, debt = rng.lognormal(3, 0.6, 400), rng.lognormal(2, 0.8, 400)
accounts, region = rng.integers(1, 9, 400), np.eye(3)[rng.integers(0, 3, 400)]
X = np.column_stack([income, debt, accounts, region])
y = np.where(income - debt - accounts + 4 * region[:, 0] > 8, "pays", "fails")
columns = ColumnTransformer(
    [
        (
            "money",
            make_pipeline(FunctionTransformer(np.log1p), StandardScaler()),
            [0, 1],
        ),
        ("accounts", StandardScaler(), [2]),
    ],
    remainder="passthrough",
)
credit = make_pipeline(columns, LogisticRegression()).fit(X[:300], y[:300])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = attack_estimator(
        credit, X[300:], y[300:], attack="autoattack", eps=[2, 1, 1, 0, 0, 0],
        clip_range=([0, 0, 0, 0, 0, 0], [np.inf, np.inf, 20, 1, 1, 1]),
    )  # fmt: skip
print(result)
for warning in caught:
    if warning.category is IntegerFeatureWarning:
        print(warning.message)
