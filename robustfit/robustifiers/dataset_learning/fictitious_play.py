"""Fictitious play: the set answers, again and again, to the net trained on it.

Each round perturbs some images towards *random* classes, as far as the current net
needs to be fooled, and then trains a net naturally on the set so far, from theta_0.
Random targets carry no information about the label, so what the perturbations teach is
that the directions in which nets are fooled do not matter.
"""

import copy
import time

import torch

from robustfit._utils.torch_bridge import batch_slices, eval_mode
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.robustifiers.dataset_learning.natural_training import train_naturally
from robustfit.threat_model import ThreatModel

__all__ = ["RADIUS_FACTOR", "FictitiousPlay", "perturb_towards"]

# Epochs of fine-tuning, round after round: a set that answers to short training only
# loses its robustness when it is trained on for longer. (1, 6, 2, 3) held for 5 epochs
# on 60,000 rows, not for 20.
EPOCHS_CYCLE = (1, 12, 2, 4)
# Perturbations of the set are larger than the budget it has to withstand.
RADIUS_FACTOR = 1.5
# Share of the rows that answer in each round (all of them in the first).
SHARE = 0.1


def perturb_towards(logits_fn, x, target, threat_model, *, n_steps):
    """Descend the cross-entropy of ``target`` from ``x`` within the threat model.

    Parameters
    ----------
    logits_fn : callable
    x : torch.Tensor of shape (n_samples, ...)
    target : torch.Tensor of shape (n_samples,)
    threat_model : ThreatModel
        Steps are twice its radius over ``n_steps``.
    n_steps : int

    Returns
    -------
    torch.Tensor of shape (n_samples, ...)
    """
    step_size = 2 * threat_model.eps / n_steps
    attack = EveryStepPGD(n_steps, step_size, towards=True)
    return attack(logits_fn, x, target, threat_model)


class FictitiousPlay:
    """The rounds, one call each, on a set and a net that the caller can save.

    Parameters
    ----------
    theta_0s : list of torch.nn.Module
        Naturally trained; round after round starts from a copy of the next, so that
        the set does not answer to one net alone.
    x, y : torch.Tensor of shape (n_samples, ...), (n_samples,)
        The natural images and their classes.
    n_classes : int
    threat_model : ThreatModel
        The one to withstand.
    n_steps : int
        Gradient steps of the perturbation.
    batch_size : int
    """

    def __init__(self, theta_0s, x, y, *, n_classes, threat_model, n_steps, batch_size):
        self.theta_0s, self.x, self.y = theta_0s, x, y
        self.n_classes = n_classes
        self.n_steps, self.batch_size = n_steps, batch_size
        self.threat_model = threat_model

    def play_round(
        self,
        x_robust,
        player,
        n_round,
        generator,
        *,
        playing=None,
        sources=None,
        radius_factor=RADIUS_FACTOR,
        finish=None,
    ):
        """Answer ``player`` on some of the rows ``playing`` (None: of all rows).

        ``sources`` are the rows of ``x`` whose natural images the rows show; None is
        each its own. They are perturbed by up to ``radius_factor`` times the budget to
        withstand, and ``finish(x, generator)`` is what the set shows then. Returns the
        set, the net that is then trained on all of it, and a record.
        """
        given = self.threat_model
        reach = ThreatModel(given.norm, radius_factor * given.eps, given.clip_range)
        start = time.perf_counter()
        if playing is None:
            playing = torch.arange(len(self.x), device=self.x.device)
        n = len(playing)
        n_rows = n if n_round == 0 else max(1, round(SHARE * n))
        order = torch.randperm(n, generator=generator, device=playing.device)
        rows = playing[order[:n_rows]]
        target = torch.randint(
            self.n_classes, (n_rows,), generator=generator, device=playing.device
        )
        x_robust = x_robust.clone()
        with eval_mode(player):
            for batch in batch_slices(n_rows, self.batch_size):
                i = rows[batch]
                answer = perturb_towards(
                    player,
                    self.x[i if sources is None else sources[i]],
                    target[batch],
                    reach,
                    n_steps=self.n_steps,
                )
                x_robust[i] = answer if finish is None else finish(answer, generator)
        perturbed = time.perf_counter()
        turn, place = divmod(n_round, len(self.theta_0s))
        player = copy.deepcopy(self.theta_0s[place])
        n_epochs = EPOCHS_CYCLE[turn % len(EPOCHS_CYCLE)]
        train_naturally(
            player,
            x_robust,
            self.y,
            n_epochs=n_epochs,
            batch_size=self.batch_size,
            generator=generator,
        )
        record = {
            "n_epochs": n_epochs,
            "seconds_perturb": perturbed - start,
            "seconds_train": time.perf_counter() - perturbed,
        }
        return x_robust, player, record
