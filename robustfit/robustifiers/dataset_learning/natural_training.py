"""Natural training of the inner net, as the paper fine-tunes it."""

import math

import torch
import torch.nn.functional as F

from robustfit._utils.training_batches import split_rows

__all__ = ["train_naturally"]

# Fine-tuning of "Towards Robust Dataset Learning", section 5.1.
LEARNING_RATE = 0.01
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def train_naturally(module, x, y, *, n_epochs, batch_size, generator, lr=LEARNING_RATE):
    """Train ``module`` in place on ``x, y``: cross-entropy, SGD, cosine schedule.

    Parameters
    ----------
    module : torch.nn.Module
    x : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,)
    n_epochs : int
    batch_size : int
    generator : torch.Generator
        Draws the order of the samples; on the device of ``x``.
    lr : float, default=0.01
        Learning rate of the first step; the cosine takes it to zero.
    """
    module.train()
    optimizer = torch.optim.SGD(
        module.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    n_batches = math.ceil(len(x) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, max(1, n_epochs * n_batches)
    )
    for _ in range(n_epochs):
        order = torch.randperm(len(x), generator=generator, device=x.device)
        for rows in split_rows(order, batch_size):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(module(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    module.eval()
