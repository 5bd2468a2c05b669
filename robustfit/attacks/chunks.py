"""Attack many samples chunk by chunk: in processes, on a cluster, and resumable.

A chunk is ``chunk_size`` samples that the model gets right. How the samples are cut
depends on that alone and every chunk starts from the same seed, so neither
the number of jobs nor an interruption changes a bit of the result.
"""

import os
from contextlib import contextmanager

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs

from robustfit._utils.checkpoint import Checkpoint
from robustfit._utils.sample_random import SampleGenerator
from robustfit._utils.torch_bridge import (
    batch_slices,
    eval_mode,
    seeded_torch,
    to_array,
    to_tensor,
)

__all__ = ["attack_in_chunks"]


def attack_in_chunks(
    attack, classifier, X, y_column, threat_model, *, seed, chunk_size, n_jobs, folder
):
    """Return adversarial inputs, and the survivors after each part of an ensemble.

    Parameters
    ----------
    attack : callable
        ``attack(logits_fn, x, y, threat_model, generator) -> x_adv``.
    classifier : TorchClassifier
        In eval mode, with frozen parameters.
    X : ndarray of shape (n_samples, ...), float32
        Samples that the classifier gets right.
    y_column : ndarray of shape (n_samples,), int64
        Their labels as columns of the logits.
    threat_model : ThreatModel
    seed : int
    chunk_size : int
        Samples of one chunk.
    n_jobs : int or None
        As joblib's; None is one, or what ``joblib.parallel_config`` says.
    folder : str, path or None
        Where finished chunks are saved and found again.

    Returns
    -------
    X_adv : ndarray of the shape of X
    robust_after : dict of str to ndarray of shape (n_samples,), bool
    """
    n_workers = max(1, effective_n_jobs(n_jobs))
    task = _ChunkTask(attack, classifier, threat_model, seed, folder, n_workers)
    chunks = list(batch_slices(len(X), chunk_size))
    n_jobs = 1 if len(chunks) < 2 else n_jobs
    results = Parallel(n_jobs=n_jobs)(
        delayed(task)(X[rows], y_column[rows]) for rows in chunks
    )
    if not results:
        return X.copy(), {}
    names = list(results[0][1])
    robust_after = {
        n: np.concatenate([after[n] for _, after in results]) for n in names
    }
    return np.concatenate([x_adv for x_adv, _ in results]), robust_after


class _ChunkTask:
    """What a worker does with one chunk; travels to other processes by pickle."""

    def __init__(self, attack, classifier, threat_model, seed, folder, n_workers):
        self.attack, self.classifier = attack, classifier
        self.threat_model, self.seed, self.folder = threat_model, seed, folder
        self.parent = os.getpid()
        self.n_threads = max(1, torch.get_num_threads() // n_workers)

    def __call__(self, X, y_column):
        checkpoint = Checkpoint(self.folder, *self._identity(X, y_column))
        state = checkpoint.load()
        if state is not None:
            arrays, record = state
            after = {n: arrays[f"after_{i}"] for i, n in enumerate(record["attacks"])}
            return arrays["X_adv"], after
        X_adv, after = self._attack(X, y_column)
        arrays = {f"after_{i}": alive for i, alive in enumerate(after.values())}
        checkpoint.save({"X_adv": X_adv, **arrays}, {"attacks": list(after)})
        return X_adv, after

    def _attack(self, X, y_column):
        classifier = self.classifier
        with (
            _threads(None if os.getpid() == self.parent else self.n_threads),
            seeded_torch(self.seed),
            eval_mode(classifier.module),
        ):
            x = to_tensor(X, classifier.device)
            y = torch.as_tensor(y_column, device=classifier.device)
            # An ensemble's checks of the model ran before, once for all chunks.
            checked = hasattr(self.attack, "check_model")
            run = self.attack.run if checked else self.attack
            generator = SampleGenerator(self.seed, classifier.device)
            x_adv = run(classifier, x, y, self.threat_model, generator)
            self.threat_model.check_perturbation(x_adv, x)
            after = getattr(self.attack, "robust_after_", {})
        return to_array(x_adv), {n: to_array(alive) for n, alive in after.items()}

    def _identity(self, X, y_column):
        if self.folder is None:
            return ()
        settings = {k: v for k, v in vars(self.attack).items() if k != "robust_after_"}
        return (
            type(self.attack).__qualname__,
            settings,
            repr(self.threat_model),
            self.seed,
            self.classifier.fingerprint(),
            X,
            y_column,
        )


@contextmanager
def _threads(n_threads):
    """Give torch ``n_threads`` inside the block; None changes nothing."""
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        if n_threads is not None:
            torch.set_num_threads(before)
