"""A tiny problem on which one step can be run alone."""

import numpy as np
import pytest
import skorch
import torch
from torch import nn

from robustfit.nets import MLP
from robustfit.robustifiers.dataset_learning.learning_problem import LearningProblem
from robustfit.threat_model import ThreatModel


def new_net():
    return skorch.NeuralNetClassifier(
        MLP,
        module__n_features=16,
        module__n_classes=2,
        module__hidden=(4,),
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        train_split=None,
        verbose=0,
    )


class TwoClasses(nn.Module):
    """Logits that grow with the left and with the right half of an image."""

    def __init__(self, n_features):
        super().__init__()
        self.layer = nn.Linear(n_features, 2, bias=False)
        left = torch.arange(n_features) % 4 < 2
        self.layer.weight.data = torch.stack([left, ~left]).float()

    def forward(self, x):
        return self.layer(x.flatten(1))


@pytest.fixture
def make_problem():
    """Images whose left half (class 0) or right half (class 1) is bright."""

    def make(n_rows=40, shape=(1, 4, 4), *, n_held_out=0, n_nets=1, **threat):
        rng = np.random.default_rng(0)
        y = np.arange(n_rows + n_held_out) % 2
        bright = (np.arange(np.prod(shape)) % 4 < 2) == (y[:, None] == 0)
        X = np.float32(0.3 + 0.4 * bright + 0.1 * rng.random(bright.shape))
        X = X.reshape(-1, *shape)
        return LearningProblem(
            x=torch.tensor(X[:n_rows]),
            y=torch.tensor(y[:n_rows]),
            X_all=X[:n_rows],
            y_all=y[:n_rows],
            X_held_out=X[n_rows:] if n_held_out else None,
            y_held_out=y[n_rows:] if n_held_out else None,
            image_shape=shape,
            n_classes=2,
            threat_model=ThreatModel(**{"eps": 0.1} | threat),
            theta_0s=[TwoClasses(int(np.prod(shape))) for _ in range(n_nets)],
            new_net=new_net,
        )

    return make
