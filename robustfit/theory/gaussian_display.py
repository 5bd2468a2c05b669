"""A picture of what robust maximum likelihood learns in the plane."""

import numpy as np

from robustfit._utils.display_style import (
    MARKERS,
    NEUTRAL,
    add_legend,
    color,
    get_axes,
)
from robustfit.theory.gaussian_classifier import RobustGaussianClassifier

__all__ = ["RobustGaussianDisplay"]


class RobustGaussianDisplay:
    """Ellipses of the learned Gaussians, decision boundary and gradient, in the plane.

    Use :meth:`from_estimator`.

    Parameters
    ----------
    estimator : RobustGaussianClassifier
        Fitted on two features and two classes.
    X : ndarray of shape (n_samples, 2)
        Points to draw.
    y : ndarray of shape (n_samples,)

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    References
    ----------
    "Adversarial Examples Are Not Bugs, They Are Features" (Ilyas et al., 2019),
    Figure 4.

    Examples
    --------
    >>> from robustfit.datasets import make_gaussian_classes
    >>> from robustfit.theory import RobustGaussianClassifier, RobustGaussianDisplay
    >>> X, y = make_gaussian_classes(200, [2.0, 0.3], covariance=[1.0, 0.05],
    ...                              random_state=0)
    >>> model = RobustGaussianClassifier(eps=0.5).fit(X, y)
    >>> display = RobustGaussianDisplay.from_estimator(model, X, y)
    """

    def __init__(self, estimator, X, y):
        self.estimator = estimator
        self.X = X
        self.y = y

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, n_std=2.0):
        """Draw a fitted classifier over points.

        Parameters
        ----------
        estimator : RobustGaussianClassifier
            Fitted on two features and two classes.
        X : array-like of shape (n_samples, 2)
        y : array-like of shape (n_samples,)
        ax : matplotlib Axes or None, default=None
        n_std : float, default=2.0
            Size of the ellipses in standard deviations.

        Returns
        -------
        RobustGaussianDisplay

        Raises
        ------
        ValueError
            If the classifier has not two features and two classes.
        """
        if not isinstance(estimator, RobustGaussianClassifier):
            raise ValueError(
                f"estimator is {type(estimator).__name__}; expected a fitted "
                "RobustGaussianClassifier."
            )
        if estimator.means_.shape != (2, 2):
            raise ValueError(
                f"The classifier has {estimator.means_.shape[0]} classes and "
                f"{estimator.means_.shape[1]} features; the picture needs 2 and 2."
            )
        return cls(estimator, np.asarray(X), np.asarray(y)).plot(ax, n_std=n_std)

    def plot(self, ax=None, *, n_std=2.0):
        """Draw on ``ax``, or on new axes.

        Dashed ellipses are the natural covariance, solid ones the robust one. The
        arrow is the gradient of the classifier, the line its decision boundary.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
        n_std : float, default=2.0

        Returns
        -------
        RobustGaussianDisplay
        """
        ax = get_axes(ax)
        model = self.estimator
        for number, label in enumerate(model.classes_):
            look = {"color": color(number), "label": f"class {label}"}
            points = self.X[self.y == label]
            ax.scatter(*points.T, s=8, alpha=0.3, marker=MARKERS[number], **look)
            mean = model.means_[number]
            natural = _ellipse(mean, model.covariance_, n_std)
            robust = _ellipse(mean, model.robust_covariance_, n_std)
            ax.plot(*natural, "--", color=color(number), linewidth=1)
            ax.plot(*robust, "-", color=color(number), linewidth=2)
        ax.set(aspect="equal", title=f"eps = {model.eps:g} (in units of X)")
        self._draw_boundary(ax)
        ax.set(xlabel="Feature 0", ylabel="Feature 1")
        ax.plot([], [], "--", color=NEUTRAL, label="natural covariance")
        ax.plot([], [], "-", color=NEUTRAL, label="robust covariance")
        ax.spines[["top", "right"]].set_visible(False)
        add_legend(ax, columnspacing=0.8)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_boundary(self, ax):
        centre = self.estimator.means_.mean(axis=0)
        normal = self.estimator.coef_[0]
        length = np.linalg.norm(normal)
        if length == 0:
            return
        limits = ax.axis()
        along = (-normal[1], normal[0])
        ax.axline(centre, centre + along, color="black", linewidth=1)
        tip = centre + normal / length * np.ptp(self.X[:, 1]) / 2
        arrow = {"arrowstyle": "->", "color": "black", "linewidth": 1.5}
        ax.annotate("", xy=tip, xytext=centre, arrowprops=arrow)
        ax.axis(limits)


def _ellipse(mean, covariance, n_std):
    """Points of the curve at Mahalanobis distance ``n_std`` from ``mean``."""
    angle = np.linspace(0, 2 * np.pi, 200)
    variances, vectors = np.linalg.eigh(covariance)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    return mean[:, None] + n_std * (vectors * np.sqrt(variances.clip(0))) @ circle
