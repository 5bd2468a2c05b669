"""Training sets whose labels only non-robust features explain: D_rand and D_det."""

from numbers import Integral, Real

import numpy as np

from robustfit._utils.sklearn_private import Interval, StrOptions
from robustfit._utils.torch_bridge import to_array
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.robustifiers.chunked_rewriter import ChunkedRewriter
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["AdversarialRelabeler"]


class AdversarialRelabeler(ChunkedRewriter):
    """Perturb each image towards another class and give it that class as label.

    To a person every label of the set is wrong; only features that a small
    perturbation changes speak for it. Nets trained on it still generalise where such
    features do: [1]_, section 3.2, Eq. 7, D_rand and D_det.

    Parameters
    ----------
    eps : float or array-like of shape (n_features,), default=8/255
        Radius of the perturbation, in the units of X, of all features or of each. The
        paper: l2, 0.5, CIFAR-10.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Numbers, or arrays of one for each feature.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from.
    estimator : classifier or None, default=None
        The classifier that the perturbation has to convince. A fitted one is used as
        it is (inside meta-estimators, which clone, wrap it in
        ``sklearn.frozen.FrozenEstimator``), an unfitted one is trained naturally; None
        trains :func:`robustfit.nets.default_classifier`. A robust one gives the
        paper's control (Table 9).
    target : {"random", "next"}, default="random"
        "random" draws the class uniformly from all classes (D_rand); "next" is the
        one after the image's own, ``(y + 1) mod n_classes`` (D_det).
    n_steps : int, default=100
        Steps of PGD towards the class.
    step_size : float or None, default=None
        Length of a step in ``norm``; None is ``eps / 5``, the paper's.
    batch_size : int, default=128
    device : str, default="auto"
        For a net trained here; a fitted one runs on its own device.
    n_jobs : int or None, default=None
        Batches perturbed at the same time. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
    checkpoint : str, path or None, default=None
        Folder for finished batches, see :class:`RobustFeatureExtractor`.
    verbose : int, default=0

    Attributes
    ----------
    X_robust_ : ndarray of the shape of X, float32
        The perturbed images (which teach nets to be anything but robust).
    y_robust_ : ndarray of shape (n_samples,)
        Their new labels.
    sample_indices_ : ndarray of shape (n_samples,)
        All rows; after an interrupt, those that were finished.
    source_estimator_ : fitted classifier
    classes_, image_shape_, n_features_in_
        As for :class:`RobustDatasetLearner`.

    Raises
    ------
    RewrittenRowsError
        By ``fit_transform``, which cannot return other labels. Use
        :class:`RobustifiedClassifier` or :func:`as_sampler`.
    ValueError
        If a fitted ``estimator`` does not know the labels.

    See Also
    --------
    NonRobustFeatureExtractor : Non-robust features with the right labels.
    AdversarialDataset : Adversarial examples with the right labels.

    References
    ----------
    .. [1] A. Ilyas, S. Santurkar, D. Tsipras, L. Engstrom, B. Tran, A. Madry.
       "Adversarial Examples Are Not Bugs, They Are Features", NeurIPS 2019: section
       3.2, Tables 1, 6, 9 and 10.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import AdversarialRelabeler, RobustifiedClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = RobustifiedClassifier(
    ...     AdversarialRelabeler(2.0, "l2", target="next", n_steps=20, random_state=0),
    ...     LogisticRegression())
    >>> model = model.fit(X[:500] / 16, y[:500])
    >>> model.robustifier_.y_robust_[:3], y[:3]
    (array([1, 2, 3]), array([0, 1, 2]))
    """

    _takes_per_feature = True
    _parameter_constraints: dict = {
        "estimator": [None, object],
        "target": [StrOptions({"random", "next"})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "step_size": [None, Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        eps=8 / 255,
        norm="linf",
        *,
        clip_range=(0.0, 1.0),
        image_shape=None,
        estimator=None,
        target="random",
        n_steps=100,
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
        self.target = target
        self.n_steps = n_steps
        self.step_size = step_size
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    def _changes_rows_or_labels(self):
        return True

    def _learn(self, X, y, image_shape, threat_model):
        seed = self._open_fit(X, y)
        self._fit_source(X, y, image_shape, threat_model, seed)
        target = self._choose_targets(y, seed)
        columns = self._logits_columns()[target]
        step_size = self.step_size or threat_model.eps / 5
        attack = EveryStepPGD(self.n_steps, step_size, towards=True)
        self._rewrite_in_groups(
            lambda rows: self._run(attack, X[rows], columns[rows], threat_model, seed),
            target,
            np.arange(len(X)),
        )

    def _choose_targets(self, y, seed):
        n_classes = len(self.classes_)
        if self.target == "next":
            return (y + 1) % n_classes
        return np.random.default_rng(seed).integers(n_classes, size=len(y))

    def _logits_columns(self):
        """Return the column of the source's logits for each of ``classes_``."""
        if self._trained_here:
            return np.arange(len(self.classes_))
        classifier = as_torch(self.source_estimator_)
        try:
            columns = to_array(classifier.encode(self.classes_))
        except (TypeError, ValueError):
            columns = np.full(len(self.classes_), -1)
        if columns.min() < 0:
            raise ValueError(
                f"y holds the labels {self.classes_.tolist()}, which the fitted "
                f"{type(self.source_estimator_).__name__} does not all know. A skorch "
                "net knows 0, 1, 2, ...; fit it on these labels, or pass it unfitted."
            )
        return columns
