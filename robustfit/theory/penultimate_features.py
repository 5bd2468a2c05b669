"""What a fitted net's last layer sees, as a function of the net's input."""

from torch import nn

from robustfit._torch_bridge import eval_mode
from robustfit.torch_classifier import as_torch

__all__ = ["PenultimateFeatures"]


class PenultimateFeatures:
    """The inputs of a fitted net's last linear layer, as a function of its input.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`robustfit.as_torch` takes whose last layer is linear.

    Raises
    ------
    NotDifferentiableError
        If the estimator has no differentiable form.
    TypeError
        When called, if no linear layer was run.

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

    def __init__(self, estimator):
        classifier = as_torch(estimator)
        self.module = classifier.module
        self.device = classifier.device

    def __call__(self, x):
        """Return the features (n_samples, n_features) of the tensor ``x``."""
        seen = []
        handles = [
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            for layer in self.module.modules()
            if isinstance(layer, nn.Linear)
        ]
        try:
            with eval_mode(self.module):
                self.module(x)
        finally:
            for handle in handles:
                handle.remove()
        if not seen:
            raise TypeError(
                "The model ran no torch.nn.Linear layer, so it has no penultimate "
                "features. Pass the features as a function of the input instead."
            )
        return seen[-1].flatten(1)
