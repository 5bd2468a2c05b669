"""Small embedded data, nets and an interruption that every test file may use."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from robustfit import RobustDatasetLearner
from robustfit.nets import default, default_classifier


@pytest.fixture(scope="session")
def digits():
    """400 training and 100 test images, (n, 1, 8, 8) float32 in [0, 1]."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return X[:400], y[:400], X[1000:1100], y[1000:1100]


@pytest.fixture(scope="session")
def fitted_net(digits):
    """A small CNN naturally trained on the digits; treat it as read-only."""
    X, y, _, _ = digits
    torch.manual_seed(0)
    return default_classifier((1, 8, 8), 10, max_epochs=40).fit(X, y)


@pytest.fixture
def net():
    """An unfitted skorch net for 1x8x8 images, trained in a second."""
    return default_classifier((1, 8, 8), 10, max_epochs=40)


@pytest.fixture
def fail_at():
    """A context in which a learner of sets raises instead of the step of a number."""

    @contextmanager
    def failing(step_number, error):
        run_step = RobustDatasetLearner._run_step

        def run_or_fail(self, step, state, generator, n_steps):
            if len(state.history) == step_number:
                raise error
            run_step(self, step, state, generator, n_steps)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RobustDatasetLearner, "_run_step", run_or_fail)
            yield

    return failing


@pytest.fixture(autouse=True, scope="session")
def short_trainings():
    """Train default nets for a tenth of the steps.

    Most tests ask what comes, not how good it is; those that do pass a net of their
    own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "FEWEST_STEPS", 60)
        yield
