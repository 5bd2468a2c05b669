"""The four kinds of long fits: interrupted, resumed, told to callbacks, printed."""

import re
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.base import clone

from robustfit import (
    AdversarialClassifier,
    AdversarialRelabeler,
    AdvKIPDistiller,
    KIPDistiller,
    RobustDatasetLearner,
    RobustFeatureExtractor,
)
from robustfit._utils.fit_progress import FitProgress, open_fit
from robustfit.nets import default_classifier

# Nets that are trained for seconds need not have learned anything.
pytestmark = pytest.mark.filterwarnings(
    "ignore::robustfit.exceptions.CollapsedTrainingWarning"
)

TRAINING = {"eps": 0.1, "n_steps": 2, "n_epochs": 2, "eps_stages": (0.05, 0.1),
            "n_stage_epochs": 2, "n_warmup_epochs": 0}  # fmt: skip
FITS = {
    "learner": RobustDatasetLearner(
        eps=0.1, n_candidates=3, validation_fraction=0.2,
        estimator=default_classifier((1, 8, 8), 10, max_epochs=2),
    ),
    "learner that plays": RobustDatasetLearner(
        eps=0.1, protocol="fine-tune", n_candidates=1, n_rounds=3, n_steps=2,
        estimator=default_classifier((1, 8, 8), 10, max_epochs=2),
    ),
    "KIP": KIPDistiller(
        n_support=20, n_outer_steps=5, n_targets=30, validate_every=2,
    ),
    "adv-KIP": AdvKIPDistiller(
        eps=0.1, n_support=20, n_outer_steps=5, n_targets=30, validate_every=2,
        n_steps=2, n_checked=0, learn_labels=True,
    ),
    "adversarial training": AdversarialClassifier(**TRAINING),
    "adversarial training with a judge": AdversarialClassifier(
        early_stopping=True, validation_fraction=0.2, **TRAINING
    ),
    "robust features": RobustFeatureExtractor(
        eps=0.1, n_steps=2, batch_size=30,
        estimator=AdversarialClassifier(**TRAINING),
    ),
    "relabelled": AdversarialRelabeler(
        eps=0.1, n_steps=2, batch_size=30,
        estimator=default_classifier((1, 8, 8), 10, max_epochs=2),
    ),
}  # fmt: skip


class Recorder:
    """A callback that remembers what scikit-learn tells it."""

    def __init__(self):
        self.begun, self.ended, self.calls = [], [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((context.task_name, context.task_id))

    def teardown(self, estimator, context):
        self.calls.append("teardown")


@contextmanager
def cut_off(model, step, at_its):
    """Ctrl-C at the "begin" or "end" of a step of the model, not of nets inside it."""
    original = FitProgress.step

    @contextmanager
    def cut(self, name):
        with original(self, name):
            is_last = self.estimator is model and self.number == step
            if is_last and at_its == "begin":
                raise KeyboardInterrupt
            yield
            if is_last:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FitProgress, "step", cut)
        yield


def result_of(fitted):
    """Return the bytes that a fit learned."""
    if hasattr(fitted, "net_"):
        arrays = [p.detach().numpy() for p in fitted.net_.module_.parameters()]
    else:
        arrays = [fitted.X_robust_, fitted.y_robust_, fitted.sample_indices_]
    return [array.tobytes() for array in arrays]


def history_of(fitted):
    return [
        {k: v for k, v in record.items() if "seconds" not in k}
        for record in getattr(fitted, "history_", [])
    ]


def few(digits):
    X, y, _, _ = digits
    return X[:200], y[:200]


@pytest.mark.parametrize("at_its", ["begin", "end"])
@pytest.mark.parametrize("name", FITS)
def test_interrupted_and_resumed(digits, tmp_path, name, at_its):
    X, y = few(digits)
    model = clone(FITS[name]).set_params(random_state=0)
    whole = clone(model).fit(X, y)
    model.set_params(checkpoint=str(tmp_path))
    cut, seen = clone(model), Recorder()
    with cut_off(cut, 3, at_its), pytest.raises(KeyboardInterrupt):
        cut.set_callbacks(seen).fit(X, y)
    # every step that began has ended, the fit has not, and the callbacks are free
    assert seen.begun[0] == ("fit", 0)
    assert len(seen.begun) == 4
    assert seen.ended == seen.begun[1:]
    assert seen.calls == ["setup", "teardown"]
    assert not hasattr(cut, "_callback_fit_ctx")

    resumed, seen = clone(model), Recorder()
    resumed.set_callbacks(seen).fit(X, y)
    assert result_of(resumed) == result_of(whole)
    assert history_of(resumed) == history_of(whole)
    assert seen.calls == ["setup", "teardown"]
    # the steps of the first part are told again
    assert [number for _, number in seen.begun[1:]] == list(range(len(seen.begun) - 1))
    assert seen.ended == [*seen.begun[1:], seen.begun[0]]
    assert len(seen.begun) > 4


class ChangesHistory(Recorder):
    """A user's callback that renames or removes what a fit has logged."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def on_fit_task_end(self, estimator, context):
        self.change(estimator.history_)


def rename(history):
    for record in history:
        for key in [key for key in record if not key.startswith("my ")]:
            record[f"my {key}"] = record.pop(key)


@pytest.mark.parametrize("change", [rename, list.clear])
@pytest.mark.parametrize(
    "name", [name for name in FITS if "KIP" in name or "adv" in name]
)
def test_the_history_is_the_users(digits, tmp_path, name, change):
    X, y = few(digits)
    model = clone(FITS[name]).set_params(random_state=0, verbose=1)
    whole = clone(model).fit(X, y)
    changed = clone(model).set_callbacks(ChangesHistory(change)).fit(X, y)
    assert history_of(changed) != history_of(whole)
    assert result_of(changed) == result_of(whole)
    cut = clone(model).set_params(checkpoint=str(tmp_path))
    resumed = clone(cut)
    with cut_off(cut, 4, "begin"), pytest.raises(KeyboardInterrupt):
        cut.set_callbacks(ChangesHistory(change)).fit(X, y)
    resumed.fit(X, y)
    assert history_of(resumed) != history_of(whole)
    assert result_of(resumed) == result_of(whole)


@pytest.mark.parametrize("name", FITS)
def test_without_a_seed_the_saved_one_goes_on(digits, tmp_path, name):
    X, y = few(digits)
    model = clone(FITS[name]).set_params(random_state=None, checkpoint=str(tmp_path))
    cut, resumed = clone(model), clone(model)
    with cut_off(cut, 4, "begin"), pytest.raises(KeyboardInterrupt):
        cut.fit(X, y)
    resumed.fit(X, y)
    if hasattr(cut, "history_"):
        # with the seconds of then: not learned anew
        n_kept = len(cut.history_) - isinstance(cut, KIPDistiller)
        assert n_kept >= 1
        assert resumed.history_[:n_kept] == cut.history_[:n_kept]
    else:
        n_rows = len(cut.X_robust_)
        assert n_rows == 90
        assert resumed.X_robust_[:n_rows].tobytes() == cut.X_robust_.tobytes()
        assert resumed.y_robust_[:n_rows].tolist() == cut.y_robust_.tolist()
    again = clone(model).set_params(checkpoint=None).fit(X, y)
    assert result_of(again) != result_of(resumed)


@pytest.mark.parametrize("name", FITS)
def test_a_line_a_step(digits, capsys, name):
    X, y = few(digits)
    model = clone(FITS[name]).set_params(random_state=0, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    if isinstance(model, KIPDistiller):
        assert "GiB" in lines.pop(0)
    pair = r"\w+ [\w.+-]+"
    head = rf"\[{type(model).__name__}\] (\d+)/(\d+) [^:]+?"
    form = rf"{head}(: {pair}(, {pair})*)? \(\d+\.\d s\)"
    matches = [re.fullmatch(form, line) for line in lines]
    assert all(matches), lines
    numbers, totals = zip(
        *[map(int, match.group(1, 2)) for match in matches], strict=True
    )
    assert len(set(totals)) == 1
    assert list(numbers) == sorted(numbers)
    assert numbers[-1] == totals[0]
    has_numbers = hasattr(model, "history_")
    assert all((match[3] is not None) == has_numbers for match in matches[1:])


def test_what_the_checkpoint_of_a_fit_depends_on(digits, tmp_path):
    X, y = few(digits)

    def path(X=X, start=None, seed=None, **changed):
        model = clone(FITS["KIP"]).set_params(checkpoint=tmp_path, **changed)
        opened = open_fit(model, X, y, not_in_key=["alpha"], start=start, seed=seed)
        return opened[0].path

    same = path()
    assert same == path(X=X.copy(), seed=3)
    assert same == path(verbose=1) == path(device="cpu") == path(alpha=0.1)
    others = {path(eps=0.2), path(X=X[::-1]), path(start=[1])}
    assert len(others - {same}) == 3


def test_a_seed_is_drawn_only_where_there_is_none(tmp_path):
    random = np.random.RandomState(0)
    model = KIPDistiller(random_state=random)
    assert open_fit(model, 0, 0, seed=7)[1:] == (None, 7)
    expected = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    assert open_fit(model, 0, 0)[1:] == (None, expected)
    model.set_params(random_state=0, checkpoint=tmp_path)
    open_fit(model, 0, 0)[0].save({}, {"seed": 5})
    _, (arrays, record), seed = open_fit(model, 0, 0, seed=7)
    assert (arrays, record, seed) == ({}, {"seed": 5}, 5)
