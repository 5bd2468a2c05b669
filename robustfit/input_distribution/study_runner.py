"""Train and attack one model a point and fold of a study, in parallel."""

import numpy as np
from sklearn.model_selection import check_cv, cross_validate
from sklearn.utils import Bunch
from sklearn.utils.parallel import Parallel, delayed

from robustfit._utils.torch_bridge import seeded_torch
from robustfit.evaluation.scorers import PredictionRobustnessReport

__all__ = ["run_study"]


def run_study(names, points, y, cv, *, scoring, n_jobs, return_train_score, seed):
    """Cross-validate every point of a study and stack the scores.

    Parameters
    ----------
    names : list
        Of the points.
    points : list of (estimator, X, folds)
        ``folds`` is a list of (train, test), or None for those of ``cv``, which are
        drawn once and shared.
    y : array-like of shape (n_samples,)
    cv, scoring, n_jobs, return_train_score
        As in ``cross_validate``.
    seed : int
        Of torch, for every model.

    Returns
    -------
    Bunch
        See :func:`robustfit.robustness_by_transform`.
    """
    if not points:
        raise ValueError("The study has no points; expected at least one.")
    if scoring is None:
        scoring = PredictionRobustnessReport()
    cv = check_cv(cv, y, classifier=True)
    shared, jobs = None, []
    for model, X, folds in points:
        if folds is None:
            folds = shared = shared or list(cv.split(X, y))
        jobs += [(model, X, fold) for fold in folds]
    results = Parallel(n_jobs=n_jobs)(
        delayed(_score_fold)(model, X, y, fold, scoring, return_train_score, seed)
        for model, X, fold in jobs
    )
    return Bunch(
        points=names,
        test_scores=_stack(results, "test_", len(names)),
        train_scores=_stack(results, "train_", len(names)) or None,
    )


def _score_fold(model, X, y, fold, scoring, return_train_score, seed):
    with seeded_torch(seed):
        return cross_validate(
            model,
            X,
            y,
            cv=[fold],
            scoring=scoring,
            return_train_score=return_train_score,
            error_score="raise",
        )


def _stack(results, prefix, n_points):
    return {
        key.removeprefix(prefix): np.array([r[key][0] for r in results]).reshape(
            n_points, -1
        )
        for key in results[0]
        if key.startswith(prefix)
    }
