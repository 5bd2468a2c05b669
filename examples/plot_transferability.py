"""
Transferability: adversarial examples of one model fool another
===============================================================

Models trained apart, and built differently, are fooled by the same perturbations. One
explanation is that they look at the same non-robust features of the data ("Adversarial
Examples Are Not Bugs, They Are Features", section 3.3).
:func:`~robustfit.transferability_matrix` measures it: which share of the samples that
two models both get right is turned wrong on one by adversarial examples of the other.

Data: scikit-learn's digits, 1397 images to train and 200 to attack; linf, eps 0.15; PGD
with 40 steps, all of which are taken.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from robustfit import AdversarialClassifier, TransferabilityDisplay

torch.set_num_threads(1)  # nets this small gain nothing from more

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, random_state=0, stratify=y
)
X_test, y_test = X_test[:200], y_test[:200]

# %%
# Models that can be attacked, and two that cannot
# ------------------------------------------------
# Forests and nearest neighbours have no gradients. They are no sources of adversarial
# examples, but those of the others may be tried on them. The last source is trained
# adversarially: it looks at other features.

sources = {
    "logistic": LogisticRegression(max_iter=300),
    "SVC": SVC(),
    "MLP": MLPClassifier((100,), max_iter=200, random_state=0),
    "another MLP": MLPClassifier((100,), max_iter=200, random_state=1),
    "robust CNN": AdversarialClassifier(
        eps=0.15, image_shape=(1, 8, 8), n_steps=4, n_epochs=25, random_state=0
    ),
}
targets = {
    "forest": RandomForestClassifier(random_state=0),
    "neighbours": KNeighborsClassifier(),
}
for model in (*sources.values(), *targets.values()):
    model.fit(X_train, y_train)

figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
display = TransferabilityDisplay.from_estimators(
    sources, X_test, y_test, targets=sources | targets, eps=0.15, ax=axis
)
axis.set_title("linf, eps = 0.15, 200 test images of the digits")
plt.show()

# %%
# Read a row as one source, a column as one target. On the diagonal is the success of
# the attack itself.

transfer = display.transferability
print(f"{'natural accuracy':>18}")
for name, accuracy in zip(transfer.target_names, transfer.target_accuracy, strict=True):
    print(f"{name:<14}{accuracy:.1%}")
