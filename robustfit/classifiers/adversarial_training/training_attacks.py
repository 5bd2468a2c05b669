"""Adversarial examples as training wants them: all steps, no early exit.

Each is found on the net in eval mode with frozen parameters: the statistics of batch
norm stay those of training, and no gradient of a parameter is computed.
"""

import torch
import torch.nn.functional as F

from robustfit._utils.torch_bridge import eval_mode
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.attacks.losses import input_gradient
from robustfit.sklearn_to_torch.written_input import OwnInput

__all__ = ["fast_gradient_images", "pgd_images", "trades_images"]

# Wong et al. (2020): a step longer than eps after the random start.
FAST_GRADIENT_STEP = 1.25
# Zhang et al. (2019): the divergence has no gradient at the natural image itself.
TRADES_START = 1e-3


def pgd_images(module, x, y, threat_model, generator, *, n_steps, step_size):
    """Return PGD images of ``x`` from a random start (Madry et al., 2018)."""
    attack = EveryStepPGD(n_steps, step_size, random_start=True)
    with eval_mode(module):
        return attack.run(OwnInput(module), x, y, threat_model, generator).x_adv


def fast_gradient_images(module, x, y, threat_model, generator):
    """Return the images of one long step from a random start (Wong et al., 2020)."""
    step_size = FAST_GRADIENT_STEP * threat_model.eps
    return pgd_images(
        module, x, y, threat_model, generator, n_steps=1, step_size=step_size
    )


def trades_images(module, x, threat_model, generator, *, n_steps, step_size):
    """Return images whose predictions are far from those of ``x`` (TRADES).

    PGD on the Kullback-Leibler divergence (Zhang et al., 2019, Eq. 5).
    """
    with eval_mode(module):
        with torch.no_grad():
            log_p = module(x.clone()).log_softmax(1)
        logits_fn = OwnInput(module)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return threat_model.climb(
            lambda points: input_gradient(logits_fn, points, log_p, divergence),
            threat_model.project(x + threat_model.from_units(TRADES_START * noise), x),
            x,
            n_steps=n_steps,
            step_size=step_size,
        )


def divergence(logits, log_p):
    """Return the divergence (n_samples,) of the softmax of ``logits`` from ``p``."""
    terms = F.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True)
    return terms.sum(1)
