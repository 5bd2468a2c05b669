"""Names of the columns that come out: those that went in, where there are columns."""

from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.metaestimators import available_if

__all__ = ["SameColumnsMixin"]


def _has_columns(estimator):
    """Tell whether X was flat in ``fit``: scikit-learn may make a data frame of it."""
    is_given = getattr(estimator, "image_shape", None) is not None
    return is_given or len(getattr(estimator, "image_shape_", ())) < 3


class SameColumnsMixin(OneToOneFeatureMixin):
    """Adds ``get_feature_names_out`` for flat rows; images have no columns.

    Without it scikit-learn leaves images the arrays that they are when it is configured
    to return data frames.
    """

    @available_if(_has_columns)
    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns: those of X.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            None takes the names seen in ``fit``, or x0, x1, ...

        Returns
        -------
        ndarray of str
        """
        return super().get_feature_names_out(input_features)
