"""What a scikit-learn classifier around a skorch net has to do: labels and images."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_array, check_is_fitted

from robustfit._utils.image_validation import validate_images
from robustfit._utils.labels import check_class_count, validate_labels
from robustfit._utils.torch_bridge import to_array
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["NetClassifier"]


class NetClassifier(ClassifierMixin, BaseEstimator):
    """Base class of classifiers whose ``net_`` is a skorch net on columns 0, 1, ...

    A subclass has the parameters ``eps``, ``norm``, ``clip_range``, ``image_shape`` and
    ``batch_size`` and implements ``_validate_parameters``.
    """

    def predict(self, X):
        """Return the predicted labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        column = to_array(self._logits(X).argmax(1))
        return self.classes_[column]

    def predict_proba(self, X):
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        return to_array(self._logits(X).double().softmax(1))

    def _logits(self, X):
        check_is_fitted(self, "net_")
        X = self._validate_images(X, reset=False)
        return as_torch(self.net_).logits(X, self.batch_size).cpu()

    def _validate(self, X, y, *, classes=None, reset):
        """Check parameters and data; return float32 images and int64 columns."""
        self._validate_parameters()
        X = self._validate_images(X, reset=reset)
        y = validate_labels(self, X, y)
        if reset:
            self.classes_ = np.unique(y if classes is None else classes)
            check_class_count(self.classes_)
        return X, self._encode(y)

    def _validate_weights(self, fit_params, X):
        """Return ``sample_weight`` as float64, None where it says nothing."""
        unknown = sorted(set(fit_params) - {"sample_weight"})
        if unknown:
            raise TypeError(f"fit got {unknown[0]!r}; it takes sample_weight only.")
        weights = fit_params.get("sample_weight")
        if weights is None:
            return None
        weights = check_array(
            weights, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
        if weights.shape != (len(X),):
            raise ValueError(
                f"sample_weight has shape {weights.shape}; expected ({len(X)},), a "
                "weight for each row of X."
            )
        if weights.min() < 0 or not weights.any():
            raise ValueError(
                f"sample_weight sums to {weights.sum():g}, its smallest value is "
                f"{weights.min():g}; expected numbers >= 0, not all of them 0."
            )
        return None if weights.min() == weights.max() else weights

    def _validate_images(self, X, *, reset):
        """Return X as float32 images of ``image_shape_``."""
        threat_model = ThreatModel(clip_range=self.clip_range)
        X = validate_images(self, X, threat_model, reset=reset).X
        return X.reshape(len(X), *self.image_shape_)

    def _encode(self, y):
        """Return for each label its place in ``classes_``."""
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds the label {unknown.tolist()[0]!r}; the net has outputs for "
                f"{self.classes_.tolist()} only. Name all classes in the first "
                "partial_fit, or use warm_start=False."
            )
        return np.searchsorted(self.classes_, y).astype(np.int64)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags
