"""Pictures of the samples that an attack turns wrong most clearly."""

import io

import numpy as np

from robustfit.sklearn_to_torch.black_box import as_torch_or_black_box

__all__ = ["draw_worst_samples", "find_worst_samples"]


def find_worst_samples(estimator, result, y, n_samples, batch_size):
    """Return the rows that fell most clearly, and the labels given to them.

    Parameters
    ----------
    estimator : fitted classifier
    result : AttackResult
    y : ndarray of shape (n_samples,)
        True labels.
    n_samples : int
        Largest number of rows.
    batch_size : int

    Returns
    -------
    rows : ndarray of int
        Right unperturbed and wrong under attack, by how far the score of the wrong
        label is above that of the true one, furthest first.
    labels : list
        What the estimator says under attack.
    """
    fallen = np.flatnonzero(result.natural_correct & ~result.robust)
    if not len(fallen):
        return fallen, []
    classifier = as_torch_or_black_box(estimator)
    logits = classifier.logits(result.X_adv[fallen], batch_size).cpu().double().numpy()
    column = classifier.encode(y[fallen]).cpu().numpy()
    excess = logits.max(1) - logits[np.arange(len(fallen)), column]
    order = np.argsort(-excess, kind="stable")[:n_samples]
    said = logits[order].argmax(1)
    labels = said if classifier.classes is None else classifier.classes[said]
    return fallen[order], list(labels)


def draw_worst_samples(images, images_adv, truths, labels, value_range):
    """Return a PNG of images, their attacked versions and the difference, in columns.

    Parameters
    ----------
    images, images_adv : ndarray of shape (n_samples, C, H, W)
    truths, labels : sequence
        Labels without and under attack.
    value_range : tuple of (float, float)
        Values that are black and white.

    Returns
    -------
    bytes
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 * len(images) + 0.6, 5), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for column, (image, adversarial) in enumerate(zip(images, images_adv, strict=True)):
        difference = (adversarial - image).sum(0)
        largest = float(np.abs(difference).max()) or 1.0
        _show(axes[0, column], image, value_range, truths[column])
        _show(axes[1, column], adversarial, value_range, f"as {labels[column]}")
        axes[2, column].imshow(difference, cmap="RdBu_r", vmin=-largest, vmax=largest)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for ax, name in zip(axes[:, 0], ("natural", "attacked", "difference"), strict=True):
        ax.set_ylabel(name)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _show(ax, image, value_range, title):
    low, high = value_range
    scaled = (image - low) / (high - low)
    picture = scaled.transpose(1, 2, 0) if len(image) == 3 else scaled.mean(0)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
    ax.set_title(str(title), fontsize="medium", parse_math=False)
