"""Rewriters that change each sample by itself: in chunks, resumable, interruptible."""

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from robustfit._utils.fit_progress import FitProgress, open_fit
from robustfit._utils.labels import targets_of
from robustfit._utils.torch_bridge import (
    batch_slices,
    resolve_device,
    seeded_torch,
    to_tensor,
)
from robustfit._utils.training_batches import spare_lone_rows
from robustfit._utils.uninterrupted_fit import fit_uninterrupted
from robustfit.attacks.chunks import attack_in_chunks
from robustfit.nets import default_classifier
from robustfit.robustifiers.base import TrainingSetRewriter
from robustfit.sklearn_to_torch.fast_copy import fast_copy
from robustfit.sklearn_to_torch.probabilities import with_logits
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["ChunkedRewriter"]


class ChunkedRewriter(TrainingSetRewriter):
    """Base class of rewriters that ask one fitted classifier about each sample.

    A subclass has the parameters ``estimator``, ``batch_size``, ``device``, ``n_jobs``,
    ``random_state``, ``checkpoint`` and ``verbose``.
    """

    def _open_fit(self, X, y):
        """Return the seed, saved at once: chunks save themselves, under the seed."""
        source = self.estimator
        if _is_fitted(source):  # the pickle of a fitted net differs from run to run
            source = as_torch(source).fingerprint()
        checkpoint, saved, seed = open_fit(
            self, X, y, not_in_key=("estimator",), start=source
        )
        if saved is None:
            checkpoint.save({}, {"seed": seed})
        return seed

    def _fit_source(self, X, y, image_shape, threat_model, seed):
        """Set ``source_estimator_``: the given classifier if fitted, else a new one."""
        self._trained_here = not _is_fitted(self.estimator)
        if not self._trained_here:
            self.source_estimator_ = self.estimator
            return
        device = resolve_device(self.device)
        estimator = self._new_source(image_shape, threat_model, device)
        if estimator.get_params(deep=False).get("random_state", seed) is None:
            estimator.set_params(random_state=seed)
        with seeded_torch(seed):
            fit_uninterrupted(estimator, X, targets_of(estimator, y))
        self.source_estimator_ = estimator

    def _new_source(self, image_shape, threat_model, device):
        """Return an unfitted classifier for labels 0..n_classes-1."""
        if self.estimator is None:
            return default_classifier(
                image_shape,
                len(self.classes_),
                device=device,
                value_range=threat_model.value_range,
            )
        return spare_lone_rows(clone(self.estimator))

    def _rewrite_in_groups(self, rewrite, y, indices):
        """Set the learned set to ``rewrite(rows)``, called for groups of chunks.

        Its rows belong to the rows ``indices`` of X, whose classes ``y`` are. A group
        is what the workers do at once; an interrupt leaves what is finished.
        """
        groups = list(self._groups(len(indices)))
        parts: list[np.ndarray] = []
        try:
            with FitProgress(self, len(groups)) as progress:
                for rows in groups:
                    name = f"to row {rows.stop}"
                    with progress.step(name):
                        parts.append(rewrite(rows))
                    progress.report(name)
        finally:
            if parts:
                self.X_robust_ = np.concatenate(parts)
                self.sample_indices_ = indices[: len(self.X_robust_)]
                self.y_robust_ = self.classes_[y[self.sample_indices_]]

    def _groups(self, n_samples):
        n_workers = max(1, effective_n_jobs(self.n_jobs))
        return batch_slices(n_samples, self.batch_size * n_workers)

    def _run(self, attack, X, y_column, threat_model, seed):
        """Return what ``attack`` makes of ``X`` on the source, chunk by chunk."""
        classifier = as_torch(self.source_estimator_)
        with classifier.frozen():
            x = to_tensor(X[:8], classifier.device)
            fast = fast_copy(classifier, x)
            if attack.wants_logits:
                fast = with_logits(fast, x)
            return attack_in_chunks(
                attack, fast, X, y_column, threat_model, seed=seed,
                chunk_size=self.batch_size, n_jobs=self.n_jobs, folder=self.checkpoint,
            )[0]  # fmt: skip


def _is_fitted(estimator):
    if estimator is None:
        return False
    try:
        as_torch(estimator)
    except NotFittedError:
        return False
    return True
