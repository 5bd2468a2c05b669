"""Whether two models differ on the same samples, or by chance only."""

from dataclasses import dataclass

from robustfit.evaluation.counting_error import count_alone, mcnemar_p_value
from robustfit.evaluation.result import AttackResult

__all__ = ["ModelComparison", "compare"]


@dataclass(frozen=True)
class ModelComparison:
    """Two models' robust accuracies on the same samples, and whether they differ.

    Attributes
    ----------
    n_samples : int
    accuracy_a : float
        Robust accuracy of the first model, in [0, 1].
    accuracy_b : float
        That of the second.
    only_a : int
        Samples on which the first model alone is robust.
    only_b : int
        Samples on which the second alone is.
    p_value : float
        Of McNemar's exact test, two-sided: how often two equally robust models differ
        by as much as these.

    See Also
    --------
    compare : Makes one.

    Examples
    --------
    >>> from robustfit import ModelComparison
    >>> ModelComparison(100, 0.5, 0.4, only_a=12, only_b=2, p_value=0.013)
    ModelComparison(n_samples=100, accuracy_a=0.500, accuracy_b=0.400, \
difference=+0.100, only_a=12, only_b=2, p_value=0.013)
    """

    n_samples: int
    accuracy_a: float
    accuracy_b: float
    only_a: int
    only_b: int
    p_value: float

    @property
    def difference(self) -> float:
        """``accuracy_a - accuracy_b``, in [-1, 1]."""
        return (self.only_a - self.only_b) / self.n_samples

    def __repr__(self) -> str:
        return (
            f"ModelComparison(n_samples={self.n_samples}, "
            f"accuracy_a={self.accuracy_a:.3f}, accuracy_b={self.accuracy_b:.3f}, "
            f"difference={self.difference:+.3f}, only_a={self.only_a}, "
            f"only_b={self.only_b}, p_value={self.p_value:.3g})"
        )


def compare(result_a: AttackResult, result_b: AttackResult) -> ModelComparison:
    """Return whether two models differ in robustness on the same samples.

    Two accuracies of 200 images differ by three points through chance alone. On the
    same images chance has less room: those on which both models agree say nothing
    about their difference, and McNemar's exact test counts the others.

    Parameters
    ----------
    result_a, result_b : AttackResult
        Of the same samples in the same order, under the same attack and budget.

    Returns
    -------
    ModelComparison

    Raises
    ------
    ValueError
        If the results are of different numbers of samples.

    See Also
    --------
    attack_estimator : Makes the results.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import attack_estimator, compare
    >>> X, y = load_digits(return_X_y=True)
    >>> results = [
    ...     attack_estimator(
    ...         LogisticRegression(C=C).fit(X[:1000] / 16, y[:1000]),
    ...         X[1000:1200] / 16, y[1000:1200], eps=0.1)
    ...     for C in (0.01, 1)]
    >>> comparison = compare(*results)
    >>> comparison.difference > 0 and comparison.p_value < 0.05
    True
    """
    n_samples = len(result_a.robust)
    if len(result_b.robust) != n_samples:
        raise ValueError(
            f"The results are of {n_samples} and {len(result_b.robust)} samples; "
            "compare two models on the same samples, in the same order."
        )
    only_a, only_b = count_alone(result_a.robust, result_b.robust)
    return ModelComparison(
        n_samples,
        result_a.robust_accuracy,
        result_b.robust_accuracy,
        only_a,
        only_b,
        mcnemar_p_value(result_a.robust, result_b.robust),
    )
