"""The one place that turns what a model returns into logits (n_samples, n_classes).

Models return one column, tuples, dicts, images of one pixel, other float types, or
minus infinity for a class that they rule out. Losses, and the comparison with labels,
are written for finite floats of one shape.
"""

import math

import torch

__all__ = ["to_logits", "unpack"]

_RULED_OUT = 150.0  # below all others of its row; its softmax is 0 in float32


def to_logits(output, x):
    """Return the output of a model for ``x`` as logits.

    Parameters
    ----------
    output : torch.Tensor, or tuple, list, dict or object that holds one
        What the model returned; itself is returned where it is right already.
    x : torch.Tensor of shape (n_samples, ...)

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes), of the dtype of ``x``
        One column is the logit of the second of two classes. Minus infinity is
        replaced by a number below all others of the row, where there are others; plus
        infinity and NaN stay and count as no answer.

    Raises
    ------
    ValueError
        For an output of another shape or kind.
    """
    logits = _as_table(unpack(output), len(x))
    dtype = x.dtype if x.is_floating_point() else torch.float32
    if logits.dtype != dtype:
        logits = logits.to(dtype)
    if logits.shape[1] == 1:
        logits = torch.cat([-logits / 2, logits / 2], dim=1)
    # The sum is finite where all are, up to an overflow, which changes nothing below.
    if math.isfinite(logits.detach().sum()):
        return logits
    return _replace_minus_infinity(logits)


def unpack(output):
    """Return the tensor of logits in a tuple, list, dict or object with ``logits``.

    Raises
    ------
    ValueError
        If there is none.
    """
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, dict) and "logits" in output:
        return unpack(output["logits"])
    if hasattr(output, "logits"):
        return unpack(output.logits)
    if isinstance(output, tuple | list) and len(output):
        return unpack(output[0])
    holds = f" with the keys {list(output)}" if isinstance(output, dict) else ""
    raise ValueError(
        f"The model returned a {type(output).__name__}{holds}; expected a tensor of "
        "logits (n_samples, n_classes), a tuple that begins with it, a dict with the "
        "key 'logits', or an object with the attribute logits."
    )


def _as_table(output, n_samples):
    """Return an output as (n_samples, n_columns), itself where it is that already."""
    shape = tuple(output.shape)
    has_rows = len(shape) > 0 and shape[0] == n_samples and 0 not in shape[1:]
    if has_rows and len(shape) == 2 and not output.is_complex():
        return output
    if not has_rows or math.prod(shape[2:]) != 1 or output.is_complex():
        raise ValueError(
            f"The model returned an output of shape {shape} and type {output.dtype} "
            f"for {n_samples} inputs; expected logits of shape ({n_samples}, "
            f"n_classes), or ({n_samples}, 1) for two classes. Wrap the model in a "
            "torch.nn.Module that returns them, say the mean over positions."
        )
    return output.reshape(n_samples, -1)


def _replace_minus_infinity(logits):
    """Return logits with a low number for minus infinity, beside finite ones."""
    ruled_out = torch.isneginf(logits)
    values = logits.detach()
    lowest = torch.where(ruled_out, torch.inf, values).amin(1, keepdim=True)
    # Relative as well, so that it is lower in float32 whatever the scale.
    floor = lowest - _RULED_OUT - lowest.abs()
    floor = floor.maximum(floor.new_tensor(torch.finfo(floor.dtype).min))
    replaced = ruled_out & torch.isfinite(lowest)
    return torch.where(replaced, floor, logits)
