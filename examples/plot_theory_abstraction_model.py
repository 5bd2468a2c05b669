"""
================================================
One robust feature, many weak ones: theorems 1-3
================================================

A label is copied by one strong feature, which is right with probability p, and hinted
at by a hundred weak ones. A naturally trained SVM adds up the weak ones and is nearly
perfect, until an adversary moves each of them by a little. Trained on the *robust
dataset*, the same SVM relies on the strong feature alone ("Towards Robust Dataset
Learning", section 4).
"""

# %%
# The theorems, exactly
# ---------------------
# With infinite data the weights, and the accuracy under every budget, are closed forms.
# Theorem 1 says: above 99 % at a budget of 0, below 1 % at twice the mean of the weak
# features. Theorem 3 says: p, for every budget below 1.
import matplotlib.pyplot as plt
import numpy as np

from robustfit.datasets import make_optimal_robust_features, make_robust_features
from robustfit.theory import (
    linear_accuracy,
    natural_svm_weights,
    robust_svm_weights,
    soft_svm,
    worst_case_perturbation,
)

n_weak, p, mu, reg = 100, 0.95, 0.4, 0.1
strong, weak = natural_svm_weights(n_weak, p=p, mu=mu, reg=reg)
natural = np.r_[strong, np.full(n_weak, weak)]
strong, weak = robust_svm_weights(n_weak, p=p, mu=mu, eps=0.6, reg=reg)
robust = np.r_[strong, np.full(n_weak, weak)]
for name, coef in (("natural", natural), ("robust", robust)):
    numbers = [linear_accuracy(coef, mu, p=p, eps=eps) for eps in (0, mu, 2 * mu)]
    print(f"{name}: accuracy at eps 0, mu, 2 mu: {np.round(numbers, 5)}")

# %%
# The same from samples
# ---------------------
# Lines are closed forms; dots are scikit-learn's SVM, trained on 4000 rows and attacked
# with the worst-case perturbation of Lemma 1 on held-out rows.
budgets = np.linspace(0, 1.1, 111)
X_test, y_test = make_robust_features(4000, n_weak, p=p, random_state=1)


def attacked_accuracy(coef, eps):
    attacked = X_test + worst_case_perturbation(coef, y_test, eps=eps)
    return (y_test * (attacked @ coef) > 0).mean()


samples = {
    "natural set": make_robust_features(4000, n_weak, p=p, random_state=0),
    "robust set": make_optimal_robust_features(4000, n_weak, p=p, random_state=0),
}
_, ax = plt.subplots(layout="constrained")
for number, ((name, (X, y)), exact) in enumerate(
    zip(samples.items(), (natural, robust), strict=True)
):
    line = [linear_accuracy(exact, mu, p=p, eps=eps) for eps in budgets]
    ax.plot(budgets, line, color=f"C{number}", label=f"SVM of the {name}")
    coef = soft_svm(len(X), reg=reg).fit(X, y).coef_[0]
    dots = [attacked_accuracy(coef, eps) for eps in budgets[::10]]
    ax.plot(budgets[::10], dots, "o", color=f"C{number}", markersize=4)
ax.axvline(mu, color="0.6", linestyle=":")
ax.axvline(2 * mu, color="0.6", linestyle=":")
ax.annotate("mu", (mu, 1.02), ha="center")
ax.annotate("2 mu", (2 * mu, 1.02), ha="center")
ax.axhline(p, color="0.6", linewidth=0.8)
ax.annotate("p", (1.08, p + 0.01))
ax.set(xlabel="linf budget of the adversary", ylabel="accuracy", ylim=(-0.03, 1.08))
ax.legend(loc="lower left")
plt.show()

# %%
# What the best dataset makes a classifier learn
# -----------------------------------------------
# The minimiser of the robust loss, for growing budgets. Weak features are dropped
# before the budget reaches mu. The weight of the strong feature grows like
# 1 / (1 - eps) and, at eps = 2 p - 1, falls to zero: then the rows on which the strong
# feature lies cost more than the others gain. (The theorem as printed promises a
# positive weight up to eps = 1.)
grid = np.linspace(0, 1, 101)
weights = np.array(
    [robust_svm_weights(n_weak, p=p, mu=mu, eps=eps, reg=1e-3) for eps in grid]
)
_, ax = plt.subplots(layout="constrained")
ax.plot(grid, weights[:, 0], label="robust feature")
ax.plot(grid, n_weak * weights[:, 1], label="all weak features")
ax.axvline(mu, color="0.6", linestyle=":")
ax.axvline(2 * p - 1, color="0.6", linestyle=":")
ax.annotate("mu", (mu, 17.2), ha="center")
ax.annotate("2 p - 1", (2 * p - 1, 17.2), ha="center")
ax.set(xlabel="linf budget", ylabel="optimal weight", ylim=(0, 18))
ax.legend(loc=(0.52, 0.62))
plt.show()

# %%
# The algorithm finds the robust set
# ----------------------------------
# ``RobustDatasetLearner`` knows nothing of strong and weak features. Given a sample and
# a linear classifier, it rewrites the sample until natural training is robust: the
# weak features lose their correlation with the label, the strong one gains, and the
# SVM reaches the accuracy of the theorem on held-out rows.
import torch
from skorch import NeuralNetClassifier

from robustfit import RobustDatasetLearner


class ZeroLinear(torch.nn.Linear):
    """A linear classifier of zero weights, where Algorithm 1 starts."""

    def __init__(self):
        super().__init__(n_weak + 1, 2, bias=False)
        torch.nn.init.zeros_(self.weight)


linear = NeuralNetClassifier(
    ZeroLinear,
    criterion=torch.nn.CrossEntropyLoss,
    max_epochs=0,
    train_split=None,
    verbose=0,
)
X, y = make_robust_features(3000, n_weak, p=p, random_state=0)
learner = RobustDatasetLearner(
    0.6,
    clip_range=None,
    estimator=linear,
    method="paper",
    n_meta_epochs=50,
    batch_size=len(X),
    random_state=0,
)
X_robust = learner.fit_transform(X.astype(np.float32), (y > 0).astype(np.int64))
_, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for number, (name, rows) in enumerate((("natural", X), ("learned", X_robust))):
    correlation = (rows * y[:, None]).mean(axis=0)
    left.plot(correlation, "o", markersize=3, label=f"{name} set")
    for line, strength in (("-", 0.1), (":", 0.01)):
        coef = soft_svm(len(X), reg=strength).fit(rows, y).coef_[0]
        accuracy = [attacked_accuracy(coef, eps) for eps in budgets]
        label = f"{name} set, reg={strength}"
        right.plot(budgets, accuracy, line, color=f"C{number}", label=label)
left.set(xlabel="feature (0 is the strong one)", ylabel="mean of y x")
left.legend()
right.set(xlabel="linf budget of the adversary", ylabel="accuracy of the SVM")
right.legend()
plt.show()

# %%
# The dotted line is a caution that infinite data does not need: trained with too little
# regularisation, the SVM memorises the noise of the weak features, which is still
# there, and is more vulnerable than on the natural set.
