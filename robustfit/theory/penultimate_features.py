"""What a fitted net's last layer sees, as a function of the net's input."""

from robustfit.sklearn_to_torch.representation import Representation

__all__ = ["PenultimateFeatures"]


class PenultimateFeatures:
    """The inputs of a fitted net's last linear layer, as a function of its input.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`robustfit.as_torch` takes.
    layer : str or None, default=None
        Name of a submodule of the net, as in ``named_modules()``, whose output is taken
        instead. None needs a net whose last layer is linear.

    Raises
    ------
    NotDifferentiableError
        If the estimator has no differentiable form.
    ValueError
        If ``layer`` names no submodule, or, when called, one that is not run.
    TypeError
        When called, if ``layer`` is None and no linear layer returns the logits.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from robustfit.theory import PenultimateFeatures
    >>> X, y = load_digits(return_X_y=True)
    >>> net = MLPClassifier((32, 16), max_iter=300, random_state=0).fit(X, y)
    >>> PenultimateFeatures(net)(torch.zeros(5, 64)).shape
    torch.Size([5, 16])
    """

    def __init__(self, estimator, layer=None):
        self.representation = Representation(estimator, layer)
        self.device = self.representation.classifier.device

    def __call__(self, x):
        """Return the features (n_samples, n_features) of the tensor ``x``."""
        with self.representation.classifier.frozen():
            return self.representation(x)
