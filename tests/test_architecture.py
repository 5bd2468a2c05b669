"""Rules that keep each fact in one place."""

import ast
import re
from pathlib import Path

import pytest

import robustfit

PACKAGE = Path(robustfit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def name(path):
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_the_threat_model_clips(path):
    if path.name == "threat_model.py":
        return
    found = re.findall(
        r"\.clamp\(|\.clamp_\(|np\.clip\(|torch\.clip\(", path.read_text()
    )
    assert not found, f"{name(path)} clips by itself; ask ThreatModel"


# What a library offers to subclasses only, so that it is asked of ``self``.
FOR_SUBCLASSES = {"_init_callback_context", "_validate_params"}
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def own_names():
    """Return the names that the package defines, itself or as attributes of self."""
    names = set()
    for node in (node for tree in TREES.values() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if is_self(node.value) else set()
    return names


def is_self(node):
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "super")


def insides(tree):
    """Yield (object, name) for each attribute with a leading underscore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, attribute = node.value, node.attr
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            owner, attribute = node.args[0], node.args[1].value
        else:
            continue
        if re.match("_(?!_)", attribute):
            yield owner, attribute


def foreign_insides(tree, own):
    """Return attributes and imports of names that another library keeps to itself."""
    attributes = [
        f"{ast.unparse(owner)}.{attribute}"
        for owner, attribute in insides(tree)
        if attribute not in own and not (attribute in FOR_SUBCLASSES and is_self(owner))
    ]
    imports = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    private = r"^(?!from robustfit).*\b_(?!_)\w"
    return attributes + [line for line in imports if re.search(private, line)]


OWN = own_names()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_insides_of_other_libraries_are_used_behind_a_fence(path):
    if path.parent.name == "_utils" and path.name.endswith("_private.py"):
        return
    found = foreign_insides(TREES[path], OWN)
    assert not found, f"{name(path)} uses {found}; add an accessor to _utils"


def test_the_fence_finds_what_it_shall():
    tree = ast.parse("""[
        svc._gamma, svc._BaseLibSVM__Xfit, getattr(tree, "_impl"), super()._fit_context,
        self._set_training(True), self._validate_params(), other._validate_params(),
        net._kernel, self._kernel, module.__class__, cls._own, hasattr(x, "public"),
    ]""")
    assert set(foreign_insides(tree, {"_kernel", "_own"})) == {
        "svc._gamma", "svc._BaseLibSVM__Xfit", "tree._impl", "super()._fit_context",
        "self._set_training", "other._validate_params",
    }  # fmt: skip
    imports = """
from sklearn.utils._param_validation import Interval
from torch import _C
import sklearn._config
from robustfit._utils.sklearn_private import Interval
from robustfit import _utils
from torch.nn import Linear
from __future__ import annotations
"""
    lines = imports.strip().split("\n")
    assert foreign_insides(ast.parse(imports), set()) == lines[:3]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_matplotlib_is_imported_inside_functions(path):
    assert not re.search(r"^(import|from) matplotlib", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_of_one_idea(path):
    assert len(path.read_text().splitlines()) <= 420


def test_public_names_exist_and_are_documented():
    for public in robustfit.__all__:
        documented = getattr(robustfit, public).__doc__
        assert documented, public
        assert public == "AttackResult" or ">>> " in documented, public
