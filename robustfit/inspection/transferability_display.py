"""The picture of a transferability matrix."""

import numpy as np

from robustfit._utils.display_style import get_axes
from robustfit.inspection.transferability import transferability_matrix

__all__ = ["TransferabilityDisplay"]


class TransferabilityDisplay:
    """How often adversarial examples of one estimator fool another, as a heat map.

    Parameters
    ----------
    transferability : Transferability

    Attributes
    ----------
    image_ : matplotlib AxesImage
    text_ : ndarray of matplotlib Text, shape (n_sources, n_targets)
        The rates in percent.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    robustfit.transferability_matrix : The numbers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression, RidgeClassifier
    >>> from robustfit import TransferabilityDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> models = {"logistic": LogisticRegression(), "ridge": RidgeClassifier()}
    >>> models = {name: m.fit(X[:900], y[:900]) for name, m in models.items()}
    >>> display = TransferabilityDisplay.from_estimators(
    ...     models, X[900:1100], y[900:1100], eps=0.1)
    >>> display.transferability.rates.shape
    (2, 2)
    """

    def __init__(self, transferability):
        self.transferability = transferability

    @classmethod
    def from_estimators(cls, estimators, X, y, *, ax=None, cmap="cividis",
                        **parameters):  # fmt: skip
        """Measure the transfer between fitted estimators and draw it.

        Parameters
        ----------
        estimators : dict of str to fitted classifier, or list of fitted classifiers
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        y : array-like of shape (n_samples,)
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        cmap : str or matplotlib Colormap, default="cividis"
        **parameters
            Of :func:`robustfit.transferability_matrix`.

        Returns
        -------
        TransferabilityDisplay
        """
        transferability = transferability_matrix(estimators, X, y, **parameters)
        return cls(transferability).plot(ax=ax, cmap=cmap)

    def plot(self, ax=None, *, cmap="cividis"):
        """Draw the matrix: a row for each source, a column for each target.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        cmap : str or matplotlib Colormap, default="cividis"

        Returns
        -------
        TransferabilityDisplay
        """
        ax = get_axes(ax)
        measured = self.transferability
        rates = 100 * measured.rates
        self.image_ = ax.imshow(rates, cmap=cmap, vmin=0, vmax=100)
        self.text_ = np.empty(rates.shape, dtype=object)
        for place, rate in np.ndenumerate(rates):
            colour = "black" if rate > 50 else "white"
            text = "none" if np.isnan(rate) else f"{rate:.0f}"
            self.text_[place] = ax.text(
                place[1], place[0], text, ha="center", va="center", color=colour
            )
        ax.set_xticks(range(len(measured.target_names)), measured.target_names,
                      rotation=30, ha="right")  # fmt: skip
        ax.set_yticks(range(len(measured.source_names)), measured.source_names)
        ax.set(xlabel="Attacked model", ylabel="Model the examples were made on")
        ax.figure.colorbar(
            self.image_, ax=ax, label="Fooled (% of the samples both get right)"
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self
