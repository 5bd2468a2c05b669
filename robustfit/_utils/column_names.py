"""Names of the columns that come out: those that went in, where there are columns."""

import functools

from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.metaestimators import available_if

__all__ = ["SameColumnsMixin"]


def _has_columns(estimator):
    """Tell whether X was flat in ``fit``: scikit-learn may make a data frame of it."""
    is_given = getattr(estimator, "image_shape", None) is not None
    return is_given or len(getattr(estimator, "image_shape_", ())) < 3


class SameColumnsMixin(OneToOneFeatureMixin):
    """Adds ``get_feature_names_out`` for flat rows; images have no columns.

    Images stay the arrays that they are when scikit-learn is configured to return data
    frames, as it cannot make one of them.
    """

    def __init_subclass__(cls, **kwargs):
        """Let images pass by scikit-learn's wrappers, which the class has now."""
        super().__init_subclass__(**kwargs)
        for name in ("transform", "fit_transform"):
            method = getattr(cls, name, None)
            if hasattr(method, "__wrapped__") and not hasattr(method, "leaves_images"):
                setattr(cls, name, _leaving_images(method))

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


def _leaving_images(method):
    """Return a method that makes data frames, but not of images."""

    @functools.wraps(method)
    def leaving_images(self, X, *args, **kwargs):
        is_image = getattr(X, "ndim", 2) == 4
        function = method.__wrapped__ if is_image else method
        return function(self, X, *args, **kwargs)

    vars(leaving_images)["leaves_images"] = True
    return leaving_images
