r"""Training sets in front of scikit-learn's estimators: which set helps which.

    nice -n 10 python benchmarks/any_estimator.py [--seeds 0 1 2] [--n-test 150]

Embedded digits (1,397 rows to learn from), linf 0.1. Each cell (set x estimator x
split) is a JSON file under ``benchmarks/results/any_estimator/``; a run that is stopped
goes on where it was, and ``results.csv`` beside them holds the mean over the splits
with the smallest and largest. Estimators with gradients are attacked by AutoAttack, the
others by Square (2,000 queries): what survives *that* is an upper bound, and a loose
one where scores are piecewise constant.

Sets: natural; noise (``NoisyDataset``); natural plus three noisy copies of it; learned
(``RobustDatasetLearner``, flat rows, all defaults); pruned (``AdversarialPruner`` with
three times the budget: with the budget itself it has nothing to drop here); convex
(``ConvexDatasetLearner`` for the estimator itself, where it is convex).
"""

import argparse
import csv
import functools
import json
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import sklearn
import torch
from _learned_sets import recipe, replace_file
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC

import robustfit
from robustfit import (
    AdversarialPruner,
    ConvexDatasetLearner,
    NoisyDataset,
    RobustDatasetLearner,
    attack_estimator,
    is_convex,
)
from robustfit.attacks import Square

RESULTS = Path(__file__).parent / "results" / "any_estimator"
EPS = 0.1
N_COPIES = 3
SETS = ("natural", "noise", "noise-copies", "learned", "pruned", "convex")


def estimators(seed):
    """Return {name: (unfitted estimator, whether it is attacked by AutoAttack)}."""
    return {
        "LogisticRegression(C=1)": (LogisticRegression(max_iter=1000), True),
        "LogisticRegression(C=10)": (LogisticRegression(C=10, max_iter=1000), True),
        "LinearSVC": (LinearSVC(random_state=seed), True),
        "RidgeClassifier": (RidgeClassifier(), True),
        "SVC(rbf, C=10)": (SVC(C=10), True),
        "MLPClassifier(100)": (MLPClassifier((100,), random_state=seed), True),
        "KNN(1)": (KNeighborsClassifier(1), False),
        "KNN(3)": (KNeighborsClassifier(3), False),
        "HistGradientBoosting": (
            HistGradientBoostingClassifier(random_state=seed),
            False,
        ),
        "RandomForest(200)": (RandomForestClassifier(200, random_state=seed), False),
        "ExtraTrees(200)": (ExtraTreesClassifier(200, random_state=seed), False),
    }


def split(seed, n_test):
    """Return X_train, X_test, y_train, y_test of a split."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=400, random_state=seed, stratify=y
    )
    return X_train, X_test[:n_test], y_train, y_test[:n_test]


@functools.cache
def learned_set(name, seed, n_test):
    """Return images and labels of a set that no estimator is named for."""
    X, _, y, _ = split(seed, n_test)
    if name == "natural":
        return X, y
    if name == "noise-copies":
        copies = [
            NoisyDataset(EPS, random_state=1000 * seed + i).fit_transform(X, y)
            for i in range(N_COPIES)
        ]
        return np.concatenate([X, *copies]), np.tile(y, 1 + N_COPIES)
    robustifier = {
        "noise": NoisyDataset(EPS, random_state=seed),
        "learned": RobustDatasetLearner(EPS, random_state=seed),
        "pruned": AdversarialPruner(3 * EPS),
    }[name].fit(X, y)
    return robustifier.X_robust_, robustifier.y_robust_


def measure(set_name, name, seed, n_test):
    """Return the record of one cell."""
    estimator, white_box = estimators(seed)[name]
    X, X_test, y, y_test = split(seed, n_test)
    record = {"set": set_name, "estimator": name, "seed": seed, "n_test": n_test}
    start = time.perf_counter()
    if set_name == "convex":
        learner = ConvexDatasetLearner(EPS, estimator=estimator, random_state=seed)
        X = learner.fit_transform(X, y)
        trained = attacked(learner.robust_estimator_, X_test, y_test)
        record |= {
            "weight_error": learner.weight_error_,
            "gradient_norm": learner.gradient_norm_,
            "distance_mean": learner.distance_mean_,
            "adversarially_trained": 100 * trained.robust_accuracy,
        }
    else:
        X, y = learned_set(set_name, seed, n_test)
    record["n_train"] = len(X)
    seconds_set = time.perf_counter() - start
    attack = "autoattack" if white_box else Square(n_queries=2000)
    result = attacked(estimator.fit(X, y), X_test, y_test, attack)
    return record | {
        "natural": 100 * result.natural_accuracy,
        "robust": 100 * result.robust_accuracy,
        "attack": "AutoAttack" if white_box else "Square, 2000 queries",
        "eps": EPS, "seconds_set": seconds_set,
        "seconds": time.perf_counter() - start, "recipe": recipe(),
        "robustfit": robustfit.__version__, "sklearn": sklearn.__version__,
        "torch": torch.__version__, "date": date.today().isoformat(),
    }  # fmt: skip


def attacked(estimator, X, y, attack="autoattack"):
    """Return the result of an attack within the budget."""
    return attack_estimator(estimator, X, y, attack=attack, eps=EPS, random_state=0)


def cells(seeds):
    """Yield set, estimator and seed of each cell, split by split."""
    for seed in seeds:
        for name, (estimator, _) in estimators(seed).items():
            for set_name in SETS:
                if set_name != "convex" or is_convex(estimator):
                    yield set_name, name, seed


def summarise():
    """Write the table: mean over the splits, smallest and largest in brackets."""
    records = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    rows = []
    for name in estimators(0):
        for set_name in SETS:
            own = [r for r in records if (r["estimator"], r["set"]) == (name, set_name)]
            if own:
                rows.append(summary(name, set_name, own))
    with (RESULTS / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*row.values(), sep=" | ")


def summary(name, set_name, records):
    """Return a row of the table."""
    return {
        "estimator": name,
        "set": set_name,
        "natural": spread([r["natural"] for r in records]),
        "robust": spread([r["robust"] for r in records]),
        "adversarially_trained": spread(
            [r["adversarially_trained"] for r in records if set_name == "convex"]
        ),
        "attack": records[0]["attack"],
        "n_test": records[0]["n_test"],
        "seeds": " ".join(sorted(str(r["seed"]) for r in records)),
    }


def spread(values):
    """Return "mean (smallest to largest)", nothing for no values."""
    if not values:
        return ""
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main():
    """Measure the cells that are missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-test", type=int, default=150)
    parser.add_argument("--estimators", nargs="+", help="names; all without it")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of fits that stop early: their defaults are meant
    RESULTS.mkdir(parents=True, exist_ok=True)
    for set_name, name, seed in cells(options.seeds):
        if set_name not in options.sets or name not in (options.estimators or [name]):
            continue
        path = RESULTS / f"{set_name}_{name.replace(' ', '')}_{seed}.json"
        if not path.exists():
            record = measure(set_name, name, seed, options.n_test)
            replace_file(path, json.dumps(record, indent=1).encode())
            print(set_name, name, seed, record["natural"], record["robust"], flush=True)
    summarise()


if __name__ == "__main__":
    main()
