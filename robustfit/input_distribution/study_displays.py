"""Displays of the studies of how robustness depends on the input distribution."""

import numpy as np

from robustfit._utils.display_style import add_legend, get_axes, line_style, tidy
from robustfit.input_distribution.studies import (
    robustness_by_training_size,
    robustness_by_transform,
    robustness_by_width,
)

__all__ = [
    "TrainingSizeRobustnessDisplay",
    "TransformRobustnessDisplay",
    "WidthRobustnessDisplay",
]


class _RobustnessCurveDisplay:
    """Curves of scores against the points of a study."""

    _xlabel = ""
    _xscale = "linear"

    def __init__(self, *, points, test_scores, train_scores=None):
        self.points = points
        self.test_scores = test_scores
        self.train_scores = train_scores

    def plot(self, ax=None):
        """Draw the average over the folds, and a band of one standard deviation.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        display
            Itself, with ``ax_``, ``figure_`` and ``lines_``.
        """
        ax = get_axes(ax)
        self.ax_, self.figure_, self.lines_ = ax, ax.figure, []
        places = self._places()
        for i, (name, scores) in enumerate(self.test_scores.items()):
            # Curves may coincide: the wider one below stays visible.
            width = max(1.0, 3.0 - i)
            style = line_style(i) | {"linewidth": width, "markersize": 4 + width}
            label = name.replace("_", " ").replace("wrt", "w.r.t.").capitalize()
            self._draw(places, scores, label=label, linestyle="-", **style)
            if self.train_scores is not None:
                self._draw(places, self.train_scores[name], linestyle=":", **style)
        ax.set(xlabel=self._xlabel, ylabel="Share of samples")
        ax.set_xscale(self._xscale)
        ax.set_xticks(places, [str(point) for point in self.points])
        ax.minorticks_off()
        tidy(ax, share="y")
        title = None if self.train_scores is None else "dotted: training set"
        add_legend(ax, top=1, title=title, title_fontsize="small")
        return self

    def _draw(self, places, scores, **style):
        mean, spread = scores.mean(1), scores.std(1)
        self.lines_ += self.ax_.plot(places, mean, **style)
        if scores.shape[1] > 1:
            self.ax_.fill_between(
                places, mean - spread, mean + spread, color=style["color"], alpha=0.15
            )

    def _places(self):
        return np.asarray(self.points, dtype=float)


class TransformRobustnessDisplay(_RobustnessCurveDisplay):
    """Scores of a model on variants of a data set (figures 2 and 3 of [1]_).

    Use :meth:`from_estimator`, or ``TransformRobustnessDisplay(**study).plot()`` with
    the result of :func:`robustness_by_transform`.

    Parameters
    ----------
    points : list of str
        Names of the variants.
    test_scores : dict of str to ndarray of shape (n_points, n_folds)
    train_scores : dict of str to ndarray of shape (n_points, n_folds) or None
        Drawn dotted.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import TransformRobustnessDisplay
    >>> from robustfit.image_transforms import BinarizeImages
    >>> X, y = load_digits(return_X_y=True)
    >>> display = TransformRobustnessDisplay.from_estimator(
    ...     LogisticRegression(max_iter=200),
    ...     {"original": None, "binarized": BinarizeImages()},
    ...     X[:300] / 16, y[:300], cv=2)
    >>> len(display.lines_)
    3
    """

    _xlabel = "Variant of the data set"

    @classmethod
    def from_estimator(cls, estimator, transforms, X, y, *, ax=None, **parameters):
        """Run the study and draw it.

        Parameters
        ----------
        estimator, transforms, X, y
            Of :func:`robustness_by_transform`.
        ax : matplotlib Axes or None, default=None
        **parameters
            Of :func:`robustness_by_transform`.

        Returns
        -------
        TransformRobustnessDisplay
        """
        study = robustness_by_transform(estimator, transforms, X, y, **parameters)
        return cls(**study).plot(ax=ax)

    def _places(self):
        return np.arange(len(self.points))


class WidthRobustnessDisplay(_RobustnessCurveDisplay):
    """Scores against the width of the net (figure 4 of Ding et al., 2019).

    Use :meth:`from_estimator`, or ``WidthRobustnessDisplay(**study).plot()`` with the
    result of :func:`robustness_by_width`.

    Parameters
    ----------
    points : list of float
        Widths.
    test_scores : dict of str to ndarray of shape (n_points, n_folds)
    train_scores : dict of str to ndarray of shape (n_points, n_folds) or None
        Drawn dotted.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit import WidthRobustnessDisplay
    >>> display = WidthRobustnessDisplay(
    ...     points=[0.5, 1], test_scores={"robust_accuracy": np.array([[0.4], [0.6]])})
    >>> display.plot().ax_.get_xlabel()
    'Widen factor of the net'
    """

    _xlabel = "Widen factor of the net"
    _xscale = "log"

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, **parameters):
        """Run the study and draw it.

        Parameters
        ----------
        estimator, X, y
            Of :func:`robustness_by_width`.
        ax : matplotlib Axes or None, default=None
        **parameters
            Of :func:`robustness_by_width`.

        Returns
        -------
        WidthRobustnessDisplay
        """
        study = robustness_by_width(estimator, X, y, **parameters)
        return cls(**study).plot(ax=ax)


class TrainingSizeRobustnessDisplay(_RobustnessCurveDisplay):
    """Scores against the number of training rows (figure 4 of Ding et al., 2019).

    Use :meth:`from_estimator`, or ``TrainingSizeRobustnessDisplay(**study).plot()``
    with the result of :func:`robustness_by_training_size`.

    Parameters
    ----------
    points : list of int
        Training rows.
    test_scores : dict of str to ndarray of shape (n_points, n_folds)
    train_scores : dict of str to ndarray of shape (n_points, n_folds) or None
        Drawn dotted.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit import TrainingSizeRobustnessDisplay
    >>> display = TrainingSizeRobustnessDisplay(
    ...     points=[100, 300],
    ...     test_scores={"robust_accuracy": np.array([[0.4, 0.5], [0.6, 0.7]])})
    >>> display.plot().ax_.get_xlabel()
    'Training rows'
    """

    _xlabel = "Training rows"
    _xscale = "log"

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None, **parameters):
        """Run the study and draw it.

        Parameters
        ----------
        estimator, X, y
            Of :func:`robustness_by_training_size`.
        ax : matplotlib Axes or None, default=None
        **parameters
            Of :func:`robustness_by_training_size`.

        Returns
        -------
        TrainingSizeRobustnessDisplay
        """
        study = robustness_by_training_size(estimator, X, y, **parameters)
        return cls(**study).plot(ax=ax)
