"""Differentiable forms of what gives each transformer some columns, or all of them."""

import torch
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.sklearn_private import column_numbers
from robustfit.exceptions import NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import transformer_as_torch


class _SideBySide(nn.Module):
    """Outputs of transforms next to each other, each of its own columns.

    Parameters
    ----------
    parts : list of (columns, module or None, weight)
        Columns are a list of int, or None for all.
    """

    def __init__(self, parts):
        super().__init__()
        self.columns = [columns for columns, _, _ in parts]
        self.parts = nn.ModuleList(part or nn.Identity() for _, part, _ in parts)
        self.weights = [weight for _, _, weight in parts]

    def forward(self, x):
        outputs = []
        for columns, part, weight in zip(
            self.columns, self.parts, self.weights, strict=True
        ):
            output = part(x if columns is None else x[:, columns])
            outputs.append(output if weight is None else output * weight)
        return torch.cat(outputs, dim=1)


@transformer_as_torch.register
def _(transformer: ColumnTransformer):
    check_is_fitted(transformer)
    weights, numbers = (
        transformer.transformer_weights or {},
        column_numbers(transformer),
    )
    parts = []
    for name, part, _ in transformer.transformers_:
        columns = list(numbers[name])
        if not columns or (isinstance(part, str) and part == "drop"):
            continue
        parts.append((columns, _form_of(name, part), weights.get(name)))
    return _SideBySide(parts)


@transformer_as_torch.register
def _(transformer: FeatureUnion):
    check_is_fitted(transformer)
    weights = transformer.transformer_weights or {}
    return _SideBySide(
        [
            (None, _form_of(name, part), weights.get(name))
            for name, part in transformer.transformer_list
            if not (isinstance(part, str) and part == "drop")
        ]
    )


def _form_of(name, part):
    if isinstance(part, str) and part == "passthrough":
        return None
    try:
        return transformer_as_torch(part)
    except NotDifferentiableError as error:
        raise NotDifferentiableError(f"Transformer {name!r}: {error}") from None
