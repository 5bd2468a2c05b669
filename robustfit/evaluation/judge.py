"""The judge of sets and weights that are still being learned.

Early stopping, the choice of a disturbance and the choice of the best set all ask what
a net is worth on rows that it has not seen. What they call robust is the same: PGD on
given losses leaves the row standing. So are the names in ``history_``. For estimators
that are done there is :func:`robustfit.attack_estimator`.
"""

import torch

from robustfit._utils.sample_random import SampleGenerator
from robustfit._utils.torch_bridge import batch_slices
from robustfit.attacks import PGD

__all__ = ["judge"]


def judge(
    logits_fn,
    x,
    y,
    threat_model,
    *,
    losses,
    n_steps,
    batch_size,
    generator,
    search_fn=None,
):
    """Attack what stands with PGD on one loss after the other, and count.

    Parameters
    ----------
    logits_fn : callable
        In eval mode, with frozen parameters.
    x : torch.Tensor of shape (n_samples, ...)
        Natural images.
    y : torch.Tensor of shape (n_samples,)
        Their columns of the logits; a column that there is not is never right.
    threat_model : ThreatModel
    losses : sequence of str
        Of :class:`robustfit.attacks.PGD`.
    n_steps : int
    batch_size : int
    generator : torch.Generator or int
        Draws the starts of PGD; an integer seeds starts that belong to the images, the
        same in every batch and call.
    search_fn : callable or None, default=None
        The same function in less time, for the attacks; the verdicts are
        ``logits_fn``'s.

    Returns
    -------
    measured : dict
        ``natural_accuracy`` and ``robust_accuracy``, in [0, 1].
    x_adv : torch.Tensor of the shape of x
        What PGD on the first loss made of the images that were right.
    """
    attacks = [PGD(n_steps, loss=loss) for loss in losses]
    search_fn = logits_fn if search_fn is None else search_fn
    found, n_natural, n_robust = x.clone(), 0, 0
    for rows in batch_slices(len(x), batch_size):
        x_rows, y_rows = x[rows], y[rows]
        stands = _is_right(logits_fn, x_rows, y_rows)
        n_natural += int(stands.sum())
        for attack in attacks:
            alive = torch.nonzero(stands)[:, 0]
            if len(alive) == 0:
                break
            numbers = _numbers(generator, x.device)
            x_adv = attack.run(
                search_fn, x_rows[alive], y_rows[alive], threat_model, numbers
            ).x_adv
            stands[alive] = _is_right(logits_fn, x_adv, y_rows[alive])
            if attack is attacks[0]:
                found[rows][alive] = x_adv
        n_robust += int(stands.sum())
    measured = {
        "natural_accuracy": n_natural / len(x),
        "robust_accuracy": n_robust / len(x),
    }
    return measured, found


@torch.no_grad()
def _is_right(logits_fn, x, y):
    """Return which rows get their class; no answer (not finite) is a wrong one."""
    logits = logits_fn(x)
    return (logits.argmax(1) == y) & torch.isfinite(logits).all(1)


def _numbers(generator, device):
    if isinstance(generator, int):
        return SampleGenerator(generator, device)
    return generator
