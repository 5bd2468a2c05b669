"""CIFAR-10 and a ResNet-18: the user's own net, from the data to AutoAttack.

    python benchmarks/cifar10_resnet18.py --rows 2000 --epochs 2      # to see it run
    python benchmarks/cifar10_resnet18.py --device cuda --rows 50000  # to mean it

A skorch net is passed as the learner's ``estimator``: judge and search train it, and
the ``Pipeline`` trains it once more on what they have chosen. The data come from OpenML
(``fetch_openml("CIFAR_10")``, 650 MB) or from a file with ``X_train, y_train, X_test,
y_test`` (``--file``; uint8 images (n, 3, 32, 32)). Before anything long begins, a few
steps of training are timed, and time and memory are estimated from them.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.callback import ProgressBar
from sklearn.datasets import fetch_openml
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier

from robustfit import RobustAccuracyScorer, RobustDatasetLearner, RobustnessReport
from robustfit.nets import CosineSchedule, ResNet18

# A fit trains theta_0, what a search costs in all (three nets), and the classifier.
TRAININGS = 1 + 3 + 1


def load(arguments):
    """Return X_train, y_train, X_test, y_test; images float32 in [0, 1]."""
    if arguments.file:
        with np.load(arguments.file) as stored:
            parts = [stored[f"{k}_{p}"] for p in ("train", "test") for k in "Xy"]
    else:
        X, y = fetch_openml("CIFAR_10", as_frame=False, return_X_y=True)
        X, y = X.reshape(-1, 3, 32, 32), y.astype(np.int64)
        parts = [X[:50_000], y[:50_000], X[50_000:], y[50_000:]]
    X_train, y_train, X_test, y_test = parts
    rows, tests = slice(arguments.rows), slice(arguments.tests)
    return (
        X_train[rows].astype(np.float32) / 255,
        y_train[rows].astype(np.int64),
        X_test[tests].astype(np.float32) / 255,
        y_test[tests].astype(np.int64),
    )


def make_net(arguments):
    """Return an unfitted ResNet-18 in skorch."""
    return NeuralNetClassifier(
        ResNet18,
        module__width=arguments.width,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        lr=0.05,
        batch_size=128,
        max_epochs=arguments.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[("cosine", CosineSchedule())],
        device=arguments.device,
        verbose=0,
    )


def estimate(net, X, y):
    """Return the seconds of training a row, and the GB that a fit holds at most."""
    few = X[:256], y[:256]
    trial = net.set_params(max_epochs=1).fit(*few)  # warm up
    start = time.perf_counter()
    trial.partial_fit(*few)
    seconds = time.perf_counter() - start
    return seconds / len(few[0]), 3 * X.nbytes / 2**30


def main():
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folds", type=int, default=0, help="of cross_val_score")
    parser.add_argument("--checkpoint", help="folder; a run that is stopped goes on")
    arguments = parser.parse_args()
    X_train, y_train, X_test, y_test = load(arguments)
    per_row, gigabytes = estimate(make_net(arguments), X_train, y_train)
    hours = TRAININGS * per_row * len(X_train) * arguments.epochs / 3600
    print(
        f"{len(X_train)} rows, {arguments.epochs} epochs on {arguments.device}: about "
        f"{hours:.2g} hours for {TRAININGS} trainings, attacks beside; up to "
        f"{gigabytes:.2g} GB for the set, the net and its activations beside."
    )
    net = make_net(arguments)
    learner = RobustDatasetLearner(
        eps=8 / 255, estimator=net, random_state=0, checkpoint=arguments.checkpoint
    )
    pipe = Pipeline([("robustify", learner), ("clf", net)])
    pipe.set_callbacks(ProgressBar())
    torch.manual_seed(0)
    if arguments.folds:
        scores = cross_val_score(
            pipe, X_train, y_train,
            cv=StratifiedKFold(arguments.folds),
            scoring=RobustAccuracyScorer(eps=8 / 255, attack="autoattack"),
            error_score="raise",
        )  # fmt: skip
        print("robust accuracy over folds (AutoAttack, 8/255):", scores.round(3))
    pipe.fit(X_train, y_train)
    print("chosen:", pipe["robustify"].chosen_)
    for eps in (2 / 255, 4 / 255, 8 / 255):
        scores = RobustnessReport(eps=eps)(pipe, X_test, y_test)
        print(f"eps {255 * eps:.0f}/255:", {k: round(v, 3) for k, v in scores.items()})


if __name__ == "__main__":
    main()
