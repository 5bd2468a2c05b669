"""
============================================
Useful and robust features of a fitted net
============================================

A feature is useful if it is correlated with the label (rho), and robustly useful if it
still is after an adversary has worked against it (gamma). Here: the penultimate layer
of a small net on handwritten digits, for three budgets ("Adversarial Examples Are Not
Bugs, They Are Features", Ilyas et al., 2019, section 2).
"""

# %%
# A naturally trained net
# -----------------------
# Every dot is one of its 64 features, judged for the digit it says most about. As the
# budget grows, features that are just as useful for accuracy turn against the label:
# they cross the line gamma = 0.
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from robustfit.theory import FeatureUsefulnessDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
net = MLPClassifier((64, 64), max_iter=500, random_state=0).fit(X_train, y_train)
print(f"natural accuracy: {net.score(X_test, y_test):.3f}")

_, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
for ax, eps in zip(axes, (0.02, 0.05, 0.1), strict=True):
    FeatureUsefulnessDisplay.from_estimator(
        net, X_test, y_test, eps=eps, n_steps=10, random_state=0, ax=ax
    )
    ax.set_title(f"linf budget {eps}")
plt.show()

# %%
# Where the numbers are known
# ---------------------------
# One strong feature, which agrees with the label in 95 % of the rows, and weak ones of
# mean 0.4: alone, and averaged. The average is the most useful of all and the first
# that an adversary flips.
import numpy as np

from robustfit.datasets import make_robust_features
from robustfit.theory import feature_usefulness, robust_usefulness

X, y = make_robust_features(2000, 100, p=0.95, random_state=0)
features = {
    "strong": lambda x: x[:, 0],
    "one weak": lambda x: x[:, 1],
    "average of 100 weak": lambda x: x[:, 1:].mean(dim=1),
}
budgets = np.linspace(0, 1, 11)
_, ax = plt.subplots(layout="constrained")
for name, f in features.items():
    rho = feature_usefulness(f, X, y)[0]
    gamma = [
        robust_usefulness(f, X, y, eps=eps, clip_range=None, n_steps=5)[0]
        for eps in budgets
    ]
    ax.plot(budgets, gamma, marker="o", markersize=3, label=f"{name}, rho = {rho:.2f}")
ax.axhline(0, color="black", linewidth=0.8)
ax.set(xlabel="linf budget", ylabel="robust usefulness gamma")
ax.legend()
plt.show()
