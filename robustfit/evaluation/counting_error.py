"""The error of numbers that are counted on a sample: intervals and tests."""

from scipy.stats import binomtest

__all__ = ["count_alone", "mcnemar_p_value", "wilson_interval"]

CONFIDENCE = 0.95


def wilson_interval(n_right, n_samples):
    """Return the 95 % Wilson interval of a share, two floats in [0, 1].

    Parameters
    ----------
    n_right : int
    n_samples : int
        At least one.
    """
    interval = binomtest(int(n_right), int(n_samples)).proportion_ci(
        CONFIDENCE, method="wilson"
    )
    return float(interval.low), float(interval.high)


def count_alone(right_a, right_b):
    """Return how many samples are right in the first alone, and in the second alone.

    Parameters
    ----------
    right_a, right_b : ndarray of shape (n_samples,), bool
        Verdicts on the same samples.
    """
    return int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())


def mcnemar_p_value(right_a, right_b, alternative="two-sided"):
    """Return the p-value of McNemar's exact test on the same samples.

    Samples on which two equals differ go to either with probability one half.

    Parameters
    ----------
    right_a, right_b : ndarray of shape (n_samples,), bool
    alternative : {"two-sided", "greater"}, default="two-sided"
        "greater": that the first is right more often.
    """
    only_a, only_b = count_alone(right_a, right_b)
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5, alternative).pvalue)
