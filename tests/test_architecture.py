"""Rules that keep each fact in one place."""

import ast
import importlib
import inspect
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import robustfit

PACKAGE = Path(robustfit.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip
# Modules that are documented as paths of their own, beside the names of the package.
PUBLIC_PATHS = {
    "attacks", "datasets", "exceptions", "image_transforms", "kernels", "nets",
    "theory",
}  # fmt: skip
# The rooms of the package, floor by floor, from the top: what each is for. A room
# imports only from floors below its own. docs/architecture.md shows this as its table.
FLOORS = (
    {
        "robustifiers": "rewrite a training set: the learner, distillation, features",
        "input_distribution": "look at the data: diagnostics, studies, pictures",
        "inspection": "look at a model: transfer, loss landscape, saliency",
    },
    {"classifiers": "robust by their training, or by a kernel"},
    {"evaluation": "attack a fitted estimator and count: the crossing; the judge"},
    {
        "image_transforms": "transforms that keep the meaning, with gradients",
        "attacks": "attacks on tensors; `base.py` says what an attack is",
        "theory": "the papers' theorems in closed form",
    },
    {"certification": "lower bounds: what no attack within the budget can change"},
    {"structures": "what trees, neighbours and linear models are made of, as arrays"},
    {
        "sklearn_to_torch": "`as_torch`: fitted estimators as differentiable functions",
        "sharing": "a learned set as one file with a card",
    },
    {
        "kernels": "neural tangent kernels, in blocks, with closed-form gradients",
        "datasets": "samples of the theorems' distributions",
        "threat_model": "norm, budget, range: the only file that knows them",
    },
    {"_utils": "tensors and seeds, checks, checkpoints, picture style: private"},
    {
        "nets": "networks, and the default skorch net",
        "exceptions": "errors and warnings",
        "_version": "the version",
    },
)


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
FOR_SUBCLASSES = {"_validate_params"}
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
    assert len(code_lines(path.read_text())) <= 300


def code_lines(source):
    """Return the numbers of the lines that are code: no docstrings, no comments."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return code - docstrings


@pytest.mark.parametrize("path", FILES, ids=name)
def test_displays_take_their_axes_from_the_one_style(path):
    source = path.read_text()
    if re.search(r"^class \w+Display\b", source, re.MULTILINE):
        # Several share one that does, in the same file.
        assert re.search(r"\bget_axes(_grid)?\(", source)
    assert path.name == "display_style.py" or "plt." not in source


# --- rooms and floors -----------------------------------------------------------------


def room(module):
    """Return the folder or file right below the package that a module is in."""
    return module.split(".")[1] if "." in module else ""


def imports(path):
    """Yield the modules and the names that a file imports from the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and room(f"{node.module}."[:-1]):
            if node.module.split(".")[0] == "robustfit":
                for alias in node.names:
                    yield node.module, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module == "robustfit":
            for alias in node.names:
                yield f"robustfit.{alias.name}", alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("robustfit."):
                    yield alias.name, ""


def test_every_room_stands_on_one_floor():
    rooms = [name for floor in FLOORS for name in floor]
    rooms_found = (p for p in PACKAGE.iterdir() if p.suffix in ("", ".py"))
    found = {p.stem for p in rooms_found if not p.name.startswith("__")}
    assert sorted(rooms) == sorted(found)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_room_imports_only_from_floors_below(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":  # it opens every door
        return
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for module, _ in imports(path):
        other = room(module)
        assert other == own or floor[other] > floor[own], f"{name(path)}: {module}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_underscores_stay_in_their_folder(path):
    folder = ".".join(("robustfit", *path.relative_to(PACKAGE).parts[:-1]))
    for module, imported in imports(path):
        for part in re.findall(r"\.(_(?!utils|version)[a-z]\w*)", module):
            home = module[: module.index(f".{part}")]
            assert home == folder, f"{name(path)} imports {module}"
        is_private = imported.startswith("_") and not imported.startswith("__")
        assert not is_private or module.startswith(folder), f"{module}: {imported}"


def test_no_module_has_the_name_of_a_public_function():
    modules = {p.stem for p in FILES} | {
        p.name for p in PACKAGE.rglob("*") if p.is_dir()
    }
    public = {n for n in robustfit.__all__ if inspect.isfunction(getattr(robustfit, n))}
    for folder in PACKAGE.iterdir():
        if (folder / "__init__.py").exists():
            module = importlib.import_module(f"robustfit.{folder.name}")
            public |= {
                n
                for n in getattr(module, "__all__", ())
                if inspect.isfunction(getattr(module, n))
            }
    assert not modules & public


def test_only_what_is_public_is_listed():
    listed = {n for n in dir(robustfit) if not n.startswith("__")}
    assert listed - set(robustfit.__all__) == PUBLIC_PATHS
    for path in PUBLIC_PATHS | {"threat_model"}:
        assert importlib.import_module(f"robustfit.{path}")


def test_no_heavy_module_is_imported_with_the_package():
    heavy = ["pyautoattack", "matplotlib", "dask", "pandas"]
    code = f"import sys, robustfit; print(*(m for m in {heavy} if m in sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def floors_table():
    """Return the table of docs/architecture.md."""
    lines = ["| floor | room | what for |", "|---|---|---|"]
    for number, rooms in enumerate(FLOORS):
        for room_name, idea in sorted(rooms.items()):
            is_folder = (PACKAGE / room_name).is_dir()
            file = f"{room_name}/" if is_folder else f"{room_name}.py"
            lines.append(f"| {len(FLOORS) - number} | `{file}` | {idea} |")
    return "\n".join(lines)


def test_the_page_shows_these_floors():
    page = PACKAGE.parent / "docs" / "architecture.md"
    if not page.exists():
        pytest.skip("the documentation is not part of an installed package")
    assert floors_table() in page.read_text(), f"expected:\n{floors_table()}"


def test_public_names_exist_and_are_documented():
    for public in robustfit.__all__:
        documented = getattr(robustfit, public).__doc__
        assert documented, public
        assert public == "AttackResult" or ">>> " in documented, public
