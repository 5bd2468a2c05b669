"""Which features of a net are useful and robust, useful and not robust, useless."""

import numpy as np

from robustfit._utils.display_style import NEUTRAL, add_legend, color, get_axes, tidy
from robustfit._utils.input_arrays import plain_array
from robustfit.theory.penultimate_features import PenultimateFeatures
from robustfit.theory.usefulness import (
    _check_data,
    _FeatureDescent,
    feature_usefulness,
)
from robustfit.threat_model import ThreatModel

__all__ = ["FeatureUsefulnessDisplay"]

_STYLES = {
    "robust": {"color": color(0), "marker": "o"},
    "non-robust": {"color": color(1), "marker": "^"},
    "useless": {"color": NEUTRAL, "marker": "x", "linewidths": 0.8},
}


class FeatureUsefulnessDisplay:
    """Scatter of features: usefulness (rho) against robust usefulness (gamma).

    Use :meth:`from_estimator`, or :meth:`from_predictions` for numbers at hand.

    Parameters
    ----------
    usefulness : ndarray of shape (n_features,)
        rho of every feature, ``>= 0``.
    robust_usefulness : ndarray of shape (n_features,)
        gamma of every feature.
    min_usefulness : float, default=0.1
        Below this rho a feature counts as useless.

    Attributes
    ----------
    kinds_ : ndarray of str of shape (n_features,)
        "robust" (useful, gamma > 0), "non-robust" (useful, gamma <= 0) or "useless".
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    feature_usefulness : rho.
    robust_usefulness : gamma.

    References
    ----------
    "Adversarial Examples Are Not Bugs, They Are Features" (Ilyas et al., 2019),
    section 2.

    Examples
    --------
    >>> from robustfit.theory import FeatureUsefulnessDisplay
    >>> display = FeatureUsefulnessDisplay.from_predictions(
    ...     [0.9, 0.4, 0.01], [0.5, -0.1, -0.5])
    >>> display.kinds_.tolist()
    ['robust', 'non-robust', 'useless']
    """

    def __init__(self, usefulness, robust_usefulness, *, min_usefulness=0.1):
        self.usefulness = np.asarray(usefulness, dtype=float)
        self.robust_usefulness = np.asarray(robust_usefulness, dtype=float)
        self.min_usefulness = min_usefulness
        if self.usefulness.shape != self.robust_usefulness.shape:
            raise ValueError(
                f"usefulness has shape {self.usefulness.shape} and robust_usefulness "
                f"{self.robust_usefulness.shape}; expected one number a feature each."
            )
        useful = np.where(self.robust_usefulness > 0, "robust", "non-robust")
        self.kinds_ = np.where(self.usefulness < min_usefulness, "useless", useful)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        eps=8 / 255,
        norm="linf",
        clip_range=(0.0, 1.0),
        n_steps=20,
        min_usefulness=0.1,
        random_state=None,
        ax=None,
    ):
        """Measure and draw the features of a fitted net's penultimate layer.

        A feature stands for the class it is most correlated with (one against the
        rest) and gets the sign that makes the correlation positive.

        Parameters
        ----------
        estimator : fitted classifier
            Anything :func:`robustfit.as_torch` takes whose last layer is linear.
        X : array-like of shape (n_samples, ...)
            Inputs of the estimator; held-out ones say more.
        y : array-like of shape (n_samples,)
        eps : float, default=8/255
        norm : {"linf", "l2"}, default="linf"
        clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        n_steps : int, default=20
            Steps of projected gradient descent.
        min_usefulness : float, default=0.1
        random_state : int, RandomState instance or None, default=None
        ax : matplotlib Axes or None, default=None

        Returns
        -------
        FeatureUsefulnessDisplay
        """
        threat_model = ThreatModel(norm, eps, clip_range)
        X = threat_model.check_range(np.asarray(plain_array(X)))
        features = PenultimateFeatures(estimator)
        x, signs = _check_data(features, X, y)
        rho = feature_usefulness(features, X, y).reshape(-1, signs.shape[1])
        best = np.abs(rho).argmax(axis=1)
        rho = rho[np.arange(len(rho)), best]
        oriented = signs[:, best] * np.where(rho < 0, -1, 1)
        descent = _FeatureDescent(
            features, x, threat_model, n_steps, None, 1, 512, random_state
        )
        gamma = descent.lowest_means(oriented)
        return cls(np.abs(rho), gamma, min_usefulness=min_usefulness).plot(ax)

    @classmethod
    def from_predictions(
        cls, usefulness, robust_usefulness, *, min_usefulness=0.1, ax=None
    ):
        """Draw numbers that are already measured.

        Parameters
        ----------
        usefulness, robust_usefulness : array-like of shape (n_features,)
        min_usefulness : float, default=0.1
        ax : matplotlib Axes or None, default=None

        Returns
        -------
        FeatureUsefulnessDisplay
        """
        return cls(usefulness, robust_usefulness, min_usefulness=min_usefulness).plot(
            ax
        )

    def plot(self, ax=None):
        """Draw on ``ax``, or on new axes; return the display."""
        ax = get_axes(ax)
        for kind, style in _STYLES.items():
            chosen = self.kinds_ == kind
            ax.scatter(
                self.usefulness[chosen],
                self.robust_usefulness[chosen],
                s=18,
                label=f"{kind} ({chosen.sum()})",
                **style,
            )
        tidy(ax)
        ax.axhline(0, color=NEUTRAL, linewidth=0.8)
        ax.axvline(self.min_usefulness, color=NEUTRAL, linewidth=0.8, linestyle=":")
        ax.set(
            xlabel="Usefulness rho (correlation with the label)",
            ylabel="Robust usefulness gamma",
        )
        add_legend(ax, columnspacing=0.8, handletextpad=0.2)
        self.ax_, self.figure_ = ax, ax.figure
        return self
