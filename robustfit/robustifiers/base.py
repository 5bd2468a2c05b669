"""What every robustifier shares: the contract of a training-set rewriter."""

from abc import ABCMeta, abstractmethod

import numpy as np
from sklearn.base import (
    BaseEstimator,
    TransformerMixin,
    clone,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils.validation import check_is_fitted

from robustfit._utils.column_names import SameColumnsMixin
from robustfit._utils.image_validation import validate_images
from robustfit._utils.labels import check_class_count, validate_labels
from robustfit._utils.training_batches import spare_lone_rows
from robustfit.exceptions import RewrittenRowsError
from robustfit.nets import default_classifier
from robustfit.sklearn_to_torch.torch_classifier import transformer_as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["TrainingSetRewriter"]


class TrainingSetRewriter(
    CallbackSupportMixin,
    SameColumnsMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base class of robustifiers: estimators that rewrite a training set.

    A subclass has the parameters ``eps``, ``norm``, ``clip_range`` and ``image_shape``
    and implements ``_learn``, which sets ``X_robust_``, ``y_robust_`` and
    ``sample_indices_``; ``_changes_rows_or_labels`` tells, before any work, whether
    the learned set can stand in for ``X`` row by row. Budgets and ranges per feature
    are for those whose ``_takes_per_feature`` is True.
    """

    _takes_per_feature = False

    @with_callbacks
    def fit(self, X, y):
        """Learn a robust training set from ``X`` and ``y``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            Images in ``clip_range``, 4-D or flattened.
        y : array-like of shape (n_samples,)
            Class labels of any type; at least two classes.

        Returns
        -------
        self : estimator
        """
        threat_model = self._validate_parameters()
        X, image_shape = validate_images(self, X, threat_model)
        threat_model.warn_of_unit(X)
        y = validate_labels(self, X, y)
        self.classes_, y = np.unique(y, return_inverse=True)
        check_class_count(self.classes_)
        self._learn(X, y, image_shape, threat_model)
        return self

    def fit_transform(self, X, y):
        """Learn a robust training set and return its images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        y : array-like of shape (n_samples,)

        Returns
        -------
        X_robust : ndarray of the shape of X, float32
            ``X_robust_``: same rows, same order, for the labels ``y``.

        Raises
        ------
        RewrittenRowsError
            If the learned set has other rows or other labels than ``y``.

        Notes
        -----
        ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the training
        set is rewritten, the data the model later sees are not.
        """
        if self._changes_rows_or_labels():
            raise RewrittenRowsError(
                f"{self!r} learns a set with other rows or labels than y, which "
                "fit_transform (and so Pipeline) cannot return. Use "
                "RobustifiedClassifier(robustifier, classifier), or "
                "as_sampler(robustifier) in imbalanced-learn's Pipeline."
            )
        return self.fit(X, y).X_robust_

    def transform(self, X):
        """Return ``X`` as it is (validated, float32).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)

        Returns
        -------
        X : ndarray of the same shape, float32

        Notes
        -----
        ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: only the
        training set is rewritten; inputs at prediction are never touched.
        """
        check_is_fitted(self)
        threat_model = ThreatModel(clip_range=self.clip_range)
        return validate_images(self, X, threat_model, reset=False).X

    def _validate_parameters(self):
        """Check the parameters before any work; return the threat model."""
        threat_model = ThreatModel(self.norm, self.eps, self.clip_range)
        if not self._takes_per_feature:
            threat_model.refuse_per_feature(
                type(self).__name__,
                "Divide each column of X by its budget, so that eps=1 is that of all, "
                "or use AdversarialDataset, AdversarialRelabeler, NoisyDataset or "
                "AdversarialClassifier.",
            )
        if self.norm not in ("linf", "l2"):
            raise ValueError(
                f"norm is {self.norm!r}; robustifiers learn for 'linf' and 'l2'."
            )
        self._validate_params()
        return threat_model

    def _new_net(self, image_shape, device, n_samples):
        """Return an unfitted inner net: the user's ``estimator``, or the default."""
        if self.estimator is not None:
            return spare_lone_rows(clone(self.estimator))
        return default_classifier(
            image_shape,
            len(self.classes_),
            max_epochs=None,
            device=device,
            value_range=ThreatModel(clip_range=self.clip_range).value_range,
            n_samples=n_samples,
        )

    def _changes_rows_or_labels(self):
        """Tell whether the learned set has other rows or labels than the given one."""
        return False

    @abstractmethod
    def _learn(self, X, y, image_shape, threat_model):
        """Set ``X_robust_``, ``y_robust_``, ``sample_indices_`` and what else is kept.

        ``X`` is float32 of its own shape, ``y`` the integers 0..n_classes-1.
        """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        return tags


@transformer_as_torch.register
def _(transformer: TrainingSetRewriter):
    check_is_fitted(transformer)  # transform is the identity: no module needed
