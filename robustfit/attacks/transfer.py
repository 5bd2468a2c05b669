"""Transfer attacks: fool surrogates, hope to fool the model."""

import torch

from robustfit._utils.torch_bridge import eval_mode
from robustfit.attacks.gradient import PGD
from robustfit.attacks.search import Survivors, is_fooled
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["TransferAttack"]


class TransferAttack:
    """Adversarial examples of surrogate models, tried on the model.

    Parameters
    ----------
    surrogates : list of fitted classifiers
        Anything :func:`robustfit.as_torch` takes, trained on the same classes.
    attack : callable or None, default=None
        The white-box attack on each surrogate; None is ``PGD(40)``.

    Raises
    ------
    ValueError
        For an empty list of surrogates.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)``. A surrogate
    trained apart from the model makes a black-box attack; the model that the defended
    one was trained from makes the "semi-black box" attack of the paper.

    References
    ----------
    A. Shaeiri, R. Nobahari, M. H. Rohban. "Towards deep learning models resistant to
    large perturbations", 2020 (appendix C, items 11 and 12).

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import TransferAttack
    >>> net = torch.nn.Linear(6, 3)
    >>> x = torch.rand(4, 6)
    >>> x_adv = TransferAttack([torch.nn.Linear(6, 3)])(
    ...     net, x, net(x).argmax(1), ThreatModel(eps=0.1))
    >>> x_adv.shape
    torch.Size([4, 6])
    """

    needs_gradients = False

    def __init__(self, surrogates, attack=None):
        if not isinstance(surrogates, list | tuple) or not surrogates:
            raise ValueError(
                f"surrogates is {surrogates!r}; expected a non-empty list of fitted "
                "classifiers."
            )
        self.surrogates = list(surrogates)
        self.attack = attack

    def __call__(self, logits_fn, x, y, threat_model, generator=None):
        """Return adversarial inputs of the shape of ``x``; robust samples unchanged."""
        if len(x) == 0:
            return x
        attack = PGD(40) if self.attack is None else self.attack
        with torch.no_grad():
            survivors = Survivors(x, is_fooled(logits_fn(x), y))
        for surrogate in map(as_torch, self.surrogates):
            rows = survivors.rows()
            if len(rows) == 0:
                break
            with eval_mode(surrogate.module):
                x_adv = attack(surrogate, x[rows], y[rows], threat_model, generator)
            with torch.no_grad():
                survivors.record(rows, x_adv, is_fooled(logits_fn(x_adv), y[rows]))
        return survivors.x_adv
