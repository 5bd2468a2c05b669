"""The algorithm finds, from a sample, the robust dataset that the theorem describes."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from robustfit import RobustDatasetLearner
from robustfit.datasets import make_robust_features
from robustfit.theory import soft_svm, worst_case_perturbation

P, EPS = 0.95, 0.6  # mu = 0.4 <= EPS < 2 P - 1


class ZeroLinear(nn.Module):
    """A linear classifier that starts at 0: theta_0 knows nothing of the data."""

    def __init__(self, n_features=101):
        super().__init__()
        self.head = nn.Linear(n_features, 2, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        return self.head(x)


def accuracy(coef, X, y, eps):
    attacked = X + worst_case_perturbation(coef, y, eps=eps)
    return (y * (attacked @ coef) > 0).mean()


def test_robust_dataset_learner_reaches_theorem_3():
    X, y = make_robust_features(3000, 100, p=P, random_state=0)
    X_test, y_test = make_robust_features(5000, 100, p=P, random_state=1)
    linear = NeuralNetClassifier(
        ZeroLinear,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        max_epochs=0,
        train_split=None,
        verbose=0,
    )
    learner = RobustDatasetLearner(
        EPS,
        clip_range=None,
        estimator=linear,
        method="paper",
        n_meta_epochs=50,
        batch_size=len(X),
        random_state=0,
    )
    X_robust = learner.fit_transform(X.astype(np.float32), (y > 0).astype(np.int64))
    natural = soft_svm(len(X), reg=0.1).fit(X, y).coef_[0]
    robust = soft_svm(len(X), reg=0.1).fit(X_robust, y).coef_[0]
    # Theorem 1: training on the natural set.
    assert accuracy(natural, X_test, y_test, 0) > 0.99
    assert accuracy(natural, X_test, y_test, 0.8) < 0.01
    # Theorems 2 and 3: training on the learned set.
    for eps in (0.0, 0.4, EPS):
        assert accuracy(robust, X_test, y_test, eps) == pytest.approx(P, abs=0.01)
    assert robust[0] > 10 * np.abs(robust[1:]).sum()
    # The learned set is the one of Theorem 3: weak features say nothing.
    assert np.abs((X_robust[:, 1:] * y[:, None]).mean(axis=0)).mean() < 0.05
