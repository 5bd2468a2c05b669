import numpy as np
import pytest
import torch

from robustfit import RobustDatasetLearner
from robustfit.exceptions import RewrittenRowsError
from robustfit.nets import default_classifier
from robustfit.robustifiers.dataset_learning import recipe
from robustfit.robustifiers.dataset_learning.candidate import Candidate
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance

PATTERN = Candidate(Disturbance(0.3, 0.8, 0.1))


def quick(**parameters):
    net = default_classifier((1, 8, 8), 10, max_epochs=20)
    defaults = {
        "eps": 0.1, "estimator": net, "n_candidates": 1, "unclear_fraction": 0.3,
        "random_state": 0,
    }  # fmt: skip
    return RobustDatasetLearner(**defaults | parameters)


@pytest.fixture(scope="module")
def fitted(digits):
    """A learner of patterns and clear rows on half of the digits, and the rest."""
    X, y, X_more, y_more = digits
    words = np.array(list("abcdefghij"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "ladder", lambda shape: (PATTERN,))
        learner = quick().fit(X, words[y])
    return learner, X_more[:157], words[y_more[:157]]


def test_parts_of_any_size_give_the_same_bytes(fitted):
    learner, X, y = fitted
    whole = learner.rewrite(X, y)
    assert whole.shape == X.shape
    assert whole.dtype == np.float32
    assert 0 <= whole.min() < whole.max() <= 1
    for size in (1, 7, 100):
        parts = [
            learner.rewrite(X[start : start + size], y[start : start + size])
            for start in range(0, len(X), size)
        ]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    order = np.random.default_rng(0).permutation(len(X))
    assert learner.rewrite(X[order], y[order]).tobytes() == whole[order].tobytes()


def test_a_memory_map_and_a_torch_data_set(fitted, tmp_path):
    learner, X, y = fitted
    whole = learner.rewrite(X, y)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert learner.rewrite(mapped[20:60], y[20:60]).tobytes() == whole[20:60].tobytes()

    class Rewritten(torch.utils.data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, row):
            return learner.rewrite(mapped[row : row + 1], y[row : row + 1])[0]

    loader = torch.utils.data.DataLoader(Rewritten(), batch_size=32)
    assert torch.cat(list(loader)).numpy().tobytes() == whole.tobytes()


def test_dask_blocks_on_a_cluster(fitted):
    distributed = pytest.importorskip("distributed")
    array = pytest.importorskip("dask.array")
    learner, X, y = fitted
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        blocks = array.from_array(X, chunks=(40, *X.shape[1:]))
        labels = array.from_array(y, chunks=40)[:, None, None, None]
        rewritten = array.map_blocks(
            lambda block, label: learner.rewrite(block, label.ravel()),
            blocks, labels, dtype=np.float32, meta=np.empty((0, 1, 8, 8), np.float32),
        ).compute()  # fmt: skip
    assert rewritten.tobytes() == learner.rewrite(X, y).tobytes()


def test_unclear_rows_show_an_image_of_their_class(fitted):
    learner, X, y = fitted
    rewriter = learner._rewriter
    plain = {**vars(rewriter), "candidate": Candidate(unclear_fraction=0.3)}
    shown = type(rewriter)(**plain).rewrite(X, np.searchsorted(learner.classes_, y))
    replaced = (shown != X).any((1, 2, 3))
    assert 0.05 < replaced.mean() < 0.6
    pool = rewriter.pool.numpy()
    for row in np.flatnonzero(replaced)[:20]:
        place = np.flatnonzero((pool == shown[row]).all((1, 2, 3)))[0]
        assert learner.classes_[rewriter.pool_labels[place]] == y[row]


def test_another_seed_gives_other_rows(digits):
    X, y, X_more, y_more = digits
    first, other = (
        quick(random_state=seed, unclear_fraction=0.0).fit(X[:100], y[:100])
        for seed in (0, 1)
    )
    rows = X_more[:20], y_more[:20]
    assert (first.rewrite(*rows) != other.rewrite(*rows)).any()
    noise = first.rewrite(*rows)[(X_more[:20] > 0.4) & (X_more[:20] < 0.6)] - 0.5
    assert noise.std() == pytest.approx(0.2, rel=0.2)


def test_a_resumed_fit_rewrites_as_the_whole_one(digits, tmp_path, fail_at):
    X, y, X_more, y_more = digits
    X, y = X[:150], y[:150]
    whole = quick().fit(X, y)
    stopped = quick(checkpoint=tmp_path)
    with fail_at(1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        stopped.fit(X, y)
    resumed = quick(checkpoint=tmp_path).fit(X, y)
    rows = X_more[:30], y_more[:30]
    assert resumed.rewrite(*rows).tobytes() == whole.rewrite(*rows).tobytes()


def test_the_adversarial_judge_and_moved_images(digits):
    X, y, X_more, y_more = digits
    X, y = X[:100], y[:100]
    robust = quick(judge="adversarial").fit(X, y)
    assert robust.rewrite(X_more[:5], y_more[:5]).shape == (5, 1, 8, 8)
    with pytest.MonkeyPatch.context() as patch:
        moved = Candidate(radius=0.1)
        patch.setattr(recipe, "ladder", lambda shape: (moved,))
        tuned = quick(protocol="fine-tune", unclear_fraction=0.0).fit(X, y)
    assert [r["step"] for r in tuned.history_] == ["make-set"]
    gap = np.abs(tuned.rewrite(X_more[:9], y_more[:9]) - X_more[:9]).max((1, 2, 3))
    np.testing.assert_allclose(gap, 0.1, atol=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "paper", "n_meta_epochs": 1},
        {"protocol": "fine-tune", "n_rounds": 1},
        {"soft_labels": True},
    ],
)
def test_no_rule_for_further_rows(digits, parameters):
    X, y, _, _ = digits
    learner = quick(**parameters, unclear_fraction=0.0).fit(X[:50], y[:50])
    with pytest.raises(RewrittenRowsError, match="no rule for further rows"):
        learner.rewrite(X[50:60], y[50:60])


def test_bad_rows(fitted):
    learner, X, y = fitted
    with pytest.raises(ValueError, match="which the fit has not met"):
        learner.rewrite(X[:2], ["a", "z"])
    with pytest.raises(ValueError, match="as many labels as rows"):
        learner.rewrite(X[:2], y[:3])
    with pytest.raises(ValueError, match="was fitted on"):
        learner.rewrite(X[:2, :, :4], y[:2])
