"""The trees of scikit-learn's estimators, as a :class:`TreeEnsemble`."""

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from sklearn.utils.validation import check_is_fitted

from robustfit._utils.sklearn_private import boosting_nodes
from robustfit.exceptions import NoStructureError
from robustfit.structures.find_structure import structure_of_estimator
from robustfit.structures.tree_ensemble import join_trees

__all__: list[str] = []


@structure_of_estimator.register(DecisionTreeClassifier)
@structure_of_estimator.register(ExtraTreeClassifier)
def _(estimator):
    check_is_fitted(estimator)
    return _mean_of_trees(estimator, [estimator])


@structure_of_estimator.register(RandomForestClassifier)
@structure_of_estimator.register(ExtraTreesClassifier)
def _(estimator):
    check_is_fitted(estimator)
    return _mean_of_trees(estimator, estimator.estimators_)


def _mean_of_trees(estimator, members):
    """Probabilities add up; the division by their number changes no decision."""
    if estimator.n_outputs_ > 1:
        raise NoStructureError(
            f"{type(estimator).__name__} was fitted on {estimator.n_outputs_} outputs; "
            "expected one class a sample."
        )
    n_classes = len(estimator.classes_)
    trees = [_tree(m.tree_, m.tree_.value[:, 0, :n_classes]) for m in members]
    return join_trees(trees, np.zeros(n_classes), estimator.n_features_in_)


def _tree(tree, values):
    return (
        tree.feature,
        tree.threshold,
        tree.children_left,
        tree.children_right,
        values,
    )


@structure_of_estimator.register
def _(estimator: GradientBoostingClassifier):
    check_is_fitted(estimator)
    is_constant = isinstance(estimator.init_, DummyClassifier)
    if not (is_constant or estimator.init_ == "zero"):
        raise NoStructureError(
            f"GradientBoostingClassifier starts from {type(estimator.init_).__name__}, "
            "which is no sum of trees; expected init=None or 'zero'."
        )
    n_classes = len(estimator.classes_)
    trees = []
    for stage in estimator.estimators_:
        for column, member in enumerate(stage):
            raw = member.tree_.value[:, 0, 0] * estimator.learning_rate
            values = _in_column(raw, column, n_classes)
            trees.append(_tree(member.tree_, values))
    return _with_base(estimator, trees, n_classes)


@structure_of_estimator.register
def _(estimator: HistGradientBoostingClassifier):
    check_is_fitted(estimator)
    n_classes = len(estimator.classes_)
    trees = []
    for column, nodes in boosting_nodes(estimator):
        if (nodes["is_categorical"] > 0).any():
            raise NoStructureError(
                "HistGradientBoostingClassifier was fitted on categorical features; "
                "a ball of eps has no meaning for codes of categories. Encode them as "
                "numbers, or pass categorical_features=None."
            )
        values = _in_column(nodes["value"], column, n_classes)
        left = np.where(nodes["is_leaf"] > 0, -1, nodes["left"].astype(int))
        trees.append((nodes["feature_idx"], nodes["num_threshold"], left,
                      nodes["right"].astype(int), values))  # fmt: skip
    return _with_base(estimator, trees, n_classes)


def _in_column(raw, column, n_classes):
    """Return a column of raw values as scores of all classes.

    One raw value tells two classes apart: half of it for one, half against the other.
    """
    if n_classes == 2:
        return np.stack([-raw / 2, raw / 2], 1)
    values = np.zeros((len(raw), n_classes))
    values[:, column] = raw
    return values


def _with_base(estimator, trees, n_classes):
    """Join trees; what they leave of a decision value is the same for every point."""
    n_features = estimator.n_features_in_
    ensemble = join_trees(trees, np.zeros(n_classes), n_features)
    x = np.zeros((1, n_features), np.float32)
    decision = np.atleast_2d(estimator.decision_function(x))
    if n_classes == 2:
        decision = np.array([[-decision[0, 0] / 2, decision[0, 0] / 2]])
    base = (decision - ensemble.scores(ensemble.cells(x)))[0]
    return join_trees(trees, base, n_features)
