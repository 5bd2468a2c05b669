"""The diffs in docs/architecture.md apply to this package, and what they add works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import robustfit

ROOT = Path(robustfit.__file__).parents[1]
GUIDE = ROOT / "docs" / "architecture.md"

USES = {
    "attack": """
from sklearn.ensemble import RandomForestClassifier
from robustfit import attack_estimator
forest = RandomForestClassifier(10, random_state=0).fit(X[:500], y[:500])
result = attack_estimator(forest, X[500:600], y[500:600], attack="corners", eps=0.2)
assert result.robust_accuracy < result.natural_accuracy
try:
    attack_estimator(forest, X, y, attack="corner")
except ValueError as error:
    assert "'corners'" in str(error)
else:
    raise AssertionError("an unknown name was taken")
assert '"corners"' in attack_estimator.__doc__
""",
    "robustifier": """
import sys
sys.path.insert(0, "tests")
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from test_sklearn_contract import ESTIMATORS, REWRITER_EXEMPTIONS
from robustfit.dimmed_dataset import DimmedDataset
check_estimator(ESTIMATORS[0], expected_failed_checks=REWRITER_EXEMPTIONS)
X_robust = DimmedDataset(eps=0.1).fit_transform(X, y)
assert 0.09 < abs(X_robust - X).max() <= 0.1 + 1e-6
pipe = make_pipeline(DimmedDataset(eps=0.1), LogisticRegression(max_iter=500))
assert (pipe.fit(X, y)[0].transform(X) == X.astype("float32")).all()
""",
    "scorer": """
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from robustfit import RobustAccuracyScorer
from robustfit.evaluation.scorers import WorstClassScorer
model = LogisticRegression(C=0.1, max_iter=500)
worst, mean = (
    cross_val_score(model, X[:600], y[:600], cv=2, scoring=s, error_score="raise")
    for s in (WorstClassScorer(eps=0.05), RobustAccuracyScorer(eps=0.05))
)
assert (worst < mean).all()
""",
}
DATA = """
from sklearn.datasets import load_digits
X, y = load_digits(return_X_y=True)
X = X / 16
"""


def read_diffs():
    """Return the diffs of the guide, in their order."""
    if not GUIDE.exists():
        pytest.skip("the documentation is not part of an installed package")
    return re.findall(
        r"^```diff\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE
    )


def run(command, folder, **options):
    """Run a command and fail with what it printed."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(3), ids=list(USES))
def test_a_diff_applies_and_works(number, tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git applies the diffs")
    name, diff = list(USES)[number], read_diffs()[number]
    for folder in ("robustfit", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    run(["git", "apply", "-C1", "-"], tmp_path, input=diff)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run([sys.executable, "-c", DATA + USES[name]], tmp_path, env=environment)


def test_diffs_fit_on_a_screen():
    diffs = read_diffs()
    assert len(diffs) == len(USES)
    assert max(len(diff.splitlines()) for diff in diffs) <= 45
