"""The hash that tells the sets of one recipe from those of another."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "_learned_sets.py"
N_PLACES = 7  # folders and files that are hashed

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists(), reason="the benchmarks are not here"
)


@pytest.fixture(scope="module")
def learned_sets():
    specification = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def package(learned_sets, tmp_path):
    """A copy of the code that is hashed."""
    for place in learned_sets.RECIPE:
        source, target = learned_sets.PACKAGE / place, tmp_path / place
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, target)
    return tmp_path


def test_the_same_code_is_the_same_recipe(learned_sets, package):
    assert learned_sets.recipe(package) == learned_sets.recipe()


@pytest.mark.parametrize("number", range(N_PLACES))
def test_changed_code_is_another_recipe(learned_sets, package, number):
    path = package / learned_sets.RECIPE[number]
    file = max(path.glob("*.py")) if path.is_dir() else path
    file.write_text(file.read_text() + "\n# changed\n")
    assert learned_sets.recipe(package) != learned_sets.recipe()


@pytest.mark.parametrize("number", range(N_PLACES))
@pytest.mark.parametrize("is_missing", [True, False])
def test_moved_code_is_noticed(learned_sets, package, number, is_missing):
    path = package / learned_sets.RECIPE[number]
    was_folder = path.is_dir()
    (shutil.rmtree if was_folder else Path.unlink)(path)
    if not is_missing:
        (Path.mkdir if was_folder else Path.touch)(path)
    with pytest.raises(FileNotFoundError, match=f"{path.name} is missing or empty"):
        learned_sets.recipe(package)


def test_every_place_is_tested_above(learned_sets):
    assert len(learned_sets.RECIPE) == N_PLACES


def test_recipes_that_learn_the_same_sets_have_measured_cells():
    results = BENCHMARKS / "results" / "robust_dataset"
    if not results.exists():
        pytest.skip("the measured cells are not here")
    groups = json.loads((results / "recipes.json").read_text())["same_sets"]
    recipes = [name for group in groups for name in group]
    assert len(set(recipes)) == len(recipes)
    assert all(re.fullmatch("[0-9a-f]{8}", name) for name in recipes)
    cells = [json.loads(path.read_text()) for path in results.glob("*_*.json")]
    measured = {cell["recipe"] for cell in cells}
    assert all(measured & set(group) for group in groups)
