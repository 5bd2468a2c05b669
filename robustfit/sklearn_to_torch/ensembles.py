"""Differentiable forms of scikit-learn's voting and calibrated classifiers."""

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.sklearn_private import voting_weights
from robustfit._utils.torch_bridge import to_tensor
from robustfit.exceptions import NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch


class _MeanProbability(nn.Module):
    """Logarithm of the weighted mean of members' probabilities."""

    log_weights: torch.Tensor

    def __init__(self, members, weights):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("log_weights", to_tensor(np.log(weights / weights.sum())))

    def forward(self, x):
        logs = torch.stack([member(x) for member in self.members])
        return (logs + self.log_weights.to(logs)[:, None, None]).logsumexp(0)


class _LogSoftmaxOf(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x).log_softmax(1)


@as_torch.register
def _(estimator: VotingClassifier):
    check_is_fitted(estimator)
    if estimator.voting != "soft":
        raise NotDifferentiableError(
            "VotingClassifier(voting='hard') counts votes, which have no gradient; use "
            "voting='soft', or attack='square'."
        )
    members = []
    for part in estimator.estimators_:
        classifier = as_torch(part)
        if not classifier.softmax_is_probability:
            raise NotDifferentiableError(
                f"The probabilities of {type(part).__name__} in the VotingClassifier "
                "have no differentiable form in torch; use attack='square'."
            )
        members.append(_LogSoftmaxOf(classifier.module))
    weights = voting_weights(estimator)
    return TorchClassifier(
        _MeanProbability([m for m, w in zip(members, weights, strict=True) if w > 0],
                         weights[weights > 0]),
        estimator.classes_, softmax_is_probability=True,
    )  # fmt: skip


class _Sigmoids(nn.Module):
    """Platt's sigmoid a class, and their normalised logarithm."""

    slopes: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, module, slopes, offsets, takes_probabilities):
        super().__init__()
        self.module, self.takes_probabilities = module, takes_probabilities
        self.register_buffer("slopes", to_tensor(slopes))
        self.register_buffer("offsets", to_tensor(offsets))

    def forward(self, x):
        values = self.module(x)
        if self.takes_probabilities:
            values = values.softmax(1)
        if len(self.slopes) == 1:
            value = values[:, 1] if self.takes_probabilities else (
                values[:, 1] - values[:, 0]
            )  # fmt: skip
            logit = -(self.slopes * value + self.offsets)
            return nn.functional.logsigmoid(torch.stack([-logit, logit], 1))
        logs = nn.functional.logsigmoid(-(values * self.slopes + self.offsets))
        return logs.log_softmax(1)


@as_torch.register
def _(estimator: CalibratedClassifierCV):
    check_is_fitted(estimator)
    members = [_calibrated_member(part) for part in estimator.calibrated_classifiers_]
    return TorchClassifier(
        _MeanProbability(members, np.ones(len(members))),
        estimator.classes_,
        softmax_is_probability=True,
    )


def _calibrated_member(part):
    calibrators = part.calibrators
    if not all(hasattr(c, "a_") and hasattr(c, "b_") for c in calibrators):
        raise NotDifferentiableError(
            f"CalibratedClassifierCV(method={part.method!r}) has no differentiable "
            "form in torch; use method='sigmoid', or attack='square'."
        )
    classifier = as_torch(part.estimator)
    takes_probabilities = not hasattr(part.estimator, "decision_function")
    if takes_probabilities and not classifier.softmax_is_probability:
        raise NotDifferentiableError(
            f"The probabilities of {type(part.estimator).__name__} have no "
            "differentiable form in torch; use attack='square'."
        )
    slopes = np.array([c.a_ for c in calibrators])
    offsets = np.array([c.b_ for c in calibrators])
    return _Sigmoids(classifier.module, slopes, offsets, takes_probabilities)
