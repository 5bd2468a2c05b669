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
from robustfit.classifiers.adversarial_training.snapshots import Snapshot, plain_rows
from robustfit.classifiers.adversarial_training.training_state import TrainingState
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


def hold_out(X, y, weights, fraction, n_iter_no_change, seed):
    """Return the training set less ``fraction`` of each class, and what it is for.

    Images, labels and weights (or None) of the training set, and the rest.

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
    weights = None if weights is None else np.delete(weights, held)
    return np.delete(X, held, axis=0), np.delete(y, held), weights, early_stopping


def warn_if_collapsed(state, eps, n_classes):
    """Warn when the last epoch's loss is that of the same answer for every image."""
    loss, guessing = state.losses[-1], np.log(n_classes)
    if not np.isfinite(loss):
        weights = "before training" if state.good.eps is None else "of the epoch before"
        warnings.warn(
            f"The training loss became {loss} at eps={eps:.3g}; training ended with "
            f"the weights {weights}. Lower the learning rate, or look for divisions by "
            "zero and for NaN that augment returns.",
            CollapsedTrainingWarning,
            stacklevel=4,
        )
        return
    if loss < COLLAPSED * guessing or state.stopped is not None:
        return
    warnings.warn(
        f"Adversarial training at eps={eps:.3g} ended with a training loss "
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
        A log for the user, one record an epoch; extended in place, never read.
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
    n_trained : int
        Epochs that they were trained for before.
    early_stopping : EarlyStopping or None
    weights : ndarray of shape (n_samples,) or None
        What an epoch draws rows in proportion to; None takes each once.
    loss_jump : float
        In units of the logarithm of the number of classes.

    Attributes
    ----------
    state : TrainingState
        All that later epochs depend on.
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
        n_trained=0,
        early_stopping=None,
        weights=None,
        loss_jump=0.25,
    ):
        self.net = net
        self.X, self.y, self.weights = X, y, weights
        self.history = history
        self.seed = seed
        self.early_stopping = early_stopping
        self.jump = loss_jump * np.log(n_classes)
        self.progress = progress
        self.checkpoint, self.saved = checkpoint, saved
        self._n_trained, self._net_first = n_trained, len(net.history)
        self.state = TrainingState(self._snapshot(trained_eps))

    @property
    def n_epochs(self):
        """Epochs that the net was trained for, earlier fits included."""
        return self._n_trained + self.state.n_done

    def run(self, stages):
        """Train through all stages; on an interrupt the last good state stays."""
        self._resume()
        try:
            for epoch in range(self._n_trained, self.n_epochs):
                self.progress.skip(f"epoch {epoch}")
            for number, stage in enumerate(stages):
                if number > self.state.last_ended:
                    self._run_stage(number, stage)
        except BaseException:
            self._restore(self.state.good)
            raise
        finally:
            set_training(self.net, False)

    def _run_stage(self, number, stage):
        state = self.state
        if state.stage != number:
            state.begin_stage(number)
        self._begin_stage(stage, n_done=len(state.losses))
        for eps in stage.budgets[len(state.losses) :]:
            if state.stopped is not None:
                break
            with self.progress.step(f"epoch {self.n_epochs}"):
                record = self._run_epoch(stage, eps)
                self._note(record, stage)
                self._save()
            self._report(record)
        self._end_stage()

    def _begin_stage(self, stage, n_done):
        """Let the callbacks begin where the stage began, resumed or not."""
        net = self.net
        rows = [net.history.pop() for _ in range(n_done)]
        net.set_params(max_epochs=len(stage.budgets))
        net.notify("on_train_begin", X=self.X, y=self.y)
        net.history.extend(reversed(rows))

    def _end_stage(self):
        """Go back to the weights with the best robust validation accuracy."""
        state = self.state
        if state.best is not None:
            state.good, state.best = state.best, None
            self._restore(state.good)
        state.last_ended = state.stage
        self._save()
        self.net.notify("on_train_end", X=self.X, y=self.y)

    def _run_epoch(self, stage, eps):
        """Train for one epoch at ``eps``; return what was measured."""
        n_epoch, number = self.n_epochs, self.state.stage
        self.net.set_params(eps=eps)
        seed = stage_generator(self.seed, n_epoch).initial_seed()
        X, y = self.X, self.y
        if self.weights is not None:
            share = self.weights / self.weights.sum()
            rows = np.random.default_rng(seed).choice(len(X), len(X), p=share)
            X, y = X[rows], y[rows]
        with seeded_torch(seed):
            self.net.fit_loop(X, y, epochs=1)
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
                ThreatModel(net.norm, eps, net.clip_range, net.scale),
                losses=["margin"],
                n_steps=n_steps,
                batch_size=500,
                generator=stage_generator(
                    self.seed, n_epoch, 1, device=classifier.device
                ),
            )
        return measured | {"validation_seconds": time.perf_counter() - start}

    def _note(self, record, stage):
        """Judge an epoch and log its record, with why the stage ends if it does."""
        state = self.state
        state.stopped = self._judge(record, stage)
        if state.stopped is not None:
            record["stopped"] = state.stopped
        state.n_done += 1
        self.history.append(dict(record))

    def _judge(self, record, stage):
        """Keep the weights of a good epoch; return why the stage ends, or None."""
        state = self.state
        fault = self._find_fault(record["train_loss"], stage)
        state.losses.append(record["train_loss"])
        if fault is not None:
            self._restore(state.good)
            return fault
        state.good = self._snapshot(record["eps"])
        if self.early_stopping is None:
            return None
        state.scores.append(record["robust_accuracy"])
        n_no_change = len(state.scores) - 1 - int(np.argmax(state.scores))
        if n_no_change == 0:
            state.best = state.good
        has_stopped = n_no_change >= self.early_stopping.n_iter_no_change
        return "robust accuracy" if has_stopped else None

    def _find_fault(self, loss, stage):
        """Return what is wrong with the loss of an epoch, or None."""
        earlier = self.state.losses[-JUMP_WINDOW:]
        if not np.isfinite(loss):
            return "loss is not finite"
        if stage.stops_at_jump and earlier and loss > min(earlier) + self.jump:
            return "jump of the loss"
        return None

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
        arrays, record = self.state.pack(
            seed=self.seed,
            history=self.history[-self.state.n_done :],
            net_history=plain_rows(self.net.history[self._net_first :]),
        )
        self.checkpoint.save(arrays, record)

    def _resume(self):
        if self.saved is None:
            return
        arrays, record = self.saved
        self.state = TrainingState.unpack(arrays, record, self.state.good)
        self.history.extend(record["history"])
        self.net.history.extend(record["net_history"])
        self._restore(self.state.good)
