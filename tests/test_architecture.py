"""Rules that keep each fact in one place."""

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


@pytest.mark.parametrize("path", FILES, ids=name)
def test_underscore_names_of_scikit_learn_are_imported_in_one_file(path):
    if path.name == "sklearn_private.py":
        return
    private = re.findall(
        r"from sklearn[.\w]*\._[\w.]* import|import sklearn\._", path.read_text()
    )
    assert not private, f"{name(path)} imports {private}"


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
