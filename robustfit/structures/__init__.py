"""What trees, neighbours and linear models are made of: plain arrays.

Importing this package teaches ``structure_of`` all estimators that it knows.
"""

from robustfit.structures import neighbour_rule, reading_trees  # noqa: F401

__all__: list[str] = []
