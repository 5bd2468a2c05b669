"""Training sets that keep only the features one net sees: robust, or non-robust."""

from numbers import Integral, Real

import numpy as np
import skorch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from robustfit._utils.sklearn_private import Interval, StrOptions
from robustfit._utils.torch_bridge import to_tensor
from robustfit.classifiers.adversarial_training import AdversarialClassifier
from robustfit.robustifiers.chunked_rewriter import ChunkedRewriter
from robustfit.robustifiers.features.representation_inversion import (
    RepresentationInversion,
    StartImages,
    default_step_size,
    relative_feature_error,
)
from robustfit.sklearn_to_torch.representation import Representation
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["NonRobustFeatureExtractor", "RobustFeatureExtractor"]

_UNBOUNDED = 1e30  # a budget no image exceeds: inversion has none


class _FeatureExtractor(ChunkedRewriter):
    """Representation inversion of a fitted classifier, whatever it was trained for."""

    _parameter_constraints: dict = {
        "estimator": [None, object],
        "layer": [None, str],
        "start": [StrOptions({"images", "noise"})],
        "n_starts": [Interval(Integral, 1, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "step_size": [None, Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def _learn(self, X, y, image_shape, threat_model):
        self._seed = self._open_fit(X, y)
        self._fit_source(X, y, image_shape, threat_model, self._seed)
        self._check_layer(X)
        self._start_images = StartImages(self.start, X, self._seed)
        indices = np.tile(np.arange(len(X)), self.n_starts)
        number = np.repeat(np.arange(self.n_starts), len(X))
        self._rewrite_in_groups(
            lambda rows: self._invert(X[indices[rows]], number[rows]), y, indices
        )
        self.feature_error_ = self._measure_error(X[self.sample_indices_])

    def _changes_rows_or_labels(self):
        return self.n_starts > 1

    def extract(self, X):
        """Return new images as the net's representation layer sees them.

        What ``fit`` does to the training images; of a test set it makes the paper's
        "robust test set" (Table 8). Labels are not used.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            Images in ``clip_range``.

        Returns
        -------
        X_extracted : ndarray of the shape of X, float32
            From the first of ``n_starts`` starts; the result for an image does not
            depend on the others.
        """
        X = np.asarray(self.transform(X))  # checks it, changes nothing
        first = np.zeros(len(X), dtype=np.int64)
        return np.concatenate(
            [self._invert(X[rows], first[rows]) for rows in self._groups(len(X))]
        )

    def _invert(self, X, number):
        bounds = self.clip_range
        budget = _UNBOUNDED if bounds is None else bounds[1] - bounds[0]
        threat_model = ThreatModel("linf", budget, bounds)
        step_size = self.step_size
        if step_size is None:
            step_size = default_step_size(X[0].size, self.n_steps, bounds)
        inversion = RepresentationInversion(self.layer, self.n_steps, step_size)
        start = self._start_images.draw(X, number, threat_model)
        return self._run(inversion, X, start, threat_model, self._seed)

    def _check_layer(self, X):
        classifier = as_torch(self.source_estimator_)
        with classifier.frozen():
            Representation(classifier, self.layer)(to_tensor(X[:1], classifier.device))

    def _measure_error(self, X):
        classifier = as_torch(self.source_estimator_)
        with classifier.frozen():
            return relative_feature_error(
                classifier, self.layer, X, self.X_robust_, self.batch_size
            )


class RobustFeatureExtractor(_FeatureExtractor):
    """Rewrite a training set so that it holds only what a robust net looks at.

    Each image x is replaced by an image x_r that the robust net's representation layer
    g sees as x, found from another image or from noise by gradient descent on
    ``||g(x_r) - g(x)||_2`` ([1]_, Eq. 6): D_R. Labels stay.

    Parameters
    ----------
    eps : float, default=8/255
        Budget that the robust net is trained for, in the units of X. Not used with a
        fitted ``estimator``.
    norm : {"linf", "l2"}, default="linf"
        Of that budget. The paper trains for l2 (CIFAR-10: 0.5).
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Range that the learned images stay in; None for unbounded features.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from.
    estimator : classifier, skorch net or None, default=None
        None trains an :class:`AdversarialClassifier` for ``eps``. An unfitted skorch
        net is trained adversarially in the same way, an unfitted
        ``AdversarialClassifier`` as it says itself. A fitted classifier, robust by
        whatever means, is used as it is: anything :func:`as_torch` takes. Inside
        meta-estimators, which clone, wrap it in ``sklearn.frozen.FrozenEstimator``.
    layer : str or None, default=None
        Name of the submodule whose output is g, as in ``named_modules()``. None is the
        input of the linear layer that returns the logits.
    start : {"images", "noise"}, default="images"
        Where the descent starts: another training image, drawn whatever its label, or
        Gaussian noise with the mean and standard deviation of the pixels of X.
    n_starts : int, default=1
        Images learned from each x, from as many starts: what a start brings along is
        then easier to tell from what x means. Above 1 the set has more rows; use
        :class:`RobustifiedClassifier` or :func:`as_sampler`.
    n_steps : int, default=200
        Gradient steps an image. The paper takes 1000 from images, 10,000 from noise.
    step_size : float or None, default=None
        L2 length of each step. None is ``100 / n_steps`` at 3072 features, which is
        the paper's 0.1 for its 1000 steps on CIFAR-10, and grows with the root of the
        number of features and with the range.
    batch_size : int, default=128
        Images inverted together; what bounds the memory.
    device : str, default="auto"
        For a net trained here; a fitted one runs on its own device.
    n_jobs : int or None, default=None
        Batches inverted at the same time, with joblib's backend. The result does not
        depend on it.
    random_state : int, RandomState instance or None, default=None
        With an integer, the same bytes come out on the same machine.
    checkpoint : str, path or None, default=None
        Folder for finished batches. A fit with the same parameters and data goes on
        from them.
    verbose : int, default=0
        1 prints a line for each group of batches. For a progress bar use
        ``set_callbacks(sklearn.callback.ProgressBar())``.

    Attributes
    ----------
    X_robust_ : ndarray of shape (n_starts * n_samples, ...), float32
        The learned images: one of each row of X, then the next of each row.
    y_robust_ : ndarray of shape (n_starts * n_samples,)
        Their labels, those of the rows.
    sample_indices_ : ndarray of shape (n_starts * n_samples,)
        Row of X that each learned image stands for. After an interrupt only the
        finished images are there.
    source_estimator_ : fitted classifier
        The net whose features were kept. Trained here, its labels are 0..n_classes-1.
    feature_error_ : ndarray of shape (n_starts * n_samples,)
        ``||g(x_r) - g(x)|| / ||g(x)||`` of each learned image: 0 is a perfect
        inversion.
    classes_ : ndarray of shape (n_classes,)
    image_shape_ : tuple of int
    n_features_in_ : int

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If ``estimator`` is unfitted and nothing that can be trained adversarially.
    TypeError, ValueError
        If the representation layer is not found.

    See Also
    --------
    NonRobustFeatureExtractor : The same with a naturally trained net: D_NR.
    AdversarialRelabeler : Sets whose labels only non-robust features explain.
    RobustnessReport : Measures what came of it; believe AutoAttack's number.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the learned images, ``transform`` leaves its input as it is. To rewrite
    other images, use :meth:`extract`.

    An image's result depends on the image, the net and the seed, not on the other
    images of its batch, up to rounding of float32.

    A representation that (nearly) determines the image leaves little out, and D_R then
    teaches what D does. With the default net on small grey images nets trained on D_R
    are hardly more robust than those trained on D; see the user guide for figures.

    References
    ----------
    .. [1] A. Ilyas, S. Santurkar, D. Tsipras, L. Engstrom, B. Tran, A. Madry.
       "Adversarial Examples Are Not Bugs, They Are Features", NeurIPS 2019: section
       3.1, appendix C.4, Tables 5, 7 and 8.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import RobustFeatureExtractor
    >>> from robustfit.nets import default_classifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:100] / 16, y[:100]
    >>> net = default_classifier((64,), 10).fit(X.astype("float32"), y)
    >>> extractor = RobustFeatureExtractor(estimator=net, n_steps=20, random_state=0)
    >>> X_robust = extractor.fit_transform(X, y)  # robust if the net is
    >>> X_robust.shape
    (100, 64)
    >>> extractor.extract(X[:3]).shape
    (3, 64)
    """

    def __init__(
        self,
        eps=8 / 255,
        norm="linf",
        *,
        clip_range=(0.0, 1.0),
        image_shape=None,
        estimator=None,
        layer=None,
        start="images",
        n_starts=1,
        n_steps=200,
        step_size=None,
        batch_size=128,
        device="auto",
        n_jobs=None,
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.estimator = estimator
        self.layer = layer
        self.start = start
        self.n_starts = n_starts
        self.n_steps = n_steps
        self.step_size = step_size
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    def _new_source(self, image_shape, threat_model, device):
        estimator = self.estimator
        if isinstance(estimator, AdversarialClassifier):
            return clone(estimator)
        if estimator is not None and not isinstance(estimator, skorch.NeuralNet):
            raise NotFittedError(
                f"estimator is {type(estimator).__name__}, not fitted, which would be "
                "trained naturally. Pass a fitted robust classifier (inside "
                "meta-estimators in sklearn.frozen.FrozenEstimator, which survives "
                "clone), an AdversarialClassifier, a skorch net to train "
                "adversarially, or None."
            )
        return AdversarialClassifier(
            eps=self.eps,
            norm=self.norm,
            clip_range=self.clip_range,
            image_shape=image_shape if len(image_shape) == 3 else None,
            estimator=estimator,
            device=str(device),
            checkpoint=self.checkpoint,
        )


class NonRobustFeatureExtractor(_FeatureExtractor):
    """Rewrite a training set so that it holds only what a natural net looks at.

    :class:`RobustFeatureExtractor` with a naturally trained net: the control D_NR of
    [1]_. Its images look like the ones the descent started from, their labels seem
    wrong, and nets trained on them are accurate and not robust.

    Parameters
    ----------
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Range that the learned images stay in; None for unbounded features.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from.
    estimator : classifier or None, default=None
        A fitted classifier is used as it is, an unfitted one is trained naturally on
        a copy of itself; None trains :func:`robustfit.nets.default_classifier`.
    layer, start, n_starts, n_steps, step_size
        As for :class:`RobustFeatureExtractor`.
    batch_size, device, n_jobs, random_state, checkpoint, verbose
        As for :class:`RobustFeatureExtractor`.

    Attributes
    ----------
    X_robust_, y_robust_, sample_indices_, source_estimator_, feature_error_, \
classes_, image_shape_, n_features_in_
        As for :class:`RobustFeatureExtractor`; ``X_robust_`` are the learned images,
        which are not robust here.

    See Also
    --------
    RobustFeatureExtractor : The same with a robust net: D_R.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the learned images, ``transform`` leaves its input as it is.

    References
    ----------
    .. [1] A. Ilyas, S. Santurkar, D. Tsipras, L. Engstrom, B. Tran, A. Madry.
       "Adversarial Examples Are Not Bugs, They Are Features", NeurIPS 2019: section
       3.1, Table 7.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import NonRobustFeatureExtractor
    >>> X, y = load_digits(return_X_y=True)
    >>> extractor = NonRobustFeatureExtractor(n_steps=10, random_state=0)
    >>> extractor.fit_transform(X[:100] / 16, y[:100]).shape
    (100, 64)
    """

    # No adversary takes part: what TrainingSetRewriter checks is harmless.
    eps = 0.0
    norm = "l2"

    def __init__(
        self,
        *,
        clip_range=(0.0, 1.0),
        image_shape=None,
        estimator=None,
        layer=None,
        start="images",
        n_starts=1,
        n_steps=200,
        step_size=None,
        batch_size=128,
        device="auto",
        n_jobs=None,
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.estimator = estimator
        self.layer = layer
        self.start = start
        self.n_starts = n_starts
        self.n_steps = n_steps
        self.step_size = step_size
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose
