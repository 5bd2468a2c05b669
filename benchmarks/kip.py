r"""KIP and adv-KIP: what the kernel predictor and nets keep under AutoAttack.

    ROBUSTFIT_DATA=<folder> python benchmarks/kip.py --data mnist --eps 0.3 \
        --n-support 500 --set natural kip paper margin

Every cell (set x kernel x support x seed) is a JSON file under
``benchmarks/results/kip/``; the distillation has a checkpoint, so a run that is stopped
(``--max-minutes 9`` stops it by itself) goes on where it was. The paper's sizes on a
GPU, to be called again until all cells are there:

    python benchmarks/kip.py --device cuda --data mnist --eps 0.3 --depth 7 \
        --n-support 30000 --n-targets 10000 --n-outer-steps 1000 --max-minutes 9
    python benchmarks/kip.py --device cuda --data cifar10 --eps 0.03137 --depth 3 \
        --n-support 40000 --n-targets 10000 --n-steps 6 --max-minutes 9

Sets: ``natural`` rows; ``kip``; ``paper``, adv-KIP with the cross-entropy in the inner
loop; and what the paper suggests at its end, see ``SETS``.
"""

import argparse
import csv
import json
import os
import platform
import signal
import time
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import sklearn
import torch
from _data import load
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

import robustfit
from robustfit import (
    AdvKIPDistiller,
    KernelRegressionClassifier,
    KIPDistiller,
    as_torch,
    attack_estimator,
)
from robustfit.kernels import FullyConnectedNTK
from robustfit.nets import MLP, CosineSchedule

RESULTS = Path(__file__).parent / "results" / "kip"
ALL_LOSSES = ("scaled-cross-entropy", "margin", "dlr", "targeted-margin")
# What differs from adv-KIP as the paper has it.
SETS = {
    "paper": {"inner_loss": "cross-entropy"},
    "margin": {"inner_loss": "margin"},
    "dlr": {"inner_loss": "dlr"},
    "several": {"inner_loss": ALL_LOSSES},
    "scaled-ce": {"inner_loss": "scaled-cross-entropy"},
    "half-half": {"inner_loss": ("margin", "cross-entropy")},
    "clean-mixture": {"inner_loss": "margin", "clean_weight": 0.3},
    "gradient-penalty": {"inner_loss": "margin", "gradient_penalty": 0.5},
    "kernel-ensemble": {"inner_loss": "margin", "kernel": "ensemble"},
    "ce-outer": {"inner_loss": "margin", "outer_loss": "cross-entropy"},
    "hard-labels": {"inner_loss": "margin", "learn_labels": False},
    "long-attack": {"inner_loss": "margin", "n_steps": 30},
}
# Tables 1, 2 and 9 (kernel), 3 and 4 (wide net), 5 and 6 (CNN): clean, FGSM, PGD.
PAPER = {
    ("mnist", "FC7 30k", "kernel"): (97.21, 67.04, 50.34),
    ("mnist", "Conv3 5k", "kernel"): (96.31, 94.82, 76.62),
    ("mnist", "FC3 5k, KIP", "kernel"): (97.51, 0.0, None),
    ("mnist", "FC3 30k", "wide"): (80.08, 77.67, 53.85),
    ("mnist", "FC7 30k", "wide"): (97.45, 70.58, 40.70),
    ("mnist", "FC3 30k", "cnn"): (98.15, 98.06, 97.17),
    ("mnist", "FC7 30k", "cnn"): (98.03, 97.91, 97.14),
    ("cifar10", "FC2 40k", "kernel"): (59.65, 20.49, 20.37),
    ("cifar10", "FC3 40k", "kernel"): (59.95, 21.67, 21.56),
}
SHOWN = {
    "data": "data", "n_support": "rows", "set": "set", "model": "model",
    "clean": "natural", "fgsm_raw": "FGSM raw", "pgd10_raw": "PGD-10 raw",
    "fgsm": "FGSM", "pgd10": "PGD-10", "pgd40": "PGD-40", "autoattack": "AutoAttack",
    "n_test": "test images", "n_autoattack": "AutoAttack images", "seed": "seed",
}  # fmt: skip
IDENTITY = ("data", "set", "kernel", "n_support", "n_outer_steps", "eps", "seed")
MEASURED = (
    "clean", "fgsm_raw", "pgd10_raw", "fgsm", "pgd10", "pgd40", "autoattack", "n_test",
    "n_autoattack",
)  # fmt: skip


class SimpleCNN(nn.Module):
    """Three 3x3 convolutions of 64 channels with max-pooling (appendix A.1)."""

    def __init__(self, image_shape, n_classes=10, width=64):
        super().__init__()
        channels = (image_shape[0], width, width, width)
        layers = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        n_flat = width * (image_shape[1] // 8) * (image_shape[2] // 8)
        self.image_shape = tuple(image_shape)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_flat, n_classes))

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.layers(x.reshape(len(x), *self.image_shape))


def make_kernel(name, depth):
    """Return the kernel, or the tuple of kernels, that a name stands for."""
    if name == "ensemble":
        return tuple(
            FullyConnectedNTK(depth=d, b_std=b)
            for d, b in ((depth, 0.0), (1, 0.0), (2, 0.1), (5, 0.0), (7, 0.0))
        )
    return FullyConnectedNTK(depth=depth)


def make_distiller(cell, arguments):
    """Return the distiller of a cell; None for the natural set."""
    if cell["set"] == "natural":
        return None
    settings = {
        "eps": cell["eps"],
        "n_support": cell["n_support"],
        "learn_labels": True,
        "n_outer_steps": cell["n_outer_steps"],
        "n_targets": arguments.n_targets,
        "validate_every": arguments.validate_every,
        "n_iter_no_change": arguments.n_iter_no_change,
        "random_state": cell["seed"],
        "device": arguments.device,
        "checkpoint": str(RESULTS / "checkpoints"),
        "verbose": 1,
        "kernel": None,
    }
    if cell["set"] == "kip":
        settings["kernel"] = make_kernel(None, arguments.depth)
        return KIPDistiller(**settings)
    settings |= {"n_steps": arguments.n_steps, "n_checked": 0} | SETS[cell["set"]]
    settings["kernel"] = make_kernel(settings["kernel"], arguments.depth)
    return AdvKIPDistiller(**settings)


def distill(cell, X, y, arguments):
    """Return the set, its labels (probabilities), its history and the seconds."""
    start = time.perf_counter()
    distiller = make_distiller(cell, arguments)
    if distiller is None:
        n = cell["n_support"]
        return X[:n], np.eye(10, dtype=np.float32)[y[:n]], [], 0.0
    distiller.fit(X, y)
    seconds = time.perf_counter() - start
    return distiller.X_robust_, distiller.y_robust_, distiller.history_, seconds


class WatchGradients(Callback):
    """Loss and input gradient on test rows after each epoch, right and wrong apart."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def on_train_begin(self, net, **kwargs):
        """Start the curves."""
        self.curves_ = []

    def on_epoch_end(self, net, **kwargs):
        """Add a point to the curves (Figure 2)."""
        x = torch.tensor(self.X, device=net.device, requires_grad=True)
        y = torch.tensor(self.y, device=net.device)
        net.module_.eval()
        logits = net.module_(x)
        losses = nn.functional.cross_entropy(logits, y, reduction="none")
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        norms, right = gradient.flatten(1).norm(dim=1), logits.argmax(1) == y
        self.curves_.append(
            {
                f"{what}_{kind}": float(values[rows].mean()) if rows.any() else None
                for what, values in (("loss", losses.detach()), ("gradient", norms))
                for kind, rows in (("right", right), ("wrong", ~right))
            }
        )


def train_net(name, X, y, watch, arguments):
    """Return a net naturally trained on a set with Adam, and the seconds it took."""
    module = SimpleCNN if name == "cnn" else MLP
    options = (
        {"module__image_shape": X.shape[1:]}
        if name == "cnn"
        else {
            "module__n_features": int(np.prod(X.shape[1:])),
            "module__hidden": (1024,) * arguments.depth,
        }
    )
    torch.manual_seed(0)
    start = time.perf_counter()
    net = NeuralNetClassifier(
        module, **options, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam,
        lr=arguments.lr, max_epochs=arguments.epochs, batch_size=128, verbose=0,
        train_split=None, iterator_train__shuffle=True, device=arguments.device,
        callbacks=[("cosine", CosineSchedule()), ("watch", watch)],
    ).fit(X, y)  # fmt: skip
    return net, time.perf_counter() - start


def measure(model, X, y, eps, arguments):
    """Return accuracies in %: clean, FGSM, PGD-10, PGD-40 and AutoAttack."""
    common = {"eps": eps, "batch_size": 100}
    step = 0.1 if eps > 0.1 else 2 / 255  # appendix A.1
    few = slice(0, arguments.n_autoattack)
    start = time.perf_counter()
    auto = attack_estimator(
        model, X[few], y[few], attack="autoattack", **common,
        checkpoint=str(RESULTS / "checkpoints"),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    fgsm = attack_estimator(model, X, y, attack="fgsm", **common)
    pgd10, pgd40 = (
        attack_estimator(model, X, y, n_steps=n, step_size=step, **common)
        for n in (10, 40)
    )
    return {
        "clean": 100 * fgsm.natural_accuracy,
        "fgsm": 100 * fgsm.robust_accuracy,
        "pgd10": 100 * pgd10.robust_accuracy,
        "pgd40": 100 * pgd40.robust_accuracy,
        "autoattack": 100 * auto.robust_accuracy,
        "n_test": len(X),
        "n_autoattack": len(X[few]),
        "seconds_autoattack": seconds,
    }


def measure_raw(predictor, X, y, eps):
    """Return what attacks on the raw outputs leave, as the paper's do."""
    scaled = as_torch(predictor)
    scaled.module.scale = 1.0
    found = {}
    for name, attack in (("fgsm_raw", "fgsm"), ("pgd10_raw", "pgd")):
        result = attack_estimator(
            scaled, X, y, attack=attack, eps=eps, n_steps=10,
            step_size=0.1 if eps > 0.1 else 2 / 255, batch_size=100,
        )  # fmt: skip
        found[name] = 100 * result.robust_accuracy
    return found


def run_kernel(X, y, eps, X_set, y_set, arguments):
    """Attack the kernel predictor of a set."""
    kernel = make_kernel(None, arguments.depth)
    predictor = KernelRegressionClassifier(kernel, device=arguments.device)
    predictor.fit(X_set, y_set)
    raw = measure_raw(predictor, X, y, eps)
    return raw | measure(predictor, X, y, eps, arguments)


def run_net(name, X, y, eps, X_set, y_set, arguments):
    """Train a net naturally on a set and attack it."""
    watch = WatchGradients(X[:200], y[:200])
    net, seconds = train_net(name, X_set, y_set, watch, arguments)
    training = {"epochs": arguments.epochs, "seconds_training": seconds}
    return training | {"curves": watch.curves_} | measure(net, X, y, eps, arguments)


def remember(cell, model, compute):
    """Return what was measured before, or measure and keep it."""
    path = RESULTS / "checkpoints" / f"{name_of(cell)}_{model}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = compute()
        path.write_text(json.dumps(found))
    return json.loads(path.read_text())


def run_cell(cell, data, arguments):
    """Distil, deploy and attack; return the record of one cell."""
    X, y, X_test, y_test = data
    X_set, y_set, history, seconds = distill(cell, X, y, arguments)
    print(f"set after {seconds:.0f} s", flush=True)
    test, options = (X_test, y_test, cell["eps"]), (X_set, y_set, arguments)
    measured = {"kernel": remember(cell, "kernel", lambda: run_kernel(*test, *options))}
    for name in arguments.nets:
        measured[name] = remember(
            cell, name, lambda name=name: run_net(name, *test, *options)
        )
        print(name, measured[name]["autoattack"], flush=True)
    keep_pictures(cell, X_set, y_set)
    return cell | {
        "n_train": len(X), "n_targets": arguments.n_targets, "measured": measured,
        "history": history, "seconds_set": seconds, "n_steps": arguments.n_steps,
        "device": device_name(arguments.device), "torch": torch.__version__,
        "scikit-learn": sklearn.__version__, "robustfit": robustfit.__version__,
        "date": date.today().isoformat(),
    }  # fmt: skip


def keep_pictures(cell, X_set, y_set):
    """Keep one learned image of each class with its label (Figures 5 and 6)."""
    rows = [int(np.flatnonzero(y_set.argmax(1) == c)[0]) for c in range(10)
            if (y_set.argmax(1) == c).any()]  # fmt: skip
    np.savez_compressed(
        RESULTS / f"pictures_{name_of(cell)}.npz",
        X=X_set[rows].astype(np.float16), y=y_set[rows].astype(np.float16),
    )  # fmt: skip


def device_name(device):
    """Return what ran the computation, in words."""
    if str(device).startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"


def name_of(cell):
    """Return the stem of a cell's file."""
    return "_".join(str(cell[k]) for k in IDENTITY)


def write_tables():
    """Gather all cells into results.csv and results.md."""
    cells = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    rows = [
        {k: c[k] for k in IDENTITY} | {"model": model} | c["measured"][model]
        for c in cells
        for model in c["measured"]
    ]
    columns = (*IDENTITY, "model", *MEASURED)
    with (RESULTS / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({k: _rounded(v) for k, v in row.items()} for row in rows)
    with (RESULTS / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SHOWN.values())
        writer.writerows([_rounded(row.get(k, "")) for k in SHOWN] for row in rows)
    lines = ["# KIP and adv-KIP: measured", ""]
    lines += ["Written by `benchmarks/kip.py`; accuracies in %.", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        shown = " | ".join(str(_rounded(row.get(k, ""))) for k in columns)
        lines.append(f"| {shown} |")
    lines += ["", "The paper (clean, FGSM, PGD; its AutoAttack figure is 0.00):", ""]
    for key, figures in PAPER.items():
        lines.append(f"- {', '.join(key)}: {' / '.join(map(str, figures))}")
    (RESULTS / "results.md").write_text("\n".join(lines) + "\n")


def _rounded(value):
    return round(value, 2) if isinstance(value, float) else value


def parse_arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default="digits", choices=("digits", "mnist", "cifar10"))
    add("--data-folder", help="default: $ROBUSTFIT_DATA")
    add("--eps", type=float, default=0.2)
    add("--set", nargs="+", dest="sets", default=["natural", "kip", "paper", "margin"])
    add("--depth", type=int, default=3)
    add("--n-support", type=int, default=500)
    add("--n-targets", type=int, default=100)
    add("--n-outer-steps", type=int, default=300)
    add("--n-steps", type=int, default=10)
    add("--validate-every", type=int, default=25)
    add("--n-iter-no-change", type=int)
    add("--seed", nargs="+", type=int, default=[0])
    add("--nets", nargs="*", default=["wide", "cnn"], choices=("wide", "cnn"))
    add("--epochs", type=int, default=30)
    add("--lr", type=float, default=1e-3)
    add("--n-train", type=int)
    add("--n-test", type=int, default=500)
    add("--n-autoattack", type=int, default=200)
    add("--max-minutes", type=float, help="stop by itself; call again to go on")
    add("--device", default="cpu")
    return parser.parse_args()


def stop_after(minutes):
    """Interrupt this process after ``minutes``; checkpoints keep what was done."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)


def main():
    """Run the cells that have no result yet."""
    arguments = parse_arguments()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if arguments.max_minutes:
        stop_after(arguments.max_minutes)
    data = load(
        arguments.data, arguments.n_train, arguments.n_test, arguments.data_folder
    )
    for seed in arguments.seed:
        for name in arguments.sets:
            cell = {
                "data": arguments.data, "set": name, "kernel": f"FC{arguments.depth}",
                "n_support": arguments.n_support, "eps": arguments.eps, "seed": seed,
                "n_outer_steps": 0 if name == "natural" else arguments.n_outer_steps,
            }  # fmt: skip
            path = RESULTS / f"{name_of(cell)}.json"
            if not path.exists():
                record = run_cell(cell, data, arguments)
                temporary = path.with_suffix(".tmp")
                temporary.write_text(json.dumps(record, indent=1))
                os.replace(temporary, path)
                write_tables()
            print(path.stem, json.loads(path.read_text())["measured"], flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped; call again to go on") from None
