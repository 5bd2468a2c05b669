"""How far one feature alone may move, and what of the budget that takes: for trees."""

import numpy as np

from robustfit._utils.feature_values import feature_array

__all__ = ["reachable_box", "shares_of_budget"]

# Float32 rounding of attacks that add a budget to a number.
_ULPS = 2.0**-22


def reachable_box(X, reach, bounds, rounding):
    """Return the smallest and largest values of single moves, as ThreatModel.box."""
    X, reach = np.asarray(X, float), np.ravel(feature_array(reach))
    slack = _ULPS * (np.abs(X) + reach) if rounding else 0.0
    low, high = (np.ravel(feature_array(bound)) for bound in bounds)
    return np.maximum(X - reach, low) - slack, np.minimum(X + reach, high) + slack


def shares_of_budget(distance, features, reach, power):
    """Return the shares of the budget of single moves, as ThreatModel.budget_share.

    Moves of features that cannot move take an infinite share.
    """
    reach = np.ravel(feature_array(reach))
    reach = (
        reach[features] if reach.size > 1 else np.broadcast_to(reach, features.shape)
    )
    share = np.where(distance > 0, np.inf, 0.0)
    return np.divide(distance, reach, out=share, where=reach > 0) ** power
