"""``RobustGaussianClassifier``: Gaussian maximum likelihood under an l2 adversary."""

import numpy as np
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from robustfit._utils.argument_checks import check_number
from robustfit.sklearn_to_torch.linear_models import TwoLogits, linear_layer
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch
from robustfit.theory.gaussian_likelihood import robust_variances

__all__ = ["RobustGaussianClassifier"]

# Directions without variance get this share of the largest one, so that the
# likelihood exists; as GaussianNB's var_smoothing.
_SMALLEST_VARIANCE = 1e-9


class RobustGaussianClassifier(ClassifierMixin, BaseEstimator):
    """Gaussian classes of one covariance, fitted by robust maximum likelihood.

    Natural maximum likelihood (``eps=0``) is linear discriminant analysis with equal
    class probabilities. Under an adversary the means stay and the covariance is blended
    with the identity, so that directions of small variance, useful but not robust,
    count for less.

    Parameters
    ----------
    eps : float, default=0.5
        l2 budget of the adversary, ``>= 0``, in the units of X: the root mean square
        norm of its perturbations.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    means_ : ndarray of shape (n_classes, n_features)
        Class means, the same with and without an adversary.
    covariance_ : ndarray of shape (n_features, n_features)
        Natural maximum likelihood estimate, pooled over the classes.
    robust_covariance_ : ndarray of shape (n_features, n_features)
        The covariance that classifies.
    multiplier_ : float
        Lambda of Theorem 2; infinite for ``eps=0``.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        One row for two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        If X has feature names, all strings.

    See Also
    --------
    robustfit.theory.robust_covariance : The closed form.
    robustfit.theory.RobustGaussianDisplay : Draws what was learned.

    Notes
    -----
    The paper treats two classes at mean and -mean. The proof reduces them to one
    Gaussian of deviations from the class mean, so it covers any number of classes and
    any means, and so does this class.

    References
    ----------
    "Adversarial Examples Are Not Bugs, They Are Features" (Ilyas et al., 2019),
    section 4, Theorem 2.

    Examples
    --------
    The first feature is noisy and strong, the second precise and weak.

    >>> from robustfit.datasets import make_gaussian_classes
    >>> from robustfit.theory import RobustGaussianClassifier
    >>> X, y = make_gaussian_classes(4000, [2.0, 0.3], covariance=[1.0, 0.01],
    ...                              random_state=0)
    >>> natural = RobustGaussianClassifier(eps=0).fit(X, y)
    >>> robust = RobustGaussianClassifier(eps=0.5).fit(X, y)
    >>> [round(float(m.coef_[0, 1] / m.coef_[0, 0])) for m in (natural, robust)]
    [15, 1]
    """

    def __init__(self, eps=0.5):
        self.eps = eps

    def fit(self, X, y):
        """Estimate means and robust covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Class labels of any type; at least two classes.

        Returns
        -------
        self : RobustGaussianClassifier

        Raises
        ------
        ValueError
            If eps is negative or not finite, X has NaN, or y has a single class.
        """
        eps = check_number("eps", self.eps, low=0)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds {len(self.classes_)} class, {self.classes_[0]!r}; expected "
                "at least two classes."
            )
        self.means_ = np.stack([X[index == c].mean(0) for c in range(index.max() + 1)])
        deviations = X - self.means_[index]
        self.covariance_ = deviations.T @ deviations / len(X)
        precision = self._fit_covariance(eps)
        self._fit_boundary(precision)
        return self

    def _fit_covariance(self, eps):
        """Set the robust covariance; return its inverse."""
        variances, vectors = np.linalg.eigh(self.covariance_)
        robust, inverse = robust_variances(variances.clip(0), eps)
        self.multiplier_ = 1 / inverse if inverse > 0 else np.inf
        floor = _SMALLEST_VARIANCE * robust.max()
        robust = robust.clip(floor if floor > 0 else 1.0)
        self.robust_covariance_ = (vectors * robust) @ vectors.T
        return (vectors / robust) @ vectors.T

    def _fit_boundary(self, precision):
        centre = self.means_.mean(axis=0)
        if len(self.classes_) == 2:
            coef = (self.means_[1:] - self.means_[:1]) @ precision
            constant = np.zeros(1)
        else:
            coef = (self.means_ - centre) @ precision
            constant = -((self.means_ - centre) * coef).sum(axis=1) / 2
        self.coef_ = coef
        self.intercept_ = constant - coef @ centre

    def decision_function(self, X):
        """Return log-likelihoods of the classes, up to a constant a row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the log-likelihood ratio of ``classes_[1]``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Return the most likely class of every row, shape (n_samples,)."""
        scores = self.decision_function(X)
        if len(self.classes_) == 2:
            return self.classes_[(scores > 0).astype(int)]
        return self.classes_[scores.argmax(axis=1)]

    def predict_log_proba(self, X):
        """Return the logarithm of :meth:`predict_proba`."""
        scores = self.decision_function(X)
        if len(self.classes_) == 2:
            scores = np.column_stack([np.zeros_like(scores), scores])
        return log_softmax(scores, axis=1)

    def predict_proba(self, X):
        """Return class probabilities under the robust Gaussians.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; the classes are equally probable
            beforehand.
        """
        return np.exp(self.predict_log_proba(X))


@as_torch.register
def _(estimator: RobustGaussianClassifier):
    check_is_fitted(estimator)
    layers = [nn.Flatten(), linear_layer(estimator.coef_, estimator.intercept_)]
    if len(estimator.classes_) == 2:
        layers.append(TwoLogits())
    return TorchClassifier(
        nn.Sequential(*layers), estimator.classes_, softmax_is_probability=True
    )
