"""Saliency maps: which pixels the loss of a net hangs on."""

import numpy as np

from robustfit._utils.display_style import get_axes_grid
from robustfit._utils.image_validation import check_image_shape
from robustfit._utils.torch_bridge import to_array, to_tensor
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.attacks.losses import input_gradient
from robustfit.evaluation.gate import admit_known, validate_data
from robustfit.exceptions import ImageShapeError
from robustfit.sklearn_to_torch.probabilities import with_logits
from robustfit.threat_model import ThreatModel

__all__ = ["SaliencyDisplay"]


class SaliencyDisplay:
    """Loss gradients, or adversarial perturbations, of several nets side by side.

    A row for each image: the image, then a map for each net. The gradients of robust
    nets are sparser and follow the object ([1]_, Figure 6).

    Parameters
    ----------
    images : ndarray of shape (n_images, C, H, W)
    maps : dict of str to ndarray of shape (n_images, C, H, W)
        By the estimator's name.
    label : str, default="loss gradient"
        What the maps are.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_images, 1 + n_estimators)
    figure_ : matplotlib Figure

    See Also
    --------
    LossLandscapeDisplay : The loss along two directions.

    References
    ----------
    .. [1] A. Shaeiri, R. Nobahari, M. H. Rohban. "Towards deep learning models
       resistant to large perturbations", 2020: section 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import SaliencyDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> weak, strong = (LogisticRegression(C=c).fit(X, y) for c in (1, 1e-3))
    >>> display = SaliencyDisplay.from_estimators(
    ...     {"C = 1": weak, "C = 0.001": strong}, X[:2], y[:2], image_shape=(1, 8, 8))
    >>> display.axes_.shape
    (2, 3)
    """

    def __init__(self, images, maps, *, label="loss gradient"):
        self.images = images
        self.maps = maps
        self.label = label

    @classmethod
    def from_estimators(
        cls,
        estimators,
        X,
        y,
        *,
        kind="gradient",
        eps=0.0,
        norm="linf",
        clip_range=(0.0, 1.0),
        image_shape=None,
        n_steps=40,
    ):
        """Compute and draw the maps of fitted classifiers.

        Parameters
        ----------
        estimators : dict of str to fitted classifier, or one fitted classifier
            Anything :func:`as_torch` takes, by the name to show.
        X : array-like of shape (n_images, n_features) or (n_images, C, H, W)
            A few images.
        y : array-like of shape (n_images,)
            Their true labels.
        kind : {"gradient", "perturbation"}, default="gradient"
            The gradient of the cross-entropy with respect to the image, taken where
            PGD of budget ``eps`` moved it; or that move itself.
        eps : float, default=0.0
            0 takes the gradient at the image itself; the paper's figure takes 0.3
            (gradient) and 0.45 (perturbation) on MNIST.
        norm : {"linf", "l2", "l1"}, default="linf"
        clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        image_shape : tuple of (C, H, W) or None, default=None
            Shape that flat rows came from.
        n_steps : int, default=40
            Steps of PGD, of length ``2.5 * eps / n_steps``.

        Returns
        -------
        SaliencyDisplay

        Raises
        ------
        ValueError
            For an unknown ``kind``, ``kind="perturbation"`` without a budget, or labels
            that an estimator was not trained on.
        ImageShapeError
            For flat rows without ``image_shape``.
        """
        if kind not in ("gradient", "perturbation"):
            raise ValueError(
                f"kind is {kind!r}; expected 'gradient' or 'perturbation'."
            )
        threat_model = ThreatModel(norm, eps, clip_range)
        if kind == "perturbation" and threat_model.eps == 0:
            raise ValueError("eps is 0; a perturbation needs a budget, say 0.3.")
        if not isinstance(estimators, dict):
            estimators = {type(estimators).__name__: estimators}
        given, (X, y) = X, validate_data(X, y, threat_model)
        shape = _image_shape(X, image_shape)
        maps = {
            name: _compute_maps(estimator, X, y, given, kind, threat_model, n_steps)
            for name, estimator in estimators.items()
        }
        maps = {name: values.reshape(len(X), *shape) for name, values in maps.items()}
        label = {"gradient": "loss gradient", "perturbation": "perturbation"}[kind]
        return cls(X.reshape(len(X), *shape), maps, label=label).plot()

    def plot(self, axes=None, *, cmap="RdBu_r"):
        """Draw images and maps; each map has its own scale, zero is the middle.

        Parameters
        ----------
        axes : array of matplotlib Axes, shape (n_images, 1 + n_estimators), or None
            None makes a new figure.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Diverging. Channels of coloured images are summed up.

        Returns
        -------
        SaliencyDisplay
        """
        self.axes_ = get_axes_grid(axes, len(self.images), 1 + len(self.maps))
        for row, image in zip(self.axes_, self.images, strict=True):
            row[0].imshow(_as_picture(image), cmap="gray")
        for column, values in enumerate(self.maps.values(), 1):
            for axis, value in zip(self.axes_[:, column], values, strict=True):
                summed = value.sum(0)
                largest = float(np.abs(summed).max()) or 1.0
                axis.imshow(summed, cmap=cmap, vmin=-largest, vmax=largest)
        for axis in self.axes_.flat:
            axis.set(xticks=[], yticks=[])
        for axis, name in zip(self.axes_[0], ["image", *self.maps], strict=True):
            axis.set_title(name, fontsize="medium")
        self.figure_ = self.axes_.flat[0].figure
        self.figure_.supxlabel(f"{self.label}: blue lowers, red raises the pixel"
                               if self.label == "perturbation" else self.label,
                               fontsize="medium")  # fmt: skip
        return self


def _compute_maps(estimator, X, y, given, kind, threat_model, n_steps):
    classifier, column = admit_known(estimator, X, y, given=given)
    x = to_tensor(X, classifier.device)
    with classifier.frozen():
        classifier, x_adv = with_logits(classifier, x[:2]), x
        if threat_model.eps > 0:
            attack = EveryStepPGD(n_steps)
            x_adv = attack.run(classifier, x, column, threat_model).x_adv
        if kind == "perturbation":
            return to_array(x_adv - x)
        return to_array(input_gradient(classifier, x_adv, column))


def _image_shape(X, image_shape):
    if X.ndim == 4:
        return X.shape[1:]
    if image_shape is None:
        raise ImageShapeError(
            f"X has shape {X.shape}; pass image_shape=(C, H, W) to draw flat rows."
        )
    return check_image_shape(image_shape, X[0].size)


def _as_picture(image):
    """Return (C, H, W) as matplotlib wants it: colours last, or one grey plane."""
    return image.transpose(1, 2, 0) if len(image) == 3 else image.mean(0)
