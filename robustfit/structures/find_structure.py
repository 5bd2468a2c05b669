"""What a fitted model is made of: ``structure_of`` a TorchClassifier, or an error.

Attacks see tensors and a logits function, never an estimator. One that has to know more
than scores, as where the thresholds of trees are, asks here for plain arrays: the
black-box form (:func:`robustfit.as_black_box`) carries the estimator that it asks, and
a differentiable form carries its module. So the attack's interface stays the same, and
what the arrays mean is written down in one place for attacks and bounds.
"""

from functools import singledispatch

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from robustfit._utils.sklearn_private import BaseSearchCV
from robustfit.exceptions import NoStructureError, NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import (
    TorchClassifier,
    transformer_as_torch,
)
from robustfit.structures.affine import affine_scores

__all__ = ["structure_of", "structure_of_estimator"]


def structure_of(logits_fn):
    """Return what a model is made of.

    Parameters
    ----------
    logits_fn : TorchClassifier
        From ``as_torch`` or ``as_black_box``.

    Returns
    -------
    TreeEnsemble, NeighbourRule or AffineScores
        Its classes are in the order of the columns of the logits.

    Raises
    ------
    NoStructureError
        For any other model.
    """
    if not isinstance(logits_fn, TorchClassifier):
        raise NoStructureError(
            "An attack on trees or neighbours was called with "
            f"{type(logits_fn).__name__}; expected robustfit.as_black_box(estimator), "
            "which knows the estimator behind the scores."
        )
    if logits_fn.estimator is not None:
        return structure_of_estimator(logits_fn.estimator)
    return affine_scores(logits_fn)


@singledispatch
def structure_of_estimator(estimator):
    """Return what a fitted estimator is made of; see :func:`structure_of`."""
    raise NoStructureError(
        f"{type(estimator).__name__} is none of the models whose structure is known: "
        "linear models, trees and ensembles of trees of scikit-learn, and "
        "KNeighborsClassifier. Use attack='square' for an attack by scores alone; "
        "there is no bound."
    )


@structure_of_estimator.register
def _(estimator: FrozenEstimator):
    return structure_of_estimator(estimator.estimator)


@structure_of_estimator.register
def _(estimator: BaseSearchCV):
    return structure_of_estimator(estimator.best_estimator_)


@structure_of_estimator.register
def _(estimator: Pipeline):
    for name, step in estimator.steps[:-1]:
        if not (step is None or step == "passthrough" or _is_identity(step)):
            raise NoStructureError(
                f"Step {name!r} of the pipeline, {type(step).__name__}, changes what "
                "trees or neighbours see. Leave it out: trees need no scaling."
            )
    return structure_of_estimator(estimator.steps[-1][1])


def _is_identity(step):
    """Return whether a step changes nothing at prediction, as robustifiers."""
    try:
        return transformer_as_torch(step) is None
    except NotDifferentiableError:
        return False
