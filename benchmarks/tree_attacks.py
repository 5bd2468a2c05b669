"""What the attacks on trees and neighbours find, and what their bounds prove.

Estimators of scikit-learn on the digits, linf, 150 test images of each split: the
attack that ``attack="auto"`` chooses against Square with 5,000 queries, and the share
that is certified. Times are CPU seconds of one process; only their ratio means
something elsewhere.

    python benchmarks/tree_attacks.py --splits 0 1 2

Takes some minutes a split, nearly all of them Square's. A split's rows are kept in
``results/tree_attacks/`` and not measured again; the table of all is
``results/tree_attacks.csv``, a summary ``results/tree_attacks.md``.
"""

import argparse
import csv
import datetime
import json
import time
import warnings
from pathlib import Path

import numpy as np
import scipy
import sklearn
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

import robustfit
from robustfit import attack_estimator, certified_accuracy
from robustfit.attacks import Square

RESULTS = Path(__file__).parent / "results"
EPS, N_TEST = 0.1, 150
MODELS = {
    "RandomForest(200)": lambda s: RandomForestClassifier(200, random_state=s),
    "HistGradientBoosting": lambda s: HistGradientBoostingClassifier(random_state=s),
    "KNeighbors(3)": lambda s: KNeighborsClassifier(3),
    "ExtraTrees(200)": lambda s: ExtraTreesClassifier(200, random_state=s),
    "GradientBoosting(30)": lambda s: GradientBoostingClassifier(
        n_estimators=30, random_state=s
    ),
    "KNeighbors(1)": lambda s: KNeighborsClassifier(1),
    "LogisticRegression": lambda s: LogisticRegression(max_iter=1000),
}


def measure(name, split):
    """Return a row of the table: one estimator on one split."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=400, random_state=split, stratify=y
    )
    X_test, y_test = X_test[:N_TEST], y_test[:N_TEST]
    model = MODELS[name](split).fit(X_train, y_train)
    own, seconds = timed(attack_estimator, model, X_test, y_test, eps=EPS)
    square, square_seconds = timed(
        attack_estimator, model, X_test, y_test, eps=EPS, attack=Square(5000)
    )
    proven, proof_seconds = timed(certified_accuracy, model, X_test, y_test, eps=EPS)
    return {
        "model": name,
        "split": split,
        "natural": own.natural_accuracy,
        "left by Square": square.robust_accuracy,
        "left": own.robust_accuracy,
        "certified": proven.certified_accuracy,
        "exact": proven.exact,
        "found": int((own.natural_correct & ~own.robust).sum()),
        "found by Square": int((square.natural_correct & ~square.robust).sum()),
        "found by Square alone": int((own.robust & ~square.robust).sum()),
        "broken proofs": int((proven.certified & ~(own.robust & square.robust)).sum()),
        "seconds": seconds,
        "Square's seconds": square_seconds,
        "proof's seconds": proof_seconds,
        "n": N_TEST,
        "eps": EPS,
        "date": datetime.date.today().isoformat(),
        "versions": f"robustfit {robustfit.__version__}, scikit-learn "
        f"{sklearn.__version__}, scipy {scipy.__version__}, numpy {np.__version__}",
    }


def timed(function, *arguments, **parameters):
    """Return what a call returns, and its CPU seconds."""
    start = time.process_time()
    result = function(*arguments, **parameters)
    return result, time.process_time() - start


def kept(name, split):
    """Return a row, measured now or before."""
    path = RESULTS / "tree_attacks" / f"{name}_{split}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measure(name, split), indent=1) + "\n")
        print(path.read_text(), flush=True)
    return json.loads(path.read_text())


def write(rows):
    """Write all rows as CSV, and their means over the splits as a table."""
    with (RESULTS / "tree_attacks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "# Attacks on trees and neighbours",
        "",
        f"Digits, linf {EPS}, {N_TEST} test images a split, seeds = splits; "
        f"{rows[0]['versions']}; {max(row['date'] for row in rows)}. Accuracies in %, "
        "means over the splits; times in CPU seconds.",
        "",
        "| model | splits | natural | left by Square | left by auto | certified | "
        "found / by Square / by Square alone | seconds | Square's | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            line(name, found)
            for name in MODELS
            if (found := [row for row in rows if row["model"] == name])
        ),
    ]
    (RESULTS / "tree_attacks.md").write_text("\n".join(lines) + "\n")


def line(name, rows):
    """Return the line of one model: means over its splits."""
    mean = {
        key: np.mean([row[key] for row in rows])
        for key in rows[0]
        if not isinstance(rows[0][key], str)
    }
    shares = " | ".join(
        f"{100 * mean[key]:.1f}"
        for key in ("natural", "left by Square", "left", "certified")
    )
    exact = " (exact)" if rows[0]["exact"] else ""
    found = " / ".join(
        str(sum(row[key] for row in rows))
        for key in ("found", "found by Square", "found by Square alone")
    )
    square = mean["Square's seconds"]
    ratio = square / mean["seconds"]
    return (
        f"| {name} | {len(rows)} | {shares}{exact} | {found} | {mean['seconds']:.2f} | "
        f"{square:.1f} | {ratio:.0f} |"
    )


def main():
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for split in arguments.splits:
        for name in arguments.models:
            kept(name, split)
    paths = sorted((RESULTS / "tree_attacks").glob("*.json"))
    write([json.loads(path.read_text()) for path in paths])


if __name__ == "__main__":
    main()
