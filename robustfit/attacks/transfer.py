"""Transfer attacks: fool surrogates, hope to fool the model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy

import numpy as np
import torch

from robustfit._utils.content_identity import identify
from robustfit.attacks.base import Attack, AttackOutcome, as_attack
from robustfit.attacks.gradient import PGD
from robustfit.attacks.search import Survivors, is_fooled
from robustfit.sklearn_to_torch.probabilities import recover_logits
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["TransferAttack"]


class TransferAttack(Attack):
    """Adversarial examples of surrogate models, tried on the model.

    Parameters
    ----------
    surrogates : list of fitted classifiers
        Anything :func:`robustfit.as_torch` takes, trained on the same classes.
    attack : Attack, callable or None, default=None
        The white-box attack on each surrogate; None is ``PGD(40)``.

    Raises
    ------
    ValueError
        For an empty list of surrogates; when it runs, for a surrogate that tells other
        classes apart than the model.

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

    def __init__(self, surrogates: Sequence, attack: Callable | None = None):
        if not isinstance(surrogates, list | tuple) or not surrogates:
            raise ValueError(
                f"surrogates is {surrogates!r}; expected a non-empty list of fitted "
                "classifiers."
            )
        self.surrogates = list(surrogates)
        self.attack = attack

    @contextmanager
    def ready(self) -> Iterator["TransferAttack"]:
        """Yield the attack with surrogates that are frozen: threads share them."""
        surrogates = [as_torch(surrogate) for surrogate in self.surrogates]
        with ExitStack() as stack:
            for surrogate in surrogates:
                stack.enter_context(surrogate.frozen())
            frozen = copy(self)
            frozen.surrogates = surrogates
            yield frozen

    def identity(self) -> tuple:
        """Return what tells this attack from others, for the names of checkpoints."""
        surrogates = [as_torch(s).fingerprint() for s in self.surrogates]
        return identify(type(self)), surrogates, self._white_box().identity()

    def _white_box(self):
        return PGD(40) if self.attack is None else as_attack(self.attack)

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model; robust samples unchanged.

        Surrogates are taken as they are; see :meth:`ready`.
        """
        attack = self._white_box()
        with torch.no_grad():
            logits = logits_fn(x)
        surrogates = [as_torch(surrogate) for surrogate in self.surrogates]
        for number, surrogate in enumerate(surrogates):
            _check_classes(number, surrogate, x[:2], logits_fn, logits)
        survivors = Survivors(x, is_fooled(logits, y))
        for surrogate in surrogates:
            rows = survivors.rows()
            if len(rows) == 0:
                break
            source = recover_logits(surrogate, x[:2])
            found = attack.run(source, x[rows], y[rows], threat_model, generator)
            x_adv = found.x_adv
            with torch.no_grad():
                survivors.record(rows, x_adv, is_fooled(logits_fn(x_adv), y[rows]))
        return AttackOutcome(survivors.x_adv)


def _check_classes(number, surrogate, x, model, logits):
    """Raise a ValueError unless surrogate and model have the same classes."""
    with torch.no_grad():
        n_columns = surrogate(x).shape[1]
    known = getattr(model, "classes", None)
    is_other = known is not None and surrogate.classes is not None
    is_other = is_other and not np.array_equal(np.asarray(known), surrogate.classes)
    if n_columns == logits.shape[1] and not is_other:
        return
    own, other = (
        f"{count} classes" if classes is None else f"the classes {classes.tolist()}"
        for count, classes in (
            (n_columns, surrogate.classes), (logits.shape[1], known)
        )
    )  # fmt: skip
    raise ValueError(
        f"surrogates[{number}] tells {own} apart, and the model {other}; expected the "
        "same, as a label is a column of both. Train the surrogate on the classes of "
        "the model."
    )
