"""Algorithm 1 of "Towards Robust Dataset Learning": three levels, one signed step.

theta(X_rob) = theta_0 - t grad_theta L(X_rob)                      (level 1)
X_adv        = PGD of the natural images against theta(X_rob)       (level 2)
X_rob       <- X_rob - beta sign(d L(theta(X_rob); X_adv) / d X_rob)  (level 3)
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch.func import functional_call

from robustfit._utils.torch_bridge import batch_slices
from robustfit.attacks import PGD
from robustfit.robustifiers.dataset_learning.stage_settings import MetaEpochs
from robustfit.robustifiers.dataset_learning.step import Step

__all__ = [
    "MetaEpoch",
    "MetaGradient",
    "exact_meta_gradient",
    "finite_difference_meta_gradient",
]


@dataclass(frozen=True)
class MetaEpoch(Step):
    """One epoch of Algorithm 1 on the set, from each theta_0 in turn."""

    epoch: int

    name = "meta-gradient"

    @property
    def _meta(self):
        return cast(MetaEpochs, self.recipe.meta)  # without it no epoch is planned

    def run(self, state, generator):
        """Replace the set; the record tells the mean outer loss."""
        algorithm = self._algorithm()
        theta_0 = {k: v.detach() for k, v in algorithm.module.named_parameters()}
        state.x_robust, _, loss = algorithm.run_epoch(
            state.x_robust, theta_0, generator, carry_lr=self._meta.carry_lr
        )
        return {"epoch": self.epoch, "outer_loss": loss}

    def _algorithm(self):
        problem, meta = self.problem, self._meta
        theta_0 = problem.theta_0s[self.epoch % len(problem.theta_0s)]
        return MetaGradient(
            copy.deepcopy(theta_0).eval(),
            problem.x,
            problem.y,
            attack=PGD(meta.attack_steps, meta.attack_step_size),
            threat_model=problem.threat_model,
            t=meta.t,
            beta=meta.beta,
            n_unrolled=meta.n_unrolled,
            derivative=meta.derivative,
            batch_size=self.recipe.batch_size,
        )


def _loss_gradient(module, parameters, x, y, inputs, *, create_graph=False):
    loss = F.cross_entropy(functional_call(module, parameters, (x,)), y)
    return loss, torch.autograd.grad(loss, inputs, create_graph=create_graph)


def exact_meta_gradient(module, parameters, x_robust, y, attack, *, t, n_unrolled):
    """Differentiate the adversarial loss through ``n_unrolled`` training steps.

    Parameters
    ----------
    module : torch.nn.Module
    parameters : dict of str to torch.Tensor
        Where training starts.
    x_robust, y : torch.Tensor of shape (n_samples, ...), (n_samples,)
    attack : callable
        Maps trained parameters to adversarial images of the natural ones.
    t : float
        Learning rate of the unrolled steps.
    n_unrolled : int

    Returns
    -------
    gradient : torch.Tensor of the shape of ``x_robust``
    outer_loss : float
        Adversarial loss of the trained parameters.
    """
    x_robust = x_robust.detach().requires_grad_(True)
    names = list(parameters)
    trained = {k: v.detach().requires_grad_(True) for k, v in parameters.items()}
    for _ in range(n_unrolled):
        _, slopes = _loss_gradient(
            module, trained, x_robust, y, list(trained.values()), create_graph=True
        )
        trained = {
            k: trained[k] - t * slope for k, slope in zip(names, slopes, strict=True)
        }
    x_adv = attack({k: v.detach() for k, v in trained.items()})
    loss, (gradient,) = _loss_gradient(module, trained, x_adv, y, [x_robust])
    return gradient, float(loss.detach())


def finite_difference_meta_gradient(
    module, parameters, x_robust, y, attack, *, t, n_unrolled
):
    """Return what :func:`exact_meta_gradient` does, without a double backward.

    The adjoint of each training step needs the mixed derivative of the loss in the
    direction v of the parameters, which central differences at theta +- h v give.
    """
    names, path = list(parameters), [parameters]
    for _ in range(n_unrolled):
        leaves = {k: v.detach().requires_grad_(True) for k, v in path[-1].items()}
        _, slopes = _loss_gradient(module, leaves, x_robust, y, list(leaves.values()))
        path.append(
            {k: path[-1][k] - t * s for k, s in zip(names, slopes, strict=True)}
        )
    x_adv = attack(path[-1])
    leaves = {k: v.detach().requires_grad_(True) for k, v in path[-1].items()}
    loss, adjoint = _loss_gradient(module, leaves, x_adv, y, list(leaves.values()))
    gradient = torch.zeros_like(x_robust)
    for theta in reversed(path[:-1]):
        in_x, in_theta = _directional_slopes(module, theta, x_robust, y, adjoint)
        gradient -= t * in_x
        adjoint = [a - t * s for a, s in zip(adjoint, in_theta, strict=True)]
    return gradient, float(loss.detach())


def _directional_slopes(module, theta, x, y, direction):
    """Differentiate the gradients in x and theta along ``direction`` of theta."""
    length = torch.sqrt(sum(d.square().sum() for d in direction)).clamp_min(1e-30)
    scale = torch.sqrt(sum(v.square().sum() for v in theta.values())).clamp_min(1e-30)
    h = 0.01 * scale / length
    sides = []
    for sign in (1, -1):
        moved = {
            k: (v + sign * h * d).detach().requires_grad_(True)
            for (k, v), d in zip(theta.items(), direction, strict=True)
        }
        x_leaf = x.detach().requires_grad_(True)
        _, slopes = _loss_gradient(module, moved, x_leaf, y, [x_leaf, *moved.values()])
        sides.append(slopes)
    slopes = [(a - b) / (2 * h) for a, b in zip(*sides, strict=True)]
    return slopes[0], slopes[1:]


META_GRADIENTS = {
    "exact": exact_meta_gradient,
    "finite-difference": finite_difference_meta_gradient,
}


class MetaGradient:
    """One epoch of Algorithm 1 a call, over batches of the set.

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode; its parameters are theta_0.
    x, y : torch.Tensor of shape (n_samples, ...), (n_samples,)
        The natural images and their classes.
    attack : PGD
    threat_model : ThreatModel
    t : float
        Learning rate of the unrolled training steps (gamma in the paper).
    beta : float
        Length of the signed step on the set.
    n_unrolled : int
    derivative : {"finite-difference", "exact"}
    batch_size : int
    """

    def __init__(
        self, module, x, y, *, attack, threat_model, t, beta, n_unrolled, derivative,
        batch_size,
    ):  # fmt: skip
        self.module, self.x, self.y = module, x, y
        self.attack, self.threat_model = attack, threat_model
        self.t, self.beta, self.n_unrolled = t, beta, n_unrolled
        self.meta_gradient = META_GRADIENTS[derivative]
        self.batch_size = batch_size

    def run_epoch(self, x_robust, parameters, generator, *, carry_lr=0.0):
        """Step on every row of ``x_robust`` once.

        With ``carry_lr`` > 0 the parameters follow the set by a plain training step
        after each batch. Returns the set, the parameters and the mean outer loss.
        """
        x_robust = x_robust.clone()
        order = torch.randperm(len(self.x), generator=generator, device=self.x.device)
        total = 0.0
        for batch in batch_slices(len(order), self.batch_size):
            rows = order[batch]
            gradient, loss = self._gradient(x_robust, parameters, rows, generator)
            stepped = x_robust[rows] - self.beta * gradient.sign()
            x_robust[rows] = self.threat_model.clip(stepped)
            total += loss * len(rows)
            if carry_lr > 0:
                parameters = self._train_step(x_robust, parameters, rows, carry_lr)
        return x_robust, parameters, total / len(order)

    def _gradient(self, x_robust, parameters, rows, generator):
        return self.meta_gradient(
            self.module,
            parameters,
            x_robust[rows],
            self.y[rows],
            partial(self._attack, rows, generator),
            t=self.t,
            n_unrolled=self.n_unrolled,
        )

    def _attack(self, rows, generator, trained):
        """Return adversarial images of natural ones, of the parameters ``trained``."""
        x, y = self.x[rows], self.y[rows]
        logits_fn = partial(functional_call, self.module, trained)
        return self.attack.run(logits_fn, x, y, self.threat_model, generator).x_adv

    def _train_step(self, x_robust, parameters, rows, lr):
        leaves = {k: v.detach().requires_grad_(True) for k, v in parameters.items()}
        _, slopes = _loss_gradient(
            self.module, leaves, x_robust[rows], self.y[rows], list(leaves.values())
        )
        return {
            k: (leaves[k] - lr * s).detach()
            for k, s in zip(leaves, slopes, strict=True)
        }
