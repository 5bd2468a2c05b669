"""What an attack finds does not depend on who runs its chunks: on all attacks."""

import sys
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
import torch

from robustfit import attack_estimator
from robustfit.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    AutoAttack,
    AutoAttackReference,
    HardLabelAttack,
    SignAttack,
    Square,
    TransferAttack,
)
from robustfit.attacks.by_name import ATTACKS

# Each attack of the registry, short enough to run many times.
SHORT = {
    "fgsm": FGSM(),
    "pgd": PGD(5, n_restarts=2),
    "apgd": APGD(5, "dlr", n_targets=2),
    "fab": FAB(5, n_targets=2, n_restarts=2),
    "autoattack": AutoAttack(n_steps=5, n_queries=20),
    "autoattack-reference": AutoAttackReference(["apgd-ce"]),
    "square": Square(30),
    "sign": SignAttack(30),
    "hard-label": HardLabelAttack(20),
}
SURROGATE = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 10)
)
OTHERS = {
    "bfloat16": AutoAttack(
        ["apgd-ce", "square"], n_steps=5, n_queries=20, precision="bfloat16"
    ),
    "transfer": TransferAttack([SURROGATE], PGD(10)),
}
SIZES = {"equal": 40, "unequal": 37}


def test_the_list_is_complete():
    # Not of nets: tests/evaluation/test_certified.py has them.
    assert [*SHORT, "tree", "neighbours"] == list(ATTACKS)


@pytest.fixture(scope="module")
def case(digits):
    """A net in training mode with what that changes, and images it gets right."""
    X, y, X_test, y_test = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Dropout(0.2), torch.nn.Linear(144, 10),
        )  # fmt: skip
        for module in (net, SURROGATE):
            train(module, torch.tensor(X), torch.tensor(y))
        right = net.eval()(torch.tensor(X_test)).argmax(1).numpy() == y_test
    return net.train(), X_test[right][:40], y_test[right][:40]


def train(module, x, y):
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()


@contextmanager
def one_thread():
    """Torch's results may depend on how many threads add up a sum."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def run(case, attack, n_samples, **parameters):
    net, X, y = case
    before = torch.get_rng_state()
    with one_thread():
        result = attack_estimator(
            net, X[:n_samples], y[:n_samples], attack=attack, eps=0.12, batch_size=10,
            **parameters,
        )  # fmt: skip
    assert net.training
    assert all(part.requires_grad for part in net.parameters())
    assert torch.equal(before, torch.get_rng_state())
    return result


@pytest.fixture(scope="module")
def serial(case):
    """What one job finds, for each attack and number of samples."""
    found = {}

    def one_job(name, n_samples):
        if (name, n_samples) not in found:
            found[name, n_samples] = run(case, (SHORT | OTHERS)[name], n_samples)
        return found[name, n_samples]

    return one_job


@contextmanager
def busy_threads():
    """Threads that take turns a thousand times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    with joblib.parallel_config(backend="threading"):
        yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two threads in this process."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, threads_per_worker=2, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield


def assert_same(result, expected):
    np.testing.assert_array_equal(result.X_adv, expected.X_adv)
    np.testing.assert_array_equal(result.robust, expected.robust)
    assert list(result.robust_after) == list(expected.robust_after)
    for name, alive in expected.robust_after.items():
        np.testing.assert_array_equal(result.robust_after[name], alive)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [*SHORT, *OTHERS])
@pytest.mark.parametrize("backend", ["threading", "loky", "dask"])
def test_two_jobs_give_the_bytes_of_one(case, serial, backend, name, size, request):
    attack, n_samples = (SHORT | OTHERS)[name], SIZES[size]
    expected = serial(name, n_samples)
    before = dict(vars(attack))
    if backend == "threading":
        with busy_threads():
            result = run(case, attack, n_samples, n_jobs=2)
    else:
        if backend == "dask":
            request.getfixturevalue("cluster")
        with joblib.parallel_config(backend=backend):
            result = run(case, attack, n_samples, n_jobs=2)
    assert_same(result, expected)
    assert vars(attack) == before


@pytest.mark.parametrize("name", ["pgd", "autoattack", "square", "transfer"])
def test_the_attacks_find_some_and_not_all(serial, name):
    result = serial(name, 40)
    assert 0 < result.robust.mean() < 1
