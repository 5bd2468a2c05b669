"""The skorch net inside :class:`AdversarialClassifier`, from what the user gives."""

import inspect
import math

import skorch
from sklearn.base import clone
from torch import nn

from robustfit.classifiers.adversarial_training.skorch_net import AdversarialNet
from robustfit.nets import default_classifier

__all__ = ["build_net"]


def build_net(estimator, image_shape, n_classes, *, batch_size, device, **parameters):
    """Return an unfitted :class:`AdversarialNet`.

    Parameters
    ----------
    estimator : None, skorch net or torch.nn.Module class
    image_shape : tuple of int
    n_classes : int
    batch_size, device
        Of nets that are not given as a skorch net.
    **parameters
        Of the adversary: ``eps``, ``norm``, ``method`` and so on.

    Raises
    ------
    TypeError
        If ``estimator`` is none of these.
    """
    if isinstance(estimator, AdversarialNet):
        net = clone(estimator)
    elif type(estimator) in (skorch.NeuralNet, skorch.NeuralNetClassifier):
        net = AdversarialNet(**clone(estimator).get_params(deep=False))
    elif isinstance(estimator, skorch.NeuralNet):
        raise TypeError(
            f"estimator is a {type(estimator).__name__}, whose own training steps "
            "would be lost. Derive it from robustfit.AdversarialNet, or pass a "
            "skorch.NeuralNetClassifier."
        )
    elif estimator is None or _is_module_class(estimator):
        net = default_classifier(image_shape, n_classes, device=device)
        settings = net.get_params(deep=False) | {"batch_size": batch_size}
        if estimator is not None:
            settings = {k: v for k, v in settings.items() if k[:8] != "module__"}
            settings |= _sizes_of(estimator, image_shape, n_classes)
            settings["module"] = estimator
        net = AdversarialNet(**settings)
    else:
        raise TypeError(
            f"estimator is {estimator!r}; expected None, a skorch net, or a "
            "torch.nn.Module class (not an instance: its weights would be copied with "
            "it into every clone)."
        )
    # Validation is the classifier's: stratified, under attack, for any labels.
    return net.set_params(train_split=None, **parameters)


def _is_module_class(estimator):
    return inspect.isclass(estimator) and issubclass(estimator, nn.Module)


def _sizes_of(module, image_shape, n_classes):
    """Return the arguments of a module class that the data decide."""
    names = inspect.signature(module).parameters
    known = {
        "image_shape": image_shape,
        "n_features": math.prod(image_shape),
        "n_classes": n_classes,
    }
    return {f"module__{k}": v for k, v in known.items() if k in names}
