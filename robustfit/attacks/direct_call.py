"""The gate of attacks that are called directly, on tensors and a model of the user.

It is what :mod:`robustfit.evaluation.gate` is for estimators and arrays: behind it the
model is a function of logits, and labels are columns of them.
"""

import torch
from torch import nn

from robustfit._utils.torch_bridge import seeded_torch, to_array
from robustfit.sklearn_to_torch.label_columns import check_columns, label_columns
from robustfit.sklearn_to_torch.probabilities import refuse_one_probability
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch

__all__ = ["admit_tensors"]


def admit_tensors(model, x, y, threat_model):
    """Return a model as a function of logits, its inputs and columns, all checked.

    Parameters
    ----------
    model : TorchClassifier, torch.nn.Module or callable
        Of tensors; its output may be anything that logits can be made of.
    x : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,)
    threat_model : ThreatModel

    Returns
    -------
    classifier : TorchClassifier
    x : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,), int64
        On the device of ``x``.

    Raises
    ------
    TypeError
        For estimators and arrays, which :func:`robustfit.attack_estimator` takes.
    PixelRangeError
        For inputs outside the threat model's range.
    ValueError
        For outputs that are no logits, and labels that have no column.
    """
    _check_tensors(x, y)
    classifier = _as_classifier(model)
    x = threat_model.check_range(x)
    threat_model.warn_of_unit(x)
    with torch.no_grad(), seeded_torch(0):
        logits = classifier(x[:2])
    refuse_one_probability(classifier, x[:1], logits)
    columns = label_columns(to_array(y))
    check_columns(to_array(y), columns, logits.shape[1])
    return classifier, x, torch.as_tensor(columns, device=x.device)


def _check_tensors(x, y):
    for name, value in {"x": x, "y": y}.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} is a {type(value).__name__}; expected a torch.Tensor. For "
                "arrays there is robustfit.attack_estimator."
            )
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"y has shape {tuple(y.shape)} and x {tuple(x.shape)}; expected a label, "
            f"the column of a logit, for each of {len(x)} samples."
        )


def _as_classifier(model):
    if isinstance(model, TorchClassifier | nn.Module):
        return as_torch(model)
    if callable(model):
        return TorchClassifier(_Function(model))
    raise TypeError(
        f"The model is a {type(model).__name__}; expected a torch.nn.Module or a "
        "function of tensors that returns logits. For estimators there is "
        "robustfit.attack_estimator; robustfit.as_torch makes a function of one."
    )


class _Function(nn.Module):
    """A function as a module."""

    def __init__(self, logits_fn):
        super().__init__()
        self.logits_fn = logits_fn

    def forward(self, x):
        return self.logits_fn(x)
