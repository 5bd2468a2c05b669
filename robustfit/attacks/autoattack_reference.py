"""AutoAttack as its authors publish it, behind robustfit's attack interface."""

import math
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from robustfit._utils.torch_bridge import seeded_torch
from robustfit.attacks._sanity import flags_as_warnings
from robustfit.attacks.base import AttackOutcome
from robustfit.attacks.ensemble import Ensemble
from robustfit.exceptions import FewClassesWarning

__all__ = ["AutoAttackReference"]

# Classes below which the loss of an attack is not defined.
_MINIMUM_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
_NORM_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


class AutoAttackReference(Ensemble):
    """The ensemble of Croce & Hein (2020), run by the package ``pyautoattack``.

    Parameters
    ----------
    version : {"standard", "plus", "rand"} or sequence of str, default="standard"
        A version of the paper, or the attacks to run one after the other, from
        "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t" and "square".
    batch_size : int, default=250
        Samples attacked together.

    Attributes
    ----------
    robust_after_ : dict of str to torch.Tensor of shape (n_samples,)
        After a call: which samples (bool) survived up to and with each attack.

    Raises
    ------
    ValueError
        For an unknown version or attack; when it runs, for a threat model with budgets
        or ranges per feature, which the package does not know.
    ImportError
        When it runs, without the package.

    Notes
    -----
    Differences from calling the package: its flags are
    :class:`~robustfit.exceptions.RobustnessWarning` classes and nothing is printed;
    torch's global random state is left as it was; any ``clip_range`` and flat rows
    work (the package clips to [0, 1] and takes images); attacks whose loss is not
    defined for two or three classes are left out with a ``FewClassesWarning`` (the
    package crashes); the number of targets is bounded by the number of classes;
    probabilities are turned back into logits, with a ``ProbabilityOutputWarning``. The
    verdicts on logits are the same, sample by sample, for the same seed and batch size.

    References
    ----------
    F. Croce, M. Hein. "Reliable evaluation of adversarial robustness with an ensemble
    of diverse parameter-free attacks", ICML 2020.

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import AutoAttackReference
    >>> net = torch.nn.Linear(6, 4)
    >>> x = torch.rand(2, 6)
    >>> attack = AutoAttackReference()
    >>> x_adv = attack(net, x, net(x).argmax(1), ThreatModel(eps=0.3),
    ...                torch.Generator().manual_seed(0))
    >>> list(attack.robust_after_)
    ['apgd-ce', 'apgd-t', 'fab-t', 'square']
    """

    batches_by_itself = True

    def __init__(
        self, version: str | Sequence[str] = "standard", *, batch_size: int = 250
    ):
        super().__init__(version, batch_size)

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model, and who survived which attack."""
        threat_model.refuse_per_feature(
            "autoattack-reference, the package pyautoattack,",
            "Use attack='autoattack', which honours them.",
        )
        _load_package()  # before any work
        seed = generator.initial_seed() if generator is not None else 0
        frame = _ImageFrame(x.detach(), threat_model)

        def image_logits(images):
            return logits_fn(frame.restore(images))

        images = frame.images(x.detach())
        attacks = self._usable_attacks(image_logits(images[:1]).shape[1])
        with seeded_torch(seed), flags_as_warnings():
            found, robust_after = self._run_in_turn(
                image_logits, images, y, frame, attacks, seed
            )
        unchanged = (found == images).flatten(1).all(1)
        x_adv = frame.restore(found)
        x_adv[unchanged] = x[unchanged]
        return AttackOutcome(x_adv, robust_after)

    def _run_in_turn(self, logits_fn, images, y, frame, attacks, seed):
        """Run the attacks in turn, each on the survivors of those before it."""
        engine = self._build_engine(logits_fn, images, frame, seed)
        x_adv = images.clone()
        robust = self._is_correct(logits_fn, images, y)
        robust_after = {}
        for name in attacks:
            rows = torch.nonzero(robust)[:, 0]
            if len(rows):
                engine.attacks_to_run = [name]
                x_adv[rows], _ = engine.run_standard_evaluation(
                    images[rows], y[rows], batch_size=self.batch_size
                )
                robust[rows] = self._is_correct(logits_fn, x_adv[rows], y[rows])
            robust_after[name] = robust.clone()
        return x_adv, robust_after

    def _is_correct(self, logits_fn, x, y):
        with torch.no_grad():
            parts = [
                logits_fn(x[i : i + self.batch_size]).argmax(1)
                for i in range(0, len(x), self.batch_size)
            ]
        return torch.cat(parts) == y

    def _build_engine(self, logits_fn, images, frame, seed):
        named = isinstance(self.version, str)
        n_classes = logits_fn(images[:1]).shape[1]
        engine = _load_package().AutoAttack(
            logits_fn,
            attacks=None if named else list(self.attacks),
            norm=_NORM_NAMES[frame.norm],
            eps=frame.eps,
            seed=seed,
            version=self.version if named else "custom",
            device=images.device,
        )
        engine.verbose = False
        for part in (engine.apgd_targeted, engine.fab):
            part.n_target_classes = min(9, n_classes - 1)
        return engine

    def _usable_attacks(self, n_classes):
        dropped = [a for a in self.attacks if n_classes < _MINIMUM_CLASSES.get(a, 2)]
        if dropped:
            warnings.warn(
                f"{', '.join(dropped)} left out: the DLR loss is not defined for "
                f"{n_classes} classes. The other attacks of the ensemble ran.",
                FewClassesWarning,
                stacklevel=4,
            )
        return [a for a in self.attacks if a not in dropped]


def _load_package():
    """Return pyautoattack, which nothing else here needs."""
    try:
        import pyautoattack
    except ImportError as error:
        raise ImportError(
            "attack='autoattack-reference' runs the package pyautoattack, which is "
            "not installed. Install it, or use attack='autoattack', robustfit's own."
        ) from error
    return pyautoattack


class _ImageFrame:
    """Samples as the package wants them: square images with values in [0, 1].

    It always clips to [0, 1], so other ranges are rescaled, and unbounded features
    are given a range that no perturbation reaches. Its Square attack needs square
    images, for l2 and l1 of at least five pixels a side; others are folded into one.
    """

    def __init__(self, x, threat_model):
        self.norm = threat_model.norm
        self._shape = x.shape[1:]
        smallest = 1 if self.norm == "linf" else 5
        is_square = x.ndim == 4 and x.shape[2] == x.shape[3] >= smallest
        self._side = None
        if not is_square:
            self._side = max(smallest, math.ceil(math.sqrt(math.prod(self._shape))))
        if threat_model.clip_range is None:
            reach = threat_model.eps + 1e-6
            self._low = float(x.min()) - reach
            high = float(x.max()) + reach
        else:
            self._low, high = threat_model.clip_range
        self._scale = high - self._low
        self.eps = threat_model.eps / self._scale

    def images(self, x):
        if (self._low, self._scale) != (0, 1):
            x = (x - self._low) / self._scale
        if self._side is None:
            return x
        flat = x.flatten(1)
        flat = F.pad(flat, (0, self._side**2 - flat.shape[1]))
        return flat.reshape(len(x), 1, self._side, self._side)

    def restore(self, images):
        x = images
        if self._side is not None:
            x = images.flatten(1)[:, : math.prod(self._shape)]
            x = x.reshape(len(images), *self._shape)
        if (self._low, self._scale) != (0, 1):
            x = x * self._scale + self._low
        return x
