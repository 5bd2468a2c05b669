"""A robustifier and a classifier as one estimator, or as a sampler."""

from inspect import Parameter, signature
from typing import Any

import numpy as np
import skorch
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from robustfit._utils.input_arrays import plain_array
from robustfit._utils.labels import targets_of
from robustfit._utils.sklearn_private import callback_context
from robustfit._utils.torch_bridge import draw_seed, seeded_torch
from robustfit._utils.training_batches import spare_lone_rows
from robustfit._utils.uninterrupted_fit import fit_uninterrupted
from robustfit.exceptions import NoStructureError
from robustfit.sklearn_to_torch.torch_classifier import as_torch, transformer_as_torch
from robustfit.structures.find_structure import structure_of_estimator

__all__ = ["RobustSampler", "RobustifiedClassifier", "as_sampler"]


def _classifier_has(method):
    def check(self):
        fitted = getattr(self, "classifier_", self.classifier)
        return hasattr(fitted, method)

    return check


def _check_takes(classifier, fit_params):
    """Raise for parameters of ``fit`` that a classifier does not have."""
    known = signature(classifier.fit).parameters
    takes_all = any(p.kind is Parameter.VAR_KEYWORD for p in known.values())
    unknown = set() if takes_all else set(fit_params) - set(known)
    if isinstance(classifier, skorch.NeuralNet):  # whose module would get them
        unknown = set(fit_params)
    if unknown:
        raise TypeError(
            f"fit was given {', '.join(sorted(unknown))}, which "
            f"{type(classifier).__name__} does not take. Use a classifier whose fit "
            "does, or leave it out."
        )


def _takes_soft_labels(classifier):
    is_net = isinstance(classifier, skorch.NeuralNet)
    return is_net or getattr(classifier, "_takes_soft_labels", False)


def _no_robustifier(robustifier):
    return TypeError(
        f"robustifier is {robustifier!r}; expected a robustifier, whose fit learns "
        "X_robust_ and y_robust_, as RobustDatasetLearner() and NoisyDataset()."
    )


class RobustifiedClassifier(
    CallbackSupportMixin, ClassifierMixin, MetaEstimatorMixin, BaseEstimator
):
    """A classifier naturally trained on the set that a robustifier learns.

    It does what ``Pipeline([("robustify", ...), ("clf", ...)])`` does, and what that
    cannot: sets with other rows (``fraction``) or soft labels, fine-tuning, labels of
    any type around a skorch net.

    Parameters
    ----------
    robustifier : estimator
        For example :class:`RobustDatasetLearner`. Cloned.
    classifier : classifier
        Any scikit-learn classifier or skorch ``NeuralNetClassifier``. Cloned.
    fine_tune : bool, default=False
        If False, the classifier is trained from scratch on the learned set. If True
        (skorch nets only), it starts from weights naturally trained on ``X``
        (theta_0) and is then trained on the learned set with the same settings: the
        protocol of "Towards Robust Dataset Learning", section 5.1. The robustifier's
        own theta_0 is used when it is the same net. A robustifier whose ``protocol``
        is "auto" learns for the one that this asks for.
    random_state : int, RandomState instance or None, default=None
        Seeds the initialisation and shuffling of a skorch net.

    Attributes
    ----------
    robustifier_ : estimator
        The fitted robustifier.
    classifier_ : classifier
        The fitted classifier; it was trained on labels 0..n_classes-1.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        Numbers in a (flattened) sample.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has such.

    See Also
    --------
    as_sampler : The same for imbalanced-learn's Pipeline.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import RobustDatasetLearner, RobustifiedClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = RobustifiedClassifier(
    ...     RobustDatasetLearner(eps=0.1, fraction=0.2, random_state=0),
    ...     LogisticRegression())
    >>> model.fit(X[:500] / 16, y[:500]).predict(X[:1] / 16).shape
    (1,)
    """

    def __init__(self, robustifier, classifier, *, fine_tune=False, random_state=None):
        self.robustifier = robustifier
        self.classifier = classifier
        self.fine_tune = fine_tune
        self.random_state = random_state

    @with_callbacks
    def fit(self, X, y, **fit_params):
        """Learn the robust set from ``X`` and ``y`` and train the classifier on it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        y : array-like of shape (n_samples,)
        **fit_params
            Passed to ``classifier.fit``, such as ``sample_weight``. What has an entry
            for each row of ``X`` follows the learned rows to those they started from.
            With scikit-learn's metadata routing, what the classifier and the
            robustifier request.

        Returns
        -------
        self : RobustifiedClassifier

        Raises
        ------
        TypeError
            For parameters that the classifier does not take, before any work.
        """
        self._check_robustifier()
        self._check_fine_tune()
        routed = self._route(fit_params)
        if hasattr(self, "classifier_"):
            del self.classifier_  # an interrupt leaves nothing fitted
        context = callback_context(self, n_tasks=2)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        learning = context.subcontext(task_name="learn-set")
        self._learn_set(X, y, learning, routed["robustifier"])
        given = self._follow_rows(routed["classifier"], len(np.asarray(plain_array(X))))
        self._train(X, y, context.subcontext(task_name="train-classifier"), given)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def get_metadata_routing(self):
        """Return who is given what, for scikit-learn's metadata routing.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        fit = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        for name in ("robustifier", "classifier"):
            router.add(**{name: getattr(self, name)}, method_mapping=fit)
        return router

    def _route(self, fit_params):
        """Return the parameters of each part's ``fit``, checked."""
        routed = {"robustifier": {}, "classifier": fit_params}
        if get_config()["enable_metadata_routing"]:
            requested = process_routing(self, "fit", **fit_params)
            routed = {name: requested[name]["fit"] for name in routed}
        _check_takes(self.classifier, routed["classifier"])
        return routed

    def _follow_rows(self, fit_params, n_samples):
        """Return parameters of rows of X as those of the learned rows."""
        rows = self.robustifier_.sample_indices_
        return {
            name: np.asarray(value)[rows]
            if np.ndim(value) and len(value) == n_samples
            else value
            for name, value in fit_params.items()
        }

    def _learn_set(self, X, y, context, fit_params):
        self.robustifier_ = self._prepare_robustifier()
        with context.propagate_callback_context(self.robustifier_):
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
            self.robustifier_.fit(X, y, **fit_params)
            if not hasattr(self.robustifier_, "X_robust_"):
                raise _no_robustifier(self.robustifier)
            context.call_on_fit_task_end(estimator=self, X=X, y=y)
        self.classes_ = self.robustifier_.classes_
        self.n_features_in_ = self.robustifier_.n_features_in_
        if hasattr(self.robustifier_, "feature_names_in_"):
            self.feature_names_in_ = self.robustifier_.feature_names_in_

    def _train(self, X, y, context, fit_params):
        X_robust, y_robust = self._learned_set()
        context.call_on_fit_task_begin(estimator=self, X=X_robust, y=y_robust)
        with seeded_torch(draw_seed(self.random_state)):
            classifier = spare_lone_rows(clone(self.classifier))
            if self.fine_tune:
                self._start_from_theta_0(classifier, X, y)
            method = "partial_fit" if self.fine_tune else "fit"
            given = {} if self.fine_tune else fit_params
            fit_uninterrupted(classifier, X_robust, y_robust, method=method, **given)
        self.classifier_ = classifier
        context.call_on_fit_task_end(estimator=self, X=X_robust, y=y_robust)

    def predict(self, X):
        """Return the predicted labels, shape (n_samples,)."""
        check_is_fitted(self, "classifier_")
        column = np.asarray(self.classifier_.predict(self._validate(X)))
        if column.ndim == 2:  # a skorch.NeuralNet predicts scores
            column = column.argmax(1)
        return self.classes_[column]

    @available_if(_classifier_has("predict_proba"))
    def predict_proba(self, X):
        """Return class probabilities, shape (n_samples, n_classes)."""
        check_is_fitted(self, "classifier_")
        values = self.classifier_.predict_proba(self._validate(X))
        return self._spread(values, 0.0)

    @available_if(_classifier_has("decision_function"))
    def decision_function(self, X):
        """Return the classifier's decision values.

        Minus infinity for classes that the learned set lacks, where there is a value
        for each class.
        """
        check_is_fitted(self, "classifier_")
        values = self.classifier_.decision_function(self._validate(X))
        return self._spread(values, -np.inf)

    def _validate(self, X):
        """Return X as the classifier was trained on it: an array, never a frame."""
        return np.asarray(self.robustifier_.transform(X))

    def _spread(self, values, absent):
        """Return values of the classes in the learned set as values of all classes."""
        columns = getattr(self.classifier_, "classes_", self.classes_)
        if len(columns) == len(self.classes_):
            return values
        values = np.asarray(values)
        if values.ndim == 1 and len(columns) == 2:
            values = np.stack([-values / 2, values / 2], axis=1)
        if values.ndim != 2 or values.shape[1] != len(columns):
            return values  # one against one, or a net with outputs for all classes
        spread = np.full((len(values), len(self.classes_)), absent, values.dtype)
        spread[:, columns] = values
        return spread

    def _check_robustifier(self):
        given = self.robustifier
        if not hasattr(given, "fit") or is_classifier(given) or is_regressor(given):
            raise _no_robustifier(given)

    def _check_fine_tune(self):
        if self.fine_tune and not isinstance(self.classifier, skorch.NeuralNet):
            raise TypeError(
                f"fine_tune=True needs a skorch net, which can start from given "
                f"weights; classifier is {type(self.classifier).__name__}. Use "
                "fine_tune=False to train it from scratch."
            )

    def _prepare_robustifier(self):
        robustifier = clone(self.robustifier)
        if not self.fine_tune:
            return robustifier
        parameters = robustifier.get_params(deep=False)
        if parameters.get("protocol") == "auto":
            robustifier.set_params(protocol="fine-tune")
        if "estimator" in parameters and parameters["estimator"] is None:
            robustifier.set_params(estimator=clone(self.classifier))
        return robustifier

    def _learned_set(self):
        y_robust = self.robustifier_.y_robust_
        if np.ndim(y_robust) == 2:
            if not _takes_soft_labels(self.classifier):
                raise TypeError(
                    f"The learned labels are soft (n_samples, n_classes), which "
                    f"{type(self.classifier).__name__} does not take. Use a skorch "
                    "net with CrossEntropyLoss, a KernelRegressionClassifier, or hard "
                    "labels."
                )
            y_robust = y_robust.astype(np.float32)
            return self.robustifier_.X_robust_, targets_of(self.classifier, y_robust)
        return self.robustifier_.X_robust_, self._encode(y_robust)

    def _start_from_theta_0(self, classifier, X, y):
        """Give ``classifier`` weights naturally trained on the original set."""
        theta_0 = getattr(self.robustifier_, "estimator_", None)
        classifier.initialize()
        if isinstance(theta_0, skorch.NeuralNet):
            source = theta_0.module_.state_dict()
            target = classifier.module_.state_dict()
            if {k: v.shape for k, v in source.items()} == {
                k: v.shape for k, v in target.items()
            }:
                classifier.module_.load_state_dict(source)
                return
        fit_uninterrupted(
            classifier, self._validate(X), self._encode(y), method="partial_fit"
        )

    def _encode(self, y):
        """Return labels as the classifier is trained on them: their columns."""
        column = np.searchsorted(self.classes_, y).astype(np.int64)
        return targets_of(self.classifier, column)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@as_torch.register
def _(estimator: RobustifiedClassifier):
    check_is_fitted(estimator, "classifier_")
    inner = as_torch(estimator.classifier_)
    classes = estimator.classes_
    if inner.classes is not None:  # the learned set may lack a class
        classes = classes[inner.classes]
    return inner.with_module(inner.module, classes=classes)


@structure_of_estimator.register
def _(estimator: RobustifiedClassifier):
    check_is_fitted(estimator)
    inner = estimator.classifier_
    if len(inner.classes_) != len(estimator.classes_):
        raise NoStructureError(
            "The learned set lacks a class, so the columns of "
            f"{type(inner).__name__} are not those of the labels; no bound is known."
        )
    return structure_of_estimator(inner)


class RobustSampler(BaseEstimator):
    """A robustifier with imbalanced-learn's sampler interface; see ``as_sampler``.

    Parameters
    ----------
    robustifier : estimator
        Cloned when ``fit_resample`` is called.

    Attributes
    ----------
    robustifier_ : estimator
        The fitted robustifier.
    sample_indices_ : ndarray of shape (n_robust,)
        Rows of X that the learned rows started from.

    See Also
    --------
    as_sampler : Returns one.
    RobustifiedClassifier : The same without imbalanced-learn.

    Examples
    --------
    >>> from robustfit import NoisyDataset, RobustSampler
    >>> sampler = RobustSampler(NoisyDataset(eps=0.1, random_state=0))
    >>> X_robust, y_robust = sampler.fit_resample([[0.0], [1.0]], ["a", "b"])
    >>> y_robust.tolist()
    ['a', 'b']
    """

    def __init__(self, robustifier):
        self.robustifier = robustifier

    def fit_resample(self, X, y):
        """Learn a robust set and return it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        y : array-like of shape (n_samples,)

        Returns
        -------
        X_robust : ndarray of shape (n_robust, ...)
        y_robust : ndarray of shape (n_robust,) or (n_robust, n_classes)
        """
        self.robustifier_ = clone(self.robustifier).fit(X, y)
        self.sample_indices_ = self.robustifier_.sample_indices_
        return self.robustifier_.X_robust_, self.robustifier_.y_robust_


@transformer_as_torch.register
def _(transformer: RobustSampler):
    return None  # a sampler acts on training data only


def as_sampler(robustifier: Any) -> RobustSampler:
    """Return a robustifier as a sampler for imbalanced-learn's ``Pipeline``.

    Parameters
    ----------
    robustifier : estimator
        For example ``RobustDatasetLearner(fraction=0.1)``.

    Returns
    -------
    RobustSampler
        It has ``fit_resample`` and no ``transform``: imbalanced-learn refuses objects
        that have both.

    See Also
    --------
    RobustifiedClassifier : The same for plain scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import RobustDatasetLearner, as_sampler
    >>> X, y = load_digits(return_X_y=True)
    >>> sampler = as_sampler(
    ...     RobustDatasetLearner(eps=0.1, fraction=0.1, random_state=0))
    >>> X_robust, y_robust = sampler.fit_resample(X[:400] / 16, y[:400])
    >>> X_robust.shape
    (40, 64)
    """
    return RobustSampler(robustifier)
