import numpy as np
import pytest
import torch

from robustfit import RobustDatasetLearner
from robustfit._utils.torch_bridge import make_generator
from robustfit.nets import default_classifier
from robustfit.robustifiers.dataset_learning.clear_rows import (
    judge_clarity,
    replace_unclear,
)


def learner(**parameters):
    defaults = {"eps": 0.1, "n_candidates": 1, "n_rounds": 2, "random_state": 0}
    return RobustDatasetLearner(**defaults | parameters)


def test_unclear_rows_show_clear_rows_of_their_class():
    clarity = torch.tensor([0.9, 0.1, 0.8, 0.2, 0.7, 0.95, 0.3, 0.99])
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    sources = replace_unclear(clarity, y, 0.375, make_generator(0))
    assert set(sources[[1, 3]].tolist()) <= {0, 2}
    assert sources[6] in (4, 5, 7)
    kept = [0, 2, 4, 5, 7]
    assert sources[kept].tolist() == kept


def test_a_class_without_a_clear_row_keeps_its_own():
    clarity, y = torch.tensor([0.0, 0.1, 0.9, 0.8]), torch.tensor([0, 0, 1, 1])
    sources = replace_unclear(clarity, y, 0.5, make_generator(0))
    assert sources.tolist() == [0, 1, 2, 3]


def test_wrong_labels_are_found_unclear(digits):
    X, y, _, _ = digits
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    wrong = np.random.default_rng(0).choice(len(y), 20, replace=False)
    y[wrong] = (y[wrong] + 1) % 10
    clarity = judge_clarity(
        X,
        y,
        lambda x: x,
        lambda: default_classifier((1, 8, 8), 10, max_epochs=60),
        make_generator(0),
    )
    assert clarity.min() >= 0
    assert clarity.max() <= 1
    least = torch.argsort(clarity)[: 2 * len(wrong)]
    assert np.isin(wrong, least.numpy()).mean() > 0.8


def test_the_set_tells_which_image_each_row_shows(digits):
    X, y, _, _ = digits
    fitted = learner(unclear_fraction=0.1, method="disturbance").fit(X, y)
    sources = fitted.source_indices_
    np.testing.assert_array_equal(y[sources], y)
    np.testing.assert_array_equal(fitted.sample_indices_, np.arange(len(y)))
    n_replaced = round(0.1 * len(y))
    assert (sources != np.arange(len(y))).sum() == n_replaced
    record = next(r for r in fitted.history_ if r["step"] == "clear-rows")
    assert record["n_replaced"] == n_replaced
    shown, own = X[sources].reshape(len(X), -1), X.reshape(len(X), -1)
    learned = fitted.X_robust_.reshape(len(X), -1)
    moved = sources != np.arange(len(y))

    def likeness(images):
        return np.mean([
            np.corrcoef(a, b)[0, 1]
            for a, b in zip(images[moved], learned[moved], strict=True)
        ])  # fmt: skip

    assert likeness(shown) > likeness(own) + 0.1


def test_rows_that_play_show_the_same_images(digits):
    X, y, _, _ = digits
    parameters = {"protocol": "fine-tune", "unclear_fraction": 0.2}
    whole = learner(**parameters).fit(X[:200], y[:200])
    own = learner(protocol="fine-tune").fit(X[:200], y[:200])
    kept = np.flatnonzero(whole.source_indices_ == np.arange(200))
    moved = np.setdiff1d(np.arange(0, 200, 2), kept)
    gap = np.abs(whole.X_robust_ - X[whole.source_indices_]).max((1, 2, 3))
    assert len(moved) > 5
    assert gap[moved].max() <= 2.25 * 0.1 + 1e-6  # within the play's radius
    assert np.abs(own.X_robust_ - X[:200]).max((1, 2, 3))[moved].max() <= 0.225 + 1e-6


def test_a_resumed_fit_remembers_the_images(digits, tmp_path, fail_at):
    X, y, _, _ = digits
    parameters = {"protocol": "fine-tune", "unclear_fraction": 0.2, "n_rounds": 3}
    whole = learner(**parameters).fit(X[:150], y[:150])
    stopped = learner(**parameters, checkpoint=tmp_path)
    with fail_at(4, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        stopped.fit(X[:150], y[:150])
    resumed = learner(**parameters, checkpoint=tmp_path).fit(X[:150], y[:150])
    assert len(resumed.history_) == len(whole.history_)
    assert resumed.X_robust_.tobytes() == whole.X_robust_.tobytes()
    np.testing.assert_array_equal(resumed.source_indices_, whole.source_indices_)


@pytest.mark.parametrize("value", [-0.1, 1.0, "some"])
def test_a_share_that_is_none(digits, value):
    X, y, _, _ = digits
    with pytest.raises(ValueError, match="unclear_fraction"):
        learner(unclear_fraction=value).fit(X[:50], y[:50])
