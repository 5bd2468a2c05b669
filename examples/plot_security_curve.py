"""
Security curves: robust accuracy at every budget
================================================

One number at one budget hides how a model falls. A *security curve* shows the robust
accuracy against the budget of the adversary. It costs about one attack: FAB looks for
the shortest perturbation of every sample, which says at which budgets it stands.

Data: scikit-learn's digits (8x8 pixels in [0, 1]); every seed is 0.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from robustfit import SecurityCurveDisplay, attack_estimator

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
X_test, y_test = X_test[:150], y_test[:150]

# %%
# Three models that are equally good on natural images
# ----------------------------------------------------
# Regularisation is what differs, and natural accuracy hardly shows it.
models = {
    "logistic regression, C=1": LogisticRegression(C=1, max_iter=500),
    "logistic regression, C=0.01": LogisticRegression(C=0.01, max_iter=500),
    "multilayer perceptron": MLPClassifier((64,), max_iter=500, random_state=0),
}
_, ax = plt.subplots(figsize=(7, 4))
for name, model in models.items():
    model.fit(X_train, y_train)
    SecurityCurveDisplay.from_estimator(model, X_test, y_test, name=name, ax=ax)
ax.set_title("Digits: who falls first?")
plt.show()

# %%
# The curve agrees with attacks at single budgets
# -----------------------------------------------
# Distances found are upper bounds, so the curve may lie a little above an attack that
# is given its budget. AutoAttack at two budgets:
for eps in (0.05, 0.1):
    result = attack_estimator(model, X_test, y_test, attack="autoattack", eps=eps)
    print(f"eps={eps}: {result.robust_accuracy:.1%}")

# %%
# Estimators without a gradient have no curve from one pass, but a single budget can be
# attacked by their scores alone; see the example on pipelines.
print(SVC().fit(X_train, y_train).score(X_test, y_test))
