"""The only file that imports names scikit-learn does not promise to keep."""

from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._param_validation import Interval, StrOptions

__all__ = ["BaseSearchCV", "Interval", "StrOptions"]
