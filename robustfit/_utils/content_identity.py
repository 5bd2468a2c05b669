"""What tells a piece of work from others, so that a checkpoint's name can hold it.

Functions and classes are told apart by the code that runs and by what it closes over:
by names alone an edited function would find the results of the old one, and a source
file may have been edited after it was imported. What code calls in turn is not looked
at.
"""

import inspect
import pickle
from functools import partial
from types import CodeType
from typing import Any

import joblib
import torch

from robustfit._utils.torch_bridge import to_array

__all__ = ["content_hash", "identify"]

# Packages whose classes do not change between two releases: their names suffice.
_RELEASED = ("abc", "builtins", "robustfit", "sklearn", "torch", "typing")


def content_hash(*content: Any) -> str:
    """Return joblib's hash of values that pickle can hold.

    Raises
    ------
    ValueError
        For values that it cannot.
    """
    try:
        return joblib.hash(content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _refuse(f"holds what cannot be hashed: {error}") from error


def identify(value: Any, _within: tuple = ()) -> Any:
    """Return content that tells ``value`` from others, for :func:`content_hash`.

    Raises
    ------
    ValueError
        For a lambda.
    """

    def identify_part(part):
        return identify(part, (*_within, value))

    if any(value is outer for outer in _within):
        return getattr(value, "__qualname__", None)
    if isinstance(value, partial):
        return "partial", *map(identify_part, (value.func, value.args, value.keywords))
    if inspect.ismethod(value):
        return "method", identify_part(value.__func__), identify_part(value.__self__)
    if isinstance(value, staticmethod | classmethod):
        return type(value).__name__, identify_part(value.__func__)
    if isinstance(value, property):
        return "property", *map(identify_part, (value.fget, value.fset, value.fdel))
    if inspect.isfunction(value):
        return _identify_function(value, identify_part)
    if inspect.isclass(value):
        return [_identify_class(part, identify_part) for part in value.__mro__]
    if isinstance(value, torch.Tensor):
        return to_array(value)
    if isinstance(value, dict):
        return {key: identify_part(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [identify_part(part) for part in value]
    if callable(value) and hasattr(value, "__dict__"):
        return identify_part(type(value)), identify_part(vars(value))
    return value


def _identify_class(cls, identify_part):
    """Return the name of a class and what its own body defines."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__.partition(".")[0] in _RELEASED:
        return name
    return name, {
        key: identify_part(part)
        for key, part in vars(cls).items()
        if inspect.isfunction(part) or not key.startswith(("__", "_abc_"))
    }


def _identify_function(function, identify_part):
    """Return the name of a function, its code, its defaults and its outer variables."""
    name = f"{function.__module__}.{function.__qualname__}"
    if function.__name__ == "<lambda>":
        raise _refuse(f"is or holds the lambda {name}")
    defaults = function.__defaults__, function.__kwdefaults__
    outer = [cell.cell_contents for cell in function.__closure__ or ()]
    code = _identify_code(function.__code__)
    return name, code, identify_part(defaults), identify_part(outer)


def _identify_code(code):
    """Return instructions, names and constants; those of inner functions included."""
    constants = [
        _identify_code(part) if isinstance(part, CodeType)
        else sorted(map(repr, part)) if isinstance(part, frozenset)
        else part
        for part in code.co_consts
    ]  # fmt: skip
    return code.co_code, code.co_names, constants


def _refuse(what):
    return ValueError(
        f"The attack or function {what}, so a checkpoint could not tell it from "
        "others. Define it with def or class, or pass checkpoint=None."
    )
