"""What changes from epoch to epoch of an adversarial training."""

from dataclasses import dataclass, field

from robustfit.classifiers.adversarial_training.snapshots import Snapshot, pack, unpack

__all__ = ["TrainingState"]

_PLAIN_VALUES = ("n_done", "stage", "last_ended", "losses", "scores", "stopped")


@dataclass
class TrainingState:
    """All that an epoch may know of the epochs before it; saved in a checkpoint.

    Attributes
    ----------
    good : Snapshot
        Of the last good epoch; at first, of the weights that training starts from.
    best : Snapshot or None
        With the best robust validation accuracy of the stage.
    n_done : int
        Epochs of this fit that are done.
    stage : int
        Number of the stage that runs or ran last; -1 before the first.
    last_ended : int
        Number of the last stage whose weights have been chosen; -1 before the first.
    losses : list of float
        Training loss of each epoch of the stage.
    scores : list of float
        Robust validation accuracy of each, with early stopping.
    stopped : str or None
        Why the stage ended before its last epoch.
    """

    good: Snapshot
    best: Snapshot | None = None
    n_done: int = 0
    stage: int = -1
    last_ended: int = -1
    losses: list = field(default_factory=list)
    scores: list = field(default_factory=list)
    stopped: str | None = None

    def begin_stage(self, number):
        """Forget the epochs of the stage before."""
        self.stage, self.best, self.stopped = number, None, None
        self.losses, self.scores = [], []

    def pack(self, **more):
        """Return the state as arrays and a JSON record (and ``more``), to be saved."""
        arrays = pack("good", self.good)
        if self.best is not None:
            arrays |= pack("best", self.best)
        record = {name: getattr(self, name) for name in _PLAIN_VALUES}
        record["eps"] = [self.good.eps, self.best and self.best.eps]
        return arrays, more | record

    @classmethod
    def unpack(cls, arrays, record, like):
        """Return the state that :meth:`pack` gave; ``like`` is a snapshot of the net.

        Raises
        ------
        ValueError
            If an older version, whose history was its state, has written it.
        """
        missing = set(_PLAIN_VALUES) - set(record)
        if missing:
            raise ValueError(
                f"The checkpoint of this fit lacks {sorted(missing)}: expected one "
                "that this version of robustfit wrote. Delete it or use another "
                "folder, and the fit starts anew."
            )
        good_eps, best_eps = record["eps"]
        good, best = unpack("good", arrays, like, good_eps), None
        if any(name.startswith("best/") for name in arrays):
            best = unpack("best", arrays, like, best_eps)
        return cls(good, best, **{name: record[name] for name in _PLAIN_VALUES})
