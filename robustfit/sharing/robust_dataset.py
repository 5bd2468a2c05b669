"""``RobustDataset``: a learned set, its labels and its card."""

import numpy as np

from robustfit.sharing._exports import TorchView, as_huggingface, write_png_folder

__all__ = ["RobustDataset"]


class RobustDataset:
    """A learned set that can be passed on.

    Made by :func:`save_robust_dataset` and :func:`load_robust_dataset`.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features) or (n_samples, C, H, W), float32
    targets : ndarray of shape (n_samples,), int64, or (n_samples, n_classes), float32
        Column of ``classes`` for each row, or soft labels.
    classes : ndarray of shape (n_classes,)
    card : dict
        What JSON can hold: method, parameters, threat model, source, versions, licence
        note, what was measured, checksums.
    sample_indices : ndarray of shape (n_samples,) or None, default=None
        Row of the natural set that each row belongs to.
    source_indices : ndarray of shape (n_samples,) or None, default=None
        Row of the natural set whose image each row shows, where the method tells.

    Attributes
    ----------
    X, targets, classes, card, sample_indices, source_indices
        As passed.
    y : ndarray of shape (n_samples,) or (n_samples, n_classes)
        The labels that an estimator is fitted with: of the natural set's type, or soft.
    images : ndarray of shape (n_samples, C, H, W) or (n_samples, n_features)
        ``X``, flat rows reshaped to the images they came from where that is known.
    has_soft_labels : bool

    See Also
    --------
    save_robust_dataset, load_robust_dataset

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import NoisyDataset, save_robust_dataset
    >>> X, y = load_digits(return_X_y=True)
    >>> noisy = NoisyDataset(eps=0.1, image_shape=(1, 8, 8)).fit(X[:50] / 16, y[:50])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_robust_dataset(os.path.join(folder, "noisy.npz"), noisy)
    RobustDataset(50 rows of shape 1x8x8, 10 classes, hard labels; NoisyDataset, \
linf eps=0.1)
    """

    def __init__(
        self, X, targets, classes, card, sample_indices=None, source_indices=None
    ):
        self.X = X
        self.targets = targets
        self.classes = classes
        self.card = card
        self.sample_indices = sample_indices
        self.source_indices = source_indices

    @property
    def has_soft_labels(self):
        """Whether a row has a probability for each class instead of one label."""
        return self.targets.ndim == 2

    @property
    def y(self):
        """The labels to fit an estimator with."""
        return self.targets if self.has_soft_labels else self.classes[self.targets]

    @property
    def images(self):
        """``X`` in the shape of images where it is known."""
        shape = tuple(self.card["image_shape"])
        return self.X.reshape(len(self.X), *shape)

    def to_torch(self):
        """Return a ``torch.utils.data.Dataset`` of ``(image, label)`` tensors.

        Returns
        -------
        torch.utils.data.Dataset
            Images of the shape of ``X``'s rows, float32; labels 0..n_classes-1
            (int64) or soft ones (float32).
        """
        return TorchView(self.X, self.targets)

    def to_huggingface(self):
        """Return a Hugging Face ``datasets.Dataset``; needs that library.

        Returns
        -------
        datasets.Dataset
            Columns ``image`` (float32) and ``label`` (a ``ClassLabel``, or a list of
            soft labels); the card, as JSON, is its ``info.description``.

        Raises
        ------
        ImportError
            Without the library ``datasets``.
        """
        return as_huggingface(self)

    def export_png(self, folder):
        """Write the images as PNG files, one subfolder a class.

        ``torchvision.datasets.ImageFolder`` and Hugging Face's ``imagefolder`` read
        such a folder. ``card.json`` lies beside the classes, ``soft_labels.csv`` too
        where labels are soft (an image is then in the folder of its likeliest class).

        Parameters
        ----------
        folder : str or path
            A folder that does not exist yet.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        FileExistsError
            If ``folder`` exists.
        ImageShapeError, ValueError, PixelRangeError
            If rows are no images of 1 or 3 channels, the ``clip_range`` is unknown, or
            values lie outside it.

        Notes
        -----
        PNG holds 256 levels, so values are rounded by up to 1/510 of the range; with
        the budgets that sets are learned for this is little, but what was measured
        was measured before rounding. ``.npz`` keeps every bit.
        """
        return write_png_folder(self, folder)

    def __len__(self):
        """Return the number of rows."""
        return len(self.X)

    def __repr__(self):
        shape = "x".join(str(side) for side in np.asarray(self.card["image_shape"]))
        labels = "soft" if self.has_soft_labels else "hard"
        threat = self.card.get("threat_model") or {}
        made = [str(self.card.get("method") or "unknown method")]
        if "eps" in threat:
            eps = threat["eps"]
            budget = "eps per feature" if isinstance(eps, list) else f"eps={eps:.4g}"
            made.append(f"{threat.get('norm')} {budget}")
        return (
            f"RobustDataset({len(self)} rows of shape {shape}, {len(self.classes)} "
            f"classes, {labels} labels; {', '.join(made)})"
        )
