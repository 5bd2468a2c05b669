"""The loss of nets between two weights, and around one input: numbers and picture."""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.input_arrays import plain_array
from robustfit._utils.torch_bridge import batch_slices, draw_seed, per_sample, to_tensor
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.attacks.losses import cross_entropy, input_gradient
from robustfit.evaluation.gate import admit_known, validate_data
from robustfit.sklearn_to_torch.probabilities import with_logits
from robustfit.threat_model import ThreatModel

__all__ = ["LossLine", "LossSurface", "loss_along_line", "loss_around_input"]


@dataclass(frozen=True)
class LossLine:
    """Mean adversarial loss along a line between the weights of two nets.

    Attributes
    ----------
    position : ndarray of shape (n_points,)
        0 are the first net's weights, 1 the second's.
    eps : ndarray of shape (n_budgets,)
    loss : ndarray of shape (n_budgets, n_points)
        Cross-entropy in nats.
    norm : str
    """

    position: np.ndarray
    eps: np.ndarray
    loss: np.ndarray
    norm: str


@dataclass(frozen=True)
class LossSurface:
    """Loss of a net around one input, along its gradient and a random direction.

    Attributes
    ----------
    distance : ndarray of shape (n_points,)
        Length of the move in either direction, in the threat model's norm.
    loss : ndarray of shape (n_points, n_points)
        Cross-entropy in nats; rows are moves in the random direction, columns moves
        along the gradient.
    norm : str
    """

    distance: np.ndarray
    loss: np.ndarray
    norm: str


def loss_along_line(
    start, end, X, y, *, eps, norm, clip_range, n_points, n_steps, batch_size
):
    """Return the :class:`LossLine` between two fitted nets of one architecture."""
    check_count("n_points", n_points)
    check_count("n_steps", n_steps)
    check_count("batch_size", batch_size)
    threat_models = [ThreatModel(norm, e, clip_range) for e in np.atleast_1d(eps)]
    given, (X, y) = X, validate_data(X, y, threat_models[0])
    gate = {"given": given, "batch_size": batch_size}
    start, _ = admit_known(start, X, y, **gate)
    end, column = admit_known(end, X, y, **gate)
    first, last = start.module.state_dict(), end.module.state_dict()
    _check_same_weights(first, last)
    x = to_tensor(X, end.device)
    between = end.with_module(copy.deepcopy(end.module))
    position = np.linspace(0.0, 1.0, n_points)
    loss = np.empty((len(threat_models), n_points))
    with between.frozen():
        logits = with_logits(between, x[:2])  # of the same module, whatever its weights
        for j, alpha in enumerate(position):
            between.module.load_state_dict(_interpolate(first, last, float(alpha)))
            for i, threat_model in enumerate(threat_models):
                loss[i, j] = _adversarial_loss(
                    logits, x, column, threat_model, n_steps, batch_size
                )
    return LossLine(position, np.array([t.eps for t in threat_models]), loss, norm)


def loss_around_input(
    estimator, x, y, *, eps, norm, clip_range, n_points, batch_size, random_state
):
    """Return the :class:`LossSurface` of a fitted classifier around one input."""
    check_count("n_points", n_points)
    check_count("batch_size", batch_size)
    threat_model = ThreatModel(norm, eps, clip_range)
    threat_model.refuse_per_feature(
        "the loss around an input", "Divide each column of X by its budget."
    )
    given = np.asarray(plain_array(x, "x"))[None]
    X, label = validate_data(given, [y], threat_model)
    classifier, column = admit_known(estimator, X, label, batch_size=batch_size)
    centre = to_tensor(X, classifier.device)
    distance = np.linspace(-eps, eps, n_points)
    steps = to_tensor(distance, classifier.device)
    generator = torch.Generator().manual_seed(draw_seed(random_state))
    random = torch.randn(centre.shape, generator=generator).to(centre.device)
    with classifier.frozen():
        classifier = with_logits(classifier, centre)
        gradient = input_gradient(classifier, centre, column)
        adversarial = threat_model.steepest_direction(gradient)
        random = threat_model.steepest_direction(random)
        rows = []
        for step in steps:
            moves = step * random + per_sample(steps, centre) * adversarial
            points = threat_model.clip(centre + moves)
            labels = column.expand(n_points)
            rows.append(_losses(classifier, points, labels, batch_size))
    return LossSurface(distance, torch.stack(rows).cpu().numpy(), norm)


def _check_same_weights(first, last):
    """Raise unless two nets hold weights of the same shapes, in the same order.

    Names may differ: an estimator puts its net into a module of its own.
    """
    shapes = [[tuple(v.shape) for v in state.values()] for state in (first, last)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"start and end are no nets of one architecture: their weights have the "
            f"shapes {shapes[0]} and {shapes[1]}. A line between weights needs two "
            "fits of the same net."
        )


def _interpolate(first, last, alpha):
    """Return weights (and running statistics) between two; counters are the last's."""
    return {
        name: torch.lerp(start.to(end.device), end, alpha)
        if end.is_floating_point()
        else end
        for start, (name, end) in zip(first.values(), last.items(), strict=True)
    }


def _adversarial_loss(classifier, x, y, threat_model, n_steps, batch_size):
    attack = EveryStepPGD(n_steps) if threat_model.eps > 0 else None
    total = 0.0
    for rows in batch_slices(len(x), batch_size):
        points = x[rows]
        if attack is not None:
            points = attack.run(classifier, points, y[rows], threat_model).x_adv
        total += float(_losses(classifier, points, y[rows], batch_size).sum())
    return total / len(x)


def _losses(classifier, x, y, batch_size):
    """Return the cross-entropy of each sample."""
    return cross_entropy(classifier.logits(x, batch_size), y, value_only=True)
