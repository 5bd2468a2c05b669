"""Measure how robustness depends on the input distribution (Ding et al., 2019).

    python benchmarks/input_distribution.py volumes --data FOLDER
    python benchmarks/input_distribution.py distances --data FOLDER
    python benchmarks/input_distribution.py robustness --data FOLDER

FOLDER (or the environment variable ROBUSTFIT_DATA) holds what ``_data.py`` says. Rows
are appended to ``benchmarks/results/input_distribution_<command>.csv``; ``robustness``
skips variants whose row is there already. The defaults fit a CPU; the paper's own
setting, for a GPU, is

    robustness --n-train 60000 --epochs 83 --batch-size 50 --learning-rate 1e-4
        --n-steps 40 --step-size 0.01 --warm-up 0 --widen-factor 1 --n-test 10000
        --n-autoattack 10000 --device cuda
"""

import argparse
import csv
import datetime
import platform
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from _data import DATA_FOLDER, load

import robustfit
from robustfit import (
    ThreatModel,
    attack_estimator,
    inter_class_distance,
    perturbable_volume,
)
from robustfit.image_transforms import (
    BinarizeImages,
    SaturateImages,
    ScaleContrast,
    SmoothImages,
)
from robustfit.nets import LeNet5

RESULTS = Path(__file__).parent / "results"
MNIST_VARIANTS = {
    "original": [],
    "binarized": [BinarizeImages()],
    "smooth 3x1": [SmoothImages((3, 1))],
    "smooth 5x1": [SmoothImages((5, 1))],
    "smooth 3x3": [SmoothImages(3)],
    "smooth 5x5": [SmoothImages(5)],
}
# Binary logarithms of the volumes in table 6. Its text reads as a square filter; its
# numbers are those of a column.
MNIST_VOLUMES = {
    "binarized": -1361,
    "original": -1297,
    "smooth 3x1": -1265,
    "smooth 5x1": -1234,
    "smooth 3x3": -1265,
    "smooth 5x5": -1234,
}
CIFAR10_VOLUMES = {
    2: -12354,
    4: -12394,
    8: -12477,
    16: -12657,
    64: -13620,
    256: -14747,
    512: -15028,
    np.inf: -15342,
}


def apply(transforms, X):
    """Return ``X`` after each of the transforms."""
    for transform in transforms:
        X = transform.fit_transform(X)
    return X


def append_row(command, row):
    """Append a row of results; write the header first in a new file."""
    row = {**row, **versions()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"input_distribution_{command}.csv"
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    print({k: v for k, v in row.items() if k not in versions()}, flush=True)


def read_rows(command):
    """Return the rows of results that a command has written so far."""
    path = RESULTS / f"input_distribution_{command}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def versions():
    """Return the date and the versions behind a row of results."""
    return {
        "date": datetime.date.today().isoformat(),
        "robustfit": robustfit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sklearn": sklearn.__version__,
    }


def measure_volumes(args):
    """Table 6: binary logarithm of the perturbable volume of the test images."""
    _, _, X_test, _ = load("mnist", folder=args.data)
    for name, paper in MNIST_VOLUMES.items():
        X = apply(MNIST_VARIANTS[name], X_test)
        report_volume("mnist", name, X, 0.3, paper)
    _, _, X_test, _ = load("cifar10", n_train=1, folder=args.data)
    for level, paper in CIFAR10_VOLUMES.items():
        X = SaturateImages(level).fit_transform(X_test)
        report_volume("cifar10 (jpeg copies)", f"saturate {level}", X, 8 / 255, paper)


def report_volume(dataset, name, X, eps, paper):
    """Measure one volume and write it beside the paper's."""
    volume = perturbable_volume(X, eps)
    append_row(
        "volumes",
        {
            "dataset": dataset,
            "variant": name,
            "n": len(X),
            "eps": round(eps, 6),
            "log2_volume": round(volume, 1),
            "paper": paper,
            "difference": round(volume - paper, 1),
        },
    )


def measure_distances(args):
    """Inter-class distances, and the contrasts that make them equal (table 1)."""
    X_train, y_train, _, _ = load("mnist", folder=args.data)
    rows = np.random.RandomState(args.seed).permutation(len(X_train))[: args.n_train]
    distances = {}
    for name, transforms in MNIST_VARIANTS.items():
        if args.variants and name not in args.variants:
            continue
        start = time.perf_counter()
        X = apply(transforms, X_train[rows])
        distances[name] = inter_class_distance(X, y_train[rows])
        append_row(
            "distances",
            {
                "variant": name,
                "n": len(rows),
                "seed": args.seed,
                "distance": round(distances[name], 4),
                "alpha_to_smooth_5x1": "",
                "seconds": round(time.perf_counter() - start, 1),
            },
        )
    if args.variants:
        return
    for name in ("original", "binarized"):
        alpha = distances["smooth 5x1"] / distances[name]
        X = apply([*MNIST_VARIANTS[name], ScaleContrast(alpha)], X_train[rows])
        append_row(
            "distances",
            {
                "variant": f"scaled {name}",
                "n": len(rows),
                "seed": args.seed,
                "distance": round(inter_class_distance(X, y_train[rows]), 4),
                "alpha_to_smooth_5x1": round(alpha, 4),
                "seconds": "",
            },
        )


def all_variants():
    """Return the variants of table 2, then those of table 1 with equal distance."""
    variants = dict(MNIST_VARIANTS)
    for row in read_rows("distances"):
        if row["alpha_to_smooth_5x1"]:
            base = row["variant"].removeprefix("scaled ")
            contrast = ScaleContrast(float(row["alpha_to_smooth_5x1"]))
            variants[row["variant"]] = [*MNIST_VARIANTS[base], contrast]
    return variants


def measure_robustness(args):
    """Table 2 and table 1: LeNet5 adversarially trained on each variant."""
    X_train, y_train, X_test, y_test = load("mnist", folder=args.data)
    random = np.random.RandomState(args.seed)
    train = random.permutation(len(X_train))[: args.n_train]
    test = random.permutation(len(X_test))[: args.n_test]
    done = {row["variant"] for row in read_rows("robustness")}
    for name, transforms in all_variants().items():
        if name in done or (args.variants and name not in args.variants):
            continue
        X, X_held_out = (apply(transforms, part) for part in (X_train[train], X_test))
        append_row(
            "robustness",
            {
                "variant": name,
                **settings(args),
                **run_variant(args, X, y_train[train], X_held_out[test], y_test[test]),
            },
        )


def settings(args):
    """Return what a row of ``robustness`` was measured with."""
    names = (
        "n_train n_test n_autoattack epochs warm_up batch_size learning_rate n_steps "
        "step_size widen_factor seed"
    )
    return {name: getattr(args, name) for name in names.split()}


def run_variant(args, X, y, X_test, y_test):
    """Train naturally and adversarially; return accuracies in percent."""
    natural = train_net(args, X, y, eps=0)
    start = time.perf_counter()
    net = train_net(args, X, y, eps=args.eps)
    seconds = time.perf_counter() - start
    attack = {"eps": args.eps, "n_steps": 40, "step_size": 0.01, "batch_size": 100}
    boxed = attack_estimator(net, X_test, y_test, labels="predicted", **attack)
    free = attack_estimator(net, X_test, y_test, clip_range=None, **attack)
    few = slice(args.n_autoattack)
    start = time.perf_counter()
    auto, pgd_few = np.nan, (boxed.robust & boxed.natural_correct)[few].mean()
    if args.n_autoattack:
        auto = attack_estimator(
            net, X_test[few], y_test[few], attack="autoattack", eps=args.eps,
            batch_size=100,
        ).robust_accuracy  # fmt: skip
    clean = attack_estimator(natural, X_test, y_test, eps=0, attack="fgsm")
    accuracies = {
        "natural_training_accuracy": clean.natural_accuracy,
        "accuracy": boxed.natural_accuracy,
        "pgd40": (boxed.robust & boxed.natural_correct).mean(),
        "robustness_wrt_predictions": boxed.robust_accuracy,
        "pgd40_no_box": free.robust_accuracy,
        "pgd40_of_autoattack_rows": pgd_few,
        "autoattack": auto,
    }
    return {
        **{name: round(100 * float(value), 1) for name, value in accuracies.items()},
        "train_seconds": round(seconds),
        "autoattack_seconds": round(time.perf_counter() - start),
    }


def train_net(args, X, y, *, eps):
    """Train LeNet5 with Adam on PGD examples of radius ``eps``; 0 trains naturally.

    For ``args.warm_up`` epochs the radius grows from 0: from random weights, training
    at once at the full radius often never leaves the constant prediction.
    """
    torch.manual_seed(args.seed)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    net = LeNet5(widen_factor=args.widen_factor).to(args.device)
    x, y = torch.tensor(X, device=args.device), torch.tensor(y, device=args.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.learning_rate)
    n_batches = -(-len(x) // args.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, args.epochs * n_batches
    )
    for step in range(args.epochs * n_batches):
        if step % n_batches == 0:
            order = torch.randperm(len(x), generator=generator, device=args.device)
        rows = order[step % n_batches * args.batch_size :][: args.batch_size]
        growth = min(1.0, step / max(1, args.warm_up * n_batches))
        x_adv = perturb(args, net, x[rows], y[rows], eps * growth, generator)
        optimizer.zero_grad()
        F.cross_entropy(net(x_adv), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def perturb(args, net, x, y, eps, generator):
    """Maximise the cross-entropy by PGD from a random start, all steps taken."""
    if eps == 0:
        return x
    threat_model = ThreatModel("linf", eps)
    x_adv = threat_model.random_start(x, generator)
    for _ in range(args.n_steps):
        x_adv.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(net(x_adv), y), x_adv)
        step_size = args.step_size * eps / args.eps
        x_adv = threat_model.ascent_step(x_adv.detach(), gradient, step_size)
        x_adv = threat_model.project(x_adv, x)
    return x_adv


def parse_arguments():
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("volumes", "distances", "robustness"))
    parser.add_argument("--data", default=DATA_FOLDER)
    parser.add_argument("--variants", nargs="*")
    parser.add_argument("--n-train", type=int, default=5000)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--n-autoattack", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--warm-up", type=float, default=4)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--n-steps", type=int, default=7)
    parser.add_argument("--step-size", type=float, default=0.1)
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--widen-factor", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    {
        "volumes": measure_volumes,
        "distances": measure_distances,
        "robustness": measure_robustness,
    }[arguments.command](arguments)
