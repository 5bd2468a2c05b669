"""
Attack any scikit-learn pipeline
================================

Scalers, PCA, linear models, kernel machines and perceptrons have a differentiable form,
so gradient attacks see through a whole ``Pipeline``. Trees and neighbours have none:
they are attacked by their scores, or by their predictions alone. And a report says when
a model only hides its gradients.

Data: scikit-learn's digits (8x8 pixels in [0, 1]); every seed is 0.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_validate, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from robustfit import RobustAccuracyScorer, attack_estimator, check_gradient_masking
from robustfit.attacks import TransferAttack

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
X_test, y_test = X_test[:60], y_test[:60]
eps = 0.15

# %%
# Gradients through a pipeline
# ----------------------------
pipeline = make_pipeline(StandardScaler(with_std=False), PCA(30), SVC())
pipeline.fit(X_train, y_train)
result = attack_estimator(pipeline, X_test, y_test, attack="pgd", eps=eps)
print(f"natural {result.natural_accuracy:.1%}, under PGD {result.robust_accuracy:.1%}")

# %%
# No gradients: scores, labels, or a surrogate
# --------------------------------------------
forest = RandomForestClassifier(30, random_state=0).fit(X_train, y_train)
neighbours = KNeighborsClassifier(3).fit(X_train, y_train)
attacks = {
    "Square (scores)": "square",
    "ray search (labels)": "hard-label",
    "transferred from the SVC": TransferAttack([pipeline]),
}
accuracy = {}
for model in (forest, neighbours):
    for name, attack in attacks.items():
        if attack == "square" and model is neighbours:
            continue  # three neighbours give scores too coarse to climb
        found = attack_estimator(model, X_test, y_test, attack=attack, eps=eps)
        accuracy[type(model).__name__, name] = found.robust_accuracy
for (model_name, attack_name), value in accuracy.items():
    print(f"{model_name:<25}{attack_name:<28}{value:.1%}")

# %%
# What the adversary changed
# --------------------------
fooled = np.flatnonzero(result.natural_correct & ~result.robust)[:5]
_, axes = plt.subplots(2, len(fooled), figsize=(8, 3.4))
for column, row in enumerate(fooled):
    for image, ax in zip(
        (X_test[row], result.X_adv[row]), axes[:, column], strict=True
    ):
        ax.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
        ax.set_title(f"predicted {pipeline.predict(image[None])[0]}", fontsize=9)
plt.show()

# %%
# Inside cross-validation, and a check of the gradients
# -----------------------------------------------------
scores = cross_validate(
    pipeline, X_train[:400], y_train[:400], cv=3, error_score="raise",
    scoring=RobustAccuracyScorer("apgd", eps=0.05),
)  # fmt: skip
print(scores["test_score"])
check_gradient_masking(pipeline, X_test, y_test, eps=0.05, n_steps=20, n_queries=100)
