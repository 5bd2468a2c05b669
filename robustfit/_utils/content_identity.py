"""What tells a piece of work from others, so that a checkpoint's name can hold it.

Functions are told apart by their code and what they close over, classes by their
source: by names alone an edited function would find the results of the old one. What
they call in turn is not looked at.
"""

import inspect
import pickle
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import joblib
import torch

from robustfit._utils.torch_bridge import to_array

__all__ = ["content_hash", "identify", "identify_class"]

# Classes that do not change between two releases: their names suffice.
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


def identify(value: Any) -> Any:
    """Return content that tells ``value`` from others, for :func:`content_hash`.

    Raises
    ------
    ValueError
        For lambdas, and for classes whose source is not known.
    """
    if isinstance(value, partial):
        return "partial", *map(identify, (value.func, value.args, value.keywords))
    if inspect.ismethod(value):
        return "method", identify(value.__func__), identify(value.__self__)
    if inspect.isfunction(value):
        return _identify_function(value)
    if inspect.isclass(value):
        return identify_class(value)
    if isinstance(value, torch.Tensor):
        return to_array(value)
    if isinstance(value, dict):
        return {key: identify(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [identify(part) for part in value]
    if callable(value) and hasattr(value, "__dict__"):
        return identify_class(type(value)), identify(vars(value))
    return value


def identify_class(cls: type) -> list:
    """Return names, sources and closures of a class and of those it inherits from."""
    return [_identify_one(part) for part in cls.__mro__]


def _identify_one(cls):
    name = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__.partition(".")[0] in _RELEASED:
        return name
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        raise _refuse(f"is of the class {name}, whose source is not known") from None
    methods = [part for part in vars(cls).values() if inspect.isfunction(part)]
    return name, source, [_closure(method) for method in methods]


def _identify_function(function: FunctionType):
    name = f"{function.__module__}.{function.__qualname__}"
    if function.__name__ == "<lambda>":
        raise _refuse(f"is or holds the lambda {name}")
    defaults = function.__defaults__, function.__kwdefaults__
    return (
        name,
        _identify_code(function.__code__),
        identify(defaults),
        _closure(function),
    )


def _identify_code(code: CodeType):
    """Return instructions, names and constants; those of inner functions included."""
    constants = [
        _identify_code(part) if isinstance(part, CodeType)
        else sorted(map(repr, part)) if isinstance(part, frozenset)
        else part
        for part in code.co_consts
    ]  # fmt: skip
    return code.co_code, code.co_names, constants


def _closure(function: FunctionType):
    """Return the outer variables that a function reads, but for itself."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held = {name: cell.cell_contents for name, cell in cells if name != "__class__"}
    return {name: identify(v) for name, v in held.items() if v is not function}


def _refuse(what: str) -> ValueError:
    return ValueError(
        f"The attack or function {what}, so a checkpoint could not tell it from "
        "others. Define it with def or class in a module, or pass checkpoint=None."
    )
