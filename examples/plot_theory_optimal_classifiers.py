"""
====================================================
Optimal robust classifiers: Gaussians and Bernoullis
====================================================

Two distributions for which the best possible robust error is known, whatever the
classifier ("Towards Deep Learning Models Resistant to Large Perturbations", section 5).
"""

# %%
# Isotropic Gaussians: robustness is free
# ---------------------------------------
# The classifier with the least natural error also has the least robust error, for every
# l2 budget (Theorem 2). The error grows to 1/2 at half the distance between the means.
# Beyond, the formula as printed follows this classifier; a constant one is better.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from robustfit.datasets import make_gaussian_classes
from robustfit.theory import (
    bernoulli_best_threshold,
    bernoulli_l0_error,
    bernoulli_linf_error,
    isotropic_gaussian_error,
    worst_case_perturbation,
)

mean = np.array([1.2, 0.9])
budgets = np.linspace(0, 2.5, 101)
X, y = make_gaussian_classes(20_000, mean, random_state=0)


def measured_error(eps):
    attacked = X + worst_case_perturbation(mean, y, eps=eps, norm="l2")
    return (y * (attacked @ mean) <= 0).mean()


_, ax = plt.subplots(layout="constrained")
optimum = [isotropic_gaussian_error(mean, -mean, eps=eps) for eps in budgets]
ax.plot(budgets, optimum, label="least robust error")
printed = norm.cdf(budgets - np.linalg.norm(mean))
ax.plot(budgets, printed, ":", color="0.5", label="formula as printed")
ax.plot(budgets[::10], [measured_error(e) for e in budgets[::10]], "o", markersize=4,
        label="Bayes classifier, Monte-Carlo")  # fmt: skip
ax.axvline(np.linalg.norm(mean), color="0.6", linewidth=0.8)
ax.annotate("half the distance", (np.linalg.norm(mean) - 0.05, 0.02), ha="right")
ax.set(xlabel="l2 budget", ylabel="robust error")
ax.legend()
plt.show()

# %%
# Bernoullis: the threshold under l0 attacks
# ------------------------------------------
# Class 1 is predicted when at most s of the k = 50 effective features disagree with its
# prototype. The paper's Figure 12: the robust error for every threshold, when an
# adversary flips up to eps features (Theorem 4). The best threshold stays in the
# middle until a constant classifier (s = k, error 1/2) is better.
k, t = 50, 0.3
thresholds = np.arange(k + 1)
_, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for eps in (0, 5, 10, 15, 20):
    error = bernoulli_l0_error(k, thresholds, t=t, eps=eps)
    left.plot(thresholds, error, label=f"eps = {eps}")
    best, least = bernoulli_best_threshold(k, t, eps=eps)
    left.plot(best, least, "k.", markersize=7)
left.set(xlabel="threshold s", ylabel="robust error", title=f"k = {k}, t = {t}")
left.legend()
flips = np.arange(0, 31)
for strength in (0.1, 0.2, 0.3, 0.4):
    least = [bernoulli_best_threshold(k, strength, eps=e)[1] for e in flips]
    right.plot(flips, least, label=f"t = {strength}")
right.set(xlabel="features flipped", ylabel="least robust error", title=f"k = {k}")
right.legend()
plt.show()

# %%
# How many flips can be withstood, and linf attacks
# -------------------------------------------------
# About t k flips: half of the margin of 2 t k disagreements between the classes. Under
# linf attacks nothing is lost at all below a budget of 1, where signs cannot change
# (Theorem 5).
for strength in (0.1, 0.2, 0.3, 0.4):
    errors = [bernoulli_best_threshold(k, strength, eps=e)[1] for e in range(k)]
    largest = max(e for e in range(k) if errors[e] < 0.5)
    print(f"t = {strength}: better than chance up to {largest} of {k} features")
print([round(bernoulli_linf_error(k, 0.1, eps=e), 3) for e in (0, 0.5, 0.99, 1.0)])
