"""Pictures of the loss between two nets and around an input."""

from robustfit._utils.display_style import (
    add_legend,
    color,
    get_axes,
    norm_label,
    tidy,
)
from robustfit.inspection.loss_landscape import (
    LossLine,
    loss_along_line,
    loss_around_input,
)

__all__ = ["LossLandscapeDisplay"]

_STYLES = ("-", "--", "-.", ":")


class LossLandscapeDisplay:
    """The loss along a line between two nets, or around one input.

    Made by :meth:`from_estimators` (along a line in the space of weights, Figures 3
    and 4 of [1]_) or by :meth:`from_input` (along the gradient and a random direction
    in the space of inputs, Figure 5). A smooth, convex line says that training can
    follow it; a jagged surface around an input is a sign of masked gradients.

    Parameters
    ----------
    landscape : LossLine or LossSurface
        What those two methods compute; their arrays are ``landscape.loss``.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Of a line: one for each budget.
    contour_ : matplotlib QuadContourSet
        Of a surface.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    check_gradient_masking : Tests for what the surface may hint at.

    References
    ----------
    .. [1] A. Shaeiri, R. Nobahari, M. H. Rohban. "Towards deep learning models
       resistant to large perturbations", 2020: sections 3.2 and 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import LossLandscapeDisplay
    >>> from robustfit.nets import default_classifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).astype("float32")
    >>> early = default_classifier((64,), 10, max_epochs=1).fit(X[:300], y[:300])
    >>> late = default_classifier((64,), 10, max_epochs=9).fit(X[:300], y[:300])
    >>> display = LossLandscapeDisplay.from_estimators(
    ...     early, late, X[:100], y[:100], eps=(0, 0.1), n_points=5)
    >>> display.landscape.loss.shape
    (2, 5)
    >>> display = LossLandscapeDisplay.from_input(late, X[0], y[0], eps=0.1, n_points=7)
    >>> display.landscape.loss.shape
    (7, 7)
    """

    def __init__(self, landscape):
        self.landscape = landscape

    @classmethod
    def from_estimators(
        cls,
        start,
        end,
        X,
        y,
        *,
        eps=(0.0, 8 / 255),
        norm="linf",
        clip_range=(0.0, 1.0),
        n_points=21,
        n_steps=10,
        batch_size=128,
        ax=None,
    ):
        """Draw the adversarial loss between the weights of two fitted nets.

        Parameters
        ----------
        start, end : fitted classifiers
            Of one architecture, with torch weights: for example a net before and after
            training.
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            The loss is the mean over these samples; the paper takes 512.
        y : array-like of shape (n_samples,)
        eps : float or sequence of float, default=(0.0, 8/255)
            Budgets, a line each; 0 is the natural loss.
        norm : {"linf", "l2", "l1"}, default="linf"
        clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        n_points : int, default=21
            Points along the line, both nets included.
        n_steps : int, default=10
            Steps of PGD at each point, of length ``2.5 * eps / n_steps``.
        batch_size : int, default=128
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        LossLandscapeDisplay

        Raises
        ------
        ValueError
            If the nets' weights differ in shape or order.

        Notes
        -----
        Running statistics of batch norms are interpolated like weights.
        """
        landscape = loss_along_line(
            start, end, X, y, eps=eps, norm=norm, clip_range=clip_range,
            n_points=n_points, n_steps=n_steps, batch_size=batch_size,
        )  # fmt: skip
        return cls(landscape).plot(ax=ax)

    @classmethod
    def from_input(
        cls,
        estimator,
        x,
        y,
        *,
        eps=8 / 255,
        norm="linf",
        clip_range=(0.0, 1.0),
        n_points=41,
        batch_size=128,
        random_state=0,
        ax=None,
    ):
        """Draw the loss around one input, along its gradient and a random direction.

        Parameters
        ----------
        estimator : fitted classifier
            Anything :func:`as_torch` takes.
        x : array-like of shape (n_features,) or (C, H, W)
            One input in ``clip_range``.
        y : label
            Its true label.
        eps : float, default=8/255
            Largest move in each direction, either way.
        norm : {"linf", "l2", "l1"}, default="linf"
            Norm in which the directions have length one.
        clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
            Moved inputs are clipped to it, as an adversary has to. The paper's
            figures do not say whether theirs are; None leaves them.
        n_points : int, default=41
            Points along each direction; odd, to hold the input itself.
        batch_size : int, default=128
        random_state : int, RandomState instance or None, default=0
            Of the random direction.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        LossLandscapeDisplay
        """
        landscape = loss_around_input(
            estimator, x, y, eps=eps, norm=norm, clip_range=clip_range,
            n_points=n_points, batch_size=batch_size, random_state=random_state,
        )  # fmt: skip
        return cls(landscape).plot(ax=ax)

    def plot(self, ax=None, **kwargs):
        """Draw the landscape.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        **kwargs
            Passed to ``Axes.plot`` (line) or ``Axes.contourf`` (surface).

        Returns
        -------
        LossLandscapeDisplay
        """
        ax = get_axes(ax)
        is_line = isinstance(self.landscape, LossLine)
        (self._plot_line if is_line else self._plot_surface)(ax, **kwargs)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_line(self, ax, **kwargs):
        line = self.landscape
        self.lines_ = []
        for number, (eps, loss) in enumerate(zip(line.eps, line.loss, strict=True)):
            style = {
                "color": color(number),
                "linestyle": _STYLES[number % len(_STYLES)],
                "label": f"eps {eps:.3g}",
            }
            self.lines_ += ax.plot(line.position, loss, **(style | kwargs))
        ax.set(
            xlabel="Position (0: first net, 1: second net)",
            ylabel=f"Loss under attack ({norm_label(line.norm)}, nats)",
        )
        tidy(ax)
        add_legend(ax)

    def _plot_surface(self, ax, **kwargs):
        surface = self.landscape
        style = {"levels": 20, "cmap": "cividis"} | kwargs
        distance = surface.distance
        self.contour_ = ax.contourf(distance, distance, surface.loss, **style)
        ax.plot([0], [0], marker="+", color="white")
        ax.set(
            xlabel=f"Along the gradient ({norm_label(surface.norm)}, in units of X)",
            ylabel="Along a random direction",
            aspect="equal",
        )
        ax.figure.colorbar(self.contour_, ax=ax, label="Cross-entropy (nats)")
