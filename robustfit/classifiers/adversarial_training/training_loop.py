"""The loop over epochs: budgets, validation, stopping, resuming."""

import copy
import time
import warnings
from typing import NamedTuple

import numpy as np

from robustfit._utils.row_splits import stratified_share
from robustfit._utils.skorch_private import set_training
from robustfit._utils.torch_bridge import (
    seeded_torch,
    stage_generator,
    to_tensor,
)
from robustfit.classifiers.adversarial_training.skorch_net import steps_of
from robustfit.classifiers.adversarial_training.snapshots import (
    Snapshot,
    pack,
    plain_rows,
    unpack,
)
from robustfit.evaluation.judge import judge
from robustfit.exceptions import CollapsedTrainingWarning
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["TrainingLoop", "hold_out", "warn_if_collapsed"]

# A net overfitted to one-step attacks is found out by an attack of this many.
VALIDATION_STEPS = 10
# The loss of an epoch is compared with the lowest of this many epochs before.
JUMP_WINDOW = 3
# Share of the loss of guessing from which on training has learned nothing.
COLLAPSED = 0.97


class EarlyStopping(NamedTuple):
    """Held-out images, and for how many epochs their accuracy may stand still."""

    X: np.ndarray
    y: np.ndarray
    n_iter_no_change: int


def hold_out(X, y, fraction, n_iter_no_change, seed):
    """Return the training set less ``fraction`` of each class, and what it is for.

    Raises
    ------
    ValueError
        If the fraction is less than one image of every class.
    """
    held = stratified_share(y, lambda n: min(round(fraction * n), n - 1), [seed, 0])
    if not len(held):
        raise ValueError(
            f"validation_fraction={fraction} of {len(y)} rows leaves nothing to "
            "validate on; give a larger fraction, or early_stopping=False."
        )
    early_stopping = EarlyStopping(X[held], y[held], n_iter_no_change)
    return np.delete(X, held, axis=0), np.delete(y, held), early_stopping


def warn_if_collapsed(record, n_classes):
    """Warn when the last epoch's loss is that of the same answer for every image."""
    loss, guessing = record["train_loss"], np.log(n_classes)
    if loss < COLLAPSED * guessing or "stopped" in record:
        return
    warnings.warn(
        f"Adversarial training at eps={record['eps']:.3g} ended with a training loss "
        f"of {loss:.3g}; guessing has {guessing:.3g}. Reach this budget from a smaller "
        "one (eps_stages, eps_schedule='iterative'), or train longer.",
        CollapsedTrainingWarning,
        stacklevel=4,
    )


class TrainingLoop:
    """Trains a net epoch by epoch and always knows the last good weights.

    Parameters
    ----------
    net : AdversarialNet
        Initialized.
    X, y : ndarray
        float32 images and int64 classes.
    history : list of dict
        One record an epoch; extended in place.
    seed : int
        Epoch n draws from a generator seeded by this and n alone.
    n_classes : int
    progress : FitProgress
        Begun; has a step for each epoch of the stages.
    checkpoint : Checkpoint
    saved : tuple of (dict of arrays, dict) or None
        What the checkpoint holds.
    trained_eps : float or None
        Budget that the weights were trained at before; None for new weights.
    early_stopping : EarlyStopping or None
    loss_jump : float
        In units of the logarithm of the number of classes.
    """

    def __init__(
        self,
        net,
        X,
        y,
        *,
        history,
        seed,
        n_classes,
        progress,
        checkpoint,
        saved=None,
        trained_eps=None,
        early_stopping=None,
        loss_jump=0.25,
    ):
        self.net = net
        self.X, self.y = X, y
        self.history = history
        self.seed = seed
        self.early_stopping = early_stopping
        self.jump = loss_jump * np.log(n_classes)
        self.progress = progress
        self.checkpoint, self.saved = checkpoint, saved
        self._first, self._net_first = len(history), len(net.history)
        self._good = self._snapshot(trained_eps)
        self._best = None
        self._last_ended = -1

    @property
    def eps(self):
        """Budget of the last good epoch; None before the first."""
        return self._good.eps

    def run(self, stages):
        """Train through all stages; on an interrupt the last good state stays."""
        self._resume()
        try:
            for number, stage in enumerate(stages):
                done = [r for r in self.history[self._first :] if r["stage"] == number]
                for record in done:
                    self.progress.skip(f"epoch {record['epoch']}")
                if number > self._last_ended:
                    self._run_stage(number, stage, done)
        except BaseException:
            self._restore(self._good)
            raise
        finally:
            set_training(self.net, False)

    def _run_stage(self, number, stage, done):
        self._begin_stage(stage, n_done=len(done))
        records = list(done)
        has_stopped = bool(done) and "stopped" in done[-1]
        for eps in () if has_stopped else stage.budgets[len(done) :]:
            with self.progress.step(f"epoch {len(self.history)}"):
                record = self._run_epoch(number, stage, eps)
                records.append(record)
                self._judge(records, stage)
                self.history.append(record)
                self._save()
            self._report(record)
            if "stopped" in record:
                break
        self._end_stage(number)

    def _begin_stage(self, stage, n_done):
        """Let the callbacks begin where the stage began, resumed or not."""
        net = self.net
        rows = [net.history.pop() for _ in range(n_done)]
        net.set_params(max_epochs=len(stage.budgets))
        net.notify("on_train_begin", X=self.X, y=self.y)
        net.history.extend(reversed(rows))
        if n_done == 0:
            self._best = None

    def _end_stage(self, number):
        """Go back to the weights with the best robust validation accuracy."""
        if self._best is not None:
            self._good, self._best = self._best, None
            self._restore(self._good)
        self._last_ended = number
        self._save()
        self.net.notify("on_train_end", X=self.X, y=self.y)

    def _run_epoch(self, number, stage, eps):
        """Train for one epoch at ``eps``; return what was measured."""
        n_epoch = len(self.history)
        self.net.set_params(eps=eps)
        with seeded_torch(stage_generator(self.seed, n_epoch).initial_seed()):
            self.net.fit_loop(self.X, self.y, epochs=1)
        record = {"epoch": n_epoch, "stage": number, "eps": eps, **self._losses()}
        if self.early_stopping is not None:
            record |= self._validate(stage.eps, n_epoch)
        return record | {"seconds": self.progress.seconds}

    def _report(self, record):
        measured = {k: value for k, value in record.items() if k != "epoch"}
        self.progress.report(f"epoch {record['epoch']}", measured)

    def _losses(self):
        batches = self.net.history[
            -1, "batches", :,
            ("train_loss", "train_batch_size", "attack_seconds", "update_seconds"),
        ]  # fmt: skip
        loss, size, attack, update = np.array(batches, dtype=float).T
        return {
            "train_loss": float(np.average(loss, weights=size)),
            "attack_seconds": float(attack.sum()),
            "update_seconds": float(update.sum()),
        }

    def _validate(self, eps, n_epoch):
        """Return natural and robust accuracy on the held-out images at ``eps``."""
        net, start = self.net, time.perf_counter()
        classifier = as_torch(net)
        n_steps = max(VALIDATION_STEPS, steps_of(eps, net.n_steps, net.step_size)[0])
        with classifier.frozen():
            measured, _ = judge(
                classifier,
                to_tensor(self.early_stopping.X, classifier.device),
                classifier.encode(self.early_stopping.y),
                ThreatModel(net.norm, eps, net.clip_range),
                losses=["margin"],
                n_steps=n_steps,
                batch_size=500,
                generator=stage_generator(
                    self.seed, n_epoch, 1, device=classifier.device
                ),
            )
        return measured | {"validation_seconds": time.perf_counter() - start}

    def _judge(self, records, stage):
        """Keep the weights of a good epoch; mark the record that ends the stage."""
        record, earlier = records[-1], records[-1 - JUMP_WINDOW : -1]
        loss = record["train_loss"]
        if not np.isfinite(loss):
            record["stopped"] = "loss is not finite"
        elif stage.stops_at_jump and earlier:
            lowest = min(r["train_loss"] for r in earlier)
            if loss > lowest + self.jump:
                record["stopped"] = "jump of the loss"
        if "stopped" in record:
            self._restore(self._good)
            return
        self._good = self._snapshot(record["eps"])
        if self.early_stopping is None:
            return
        scores = [r["robust_accuracy"] for r in records]
        best = int(np.argmax(scores))
        if best == len(scores) - 1:
            self._best = self._good
        if len(scores) - 1 - best >= self.early_stopping.n_iter_no_change:
            record["stopped"] = "robust accuracy"

    def _snapshot(self, eps):
        net = self.net
        state = net.module_.state_dict(), net.optimizer_.state_dict()
        return Snapshot(*copy.deepcopy(state), eps)

    def _restore(self, snapshot):
        snapshot = copy.deepcopy(snapshot)
        self.net.module_.load_state_dict(snapshot.weights)
        self.net.optimizer_.load_state_dict(snapshot.optimizer)

    def _save(self):
        if self.checkpoint.path is None:
            return
        arrays = pack("good", self._good)
        if self._best is not None:
            arrays |= pack("best", self._best)
        self.checkpoint.save(arrays, {
            "seed": self.seed,
            "eps": [self._good.eps, self._best and self._best.eps],
            "last_ended": self._last_ended,
            "history": self.history[self._first :],
            "net_history": plain_rows(self.net.history[self._net_first :]),
        })  # fmt: skip

    def _resume(self):
        if self.saved is None:
            return
        arrays, record = self.saved
        self._good = unpack("good", arrays, self._good, record["eps"][0])
        if any(name.startswith("best/") for name in arrays):
            self._best = unpack("best", arrays, self._good, record["eps"][1])
        self._last_ended = record["last_ended"]
        self.history.extend(record["history"])
        self.net.history.extend(record["net_history"])
        self._restore(self._good)
