r"""Robust dataset learning against its baselines, in both protocols.

    ROBUSTFIT_DATA=<folder> python benchmarks/robust_dataset.py --data mnist \
        --n-train 10000 --n-test 1000 --threat linf-0.1 linf-0.2

Every cell of the table (set x protocol x threat x seed) is a JSON file under
``benchmarks/results/robust_dataset/``; a run that is stopped goes on where it was, and
the table (CSV and Markdown) is written anew after each cell. ``--data digits`` needs no
file. Sets: the natural one; Gaussian noise; adversarial data of a natural and of a
robust classifier; the learned one (hard labels; soft labels; the paper's literal
Algorithm 1). Protocols: ``scratch`` trains a net of another seed on the set alone;
``fine-tune`` continues from theta_0, naturally trained on the natural set, with SGD
0.01, momentum 0.9 and weight decay 5e-4 (section 5.1 of the paper).
"""

import argparse
import csv
import json
import os
import platform
import time
from datetime import date
from pathlib import Path

import sklearn
import torch
from _data import load
from sklearn.base import clone

import robustfit
from robustfit import (
    AdversarialDataset,
    NoisyDataset,
    RobustDatasetLearner,
    attack_estimator,
)
from robustfit._torch_bridge import draw_seed, seeded_torch
from robustfit.nets import default_classifier

RESULTS = Path(__file__).parent / "results" / "robust_dataset"
PROTOCOLS = ("scratch", "fine-tune")
DEFAULT_SETS = ("natural", "noise", "adversarial-natural", "learned", "learned-soft")
# "Towards Robust Dataset Learning", Table 1 (MNIST, 60,000 images, fine-tuned).
PAPER = {
    ("natural", "linf-0.1"): 71.73,
    ("natural", "linf-0.2"): 8.28,
    ("natural", "l2-1.0"): 79.14,
    ("natural", "l2-2.0"): 21.28,
    ("adversarial-natural", "linf-0.1"): 84.17,
    ("adversarial-natural", "linf-0.2"): 19.40,
    ("adversarial-natural", "l2-1.0"): 86.81,
    ("adversarial-natural", "l2-2.0"): 26.58,
    ("adversarial-robust", "linf-0.1"): 76.70,
    ("adversarial-robust", "linf-0.2"): 11.79,
    ("adversarial-robust", "l2-1.0"): 79.67,
    ("adversarial-robust", "l2-2.0"): 24.21,
    ("learned", "linf-0.1"): 93.53,
    ("learned", "linf-0.2"): 52.36,
    ("learned", "l2-1.0"): 91.60,
    ("learned", "l2-2.0"): 48.40,
}
COLUMNS = (
    "data", "n_train", "threat", "set", "protocol", "seed", "epochs", "natural", "pgd",
    "autoattack", "paper", "n_test", "seconds_set", "seconds_training",
    "seconds_autoattack", "device", "torch", "robustfit", "date",
)  # fmt: skip
# What the documentation shows of it.
SHOWN = {
    "data": "data",
    "n_train": "rows",
    "threat": "threat",
    "set": "set",
    "protocol": "protocol",
    "natural": "natural %",
    "pgd": "PGD-40 %",
    "autoattack": "AutoAttack %",
    "paper": "paper %",
    "n_test": "test images",
    "seed": "seed",
    "seconds_set": "set, s",
    "seconds_training": "training, s",
}


def make_robustifier(name, protocol, eps, norm, net, seed, checkpoint):
    """Return the robustifier that a set's name stands for, None for the natural set."""
    given = {"eps": eps, "norm": norm, "random_state": seed}
    learned = given | {"estimator": net, "protocol": protocol, "verbose": 1}
    learned["checkpoint"] = checkpoint
    return {
        "natural": lambda: None,
        "noise": lambda: NoisyDataset(**given),
        "adversarial-natural": lambda: AdversarialDataset(**given, estimator=net),
        "adversarial-robust": lambda: AdversarialDataset(
            **given, estimator=net, source="robust"
        ),
        "learned": lambda: RobustDatasetLearner(**learned),
        "learned-soft": lambda: RobustDatasetLearner(**learned, soft_labels=True),
        "paper-algorithm-1": lambda: RobustDatasetLearner(**learned, method="paper"),
    }[name]()


def rewrite(name, protocol, X, y, options):
    """Return the set, its labels and the seconds it took."""
    start = time.perf_counter()
    robustifier = make_robustifier(name, protocol, **options)
    if robustifier is None:
        return X, y, 0.0
    robustifier.fit(X, y)
    return robustifier.X_robust_, robustifier.y_robust_, time.perf_counter() - start


def train(protocol, X, y, X_natural, y_natural, net, seed, arguments):
    """Return a net naturally trained on ``X, y`` and the seconds this training took."""
    net = clone(net)
    if protocol == "fine-tune":
        with seeded_torch(draw_seed(seed)):  # theta_0, as the learners train it
            net.fit(X_natural, y_natural)
        net.set_params(
            max_epochs=arguments.fine_tune_epochs,
            lr=0.01,
            optimizer__weight_decay=5e-4,
        )
    torch.manual_seed(1000 + seed)  # from scratch: another initialisation
    start = time.perf_counter()
    fit = net.partial_fit if protocol == "fine-tune" else net.fit
    fit(X, y)
    return net, time.perf_counter() - start


def measure(net, X, y, eps, norm, batch_size):
    """Return natural, PGD-40 and AutoAttack accuracy in %, and AutoAttack's seconds."""
    common = {"eps": eps, "norm": norm, "batch_size": batch_size}
    pgd = attack_estimator(net, X, y, attack="pgd", **common)
    start = time.perf_counter()
    auto = attack_estimator(net, X, y, attack="autoattack-reference", **common)
    return {
        "natural": 100 * auto.natural_accuracy,
        "pgd": 100 * pgd.robust_accuracy,
        "autoattack": 100 * auto.robust_accuracy,
        "n_test": len(X),
        "seconds_autoattack": time.perf_counter() - start,
    }


def run_cell(cell, data, arguments):
    """Measure one cell and return its record."""
    X, y, X_test, y_test = data
    norm, eps = cell["threat"].split("-")
    net = default_classifier(
        X.shape[1:], int(y.max()) + 1, max_epochs=arguments.epochs,
        device=arguments.device,
    )  # fmt: skip
    options = {
        "eps": float(eps),
        "norm": norm,
        "net": net,
        "seed": cell["seed"],
        "checkpoint": str(RESULTS / "checkpoints"),
    }
    X_set, y_set, seconds_set = rewrite(cell["set"], cell["protocol"], X, y, options)
    fitted, seconds = train(
        cell["protocol"], X_set, y_set, X, y, net, cell["seed"], arguments
    )
    return cell | {
        "epochs": fitted.max_epochs,
        **measure(fitted, X_test, y_test, float(eps), norm, arguments.batch_size),
        "paper": PAPER.get((cell["set"], cell["threat"]), "")
        if cell["protocol"] == "fine-tune" and cell["data"] == "mnist"
        else "",
        "seconds_set": seconds_set,
        "seconds_training": seconds,
        "device": device_name(arguments.device),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "robustfit": robustfit.__version__,
        "date": date.today().isoformat(),
    }


def device_name(device):
    """Return what ran the computation, in words."""
    if str(device).startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"


def write_tables(folder=RESULTS):
    """Gather all cells into results.csv and results.md."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    cells.sort(key=lambda c: [str(c[k]) for k in COLUMNS[:6]])
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({k: _rounded(v) for k, v in c.items()} for c in cells)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SHOWN.values())
        writer.writerows([_rounded(c.get(k, "")) for k in SHOWN] for c in cells)
    lines = ["# Robust dataset learning: measured", ""]
    lines += ["Written by `benchmarks/robust_dataset.py`; accuracies in %.", ""]
    shown = COLUMNS[:14]
    lines += ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    for c in cells:
        row = " | ".join(str(_rounded(c.get(k, ""))) for k in shown)
        lines.append(f"| {row} |")
    (folder / "results.md").write_text("\n".join(lines) + "\n")


def _rounded(value):
    return round(value, 2) if isinstance(value, float) else value


def parse_arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="digits", choices=("digits", "mnist", "cifar10")
    )
    parser.add_argument("--data-folder", help="default: $ROBUSTFIT_DATA")
    parser.add_argument("--threat", nargs="+", default=["linf-0.1"], metavar="NORM-EPS")
    parser.add_argument("--set", nargs="+", dest="sets", default=DEFAULT_SETS)
    parser.add_argument("--protocol", nargs="+", default=list(PROTOCOLS))
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--n-train", type=int)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--fine-tune-epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main():
    """Run the cells that have no result yet."""
    arguments = parse_arguments()
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = load(
        arguments.data, arguments.n_train, arguments.n_test, arguments.data_folder
    )
    cells = [
        {
            "data": arguments.data, "n_train": len(data[0]), "threat": threat,
            "set": name, "protocol": protocol, "seed": seed,
        }
        for seed in arguments.seed
        for threat in arguments.threat
        for name in arguments.sets
        for protocol in arguments.protocol
    ]  # fmt: skip
    for number, cell in enumerate(cells, 1):
        epochs = arguments.epochs, arguments.fine_tune_epochs
        parts = [str(cell[k]) for k in COLUMNS[:6]]
        parts += [f"e{epochs[0]}-{epochs[1]}", f"n{len(data[2])}"]
        path = RESULTS / ("_".join(parts) + ".json")
        if not path.exists():
            record = run_cell(cell, data, arguments)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(record, indent=1))
            os.replace(temporary, path)
        record = json.loads(path.read_text())
        print(
            f"[{number}/{len(cells)}] {path.stem}: natural {record['natural']:.1f} "
            f"PGD {record['pgd']:.1f} AutoAttack {record['autoattack']:.1f}",
            flush=True,
        )
        write_tables()


if __name__ == "__main__":
    main()
