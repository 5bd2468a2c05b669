import functools

import joblib
import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from robustfit import RobustAccuracyScorer, attack_estimator
from robustfit.attacks import PGD, AutoAttack, Square, TransferAttack

SMALL = AutoAttack(["apgd-ce", "fab-t"], n_steps=5)


@pytest.fixture(scope="module")
def case(digits):
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    return LogisticRegression(max_iter=100).fit(X, y), X_test[:40], y_test[:40]


def run(case, attack=SMALL, **parameters):
    parameters = {"eps": 0.08, "batch_size": 10, **parameters}
    return attack_estimator(*case, attack=attack, **parameters)


def assert_same(first, second):
    np.testing.assert_array_equal(first.X_adv, second.X_adv)
    np.testing.assert_array_equal(first.robust, second.robust)
    assert list(first.robust_after) == list(second.robust_after)
    for name, alive in first.robust_after.items():
        np.testing.assert_array_equal(alive, second.robust_after[name])


@pytest.mark.parametrize("attack", [SMALL, "pgd"])
def test_two_processes_give_the_same_bytes(case, attack):
    serial, parallel = (run(case, attack, n_jobs=n) for n in (1, 2))
    assert_same(serial, parallel)
    assert 0 < serial.robust.mean() < 1


@pytest.mark.parametrize("attack", [SMALL, "pgd", Square(50)])
def test_batch_size_changes_no_verdict(case, attack):
    verdicts = [run(case, attack, batch_size=size).robust for size in (1, 7, 128)]
    for other in verdicts[1:]:
        np.testing.assert_array_equal(verdicts[0], other)


def test_verdict_of_a_sample_does_not_depend_on_the_others(case):
    model, X, y = case
    whole = run(case, "pgd")
    half = run((model, X[20:], y[20:]), "pgd")
    np.testing.assert_array_equal(whole.robust[20:], half.robust)


def test_memory_is_bounded_by_batch_size(case):
    model, X, y = case
    sizes = []

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(64, 10)
            self.linear.weight.data = torch.tensor(model.coef_, dtype=torch.float32)
            self.linear.bias.data = torch.tensor(model.intercept_, dtype=torch.float32)

        def forward(self, x):
            sizes.append(len(x))
            return self.linear(x)

    attack = AutoAttack(batch_size=8, n_steps=3, n_queries=5)
    attack_estimator(Watched(), X, y, attack=attack, eps=0.05, batch_size=8)
    assert max(sizes) <= 8


class Killed(Exception):
    pass


class KilledAfter(PGD):
    """Stops the run in its n-th chunk, as a power cut would."""

    def run(self, *args):
        if not chunks_left:
            raise Killed
        chunks_left.pop()
        return super().run(*args)


chunks_left = []


def test_resumes_after_a_kill(case, tmp_path):
    attack = KilledAfter(3)
    chunks_left[:] = range(100)
    expected = run(case, attack)
    chunks_left[:] = range(2)
    with pytest.raises(Killed):
        run(case, attack, checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    chunks_left[:] = range(2)  # enough for the two chunks that are missing
    assert_same(run(case, attack, checkpoint=tmp_path), expected)
    assert not chunks_left
    assert_same(run(case, attack, checkpoint=tmp_path), expected)
    with pytest.raises(Killed):  # another budget is another run
        run(case, attack, checkpoint=tmp_path, eps=0.07)


def test_checkpoint_tells_functions_apart(case, tmp_path):
    def moved_by(share):
        def move(logits_fn, x, y, threat_model, generator):
            return threat_model.clip(x + share * threat_model.eps)

        return move

    def stay(logits_fn, x, y, threat_model, generator):
        return x

    attacks = [stay, moved_by(0.5), functools.partial(moved_by(1.0))]
    alone = [run(case, attack).X_adv for attack in attacks]
    assert (alone[1] != alone[2]).any()
    for _ in range(2):  # the second time, all are found
        for attack, expected in zip(attacks, alone, strict=True):
            found = run(case, attack, checkpoint=tmp_path).X_adv
            np.testing.assert_array_equal(found, expected)
    n_chunks = -(-int(run(case, stay).natural_correct.sum()) // 10)
    assert len(list(tmp_path.iterdir())) == len(attacks) * n_chunks


def test_checkpoint_tells_surrogates_apart(case, tmp_path):
    blind, knowing = torch.nn.Linear(64, 10), torch.nn.Linear(64, 10)
    with torch.no_grad():
        blind.weight.zero_()
        knowing.weight.copy_(torch.tensor(case[0].coef_))
    weak, strong = (
        run(case, TransferAttack([net], PGD(3)), checkpoint=tmp_path)
        for net in (blind, knowing)
    )
    assert strong.robust_accuracy < weak.robust_accuracy


def test_lambdas_cannot_be_told_apart(case, tmp_path):
    attack = lambda logits_fn, x, y, threat_model, generator: x  # noqa: E731
    assert run(case, attack).attack_success_rate == 0
    with pytest.raises(ValueError, match=r"lambda .* pass checkpoint=None"):
        run(case, attack, checkpoint=tmp_path)


def test_checkpoint_keeps_the_survivors_of_each_attack(case, tmp_path):
    first, second = (run(case, checkpoint=tmp_path) for _ in range(2))
    assert_same(first, second)
    assert list(second.robust_after) == ["apgd-ce", "fab-t"]


def test_checkpoint_tells_models_apart(case, tmp_path):
    _, X, y = case
    forests = [RandomForestClassifier(5, random_state=s).fit(X, y) for s in (0, 1)]
    results = [
        run((forest, X, y), Square(20), eps=0.3, checkpoint=tmp_path)
        for forest in forests
    ]
    assert (results[0].X_adv != results[1].X_adv).any()


def test_on_a_dask_cluster_of_processes(case):
    distributed = pytest.importorskip("distributed")
    serial = run(case)
    with (
        distributed.LocalCluster(
            n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        assert_same(run(case), serial)
        scorer = RobustAccuracyScorer(SMALL, eps=0.08, batch_size=10)
        assert scorer(*case) == serial.robust_accuracy
