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
from robustfit._utils.content_identity import content_hash
from robustfit._utils.sample_random import SampleGenerator
from robustfit._utils.torch_bridge import (
    batch_slices,
    seeded_torch,
    to_array,
    to_tensor,
)
from robustfit.attacks.base import Attack
from robustfit.exceptions import AttackBudgetError
from robustfit.threat_model import ThreatModel

__all__ = ["attack_in_chunks"]


def attack_in_chunks(
    attack: Attack,
    classifier,
    X: np.ndarray,
    y_column: np.ndarray,
    threat_model: ThreatModel,
    *,
    seed: int,
    chunk_size: int,
    n_jobs: int | None,
    folder: str | os.PathLike | None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return adversarial inputs, and the survivors after each part of an ensemble.

    Parameters
    ----------
    attack : Attack
        It is not written to: threads share it.
    classifier : TorchClassifier
        In eval mode, with frozen parameters, which threads share, too.
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

    Raises
    ------
    ValueError
        With a ``folder``, for an attack that cannot be told from others.
    """
    name = ""
    if folder is not None:
        model = classifier.fingerprint()
        name = content_hash(attack.identity(), repr(threat_model), seed, model)
    n_workers = max(1, effective_n_jobs(n_jobs))
    chunks = list(batch_slices(len(X), chunk_size))
    n_jobs = 1 if len(chunks) < 2 else n_jobs
    # Threads seed torch's one global generator in turn: put it back after them all.
    with attack.ready() as shared, seeded_torch(seed):
        task = _ChunkTask(
            shared, classifier, threat_model, seed, folder, name, n_workers
        )
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

    def __init__(self, attack, classifier, threat_model, seed, folder, name, n_workers):
        self.attack, self.classifier = attack, classifier
        self.threat_model, self.seed = threat_model, seed
        self.folder, self.name = folder, name
        self.parent = os.getpid()
        self.n_threads = max(1, torch.get_num_threads() // n_workers)

    def __call__(self, X, y_column):
        checkpoint = Checkpoint(self.folder, self.name, X, y_column)
        state = checkpoint.load()
        if state is not None:
            arrays, record = state
            return self._read(checkpoint, arrays, record, X)
        X_adv, after = self._attack(X, y_column)
        arrays = {f"after_{i}": alive for i, alive in enumerate(after.values())}
        checkpoint.save({"X_adv": X_adv, **arrays}, {"attacks": list(after)})
        return X_adv, after

    def _read(self, checkpoint, arrays, record, X):
        """Return a saved result; raise for what this attack cannot have saved."""
        try:
            X_adv = arrays["X_adv"]
            after = {n: arrays[f"after_{i}"] for i, n in enumerate(record["attacks"])}
            is_whole = all(alive.shape == (len(X),) for alive in after.values())
            is_bool = all(alive.dtype == bool for alive in after.values())
            if X_adv.shape != X.shape or X_adv.dtype != X.dtype:
                raise ValueError(f"X_adv is {X_adv.dtype} {X_adv.shape}")
            if not (is_whole and is_bool):
                raise ValueError("verdicts of other samples")
            self.threat_model.check_perturbation(to_tensor(X_adv), to_tensor(X))
        except (KeyError, TypeError, ValueError, AttackBudgetError) as error:
            raise checkpoint.refusal(f"{type(error).__name__}: {error}") from error
        return X_adv, after

    def _attack(self, X, y_column):
        classifier = self.classifier
        with (
            _threads(None if os.getpid() == self.parent else self.n_threads),
            seeded_torch(self.seed),
        ):
            x = to_tensor(X, classifier.device)
            y = torch.as_tensor(y_column, device=classifier.device)
            generator = SampleGenerator(self.seed, classifier.device)
            outcome = self.attack.run(classifier, x, y, self.threat_model, generator)
            self.threat_model.check_perturbation(outcome.x_adv, x)
        after = {n: to_array(alive) for n, alive in outcome.robust_after.items()}
        return to_array(outcome.x_adv), after


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
