"""Docstrings of everything public: parameters, attributes, an example, where to look.

A docstring that is silent about a parameter fails here, and so does one that documents
a parameter which is gone.
"""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import robustfit

docscrape = pytest.importorskip("numpydoc.docscrape")

SUBMODULES = [
    module.name
    for module in pkgutil.iter_modules(robustfit.__path__)
    if not module.name.startswith("_") and (module.ispkg or module.name == "datasets")
]


def find_public_objects():
    """Return {dotted name: object} of all names that the API reference lists."""
    found = {name: getattr(robustfit, name) for name in robustfit.__all__}
    known = set(map(id, found.values()))
    for module_name in SUBMODULES:
        module = importlib.import_module(f"robustfit.{module_name}")
        for name in module.__all__:
            if id(getattr(module, name)) not in known:
                found[f"{module_name}.{name}"] = getattr(module, name)
    return {k: v for k, v in found.items() if callable(v)}


PUBLIC = find_public_objects()
CLASSES = {name: c for name, c in PUBLIC.items() if inspect.isclass(c)}
METHODS = {
    f"{name}.{method}": function
    for name, cls in CLASSES.items()
    for method, function in vars(cls).items()
    if not method.startswith("_") and isinstance(function, classmethod)
}


def parse(documented):
    """Return numpydoc's sections of an object's docstring."""
    return docscrape.NumpyDocString(inspect.getdoc(documented) or "")


def parameter_names(sections):
    """Return the names of the Parameters section, groups ``a, b : ...`` split."""
    names = []
    for parameter in sections["Parameters"] + sections["Other Parameters"]:
        names += [name.strip().lstrip("*") for name in parameter.name.split(",")]
    return names


def signature_names(public):
    """Return the names that a caller may pass."""
    function = public.__func__ if isinstance(public, classmethod) else public
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.name not in ("self", "cls")]


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_parameters_are_those_of_the_signature(name):
    public = PUBLIC.get(name) or METHODS[name]
    sections = parse(public)
    documented = parameter_names(sections)
    if not documented and sections["Attributes"]:  # a result: its fields are attributes
        documented = [a.name for a in sections["Attributes"]]
        missing = [n for n in signature_names(public) if n not in documented]
        assert not missing, f"{name} does not document {missing}"
        return
    assert documented == signature_names(public)


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters_have_a_type(name):
    sections = parse(PUBLIC[name])
    untyped = [
        p.name
        for p in sections["Parameters"]
        if not p.type and not re.search(r",|\*\*", p.name)
    ]
    assert not untyped


@pytest.mark.parametrize("name", PUBLIC)
def test_defaults_are_those_of_the_signature(name):
    public = PUBLIC[name]
    given = inspect.signature(public).parameters
    for parameter in parse(public)["Parameters"]:
        default = re.search(r"default=(.+)$", parameter.type)
        if not default or parameter.name not in given:
            continue
        value = given[parameter.name].default
        if isinstance(value, bool | int | str | None.__class__):
            shown = default[1].replace('"', "'")
            assert shown == repr(value), parameter.name


@pytest.mark.parametrize("name", PUBLIC)
def test_an_example_runs(name):
    """That it runs is checked where doctests are collected."""
    text = "\n".join(parse(PUBLIC[name])["Examples"])
    assert ">>>" in text
    assert name.split(".")[-1] in text


@pytest.mark.parametrize("name", PUBLIC)
def test_what_comes_back_is_documented(name):
    public = PUBLIC[name]
    if inspect.isclass(public):
        return
    sections = parse(public)
    assert sections["Returns"] or sections["Yields"]


ESTIMATORS = {n: c for n, c in CLASSES.items() if issubclass(c, BaseEstimator)}


@pytest.mark.parametrize(
    "name", [n for n, c in ESTIMATORS.items() if hasattr(c, "fit")]
)
def test_fitted_attributes_are_documented(name):
    source = "".join(
        inspect.getsource(cls)
        for cls in ESTIMATORS[name].__mro__
        if cls.__module__.startswith("robustfit")
    )
    fitted = set(
        re.findall(r"self\.([a-z]\w*_)\b(?:, self\.\w+)*\s*=[^=]", source, re.I)
    )
    documented = " ".join(a.name for a in parse(ESTIMATORS[name])["Attributes"])
    missing = {a for a in fitted if not re.search(rf"\b{a}(?!\w)", documented)}
    assert not missing


@pytest.mark.parametrize("name", [n for n in CLASSES if n.endswith("Display")])
def test_displays_document_axes_and_figure(name):
    attributes = [a.name for a in parse(CLASSES[name])["Attributes"]]
    assert {"ax_", "axes_"} & set(attributes)  # axes_ where there are several
    assert "figure_" in attributes


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_points_on(name):
    """See Also, or a reference to the paper: at least one way to read on."""
    sections = parse(PUBLIC[name])
    text = inspect.getdoc(PUBLIC[name])
    cites = re.search(r"(19|20)\d\d\)|et al\.|Learning\"|Perturbations\"", text)
    links = re.search(":(class|func|mod):", text)
    assert sections["See Also"] or sections["References"] or cites or links


@pytest.mark.parametrize("name", PUBLIC)
def test_sentences(name):
    summary = " ".join(parse(PUBLIC[name])["Summary"])
    assert summary
    assert summary.rstrip()[-1] in ".:?!"


def test_every_public_module_is_documented():
    for module in pkgutil.walk_packages(robustfit.__path__, "robustfit."):
        assert importlib.import_module(module.name).__doc__, module.name


def test_the_reference_lists_every_public_name():
    index = Path(__file__).parents[1] / "docs" / "api" / "index.rst"
    if not index.exists():
        pytest.skip("the documentation is not part of an installed package")
    listed = set(re.findall(r"^   ([\w.]+)$", index.read_text(), re.MULTILINE))
    short = {name.split(".")[-1] for name in listed}
    missing = {name for name in PUBLIC if name.split(".")[-1] not in short}
    assert not missing


@pytest.mark.parametrize(
    "name", [n for n, f in PUBLIC.items() if inspect.isfunction(f)]
)
def test_functions_have_types(name):
    function = inspect.unwrap(PUBLIC[name])
    expected = {*inspect.signature(function).parameters, "return"}
    assert set(inspect.get_annotations(function)) >= expected
