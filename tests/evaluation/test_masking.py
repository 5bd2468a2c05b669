import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

from robustfit import RobustnessReport, as_torch, check_gradient_masking
from robustfit.attacks import PGD
from robustfit.evaluation.masking_checks import CHECKS, beats, is_above
from robustfit.exceptions import GradientMaskingWarning
from robustfit.nets import MLP
from robustfit.threat_model import ThreatModel

EPS = 0.12
QUICK = {"eps": EPS, "n_steps": 20, "n_queries": 150}


def train(X, y, eps, n_epochs=40):
    """Adversarial training (Madry et al., 2018) as short as it gets."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MLP((1, 8, 8), hidden=(64,))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    x, y = torch.tensor(X), torch.tensor(y)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(x), generator=generator).split(100):
            x_adv = x[rows]
            if eps:
                attack, ball = PGD(7), ThreatModel("linf", eps)
                x_adv = attack(net, x[rows], y[rows], ball, generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x_adv), y[rows]).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def natural(digits):
    X, y, _, _ = digits
    return train(X, y, eps=0)


@pytest.fixture(scope="module")
def robust(digits):
    X, y, _, _ = digits
    return train(X, y, eps=EPS)


class Saturated(nn.Module):
    """Logits so large that the gradients of cross-entropy vanish on right samples.

    What kernel inducing points learn against PGD: a loss that is flat around them.
    """

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return 300 * self.net(x)


class Staircase(nn.Module):
    """Rounded inputs: no gradient anywhere, the same decisions."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net((x * 32).round() / 32)


def check(model, digits, **parameters):
    _, _, X, y = digits
    return check_gradient_masking(model, X[:50], y[:50], **{**QUICK, **parameters})


def test_adversarially_trained_model_passes(digits, robust, natural):
    report = check(robust, digits, baseline=natural)
    assert report.passed, report
    assert all(check.passed is not None for check in report.checks)
    assert len(report.checks) >= 14


@pytest.mark.parametrize("mask", [Saturated, Staircase])
def test_masked_models_are_caught(digits, natural, mask):
    report = check(mask(natural), digits)
    assert not report.passed
    assert len(report.failed) >= 3, report
    assert "AutoAttack confirms PGD" in report.failed
    assert "score-based attack weaker" in report.failed
    assert "MASKED" in repr(report)


def test_one_image_is_no_evidence():
    pgd, fgsm = np.ones(50, dtype=bool), np.ones(50, dtype=bool)
    pgd[:19], fgsm[:20] = False, False
    assert not beats(fgsm, pgd)
    fgsm[20:28] = False  # nine alone: a chance of 0.5^9 = 0.002
    assert beats(fgsm, pgd)
    pgd[30:36] = False  # nine against six: 0.30
    assert not beats(fgsm, pgd)
    assert not beats(fgsm, fgsm)


@pytest.mark.parametrize("n_samples", [10, 50, 200, 1000])
@pytest.mark.parametrize("tolerance", [0.02, 0.05, 0.10])
def test_false_alarms_by_chance_are_rare(n_samples, tolerance):
    # All outcomes, with their probabilities, of a true share of half the tolerance.
    counts = np.arange(n_samples + 1)
    alarm = [is_above(count, n_samples, tolerance) for count in counts]
    probability = binom.pmf(counts, n_samples, tolerance / 2) @ alarm
    assert probability <= 0.05 / len(CHECKS)
    assert not is_above(int(tolerance * n_samples), n_samples, tolerance)
    assert is_above(n_samples // 2, n_samples, tolerance)


def test_what_is_tolerated_shrinks_to_the_tolerance():
    smallest = [
        min(k for k in range(n) if is_above(k, n, 0.05)) / n
        for n in (20, 50, 500, 5000)
    ]
    assert smallest == sorted(smallest, reverse=True)
    assert smallest[1] == 0.12
    assert smallest[-1] == pytest.approx(0.05, abs=0.001)


def test_vanishing_gradients_are_measured(digits, natural, robust):
    name = "gradients stay on right samples"
    assert check(Saturated(natural), digits)[name].passed is False


def test_checks_without_a_baseline_are_not_run(digits, robust):
    report = check(robust, digits)
    assert report["semi-black box weaker"].passed is None
    assert report["larger distortion than the baseline"].passed is None
    with pytest.raises(KeyError):
        report["no such check"]


def test_report_shows_as_text_and_html(digits, natural):
    report = check(Staircase(natural), digits)
    lines = repr(report).splitlines()
    assert len(lines) == 1 + len(report.checks)
    assert "FAILED" in repr(report)
    html = report._repr_html_()
    assert html.count("<tr>") == 1 + len(report.checks)
    assert "MASKED" in html


def test_scorer_warns_of_a_masked_model(digits, natural):
    _, _, X, y = digits
    with pytest.warns(GradientMaskingWarning, match="AutoAttack"):
        report = RobustnessReport(eps=EPS)(Saturated(natural), X[:20], y[:20])
    assert report["autoattack_accuracy"] < report["pgd_accuracy"] - 0.1


def test_labels_that_are_strings(digits):
    from sklearn.linear_model import LogisticRegression

    X, y, X_test, y_test = digits
    names = np.array(list("jihgfedcba"))
    model = LogisticRegression(C=0.05).fit(X.reshape(len(X), -1), names[y])
    report = check_gradient_masking(
        model, X_test[:40].reshape(40, -1), names[y_test[:40]],
        eps=0.05, n_steps=10, n_queries=50,
    )  # fmt: skip
    assert report["black box weaker than white box"].passed
    assert as_torch(model).classes is not None


def test_eps_must_be_a_claim(digits, natural):
    with pytest.raises(ValueError, match="eps is 0"):
        check(natural, digits, eps=0)
