import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from robustfit import RobustDatasetLearner
from robustfit._utils.torch_bridge import make_generator
from robustfit.nets import default_classifier
from robustfit.robustifiers.dataset_learning.row_judges import (
    class_probabilities,
    cross_fit,
    halves,
    own_probability,
    replace_unclear,
    unclear_below,
)


def learner(**parameters):
    defaults = {"eps": 0.1, "n_candidates": 1, "n_rounds": 2, "random_state": 0}
    return RobustDatasetLearner(**defaults | parameters)


def test_unclear_rows_show_clear_rows_of_their_class():
    clarity = torch.tensor([0.9, 0.1, 0.8, 0.2, 0.7, 0.95, 0.3, 0.99])
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    bounds = unclear_below(clarity, y, 0.5, 3)
    torch.testing.assert_close(bounds, torch.tensor([0.8, 0.95, -torch.inf]))
    sources = replace_unclear(clarity, y, bounds, make_generator(0))
    assert sorted(sources[[1, 3]].tolist()) == [0, 2]  # each as often as the other
    assert sorted(sources[[4, 6]].tolist()) == [5, 7]
    kept = [0, 2, 5, 7]
    assert sources[kept].tolist() == kept


def test_one_row_of_each_class_stays():
    clarity, y = torch.tensor([0.0, 0.1, 0.9, 0.8]), torch.tensor([0, 0, 1, 2])
    sources = replace_unclear(
        clarity, y, unclear_below(clarity, y, 0.99, 3), make_generator(0)
    )
    assert sources.tolist() == [1, 1, 2, 3]
    nothing = unclear_below(clarity, y, 0.0, 3)
    assert (nothing == -torch.inf).all()


def test_wrong_labels_are_found_unclear(digits):
    X, y, _, _ = digits
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    wrong = np.random.default_rng(0).choice(len(y), 20, replace=False)
    y[wrong] = (y[wrong] + 1) % 10
    judges = cross_fit(
        X,
        y,
        lambda x: x,
        lambda: default_classifier((1, 8, 8), 10, max_epochs=60),
        make_generator(0),
    )
    first, second = halves(y, make_generator(0))
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(y)))
    clarity = torch.empty(len(y))
    for judge, rows in zip(judges, (second, first), strict=True):
        chances = class_probabilities(judge, X[rows], 10)
        torch.testing.assert_close(chances.sum(1), torch.ones(len(rows)))
        clarity[rows] = own_probability(chances, y[rows])
    least = torch.argsort(clarity)[: 2 * len(wrong)]
    assert np.isin(wrong, least.numpy()).mean() > 0.8


def test_a_class_that_a_judge_has_not_met_has_no_chance():
    X = np.random.default_rng(0).random((40, 3)).astype("float32")
    judge = LogisticRegression().fit(X, np.arange(40) % 2 * 2)  # classes 0 and 2
    chances = class_probabilities(judge, torch.tensor(X), 4)
    assert (chances[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(chances[:, [0, 2]], judge.predict_proba(X), atol=1e-5)


def test_the_set_tells_which_image_each_row_shows(digits):
    X, y, _, _ = digits
    net = default_classifier((1, 8, 8), 10, max_epochs=150)
    fitted = learner(estimator=net, unclear_fraction=0.1).fit(X, y)
    sources = fitted.source_indices_
    np.testing.assert_array_equal(y[sources], y)
    np.testing.assert_array_equal(fitted.sample_indices_, np.arange(len(y)))
    replaced = sources != np.arange(len(y))
    for label, count in enumerate(np.bincount(y)):
        assert replaced[y == label].sum() == round(0.1 * count)
    record = next(r for r in fitted.history_ if r["step"] == "judge-rows")
    assert record["agreement"] > 0.5
    assert fitted.chosen_["unclear_fraction"] == 0.1
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
