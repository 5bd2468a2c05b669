"""Does a model mask its gradients? A report of checks that honest robustness passes."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robustfit._utils.argument_checks import check_count
from robustfit._utils.input_arrays import as_numbers, plain_array
from robustfit.evaluation.masking_checks import CHECKS, Evidence
from robustfit.threat_model import ThreatModel

__all__ = ["GradientMaskingReport", "MaskingCheck", "check_gradient_masking"]

_VERDICTS = {True: "passed", False: "FAILED", None: "not run"}


@dataclass(frozen=True)
class MaskingCheck:
    """One check of a :class:`GradientMaskingReport`.

    Attributes
    ----------
    name : str
        What should hold.
    measured : str
        What was measured.
    passed : bool or None
        None where the check could not be run.
    meaning : str
        What a failure means.

    Examples
    --------
    >>> from robustfit import MaskingCheck
    >>> MaskingCheck("restarts change little", "60%, 59%", True, "Rugged.").passed
    True
    """

    name: str
    measured: str
    passed: bool | None
    meaning: str


@dataclass(frozen=True)
class GradientMaskingReport:
    """What :func:`check_gradient_masking` found; prints as text, shows as HTML.

    Attributes
    ----------
    checks : tuple of MaskingCheck

    Examples
    --------
    >>> from robustfit import GradientMaskingReport, MaskingCheck
    >>> GradientMaskingReport((
    ...     MaskingCheck("restarts change little", "10 restarts 40%", False, "Rugged."),
    ... ))
    GradientMaskingReport: MASKED, 1 of 1 checks failed
      FAILED   restarts change little: 10 restarts 40%. Rugged.
    """

    checks: tuple[MaskingCheck, ...]

    @property
    def passed(self):
        """Whether no check failed: nothing was found that masks gradients."""
        return not self.failed

    @property
    def failed(self):
        """Names of the checks that failed."""
        return [check.name for check in self.checks if check.passed is False]

    def __getitem__(self, name):
        """Return the check of that name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def _title(self):
        n_run = sum(check.passed is not None for check in self.checks)
        verdict = "no masking found" if self.passed else "MASKED"
        return (
            f"GradientMaskingReport: {verdict}, {len(self.failed)} of {n_run} checks "
            "failed"
        )

    def __repr__(self):
        lines = [self._title()]
        for check in self.checks:
            line = f"  {_VERDICTS[check.passed]:<8} {check.name}: {check.measured}"
            lines.append(f"{line}. {check.meaning}" if check.passed is False else line)
        return "\n".join(lines)

    def _repr_html_(self):
        rows = "".join(
            f"<tr><td>{_VERDICTS[check.passed]}</td><td>{escape(check.name)}</td>"
            f"<td>{escape(check.measured)}</td><td>{escape(check.meaning)}</td></tr>"
            for check in self.checks
        )
        return (
            f"<table><caption>{escape(self._title())}</caption><thead><tr>"
            "<th>verdict</th><th>what should hold</th><th>measured</th>"
            f"<th>if it fails</th></tr></thead><tbody>{rows}</tbody></table>"
        )


def check_gradient_masking(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    eps: float | ArrayLike = 8 / 255,
    norm: str = "linf",
    clip_range: tuple[ArrayLike, ArrayLike] | None = (0.0, 1.0),
    surrogate: Any = None,
    baseline: Any = None,
    tolerance: float = 0.05,
    n_steps: int = 40,
    n_queries: int = 500,
    batch_size: int = 128,
    n_jobs: int | None = None,
    random_state: int = 0,
) -> GradientMaskingReport:
    """Look for signs that a model's robustness is that of its gradients only.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`robustfit.as_torch` takes.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Natural inputs; 100 to 500 are enough, and some should be misclassified. With
        fewer, larger differences between attacks are put down to chance.
    y : array-like of shape (n_samples,)
        True labels.
    eps : float or array-like of shape (n_features,), default=8/255
        Budget at which the model claims to be robust, > 0, in the units of X: of all
        features or of each.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Valid values of X, two numbers or arrays of one for each feature; None for
        unbounded features.
    surrogate : fitted classifier or None, default=None
        For the black-box check; None trains a small one on the model's own answers.
    baseline : fitted classifier or None, default=None
        The model that this one was trained from, or a naturally trained one; without
        it two checks are not run.
    tolerance : float, default=0.05
        Change of accuracy that counts as little, in [0, 1]; a check fails where more
        has changed than chance explains.
    n_steps : int, default=40
        Steps of the PGD that is compared with.
    n_queries : int, default=500
        Queries of the attacks without gradients.
    batch_size : int, default=128
    n_jobs : int or None, default=None
    random_state : int, default=0

    Returns
    -------
    GradientMaskingReport
        ``report.passed``, ``report.failed`` and one entry a check.

    Raises
    ------
    ValueError
        For an ``eps`` that is not positive.
    NotDifferentiableError
        For an estimator without gradients, which has none to mask.

    Notes
    -----
    The twelve checks of Shaeiri, Nobahari & Rohban, "Towards deep learning models
    resistant to large perturbations" (2020, appendix C), with Square in place of ZOO;
    AutoAttack's flags and its agreement with PGD (Croce & Hein, 2020); and the split
    of gradient norms between right and wrong samples of Tsilivis, Su & Kempe, "Can we
    achieve robustness from data alone?" (2022, Figure 2). Attacks are compared on the
    same samples by exact tests at a level of 0.05 / 15 each, so that chance alone
    fails at most about 5 of 100 reports: McNemar's where an attack must not be the
    stronger; where a share may fall (``tolerance``, 10 % for AutoAttack), more than it
    must have fallen, and more than chance makes of half of it. A passed report is no
    proof of robustness; a failed one is proof against the number.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import check_gradient_masking
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(C=0.01).fit(X[:1000] / 16, y[:1000])
    >>> report = check_gradient_masking(
    ...     model, X[1000:1060] / 16, y[1000:1060], eps=0.05, n_steps=10, n_queries=20)
    >>> report.passed
    True
    """
    if not np.any(np.asarray(eps) > 0):
        raise ValueError(f"eps is {eps!r}; expected the budget of a claim, > 0.")
    check_count("n_steps", n_steps)
    check_count("n_queries", n_queries)
    shared = {
        "eps": eps,
        "norm": norm,
        "clip_range": clip_range,
        "batch_size": batch_size,
        "n_jobs": n_jobs,
        "random_state": random_state,
    }
    # The attacks below are silent.
    ThreatModel(norm, eps, clip_range).warn_of_unit(as_numbers(X))
    evidence = Evidence(
        estimator,
        plain_array(X),
        plain_array(y, "y"),
        surrogate=surrogate,
        baseline=baseline,
        tolerance=tolerance,
        n_steps=n_steps,
        n_queries=n_queries,
        shared=shared,
    )
    checks = []
    for name, run, meaning in CHECKS:
        measured, passed = run(evidence)
        passed = None if passed is None else bool(passed)
        checks.append(MaskingCheck(name, measured, passed, meaning))
    return GradientMaskingReport(tuple(checks))
