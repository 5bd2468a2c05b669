"""Displays: ``from_estimator``, ``from_predictions``, ``plot``, as in scikit-learn."""

import numpy as np

from robustfit._utils.display_style import (
    add_legend,
    budget_label,
    color,
    get_axes,
    tidy,
)
from robustfit.evaluation.curve import SecurityCurve, security_curve

__all__ = ["SecurityCurveDisplay"]


class SecurityCurveDisplay:
    """Robust accuracy against the budget of the adversary, as a figure.

    Parameters
    ----------
    curve : SecurityCurve
    name : str or None, default=None
        Label of the curve, which adds the number of samples, and the seed where the
        curve knows it; None labels it with these alone.

    Attributes
    ----------
    line_ : matplotlib Artist
    band_ : matplotlib Artist
        95 % interval (Wilson) of each accuracy.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    robustfit.evaluation.curve : The numbers.

    Examples
    --------
    >>> from robustfit import SecurityCurveDisplay
    >>> display = SecurityCurveDisplay.from_predictions(
    ...     [0.0, 0.1, 0.3], eps=[0, 0.05, 0.2, 0.4])
    >>> display.curve.accuracy.round(2)
    array([0.67, 0.67, 0.33, 0.  ])
    """

    def __init__(self, curve, *, name=None):
        self.curve = curve
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, X, y, *, name=None, ax=None, line_kw=None,
                       **curve_parameters):  # fmt: skip
        """Attack a fitted estimator at all budgets and draw what survives.

        Parameters
        ----------
        estimator : fitted classifier
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        y : array-like of shape (n_samples,)
        name : str or None, default=None
            None is the name of the estimator's class.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        line_kw : dict or None, default=None
            Passed to ``Axes.plot``.
        **curve_parameters
            Of :func:`robustfit.evaluation.curve`.

        Returns
        -------
        SecurityCurveDisplay
        """
        curve = security_curve(estimator, X, y, **curve_parameters)
        name = type(estimator).__name__ if name is None else name
        return cls(curve, name=name).plot(ax=ax, **(line_kw or {}))

    @classmethod
    def from_predictions(cls, distances, *, eps=None, norm="linf", name=None, ax=None,
                         line_kw=None):  # fmt: skip
        """Draw the curve of minimal distances that were found before.

        Parameters
        ----------
        distances : array-like of shape (n_samples,)
            See :func:`robustfit.minimal_distances`.
        eps : array-like of shape (n_budgets,) or None, default=None
            None is 50 budgets from 0 to the largest finite distance.
        norm : {"linf", "l2", "l1"}, default="linf"
            Named on the axis.
        name : str or None, default=None
        ax : matplotlib Axes or None, default=None
        line_kw : dict or None, default=None

        Returns
        -------
        SecurityCurveDisplay
        """
        distances = np.asarray(distances, dtype=float)
        if eps is None:
            finite = distances[np.isfinite(distances)]
            eps = np.linspace(0, finite.max() if len(finite) else 1.0, 50)
        curve = SecurityCurve.from_distances(distances, eps=eps, norm=norm)
        return cls(curve, name=name).plot(ax=ax, **(line_kw or {}))

    def plot(self, ax=None, *, name=None, **line_kw):
        """Draw the curve, in a band of the 95 % interval (Wilson) of its accuracies.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        name : str or None, default=None
            Label instead of ``self.name``.
        **line_kw
            Passed to ``Axes.plot``.

        Returns
        -------
        SecurityCurveDisplay
        """
        ax = get_axes(ax)
        label = self._label(self.name if name is None else name)
        drawn = {"drawstyle": "steps-post", "label": label, "linewidth": 1.8}
        if not {"color", "c"} & set(line_kw):
            drawn["color"] = color(len(ax.get_lines()))
        (self.line_,) = ax.plot(self.curve.eps, self.curve.accuracy, **drawn | line_kw)
        low, high = self.curve.interval.T
        self.band_ = ax.fill_between(
            self.curve.eps, low, high, step="post", color=self.line_.get_color(),
            alpha=0.15, linewidth=0,
        )  # fmt: skip
        ax.set(
            xlabel=budget_label(self.curve.norm, self.curve.unit),
            ylabel="Robust accuracy",
        )
        tidy(ax, share="y")
        ax.set_xlim(left=0)
        add_legend(ax, top=1)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _label(self, name):
        """Return what the accuracies are shares of, after a name if there is one."""
        numbers = f"n={self.curve.n_samples}"
        if self.curve.seed is not None:
            numbers += f", seed {self.curve.seed}"
        return numbers if name is None else f"{name} ({numbers})"
