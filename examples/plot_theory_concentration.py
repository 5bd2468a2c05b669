"""
===========================================
When no classifier can be robust
===========================================

The same Bayes error of zero can come with any robust error: it depends on how the
inputs are distributed. And where they fill a cube or a ball uniformly, errors are next
to everything ("On the Sensitivity of Adversarial Robustness to Input Data
Distributions", Ding et al., 2019, section 2).
"""

# %%
# Two labels, one cube
# --------------------
# Inputs uniform on the unit cube. Labelled by the first feature, a budget of eps loses
# 2 eps of them; labelled by the sum of all, nearly everything, once there are many
# features (Example 1). Dots: Monte-Carlo. The printed bound takes a variance of 1/4 for
# a uniform variable; with 1/12 it is three times closer to 1.
import matplotlib.pyplot as plt
import numpy as np

from robustfit.theory import (
    ball_expansion_bound,
    cube_expansion_bound,
    diagonal_split_robust_error,
    diagonal_split_robust_error_bound,
    single_feature_robust_error,
    vulnerable_fraction_bound,
)

eps = 0.1
dimensions = np.unique(np.geomspace(1, 1000, 40).astype(int))
exact = [diagonal_split_robust_error(d, eps) for d in dimensions]
bound = [diagonal_split_robust_error_bound(d, eps) for d in dimensions]
printed = np.maximum(0, 1 - 1 / (4 * dimensions * eps**2))
_, ax = plt.subplots(layout="constrained")
ax.plot(dimensions, exact, label="label by the sum of the features")
ax.plot(dimensions, bound, "--", color="C0", label="its bound, variance 1/12")
ax.plot(dimensions, printed, ":", color="C0", label="its bound as printed")
flat = [single_feature_robust_error(eps)] * len(dimensions)
ax.plot(dimensions, flat, color="C1", label="label by one feature")
rng = np.random.default_rng(0)
for d in (1, 3, 10, 30, 100, 300):
    X = rng.uniform(size=(5000, d))
    lost = np.abs(X.mean(axis=1) - 0.5) <= eps
    ax.plot(d, lost.mean(), "o", color="C0", markersize=4)
ax.set(xscale="log", xlabel="features", ylabel=f"robust error at linf budget {eps}")
ax.legend(loc="center right")
plt.show()

# %%
# Neighbourhoods grow fast
# ------------------------
# What is within l2 distance eps of half of the space, at least (Theorem 2.1). On the
# cube the bound holds in every dimension; on the ball it grows with it.
budgets = np.linspace(0, 1, 101)
_, left = plt.subplots(figsize=(5, 4), layout="constrained")
cube = [cube_expansion_bound(0.5, e) for e in budgets]
left.plot(budgets, cube, color="black", label="unit cube, any d")
for d in (30, 200, 3072):
    ball = [ball_expansion_bound(0.5, e, n_features=d) for e in budgets]
    left.plot(budgets, ball, label=f"unit ball, d = {d}")
left.set(xlabel="l2 distance", ylabel="share of the space, at least")
left.legend(loc="lower right")

# %%
# Example 2: ten classes, no clean error. The share of inputs that can be attacked is at
# least 94 % on the cube at eps = 0.5, and 97 % on the ball at eps = 0.09.
_, right = plt.subplots(figsize=(5, 4), layout="constrained")
cube = [vulnerable_fraction_bound(10, e) for e in budgets]
ball = [vulnerable_fraction_bound(10, e, n_features=3072) for e in budgets]
right.plot(budgets, cube, color="black", label="unit cube, any d")
right.plot(budgets, ball, color="C2", label="unit ball, d = 3072")
right.plot(0.5, vulnerable_fraction_bound(10, 0.5), "o", color="black")
right.plot(0.09, vulnerable_fraction_bound(10, 0.09, n_features=3072), "o", color="C2")
right.set(xlabel="l2 budget", ylabel="robust error, at least", title="ten classes")
right.legend(loc="lower right")
plt.show()
