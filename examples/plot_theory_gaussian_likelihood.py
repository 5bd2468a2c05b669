"""
===========================================
Gaussian maximum likelihood, made robust
===========================================

Two Gaussian classes differ in a noisy direction and, a little, in a precise one. The
precise one is useful but not robust. Robust maximum likelihood keeps the means and
blends the covariance with the identity ("Adversarial Examples Are Not Bugs, They Are
Features", Ilyas et al., 2019, section 4).
"""

# %%
# The learned covariance
# ----------------------
# Dashed: natural; solid: robust, for growing l2 budgets (the paper's Figure 4). The
# arrow is the gradient of the classifier, which turns towards the line between the
# means (Theorem 3).
import matplotlib.pyplot as plt
import numpy as np

from robustfit.datasets import make_gaussian_classes
from robustfit.theory import (
    RobustGaussianClassifier,
    RobustGaussianDisplay,
    adversarial_likelihood_gap,
    gaussian_linear_accuracy,
    gaussian_worst_case_perturbation,
    robust_covariance,
    worst_case_alignment,
)

mean, variances = np.array([2.0, 0.5]), np.array([1.0, 0.04])
X, y = make_gaussian_classes(1000, mean, covariance=variances, random_state=0)
_, axes = plt.subplots(3, 1, figsize=(7, 9), layout="constrained")
for ax, eps in zip(axes, (0.0, 0.3, 1.0), strict=True):
    model = RobustGaussianClassifier(eps).fit(X, y)
    RobustGaussianDisplay.from_estimator(model, X, y, ax=ax)
plt.show()

# %%
# What it costs and what it buys
# ------------------------------
# Natural and robust accuracy of the classifier fitted for each budget, exactly. Here
# robustness costs natural accuracy: the precise direction is given up.
budgets = np.linspace(0, 1.5, 61)
_, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for attack, color in ((0.0, "C0"), (0.3, "C1"), (0.6, "C3")):
    accuracy = []
    for eps in budgets:
        coef = np.linalg.solve(robust_covariance(variances, eps), mean)
        accuracy.append(
            gaussian_linear_accuracy(coef, mean, covariance=variances, eps=attack)
        )
    left.plot(budgets, accuracy, color=color, label=f"attacked with {attack}")
left.set(xlabel="budget of the training", ylabel="accuracy", title="Accuracy")
left.legend()
alignment = [worst_case_alignment(robust_covariance(variances, e)) for e in budgets]
right.plot(budgets, alignment)
right.set(xlabel="budget of the training", ylabel="least cosine", ylim=(0, 1))
right.set_title("Gradient alignment, worst mean (Theorem 3)")
plt.show()

# %%
# Vulnerability is misalignment
# -----------------------------
# Theorem 1: what a penalised adversary adds to the negative log-likelihood, for
# variances of constant sum. It is least where both are equal, that is, where the data's
# metric is the adversary's. Dots: Monte-Carlo. (The formula as printed is twice this.)
penalty, total = 8.0, 2.0
grid = np.linspace(0.16, 1.84, 81)
_, ax = plt.subplots(layout="constrained")
gap = [adversarial_likelihood_gap([v, total - v], penalty) for v in grid]
ax.plot(grid, gap, label="closed form")
ax.plot(grid, 2 * np.array(gap), ":", color="0.6", label="as printed")
rng = np.random.default_rng(0)
for v in (0.2, 0.5, 1.0, 1.5, 1.8):
    spread = np.array([v, total - v])
    V = rng.normal(size=(50_000, 2)) * np.sqrt(spread)
    attacked = V + V / (penalty * spread - 1)
    measured = ((attacked**2 - V**2) / spread).sum(axis=1).mean() / 2
    ax.plot(v, measured, "o", color="C0")
ax.set(xlabel="variance of the first feature (of a sum of 2)", yscale="log")
ax.set_ylabel("added negative log-likelihood")
ax.legend()
plt.show()

# %%
# How exact is the closed form?
# -----------------------------
# It bounds the *mean* squared norm of the perturbations. An adversary who spends
# exactly eps on every row leads to slightly smaller variances; the difference vanishes
# as the dimension grows.


def exact_variances(variances, eps, n_rows):
    """Fixed point of maximum likelihood and a per-row adversary, by iteration."""
    V = rng.normal(size=(n_rows, len(variances))) * np.sqrt(variances)
    half = len(variances) // 2
    robust = robust_covariance(variances, eps).diagonal().copy()
    for _ in range(60):
        attacked = V + gaussian_worst_case_perturbation(V, robust, eps=eps)
        scale = (attacked**2).mean(axis=0) / (V**2).mean(axis=0) * variances
        target = np.repeat([scale[:half].mean(), scale[half:].mean()], half)
        robust += 0.15 * (target - robust)
    return robust


for half, n_rows in ((1, 8000), (5, 4000), (20, 1500)):
    variances = np.repeat([1.0, 0.1], half)
    eps = 0.3 * np.sqrt(variances.sum())
    closed = robust_covariance(variances, eps).diagonal()
    ratio = exact_variances(variances, eps, n_rows) / closed
    print(f"{2 * half:3d} features: exact / closed form = {ratio[[0, -1]].round(3)}")
