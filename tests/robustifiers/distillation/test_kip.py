import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from robustfit import (
    AdvKIPDistiller,
    KernelRegressionClassifier,
    KIPDistiller,
    RobustifiedClassifier,
    as_sampler,
    attack_estimator,
)
from robustfit.classifiers.kernel_regression import one_hot, solve_kernel_regression
from robustfit.exceptions import (
    GradientMaskingWarning,
    MemoryBudgetError,
    PixelRangeError,
    RewrittenRowsError,
)
from robustfit.kernels import FullyConnectedNTK
from robustfit.robustifiers.distillation import memory
from robustfit.robustifiers.distillation.dataset_gradient import dataset_gradients
from robustfit.robustifiers.distillation.inner_attack import (
    INNER_LOSSES,
    attack_targets,
)
from robustfit.robustifiers.distillation.outer_loss import (
    OUTER_LOSSES,
    classification_term,
    evaluate_terms,
    small_gradient_term,
)
from robustfit.robustifiers.distillation.rows import choose_rows
from robustfit.robustifiers.distillation.state import DistillationState, onto_simplex
from robustfit.threat_model import ThreatModel


def quick(cls=AdvKIPDistiller, **parameters):
    defaults = {
        "eps": 0.1, "n_outer_steps": 4, "n_targets": 50, "validate_every": 2,
        "random_state": 0,
    }  # fmt: skip
    if cls is AdvKIPDistiller:
        defaults |= {"n_checked": 0, "n_steps": 3}
    return cls(**defaults | parameters)


def flat(X):
    return X.reshape(len(X), -1)


def gaussian(X, Y=None):
    return torch.exp(-torch.cdist(X, X if Y is None else Y).square() / X.shape[1])


@pytest.fixture(scope="module")
def small_regression():
    """30 support rows, 12 targets of 6 numbers and 3 classes, in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, 6, generator=generator, dtype=torch.float64)
    y = one_hot(torch.arange(30) % 3, 3).double()
    targets = torch.rand(12, 6, generator=generator, dtype=torch.float64)
    return x, y, targets, torch.arange(12) % 3


# the closed-form gradient


@pytest.mark.parametrize("alpha", [1e-6, 0.1])
@pytest.mark.parametrize("kernel", [gaussian, FullyConnectedNTK(dtype="float64")])
@pytest.mark.parametrize("loss", sorted(OUTER_LOSSES))
def test_dataset_gradient_is_that_of_autograd(small_regression, kernel, loss, alpha):
    x, y, targets, labels = small_regression
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    matrix = kernel(x)
    ridge = alpha * matrix.diagonal().mean() * torch.eye(len(x))
    outputs = kernel(targets, x) @ torch.linalg.solve(matrix + ridge, y)
    expected = torch.autograd.grad(
        OUTER_LOSSES[loss](outputs, labels)[0].mean(), (x, y)
    )
    regression = solve_kernel_regression(kernel, x.detach(), y.detach(), alpha)
    terms = [classification_term(targets, labels, loss)]
    _, points, upstream = evaluate_terms(regression, terms, 5)
    found = dataset_gradients(regression, points, upstream, 7)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * other.abs().max())


@pytest.mark.parametrize("loss", sorted(OUTER_LOSSES))
def test_outer_losses_come_with_their_gradient(loss):
    outputs = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    values, gradient = OUTER_LOSSES[loss](outputs, torch.tensor([0, 1, 2, 0, 1]))
    (expected,) = torch.autograd.grad(values.sum(), outputs)
    torch.testing.assert_close(gradient, expected)


def test_loss_of_perfect_outputs_is_zero():
    y = torch.tensor([0, 2])
    assert OUTER_LOSSES["mse"](one_hot(y, 3), y)[0].max() == 0


def test_penalty_is_for_small_gradients_only(small_regression):
    x, y, targets, labels = small_regression
    for scale, penalised in ((1e-3, True), (1e3, False)):
        regression = solve_kernel_regression(gaussian, x, scale * y, 1e-6)
        term = small_gradient_term(
            regression, targets, labels, ThreatModel("linf", 0.1), weight=1.0
        )
        loss, _, upstream = evaluate_terms(regression, [term], 100)
        assert (loss > 0.2) == penalised
        assert bool((upstream != 0).any()) == penalised


def test_penalty_gradient_by_finite_differences(small_regression):
    x, y, targets, labels = small_regression
    regression = solve_kernel_regression(gaussian, x, 0.05 * y, 1e-6)
    term = small_gradient_term(regression, targets, labels, ThreatModel(eps=0.1), 2.0)
    outputs = regression(term.points)
    value, upstream = term.evaluate(outputs)
    direction = torch.randn_like(outputs)
    moved, _ = term.evaluate(outputs + 1e-7 * direction)
    assert (moved - value) / 1e-7 == pytest.approx(
        float((upstream * direction).sum()), rel=1e-3
    )


# the parts


def test_simplex_projection_by_hand():
    y = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.7, -1.0], [2.0, 2.0, 2.0]])
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(onto_simplex(y), expected)


def test_adam_is_that_of_torch():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    state, reference = DistillationState.start(x, torch.eye(3)[:1]), x.clone()
    optimizer = torch.optim.Adam([reference], lr=0.01)
    for step in range(5):
        reference.grad = torch.sin(reference + step)
        state.take_step(torch.sin(state.x + step), None, 0.01)
        optimizer.step()
    torch.testing.assert_close(state.x, reference)


@pytest.mark.parametrize("loss", INNER_LOSSES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_inner_attack_keeps_the_budget_and_hurts(small_regression, loss, norm):
    x, y, targets, labels = small_regression
    regression = solve_kernel_regression(gaussian, x, y, 1e-3)
    threat_model = ThreatModel(norm, 0.2)
    x_adv = attack_targets(
        regression, targets, labels, threat_model, losses=(loss,), n_steps=10,
        step_size=0.05, batch_size=5, generator=torch.Generator().manual_seed(0),
        n_classes=3,
    )  # fmt: skip
    threat_model.check_perturbation(x_adv, targets)

    def true_output(x):
        return regression(x).gather(1, labels[:, None]).mean()

    assert true_output(x_adv) < true_output(targets)


def test_rows_have_their_roles(digits):
    y = digits[1]
    rows = choose_rows(y, 100, 50, 0.1, seed=0)
    assert len(rows.support) == 100
    assert len(rows.validation) == 40
    assert not set(rows.validation) & set(rows.pool)
    assert not set(rows.support) & set(rows.pool)  # enough others
    assert set(y[rows.support]) == set(range(10))
    everything = choose_rows(y, None, 50, 0.1, seed=0)
    assert len(everything.support) == 400
    assert not set(everything.validation) & set(everything.pool)
    targets = everything.draw_targets(0, 3)
    assert len(set(targets)) == 50
    kept = everything.support_without(targets)
    assert not set(everything.support[kept]) & set(targets)
    assert kept.sum() == 350
    assert (everything.draw_targets(0, 3) == targets).all()
    assert (everything.draw_targets(0, 4) != targets).any()


@pytest.mark.parametrize("n_support", [5, 401])
def test_impossible_support_is_refused(digits, n_support):
    X, y, _, _ = digits
    with pytest.raises(ValueError, match=f"n_support is {n_support}"):
        quick(n_support=n_support).fit(X, y)


# memory


def test_memory_is_stated_and_refused(digits, monkeypatch):
    X, y, _, _ = digits
    assert "GiB" in quick(n_support=20).fit(X, y).memory_
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2_000_000)
    with pytest.raises(MemoryBudgetError, match=r"needs 0\.0 GiB.*Use n_support="):
        quick().fit(X, y)
    assert issubclass(MemoryBudgetError, MemoryError)


def test_needed_memory_by_hand():
    sizes = {"n_rows": 60_000, "n_targets": 10_000, "n_features": 784, "n_classes": 10,
             "batch_size": 1000, "itemsize": 4}  # fmt: skip
    needed = memory.needed_bytes(30_000, **sizes)
    assert needed > 4 * 30_000**2
    assert needed / 2**30 == pytest.approx(3.35 + 0.89 + 0.71 + 0.41, abs=0.02)
    largest = memory._largest_support(30_000, needed // 2, sizes)
    assert memory.needed_bytes(largest, **sizes) <= needed // 2
    assert memory.needed_bytes(largest + 1, **sizes) > needed // 2


# the estimators


@pytest.mark.parametrize("cls", [KIPDistiller, AdvKIPDistiller])
@pytest.mark.parametrize("as_rows", [False, True])
def test_rewrites_rows_in_place(digits, cls, as_rows):
    X, y, _, _ = digits
    X = X.reshape(len(X), -1).astype(np.float64) if as_rows else X
    distiller = quick(cls, validation_fraction=0)
    X_robust = distiller.fit_transform(X, y)
    assert X_robust.shape == X.shape
    assert X_robust.dtype == np.float32
    assert (distiller.y_robust_ == y).all()
    assert (distiller.sample_indices_ == np.arange(len(X))).all()
    assert np.abs(X_robust - X).max() > 0.005
    np.testing.assert_array_equal(distiller.transform(X), X.astype(np.float32))
    assert [record["step"] for record in distiller.history_] == [0, 2, 4]


def test_works_in_a_pipeline_with_string_labels(digits):
    X, y, X_test, y_test = digits
    names = np.array(list("abcdefghij"))
    rows, test_rows = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    pipe = Pipeline([("robustify", quick()), ("clf", LogisticRegression())])
    pipe.fit(rows, names[y])
    assert pipe.score(test_rows, names[y_test]) > 0.8
    assert set(pipe[0].y_robust_) == set(names)
    result = attack_estimator(pipe, test_rows, names[y_test], eps=0.1)
    assert result.robust_accuracy < result.natural_accuracy


@pytest.mark.parametrize("changes", [{"n_support": 30}, {"learn_labels": True}])
def test_other_rows_and_labels_go_through_sampler_and_meta_estimator(
    digits, net, changes
):
    X, y, X_test, y_test = digits
    with pytest.raises(RewrittenRowsError, match="RobustifiedClassifier"):
        quick(**changes).fit_transform(X, y)
    X_robust, y_robust = as_sampler(quick(**changes)).fit_resample(X, y)
    assert len(X_robust) == len(y_robust) == changes.get("n_support", 400)
    if "learn_labels" in changes:
        np.testing.assert_allclose(y_robust.sum(1), 1, atol=1e-5)
        assert y_robust.min() >= 0
    classifier = net if "learn_labels" in changes else LogisticRegression()
    model = RobustifiedClassifier(quick(**changes), classifier)
    assert model.fit(flat(X), y).score(flat(X_test), y_test) > 0.3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_learns_robustness_that_autoattack_confirms(digits, norm):
    X, y, X_test, y_test = digits
    eps = {"linf": 0.15, "l2": 0.8}[norm]
    distiller = quick(
        eps=eps, norm=norm, n_support=60, n_outer_steps=30, learn_labels=True, n_steps=6
    ).fit(X, y)
    natural = KernelRegressionClassifier().fit(
        X[distiller.sample_indices_], y[distiller.sample_indices_]
    )
    few = slice(0, 40)
    before, after = (
        attack_estimator(
            model, X_test[few], y_test[few], eps=eps, norm=norm, attack="autoattack",
            version=("apgd-ce", "apgd-t"),
        ).robust_accuracy
        for model in (natural, distiller.kernel_classifier_)
    )  # fmt: skip
    assert after > before + (0.1 if norm == "linf" else 0)
    first, last = distiller.history_[0], distiller.history_[-1]
    assert last["robust_accuracy"] > first["robust_accuracy"] + 0.1


def test_kip_improves_natural_accuracy_and_not_robustness(digits):
    X, y, X_test, y_test = digits
    distiller = quick(KIPDistiller, eps=0.3, n_support=20, n_outer_steps=40).fit(X, y)
    rows = distiller.sample_indices_
    natural = KernelRegressionClassifier().fit(X[rows], y[rows]).score(X_test, y_test)
    model = distiller.kernel_classifier_
    assert model.score(X_test, y_test) > natural + 0.05
    assert attack_estimator(model, X_test, y_test, eps=0.3).robust_accuracy < 0.1


@pytest.mark.parametrize(
    "parameters",
    [
        {"inner_loss": INNER_LOSSES},
        {"clean_weight": 0.5},
        {"clean_weight": 1.0},
        {"gradient_penalty": 1.0},
        {"outer_loss": "cross-entropy"},
        {"kernel": (FullyConnectedNTK(depth=1), FullyConnectedNTK(depth=5))},
        {"kernel": FullyConnectedNTK(dtype="float64")},
        {"validation_fraction": 0},
        {"eps": 0},
        {"eps": 100.0},
    ],
    ids=str,
)
def test_every_option_runs(digits, parameters):
    X, y, _, _ = digits
    distiller = quick(n_support=30, **parameters).fit(X, y)
    assert np.isfinite(distiller.X_robust_).all()
    assert np.isfinite(distiller.history_[-1]["outer_loss"])


def test_clean_weight_one_is_kip(digits):
    X, y, _, _ = digits
    kip = quick(KIPDistiller, validation_fraction=0).fit(X, y)
    mixed = quick(clean_weight=1.0, validation_fraction=0).fit(X, y)
    np.testing.assert_array_equal(kip.X_robust_, mixed.X_robust_)


@pytest.mark.parametrize(
    "shape", [(12,), (1, 5, 5), (3, 4, 4)], ids=["rows", "grey", "colour"]
)
def test_any_image_shape_and_two_classes(shape):
    rng = np.random.default_rng(0)
    X = rng.random((60, *shape)).astype(np.float32)
    X[0] = 0.5  # a constant image
    X[1] = 0  # and one without length
    y = (X.reshape(60, -1)[:, 0] > 0.5).astype(int)
    X.flags.writeable = False
    distiller = quick().fit(X, y)
    assert np.isfinite(distiller.X_robust_).all()
    assert distiller.kernel_classifier_.predict(X).shape == (60,)


def test_bad_input_is_named(digits):
    X, y, _, _ = digits
    with pytest.raises(PixelRangeError, match="255"):
        quick().fit(X * 255, y)
    with pytest.raises(ValueError, match="inner_loss is 'hinge'"):
        quick(inner_loss="hinge").fit(X, y)
    with pytest.raises(ValueError, match="kernel is \\(\\)"):
        quick(kernel=()).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(np.where(X > 0.9, np.nan, X), y)
    with pytest.raises(ValueError, match="two classes"):
        quick().fit(X[:1], y[:1])


# seeds, checkpoints, callbacks, interrupts


def test_same_seed_same_bytes_and_no_global_state(digits):
    X, y, _, _ = digits
    before = torch.random.get_rng_state()
    one, two = (quick(n_support=50, learn_labels=True).fit(X, y) for _ in range(2))
    assert one.X_robust_.tobytes() == two.X_robust_.tobytes()
    assert one.y_robust_.tobytes() == two.y_robust_.tobytes()
    assert (torch.random.get_rng_state() == before).all()
    other = quick(n_support=50, random_state=1).fit(X, y)
    assert one.X_robust_.tobytes() != other.X_robust_.tobytes()


def interrupt_at(monkeypatch, distiller, step):
    take_step = type(distiller)._take_step

    def interrupted(self, problem, state):
        if state.n_done == step:
            raise KeyboardInterrupt
        take_step(self, problem, state)

    monkeypatch.setattr(type(distiller), "_take_step", interrupted)


def test_resumes_to_the_same_bytes(digits, tmp_path, monkeypatch):
    X, y, _, _ = digits
    whole = quick(n_support=50, learn_labels=True, n_outer_steps=6).fit(X, y)
    part = clone(whole).set_params(checkpoint=str(tmp_path))
    with monkeypatch.context() as patch:
        interrupt_at(patch, part, 5)
        with pytest.raises(KeyboardInterrupt):
            part.fit(X, y)
    assert part.n_outer_steps_ == 5
    assert part.X_robust_.shape == whole.X_robust_.shape  # the last good state
    taken = []
    take_step = KIPDistiller._take_step

    def count(self, problem, state):
        taken.append(state.n_done)
        take_step(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(AdvKIPDistiller, "_take_step", count)
        resumed = clone(part).fit(X, y)
    assert taken == [4, 5]  # the checkpoint of step 4
    assert resumed.X_robust_.tobytes() == whole.X_robust_.tobytes()
    assert resumed.y_robust_.tobytes() == whole.y_robust_.tobytes()
    assert resumed.history_ == whole.history_


def test_stops_early_and_returns_the_best(digits, monkeypatch):
    X, y, _, _ = digits
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(AdvKIPDistiller, "_score", lambda self, record: next(scores))
    distiller = quick(n_outer_steps=10, n_iter_no_change=2, n_support=30).fit(X, y)
    assert distiller.n_outer_steps_ == 6  # best at 2, nothing better at 4 and 6
    monkeypatch.undo()
    best = quick(n_outer_steps=2, n_support=30, validation_fraction=0.1)
    monkeypatch.setattr(
        AdvKIPDistiller, "_score", lambda self, record: record["step"]
    )  # the last is the best
    np.testing.assert_array_equal(distiller.X_robust_, best.fit(X, y).X_robust_)


def test_a_resumed_fit_counts_validations_without_the_history(
    digits, tmp_path, monkeypatch
):
    X, y, _, _ = digits
    scores = [0.5, 0.4, 0.3, 0.2, 0.6]  # the last comes just in time
    monkeypatch.setattr(
        AdvKIPDistiller, "_score", lambda self, record: scores[record["step"]]
    )
    part = quick(n_support=30, validate_every=1, n_iter_no_change=4)
    whole = clone(part).fit(X, y)
    part.set_params(checkpoint=str(tmp_path))
    with monkeypatch.context() as patch:
        interrupt_at(patch, part, 2)
        note = DistillationState.note

        def note_and_clear(self, record, score):
            note(self, record, score)
            self.history.clear()

        patch.setattr(DistillationState, "note", note_and_clear)
        with pytest.raises(KeyboardInterrupt):
            part.fit(X, y)
    resumed = clone(part).fit(X, y)
    assert [record["step"] for record in resumed.history_] == [3, 4]
    assert resumed.X_robust_.tobytes() == whole.X_robust_.tobytes()


def test_callbacks_see_every_step(digits):
    X, y, _, _ = digits
    from sklearn.callback import ProgressBar

    quick(n_support=30).set_callbacks(ProgressBar()).fit(X, y)


def test_verbose_says_what_it_needs(digits, capsys):
    X, y, _, _ = digits
    quick(n_support=30, verbose=1).fit(X, y)
    printed = capsys.readouterr().out
    assert "needs 0.0 GiB" in printed
    assert "[AdvKIPDistiller] 4/4 validation: outer_loss 0." in printed
    assert ", robust_accuracy 0." in printed


# the verdict on itself


def test_warns_when_pgd_and_autoattack_disagree(digits, monkeypatch):
    X, y, _, _ = digits
    results = {"pgd": 0.6, "autoattack": 0.2}

    def attack(estimator, X, y, *, attack, **parameters):
        assert len(X) == 7
        return type("Result", (), {"robust_accuracy": results[attack]})

    monkeypatch.setattr(
        "robustfit.robustifiers.distillation.adv_kip.attack_estimator", attack
    )
    distiller = quick(n_support=30, n_checked=7)
    with pytest.warns(GradientMaskingWarning, match=r"60\.0%.*20\.0%"):
        distiller.fit(X, y)
    assert (distiller.pgd_accuracy_, distiller.autoattack_accuracy_) == (0.6, 0.2)


def test_checks_itself_on_rows_it_has_not_learned_for(digits):
    X, y, _, _ = digits
    distiller = quick(eps=0.3, n_checked=3).fit(X, y)
    assert distiller.autoattack_accuracy_ <= distiller.pgd_accuracy_
    assert quick(n_checked=0).fit(X, y).autoattack_accuracy_ is None
