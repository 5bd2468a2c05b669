"""Fictitious play: the set answers, again and again, to the net trained on it.

Each round perturbs some images towards *random* classes, as far as the current net
needs to be fooled, and then trains a net naturally on the set so far, from theta_0.
Random targets carry no information about the label, so what the perturbations teach is
that the directions in which nets are fooled do not matter.
"""

import copy
import time
from dataclasses import dataclass
from typing import cast

import torch

from robustfit._utils.torch_bridge import batch_slices, eval_mode
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance
from robustfit.robustifiers.dataset_learning.natural_training import train_naturally
from robustfit.robustifiers.dataset_learning.stage_settings import Play
from robustfit.robustifiers.dataset_learning.step import Step
from robustfit.threat_model import ThreatModel

__all__ = ["PlayRound", "perturb_towards"]

# Share of the rows of fictitious play that answer in a round; in the first all do.
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
    return attack.run(logits_fn, x, target, threat_model).x_adv


@dataclass(frozen=True)
class PlayRound(Step):
    """Perturb some rows against the last net, then train the next one on the set."""

    n_round: int

    name = "fictitious-play"

    @property
    def _play(self):
        return cast(Play, self.recipe.play)  # without one no round is planned

    def is_needed(self, state):
        """Leave moved images alone: they answer to theta_0; more rounds harm them."""
        return state.chosen is None or state.chosen.radius == 0

    def run(self, state, generator):
        """Replace the set and ``player``; the record tells rows, radius and epochs."""
        start, x = time.perf_counter(), self.problem.x
        played = self._play.rows_beside(state.chosen)
        rows_of_play = torch.arange(0, len(x), played.every, device=x.device)
        x_robust = self._perturb(state, rows_of_play, played.radius_factor, generator)
        perturbed = time.perf_counter()
        state.player = self._train(x_robust, generator)
        state.x_robust = x_robust
        return {
            "round": self.n_round,
            "n_rows": len(rows_of_play),
            "radius_factor": played.radius_factor,
            "n_epochs": self._play.n_epochs[self.n_round],
            "seconds_perturb": perturbed - start,
            "seconds_train": time.perf_counter() - perturbed,
        }

    def _perturb(self, state, rows_of_play, radius_factor, generator):
        """Return the set after the answer of some of the rows ``rows_of_play``."""
        given, batch_size = self.problem.threat_model, self.recipe.batch_size
        reach = ThreatModel(given.norm, radius_factor * given.eps, given.clip_range)
        rows, target = self._draw_rows(rows_of_play, generator)
        shown = rows if state.sources is None else state.sources[rows]
        x_robust = state.x_robust.clone()
        with eval_mode(state.player):
            for batch in batch_slices(len(rows), batch_size):
                answer = perturb_towards(
                    state.player,
                    self.problem.x[shown[batch]],
                    target[batch],
                    reach,
                    n_steps=self._play.n_steps,
                )
                x_robust[rows[batch]] = self._add_noise(answer, state, generator)
        return x_robust

    def _draw_rows(self, rows_of_play, generator):
        """Return the rows that answer in this round and a random class for each."""
        n, device = len(rows_of_play), rows_of_play.device
        n_rows = n if self.n_round == 0 else max(1, round(SHARE * n))
        order = torch.randperm(n, generator=generator, device=device)
        target = torch.randint(
            self.problem.n_classes, (n_rows,), generator=generator, device=device
        )
        return rows_of_play[order[:n_rows]], target

    def _add_noise(self, x, state, generator):
        """Lay the noise of the disturbed rows over ``x``, if they have any.

        Without it, nets that are fine-tuned for long on a set against large l2 budgets
        are not robust any more.
        """
        if state.chosen is None:
            return x
        chosen = state.chosen.disturbance
        if 0 in (chosen.amplitude, chosen.noise):
            return x
        return self.problem.disturb(Disturbance(0, 1, chosen.noise), x, generator)

    def _train(self, x_robust, generator):
        """Return a net naturally trained on the set, from each theta_0 in turn."""
        theta_0s = self.problem.theta_0s
        player = copy.deepcopy(theta_0s[self.n_round % len(theta_0s)])
        train_naturally(
            player,
            x_robust,
            self.problem.y,
            n_epochs=self._play.n_epochs[self.n_round],
            batch_size=self.recipe.batch_size,
            generator=generator,
        )
        return player
