"""A teacher for soft labels: a net adversarially trained, one epoch a call.

Its probabilities of the *clean* images are the labels of the learned set. They say how
close an image is to other classes as a robust net sees it, which one hard label a row
cannot.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F

from robustfit._utils.training_batches import split_rows
from robustfit.classifiers.adversarial_training.training_attacks import pgd_images

__all__ = ["train_adversarially", "training_attack"]

ATTACK_STEPS = 6
LEARNING_RATE = 1e-3
# Share of all steps over which the budget rises to its full size.
WARM_UP = 0.4


def training_attack(module, x, y, threat_model, generator):
    """Return PGD images of ``x`` as training wants them: all steps, random start."""
    return pgd_images(
        module, x, y, threat_model, generator, n_steps=ATTACK_STEPS, step_size=None
    )


def train_adversarially(
    module, x, y, threat_model, *, epoch, n_epochs, batch_size, generator
):
    """Train ``module`` in place for one of ``n_epochs`` epochs (Madry et al., 2018).

    The budget rises over the first 40 % of the steps: from naturally trained weights,
    the full one collapses to guessing. Adam, its learning rate on a cosine over the
    epochs.
    """
    lr = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * epoch / n_epochs))
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    order = torch.randperm(len(x), generator=generator, device=x.device)
    batches = split_rows(order, batch_size)
    for number, rows in enumerate(batches, 1):
        share = (epoch + number / len(batches)) / (WARM_UP * n_epochs)
        risen = replace(threat_model, eps=threat_model.eps * min(1, share))
        x_adv = training_attack(module, x[rows], y[rows], risen, generator)
        module.train()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(module(x_adv), y[rows]).backward()
        optimizer.step()
    module.eval()
