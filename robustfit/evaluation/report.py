"""A report of a model's robustness that an auditor can file, from one call."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robustfit._utils.argument_checks import check_integer
from robustfit._utils.image_validation import check_image_shape
from robustfit._utils.input_arrays import plain_array
from robustfit.attacks.by_name import make_attack, with_attack_names
from robustfit.evaluation.attack_choice import resolve_attack
from robustfit.evaluation.attacking import attack_in_turn, validate_data
from robustfit.evaluation.masking import check_gradient_masking
from robustfit.evaluation.report_blocks import (
    Heading,
    Paragraph,
    Picture,
    to_html,
    to_markdown,
)
from robustfit.evaluation.report_pictures import draw_worst_samples, find_worst_samples
from robustfit.evaluation.report_sections import (
    Finding,
    attack_table,
    front_page,
    section,
)
from robustfit.threat_model import ThreatModel

__all__ = ["write_report"]

_RENDERERS = {".html": to_html, ".htm": to_html, ".md": to_markdown}


@with_attack_names
def write_report(
    path: str | os.PathLike,
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    threat_models: ThreatModel | Sequence[ThreatModel] = ThreatModel(),  # noqa: B008 (frozen)
    attacks: str | Callable | Sequence[str | Callable] = ("pgd", "autoattack"),
    name: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    n_pictures: int = 6,
    check_masking: bool = False,
    n_steps: int = 40,
    n_restarts: int = 1,
    version: str | Sequence[str] = "standard",
    batch_size: int = 128,
    n_jobs: int | None = None,
    random_state: int = 0,
) -> Path:
    """Attack a fitted estimator and write what was found into one file.

    Parameters
    ----------
    path : str or path
        Ends in ".html", with pictures inside, or ".md", with pictures as files beside
        it. What is there is replaced.
    estimator : fitted classifier
        Anything :func:`robustfit.attack_estimator` takes.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Test images that the estimator was not trained on.
    y : array-like of shape (n_samples,)
    threat_models : ThreatModel or sequence of ThreatModel, default=ThreatModel()
        Each is a section.
    attacks : one or a sequence of {attacks} or callable, default=("pgd", "autoattack")
        The last one is that of the pictures: put the strongest there.
    name : str or None, default=None
        Of the model; None is the name of the estimator's class.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from, for pictures of them.
    n_pictures : int, default=6
        Samples that are shown: right unperturbed, and wrong under attack by the largest
        difference of scores. 0 shows none and does not need matplotlib.
    check_masking : bool, default=False
        Add :func:`robustfit.check_gradient_masking`, which takes as long as many
        attacks.
    n_steps, n_restarts
        Of PGD, see :class:`robustfit.attacks.PGD`.
    version : {"standard", "plus", "rand"} or sequence of str, default="standard"
        Of AutoAttack, see :class:`robustfit.attacks.AutoAttack`.
    batch_size : int, default=128
    n_jobs : int or None, default=None
    random_state : int, default=0
        The same integer gives the same numbers, and those of
        :func:`robustfit.attack_estimator`.

    Returns
    -------
    pathlib.Path
        Of the file.

    Raises
    ------
    ValueError
        For another ending, or no attack or threat model; before the attacks start.

    Warns
    -----
    RobustnessWarning
        Warnings of the attacks are in the report, and are given once more.

    See Also
    --------
    attack_estimator : One attack, as arrays.
    RobustnessReport : The same numbers as a scorer.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import ThreatModel, write_report
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression().fit(X[:1000] / 16, y[:1000])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_report(
    ...         Path(folder) / "model.md", model, X[1000:1100] / 16, y[1000:1100],
    ...         threat_models=ThreatModel("linf", 0.05), attacks=["pgd"], n_pictures=0)
    ...     print(path.read_text().splitlines()[0])
    # Robustness of LogisticRegression
    """
    path = _check_path(path)
    check_integer("n_pictures", n_pictures)
    check_integer("random_state", random_state)
    threat_models = _listed("threat_models", threat_models)
    hardest = max(threat_models, key=lambda threat: threat.is_per_feature)
    attacks = [
        make_attack(
            resolve_attack(attack, estimator, hardest), n_steps=n_steps,
            n_restarts=n_restarts, version=version, batch_size=batch_size,
        )
        for attack in _listed("attacks", attacks)
    ]  # fmt: skip
    if image_shape is not None:
        image_shape = check_image_shape(image_shape)
    X, y = plain_array(X), np.asarray(plain_array(y, "y"))
    shared = {"batch_size": batch_size, "n_jobs": n_jobs, "random_state": random_state}
    findings = [
        _attack(estimator, X, y, attacks, threat_model, check_masking, shared)
        for threat_model in threat_models
    ]
    name = type(estimator).__name__ if name is None else name
    blocks = front_page(name, estimator, X, findings[0].results[0])
    blocks += [Heading("Attacks"), attack_table(attacks)]
    for number, finding in enumerate(findings, 1):
        blocks += section(finding, attacks)
        if n_pictures:
            blocks += _pictures(
                estimator, X, y, finding, f"{path.stem}_worst_{number}.png",
                n_pictures, image_shape, batch_size,
            )  # fmt: skip
    _write(path, blocks)
    return path


def _check_path(path):
    path = Path(path)
    if path.suffix.lower() not in _RENDERERS:
        raise ValueError(
            f"path is {str(path)!r}; expected one that ends in {', '.join(_RENDERERS)}."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist.")
    return path


def _listed(name, values):
    """Return a sequence, or one object, as a list that is not empty."""
    is_one = isinstance(values, str | ThreatModel) or callable(values)
    values = [values] if is_one else list(values)
    if not values:
        raise ValueError(f"{name} is empty; expected at least one.")
    return values


def _attack(estimator, X, y, attacks, threat_model, check_masking, shared):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = attack_in_turn(
            estimator, X, y, attacks, threat_model=threat_model, **shared
        )
    # Warnings of the masking checks' many attacks are their findings.
    masking = None
    if check_masking and threat_model.eps > 0:
        masking = check_gradient_masking(
            estimator, X, y, eps=threat_model.budget, norm=threat_model.norm,
            clip_range=threat_model.clip_range, **shared,
        )  # fmt: skip
    warned = {(w.category.__name__, str(w.message)): w.message for w in caught}
    for message in warned.values():
        warnings.warn(message, stacklevel=3)
    return Finding(threat_model, results, list(warned), masking)


def _pictures(estimator, X, y, finding, file_name, n_pictures, image_shape, batch_size):
    """Return the blocks that show the worst samples of the last attack."""
    heading = Heading("Worst samples", 3)
    X, y = validate_data(X, y, finding.threat_model)
    shape = X.shape[1:] if X.ndim == 4 else image_shape
    if shape is None:
        text = "No pictures: rows are flat, and no image_shape was given."
        return [heading, Paragraph(text)]
    result = finding.results[-1]
    rows, labels = find_worst_samples(estimator, result, y, n_pictures, batch_size)
    if not len(rows):
        return [heading, Paragraph("No sample fell.")]
    ends = float(X.min()), float(X.max()) + 1e-12
    low, high = finding.threat_model.value_range or ends
    png = draw_worst_samples(
        X[rows].reshape(-1, *shape), result.X_adv[rows].reshape(-1, *shape),
        y[rows], labels, (low, high),
    )  # fmt: skip
    caption = ", ".join(
        f"row {row}: {truth} as {label}"
        for row, truth, label in zip(rows, y[rows], labels, strict=True)
    )
    return [heading, Picture(caption, png, file_name), Paragraph(caption)]


def _write(path, blocks):
    render = _RENDERERS[path.suffix.lower()]
    if render is to_markdown:
        for block in blocks:
            if isinstance(block, Picture):
                (path.parent / block.file_name).write_bytes(block.png)
    path.write_text(render(blocks), encoding="utf-8")
