"""The inner maximisation of Algorithm 1: PGD through the kernel predictor."""

import torch

from robustfit._utils.torch_bridge import batch_slices
from robustfit.attacks.losses import loss_and_input_gradient

__all__ = ["INNER_LOSSES", "attack_targets"]

INNER_LOSSES = (
    "cross-entropy",  # of the raw outputs, as in Algorithm 1
    "scaled-cross-entropy",  # of what attacks on the predictor see
    "margin",
    "dlr",
    "targeted-margin",
)


def attack_targets(
    regression,
    x,
    y,
    threat_model,
    *,
    losses,
    n_steps,
    step_size,
    batch_size,
    generator,
    n_classes,
):
    """Return PGD images of the targets, every step taken, from a random start.

    Parameters
    ----------
    regression : KernelRegression
        The predictor, solved before: only ``K(x, X_S)`` is computed a step.
    x : torch.Tensor of shape (n_targets, n_features)
    y : torch.Tensor of shape (n_targets,)
    threat_model : ThreatModel
    losses : tuple of str
        From ``INNER_LOSSES``; each attacks an equal share of the targets.
    n_steps : int
    step_size : float or None
        None is ``2.5 * eps / n_steps``.
    batch_size : int
    generator : torch.Generator
    n_classes : int

    Returns
    -------
    torch.Tensor of shape (n_targets, n_features)
    """
    x_adv = threat_model.random_start(x, generator)
    others = torch.randint(
        1, n_classes, (len(x),), generator=generator, device=x.device
    )
    others = (y + others) % n_classes
    for share, loss in zip(
        torch.arange(len(x)).tensor_split(len(losses)), losses, strict=True
    ):
        for batch in batch_slices(len(share), batch_size):
            rows = share[batch]
            x_adv[rows] = _climb(
                regression, x_adv[rows], x[rows], y[rows], others[rows], threat_model,
                loss, n_steps, step_size,
            )  # fmt: skip
    return x_adv


def _climb(regression, x_adv, x, y, others, threat_model, loss, n_steps, step_size):
    targets = others if loss == "targeted-margin" else None
    logits_fn = regression.logits if loss == "scaled-cross-entropy" else regression
    loss = loss.removeprefix("targeted-").removeprefix("scaled-")

    def gradient_fn(points):
        return loss_and_input_gradient(logits_fn, points, y, loss, targets)[1]

    return threat_model.climb(
        gradient_fn, x_adv, x, n_steps=n_steps, step_size=step_size
    )
