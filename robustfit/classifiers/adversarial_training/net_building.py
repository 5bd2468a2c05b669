"""The skorch net inside :class:`AdversarialClassifier`, from what the user gives."""

import inspect
import math

import skorch
from sklearn.base import clone
from skorch.callbacks import EarlyStopping
from torch import nn

from robustfit._utils.training_batches import spare_lone_rows
from robustfit.classifiers.adversarial_training.skorch_net import AdversarialNet
from robustfit.nets import default_classifier
from robustfit.threat_model import ThreatModel

__all__ = ["build_net"]


def build_net(
    estimator, image_shape, n_classes, *, batch_size, device, clip_range, **parameters
):
    """Return an unfitted :class:`AdversarialNet`.

    Parameters
    ----------
    estimator : None, skorch net or torch.nn.Module class
    image_shape : tuple of int
    n_classes : int
    batch_size, device
        Of nets that are not given as a skorch net.
    clip_range : tuple of (float, float) or None
        Of the adversary; the default net scales wide ranges.
    **parameters
        Of the adversary: ``eps``, ``norm``, ``method`` and so on.

    Raises
    ------
    TypeError
        If ``estimator`` is none of these.
    ValueError
        If it has a callback that cannot work here.
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
        net = default_classifier(
            image_shape,
            n_classes,
            device=device,
            value_range=ThreatModel(clip_range=clip_range).value_range,
        )
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
    _refuse_early_stopping(net)
    # Validation is the classifier's: stratified, under attack, for any labels.
    return spare_lone_rows(net).set_params(
        train_split=None, clip_range=clip_range, **parameters
    )


def _refuse_early_stopping(net):
    """Raise for a callback that waits for a validation which does not take place."""
    for callback in net.callbacks or ():
        callback = callback[1] if isinstance(callback, tuple) else callback
        if callback is EarlyStopping or isinstance(callback, EarlyStopping):
            raise ValueError(
                "estimator has skorch's callback EarlyStopping; expected a net "
                "without it, as AdversarialClassifier validates by itself. Use "
                "AdversarialClassifier(early_stopping=True, n_iter_no_change=5), which "
                "stops on robust accuracy."
            )


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
