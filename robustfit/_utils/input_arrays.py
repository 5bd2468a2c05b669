"""Whatever a user passes as data, as an array that scikit-learn and torch take."""

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch.utils.data import DataLoader, Dataset

__all__ = ["as_numbers", "plain_array"]


def plain_array(data, name="X"):
    """Return tensors as arrays, arrays without negative strides, the rest as it is.

    Parameters
    ----------
    data : array-like, torch.Tensor, or anything else
    name : str, default="X"
        Of the argument, for the message.

    Raises
    ------
    TypeError
        For torch data sets and loaders, which say neither shape nor labels.
    """
    if isinstance(data, Dataset | DataLoader):
        raise TypeError(
            f"{name} is a {type(data).__name__}; expected an array (n_samples, ...) "
            "and y beside it. Collect them first: batches = list(DataLoader(dataset, "
            "batch_size=500)); X = torch.cat([x for x, _ in batches]).numpy(); "
            "y = torch.cat([y for _, y in batches]).numpy()."
        )
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu()
        # numpy has no bfloat16
        return (data.float() if data.dtype == torch.bfloat16 else data).numpy()
    if isinstance(data, np.ndarray) and min(data.strides, default=0) < 0:
        return data.copy()  # torch does not read backwards
    return data


def as_numbers(X, **options):
    """Return ``X`` of any number of axes as float32, finite, at least one row.

    Parameters
    ----------
    X : array-like or torch.Tensor of shape (n_samples, ...)
    **options
        Of scikit-learn's ``check_array``.
    """
    X = check_array(
        plain_array(X), allow_nd=True, dtype=np.float32, input_name="X", **options
    )
    return plain_array(X)  # columns of a data frame may run backwards
