r"""Robust and non-robust features as training sets, and the cost of an inverted image.

    ROBUSTFIT_DATA=<folder> python benchmarks/robust_features.py --data mnist \
        --n-train 5000 --train-eps 2.0 --threat l2-1.0 l2-2.0 linf-0.1

Tables 1, 7, 8, 9 and 10 of "Adversarial Examples Are Not Bugs, They Are Features": nets
trained naturally, from scratch, on

    natural          the natural set (D)
    robust-model     D, adversarially (the net that the robust sets are made with)
    D_R-images       images inverted from the robust net's features, from other images
    D_R-noise        the same, from noise
    D_NR-images      the same with the natural net, from other images
    D_NR-noise       the same with the natural net, from noise
    D_rand, D_det    perturbed towards a random, the next class; that class is the label
    D_rand-robust, D_det-robust    the same with the robust net (Table 9)

Every set is a JSON file under ``benchmarks/results/robust_features/``, and the tables
(CSV and Markdown) are written anew after each. A run that is stopped goes on where it
was, epochs and batches included: fitted nets and finished batches are in
``checkpoints``. ``--cost`` measures the cost of an inverted image instead.

The paper's setting, in steps of a few minutes each (call it again until it is done):

    python benchmarks/robust_features.py --data cifar10 --net resnet18 --device cuda \
        --train-eps 0.5 --threat l2-0.25 l2-0.5 --n-steps 1000 --epochs 30 \
        --n-test 1000
"""

import argparse
import csv
import json
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path

import joblib
import numpy as np
import sklearn
import torch
from _data import load

import robustfit
from robustfit import (
    AdversarialClassifier,
    AdversarialRelabeler,
    NonRobustFeatureExtractor,
    RobustFeatureExtractor,
    as_torch,
    attack_estimator,
)
from robustfit._utils.torch_bridge import eval_mode
from robustfit.nets import ResNet18, SmallCNN, default_classifier
from robustfit.robustifiers.features.representation_inversion import (
    RepresentationInversion,
)
from robustfit.sklearn_to_torch.fast_copy import fast_copy
from robustfit.threat_model import ThreatModel

RESULTS = Path(__file__).parent / "results" / "robust_features"
CHECKPOINTS = RESULTS / "checkpoints"
SETS = (
    "natural", "robust-model", "D_R-images", "D_R-noise", "D_NR-images", "D_NR-noise",
    "D_rand", "D_det", "D_rand-robust", "D_det-robust",
)  # fmt: skip
IDENTITY = (
    "data",
    "n_train",
    "net",
    "train_threat",
    "n_steps",
    "epochs",
    "set",
    "seed",
)


class Sources:
    """The natural and the robust net that sets are made with, fitted once."""

    def __init__(self, X, y, arguments):
        self.X, self.y, self.arguments = X, y, arguments
        self.fitted = {}

    def get(self, kind):
        """Return the fitted "natural" or "robust" net."""
        if kind not in self.fitted:
            a = self.arguments
            parts = (kind, a.data, len(self.X), a.net, a.train_norm, a.train_eps)
            parts += (a.epochs, a.robust_epochs, a.seed)
            path = CHECKPOINTS / ("_".join(map(str, parts)) + ".joblib")
            if not path.exists():
                CHECKPOINTS.mkdir(parents=True, exist_ok=True)
                start = time.perf_counter()
                net = self._fit(kind)
                joblib.dump((net, time.perf_counter() - start), path)
            self.fitted[kind] = joblib.load(path)
        return self.fitted[kind]

    def _fit(self, kind):
        a = self.arguments
        if kind == "natural":
            return train_naturally(self.X, self.y, a, seed=a.seed)
        # Appendix C.3: 7 steps of length eps / 5 (for l2; linf takes the default).
        model = AdversarialClassifier(
            a.train_eps, a.train_norm, n_steps=7,
            step_size=a.train_eps / 5 if a.train_norm == "l2" else None,
            estimator=make_net(self.X, self.y, a), n_epochs=a.robust_epochs,
            random_state=a.seed, checkpoint=CHECKPOINTS, verbose=1,
        )  # fmt: skip
        return model.fit(self.X, self.y)


def make_net(X, y, arguments):
    """Return the unfitted skorch net of the run."""
    net = default_classifier(
        X.shape[1:], int(y.max()) + 1, max_epochs=arguments.epochs,
        device=arguments.device,
    )  # fmt: skip
    if arguments.net == "resnet18":
        net.set_params(module=ResNet18, optimizer__weight_decay=5e-4, lr=0.1)
    return net


def train_naturally(X, y, arguments, seed):
    """Return a net trained on ``X, y`` from the initialisation of ``seed``."""
    torch.manual_seed(seed)
    return make_net(X, y, arguments).fit(X, y)


def make_rewriter(name, sources, arguments):
    """Return the rewriter that a set's name stands for."""
    given = {
        "batch_size": arguments.batch_size, "random_state": arguments.seed,
        "checkpoint": CHECKPOINTS, "verbose": 1,
    }  # fmt: skip
    if name.startswith(("D_R", "D_NR")):
        kind, start = name.split("-")
        robust = kind == "D_R"
        extractor = RobustFeatureExtractor if robust else NonRobustFeatureExtractor
        source, _ = sources.get("robust" if robust else "natural")
        return extractor(
            estimator=source, start=start, n_steps=arguments.n_steps, **given
        )
    source, _ = sources.get("robust" if name.endswith("-robust") else "natural")
    return AdversarialRelabeler(
        arguments.relabel_eps or arguments.train_eps, arguments.train_norm,
        estimator=source, target="next" if "det" in name else "random",
        n_steps=arguments.relabel_steps, **given,
    )  # fmt: skip


def run_set(name, data, sources, arguments):
    """Make one set, train on it, measure, and return the record."""
    X, y, X_test, y_test = data
    record, rewriter = {"seconds_set": 0.0}, None
    if name in ("natural", "robust-model"):
        net, seconds = sources.get("robust" if name == "robust-model" else "natural")
    else:
        rewriter = make_rewriter(name, sources, arguments)
        start = time.perf_counter()
        rewriter.fit(X, y)
        record["seconds_set"] = time.perf_counter() - start
        start = time.perf_counter()
        net = train_naturally(
            rewriter.X_robust_, rewriter.y_robust_, arguments, 1000 + arguments.seed
        )
        seconds = time.perf_counter() - start
    record["seconds_training"] = seconds
    record |= measure(net, X_test, y_test, arguments)
    if rewriter is not None:
        record |= look_closer(name, rewriter, net, data, arguments)
    return record


def measure(net, X, y, arguments):
    """Return natural, PGD and AutoAttack accuracy (%) at each threat."""
    record = {"n_test": len(X), "n_autoattack": arguments.n_autoattack}
    n = arguments.n_autoattack
    for threat in arguments.threat:
        norm, eps = threat.split("-")
        common = {"eps": float(eps), "norm": norm, "batch_size": 250}
        pgd = attack_estimator(net, X, y, attack="pgd", loss="margin", **common)
        auto = attack_estimator(net, X[:n], y[:n], attack="autoattack", **common)
        record["natural"] = 100 * pgd.natural_accuracy
        record[f"pgd_{threat}"] = 100 * pgd.robust_accuracy
        record[f"autoattack_{threat}"] = 100 * auto.robust_accuracy
    return record


def look_closer(name, rewriter, net, data, arguments):
    """Return what Tables 8 and 10 ask of a set, and how good inversions are."""
    X, y, X_test, y_test = data
    n = arguments.n_autoattack
    moved = np.linalg.norm((rewriter.X_robust_ - X).reshape(len(X), -1), axis=1)
    record = {"mean_l2_to_original": float(moved.mean())}
    if name.startswith(("D_R", "D_NR")):
        record["feature_error"] = float(rewriter.feature_error_.mean())
    if "det" in name:  # Table 10
        relabelled = (y_test + 1) % (int(y.max()) + 1)
        record["natural_next_label"] = 100 * float(
            (net.predict(X_test) == relabelled).mean()
        )
    if name == "D_R-images":  # Table 8
        norm, eps = arguments.threat[0].split("-")
        extracted = rewriter.extract(X_test[:n])
        parts = {
            "training": (rewriter.X_robust_[:n], y[:n]),
            "test": (extracted, y_test[:n]),
        }
        for part, (X_part, y_part) in parts.items():
            found = attack_estimator(
                net, X_part, y_part, attack="autoattack", eps=float(eps), norm=norm,
                batch_size=250,
            )  # fmt: skip
            key = f"extracted_{part}_{arguments.threat[0]}"
            record[f"natural_{key}"] = 100 * found.natural_accuracy
            record[f"autoattack_{key}"] = 100 * found.robust_accuracy
    return record


def measure_cost(arguments):
    """Return CPU seconds of inverted images against n_steps forward-backwards.

    The inversion and its floor alternate in one process; medians.
    """
    module, shape, n_steps = SmallCNN(), (1, 28, 28), 20
    if arguments.net == "resnet18":
        module, shape, n_steps = ResNet18(), (3, 32, 32), 3
    device = torch.device(arguments.device)
    module = module.eval().to(device)
    x, start = torch.rand(2, arguments.batch_size, *shape, device=device)
    threat_model = ThreatModel("linf", 1.0)
    inversion = RepresentationInversion(None, n_steps, 0.1)
    ratios, seconds = [], []
    with eval_mode(module):
        classifier = fast_copy(as_torch(module), x[:8])  # as the extractors do
        for _ in range(arguments.n_repeats + 1):
            ours = time_of(
                lambda: inversion(classifier, x, start, threat_model), device
            )
            floor = time_of(lambda: forward_backwards(module, start, n_steps), device)
            ratios.append(ours / floor)
            seconds.append(ours)
    steps = len(x) * n_steps
    return {
        "net": type(module).__name__,
        "batch": len(x),
        "n_steps": n_steps,
        "repeats": arguments.n_repeats,
        "microseconds_an_image_and_step": 1e6 * float(np.median(seconds[1:])) / steps,
        "ratio": float(np.median(ratios[1:])),
        "ratio_quartiles": [float(q) for q in np.quantile(ratios[1:], [0.25, 0.75])],
    } | versions(arguments)


def forward_backwards(module, x, n_steps):
    """Run the floor: n_steps times logits, and a gradient to the input."""
    for _ in range(n_steps):
        x = x.detach().requires_grad_(True)
        logits = module(x)
        torch.autograd.grad(logits, x, torch.ones_like(logits))


def time_of(job, device):
    """Return CPU seconds of a job; on a GPU the seconds until it has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        job()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    job()
    return time.process_time() - start


def versions(arguments):
    """Return what a number has to be read with."""
    cuda = arguments.device.startswith("cuda")
    processor = f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"
    return {
        "device": torch.cuda.get_device_name() if cuda else processor,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "robustfit": robustfit.__version__,
        "date": date.today().isoformat(),
    }


def write_tables():
    """Gather all sets into results.csv and results.md, one table a run."""
    cells = [
        json.loads(path.read_text()) for path in sorted(RESULTS.glob("set_*.json"))
    ]
    cells.sort(key=lambda c: [*(str(c[k]) for k in IDENTITY[:6]), SETS.index(c["set"])])
    measured = sorted({k for c in cells for k in c if k.startswith(("pgd", "auto"))})
    measured = [k for k in measured if "extracted" not in k]
    columns = [*IDENTITY, "natural", *measured, "natural_next_label", "feature_error"]
    columns += ["mean_l2_to_original", "n_test", "n_autoattack", "seconds_set"]
    columns += ["seconds_training", "device", "torch", "date"]
    rows = [[_rounded(c.get(k, "")) for k in columns] for c in cells]
    with (RESULTS / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    _write_documentation_table(cells, measured)
    shown = [i for i, k in enumerate(columns) if not k.startswith(("seconds", "torch"))]
    lines = ["# Robust and non-robust features: measured", ""]
    lines += ["Written by `benchmarks/robust_features.py`; accuracies in %.", ""]
    for row in [columns, ["---"] * len(columns), *rows]:
        lines.append("| " + " | ".join(str(row[i]) for i in shown) + " |")
    (RESULTS / "results.md").write_text("\n".join(lines) + "\n")


def _write_documentation_table(cells, measured):
    """Write what the user guide shows of the cells."""
    header = ["data", "images", "robust net", "set", "natural"]
    header += [
        k.replace("_", " ").replace("autoattack", "AutoAttack") for k in measured
    ]
    keys = ["data", "n_train", "train_threat", "set", "natural", *measured]
    rows = [[_rounded(c.get(k, "")) for k in keys] for c in cells]
    with (RESULTS / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _rounded(value):
    return round(value, 3) if isinstance(value, float) else value


def _write_json(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1))
    os.replace(temporary, path)


def parse_arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default="digits", choices=("digits", "mnist", "cifar10"))
    add("--data-folder", help="default: $ROBUSTFIT_DATA")
    add("--net", default="default", choices=("default", "resnet18"))
    add("--set", nargs="+", dest="sets", default=SETS, choices=SETS)
    add("--threat", nargs="+", default=["l2-0.5"], metavar="NORM-EPS")
    add("--train-eps", type=float, default=1.0, help="budget of adversarial training")
    add("--train-norm", default="l2", choices=("linf", "l2"))
    add("--relabel-eps", type=float, help="of D_rand and D_det; default: --train-eps")
    add("--relabel-steps", type=int, default=100)
    add("--n-steps", type=int, default=200, help="steps of an inversion")
    add("--n-train", type=int)
    add("--n-test", type=int, default=1000)
    add("--n-autoattack", type=int, default=200, help="test images AutoAttack gets")
    add("--epochs", type=int, default=10)
    add("--robust-epochs", type=int, help="default: --epochs")
    add("--seed", type=int, default=0)
    add("--batch-size", type=int, default=128)
    add("--device", default="cpu")
    add("--cost", action="store_true", help="measure the cost of an inverted image")
    add("--n-repeats", type=int, default=15)
    arguments = parser.parse_args()
    arguments.robust_epochs = arguments.robust_epochs or arguments.epochs
    return arguments


def main():
    """Measure the sets that have no result yet, or the cost."""
    arguments = parse_arguments()
    if arguments.cost:
        torch.set_num_threads(1)
        record = measure_cost(arguments)
        name = f"cost_{record['net']}_{arguments.device}.json"
        _write_json(RESULTS / name, record)
        print(json.dumps(record))
        return
    data = load(
        arguments.data, arguments.n_train, arguments.n_test, arguments.data_folder
    )
    sources = Sources(data[0], data[1], arguments)
    for name in arguments.sets:
        cell = {
            "data": arguments.data, "n_train": len(data[0]), "net": arguments.net,
            "train_threat": f"{arguments.train_norm}-{arguments.train_eps:g}",
            "n_steps": arguments.n_steps, "epochs": arguments.epochs, "set": name,
            "seed": arguments.seed,
        }  # fmt: skip
        path = RESULTS / ("set_" + "_".join(str(cell[k]) for k in IDENTITY) + ".json")
        if not path.exists():
            record = run_set(name, data, sources, arguments)
            options = {k: v for k, v in vars(arguments).items() if k != "data_folder"}
            _write_json(
                path, cell | record | versions(arguments) | {"options": options}
            )
        record = json.loads(path.read_text())
        numbers = {k: _rounded(v) for k, v in record.items() if isinstance(v, float)}
        print(path.stem, numbers, flush=True)
        write_tables()


if __name__ == "__main__":
    sys.exit(main())
