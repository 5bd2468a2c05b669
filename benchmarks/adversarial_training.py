r"""Adversarial training for large perturbations, and what an epoch of it costs.

    ROBUSTFIT_DATA=<folder> python benchmarks/adversarial_training.py \
        --n-train 5000 --n-test 500 --n-autoattack 100 --epochs 20 --step-size 0.1
    ROBUSTFIT_DATA=<folder> timeout 590 python benchmarks/adversarial_training.py \
        --net lenet5 --recipe paper --device cuda              # again until it is done
    ROBUSTFIT_DATA=<folder> python benchmarks/adversarial_training.py --part cost

Table 1 of "Towards Deep Learning Models Resistant to Large Perturbations" (Shaeiri,
Nobahari and Rohban, 2020): adversarial training at 0.3 and at 0.4, extended from 0.3 to
0.4, iterative from 0 to 0.4; natural accuracy, PGD-200 and AutoAttack at 0.3 and 0.4.
A name that ends in ``-warmup`` lets eps grow over the first third of the epochs.
Batches of 128, random start, as many steps as walk 2.5 eps (section 3.1.1).
``--recipe paper`` is Adam with a constant learning rate of 0.001; the default is that
of ``AdversarialClassifier``.

A cell is a JSON file under ``benchmarks/results/adversarial_training/``; training goes
on from its last epoch and AutoAttack from its last chunk when a run was stopped.
"""

import argparse
import csv
import json
import os
import pickle
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np
import sklearn
import torch
from _data import load
from skorch import NeuralNetClassifier
from torch import nn

import robustfit
from robustfit import AdversarialClassifier, attack_estimator
from robustfit._utils.torch_bridge import eval_mode, to_tensor
from robustfit.attacks.losses import cross_entropy
from robustfit.nets import LeNet5, ResNet18, SmallCNN, default_classifier
from robustfit.threat_model import ThreatModel

RESULTS = Path(__file__).parent / "results" / "adversarial_training"
NETS = {"small": SmallCNN, "lenet5": LeNet5}
TRAININGS = {
    "plain-0.3": {"eps": 0.3, "n_warmup_epochs": 0},
    "plain-0.4": {"eps": 0.4, "n_warmup_epochs": 0},
    "plain-0.3-warmup": {"eps": 0.3},
    "plain-0.4-warmup": {"eps": 0.4},
    "extended-0.3-0.4": {"eps_stages": (0.3, 0.4), "n_warmup_epochs": 0},
    "extended-0.3-0.4-warmup": {"eps_stages": (0.3, 0.4)},
    "iterative-0.4": {"eps": 0.4, "eps_schedule": "iterative"},
}
# Clean, PGD-200 at 0.3 and at 0.4 in %, as the paper has them.
PAPER = {
    "plain-0.3": (98, 91, 15),
    "extended-0.3-0.4": (98, 94, 90),
    "iterative-0.4": (98, 95, 91),
}
SHOWN = {
    "training": "training",
    "net": "net",
    "n_train": "images",
    "epochs": "epochs",
    "recipe": "recipe",
    "eps_reached": "eps reached",
    "train_loss": "last loss",
    "natural": "natural %",
    "pgd_0.3": "PGD-200 0.3 %",
    "pgd_0.4": "PGD-200 0.4 %",
    "n_test": "n",
    "autoattack_0.3": "AutoAttack 0.3 %",
    "autoattack_0.4": "AutoAttack 0.4 %",
    "n_autoattack": "n (AutoAttack)",
    "paper": "paper: natural, 0.3, 0.4",
    "seed": "seed",
}


def make_net(arguments):
    """Return the skorch net of the run: the library's default training, or the paper's.

    Default: SGD, 0.05 on a cosine, momentum 0.9, weight decay 5e-4. Paper: Adam with a
    constant 0.001.
    """
    net = default_classifier((1, 28, 28), 10, device=arguments.device)
    parameters = {
        k: v for k, v in net.get_params(deep=False).items() if k[:8] != "module__"
    }
    if arguments.recipe == "paper":
        del parameters["optimizer__momentum"], parameters["optimizer__weight_decay"]
        parameters |= {"optimizer": torch.optim.Adam, "lr": 1e-3, "callbacks": None}
    return NeuralNetClassifier(**parameters | {"module": NETS[arguments.net]})


def train(name, X, y, arguments, seed):
    """Return the classifier; an extended one starts from its finished first stage."""
    parameters = dict(TRAININGS[name])
    stages = parameters.pop("eps_stages", None)
    model = AdversarialClassifier(
        estimator=make_net(arguments),
        n_steps=None,
        step_size=arguments.step_size,
        n_epochs=arguments.epochs,
        random_state=seed,
        checkpoint=str(RESULTS / "checkpoints"),
        verbose=1,
        **parameters,
    )
    if stages is None:
        return model.fit(X, y)
    base = name.replace("extended-0.3-0.4", "plain-0.3")
    model = fitted_model(base, X, y, arguments, seed)
    model.set_params(
        warm_start=True, eps=stages[1], n_epochs=arguments.stage_epochs,
        n_warmup_epochs=0,
    )  # fmt: skip
    return model.fit(X, y)


def fitted_model(name, X, y, arguments, seed):
    """Return the classifier of a cell, trained now where it is not kept yet."""
    path = model_path(name, len(X), seed, arguments)
    if not path.exists():
        model = train(name, X, y, arguments, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(model))
    return pickle.loads(path.read_bytes())


def cell_name(name, n_train, seed, arguments):
    """Return the name of a cell's files."""
    parts = [arguments.data, name, arguments.net, f"{n_train}", f"e{arguments.epochs}"]
    parts += [f"step{arguments.step_size}", f"seed{seed}"]
    return "_".join([*parts, arguments.recipe])


def model_path(name, n_train, seed, arguments):
    """Return where the trained classifier of a cell is kept."""
    stem = cell_name(name, n_train, seed, arguments)
    return RESULTS / "checkpoints" / f"{stem}.pickle"


def measure(model, X, y, arguments):
    """Return natural, PGD-200 and AutoAttack accuracy in %."""
    measured = {"n_test": len(X), "n_autoattack": arguments.n_autoattack}
    for eps in (0.3, 0.4):
        pgd = attack_estimator(
            model, X, y, attack="pgd", eps=eps, n_steps=200, step_size=0.01,
            batch_size=250,
        )  # fmt: skip
        n = arguments.n_autoattack
        auto = attack_estimator(
            model, X[:n], y[:n], attack="autoattack", eps=eps, batch_size=100,
            checkpoint=str(RESULTS / "checkpoints"),
        )  # fmt: skip
        measured["natural"] = 100 * pgd.natural_accuracy
        measured[f"pgd_{eps}"] = 100 * pgd.robust_accuracy
        measured[f"autoattack_{eps}"] = 100 * auto.robust_accuracy
    return measured


def run_cell(name, data, arguments, seed):
    """Train, keep the classifier, measure; return the cell's record."""
    X, y, X_test, y_test = data
    model = fitted_model(name, X, y, arguments, seed)
    return {
        "part": "table",
        "data": arguments.data,
        "training": name,
        "net": arguments.net,
        "n_train": len(X),
        "epochs": len(model.history_),
        "recipe": arguments.recipe,
        "step_size": arguments.step_size,
        "seed": seed,
        "eps_reached": model.eps_,
        "stopped": model.history_[-1].get("stopped", ""),
        "train_loss": model.history_[-1]["train_loss"],
        "losses": [round(r["train_loss"], 3) for r in model.history_],
        **measure(model, X_test, y_test, arguments),
        "paper": ", ".join(map(str, PAPER.get(name.removesuffix("-warmup"), ()))),
        "seconds_training": sum(r["seconds"] for r in model.history_),
        **surroundings(arguments.device),
    }


def surroundings(device):
    """Return what the numbers depend on beside the arguments."""
    name = f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"
    return {
        "device": torch.cuda.get_device_name() if "cuda" in device else name,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "robustfit": robustfit.__version__,
        "date": date.today().isoformat(),
    }


# --- cost of an epoch ----------------------------------------------------------------


def bare_epoch(module, batches, optimizer, n_steps, threat_model):
    """Do ``n_steps`` + 1 forward-backwards a batch and nothing else: the floor."""
    for x, y in batches:
        if n_steps:
            with eval_mode(module):
                for _ in range(n_steps):
                    x = x.detach().requires_grad_(True)
                    loss = cross_entropy(module(x), y, value_only=True).sum()
                    torch.autograd.grad(loss, x)
        module.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x.detach()), y).backward()
        optimizer.step()


def measure_cost(module, sizes, X, y, n_steps, arguments):
    """Return the record of one net: CPU seconds of epochs, and their ratios."""
    clock = time.perf_counter if "cuda" in arguments.device else time.process_time
    threat_model = ThreatModel("linf", 0.1)
    net = make_net(arguments).set_params(module=module, **sizes)
    trained = {
        k: AdversarialClassifier(
            eps=0.1 if k else 0, n_steps=max(1, k), n_epochs=1, random_state=0,
            estimator=net,
        ).fit(X, y)
        for k in (0, n_steps)
    }  # fmt: skip
    x, target = to_tensor(X, arguments.device), to_tensor(y, arguments.device).long()
    batches = list(zip(x.split(128), target.split(128), strict=True))
    floors = {
        k: (model.net_.module_, torch.optim.Adam(model.net_.module_.parameters()))
        for k, model in trained.items()
    }

    def timed(run):
        if "cuda" in arguments.device:
            torch.cuda.synchronize()
        start = clock()
        run()
        if "cuda" in arguments.device:
            torch.cuda.synchronize()
        return clock() - start

    seconds = {name: [] for name in ("natural", "natural_floor", "pgd", "pgd_floor")}
    for _ in range(arguments.repeats):
        for k, name in ((0, "natural"), (n_steps, "pgd")):
            model, (bare, optimizer) = trained[k], floors[k]
            epoch = lambda model=model: model.net_.fit_loop(  # noqa: E731
                X, y.astype("int64"), epochs=1
            )
            floor = lambda k=k, bare=bare, optimizer=optimizer: bare_epoch(  # noqa: E731
                bare, batches, optimizer, k, threat_model
            )
            seconds[name].append(timed(epoch))
            seconds[f"{name}_floor"].append(timed(floor))
    best = {name: min(values) for name, values in seconds.items()}
    return {
        "part": "cost",
        "net": module.__name__
        + (f", width {sizes['module__width']}" if "module__width" in sizes else ""),
        "n_images": len(X),
        "n_steps": n_steps,
        **{f"seconds_{name}": value for name, value in best.items()},
        "pgd_over_floor": best["pgd"] / best["pgd_floor"],
        "natural_over_floor": best["natural"] / best["natural_floor"],
        "pgd_over_natural": best["pgd"] / best["natural"],
        "repeats": arguments.repeats,
        **surroundings(arguments.device),
    }


def run_cost(arguments):
    """Measure small and large nets."""
    n = arguments.n_train or 1024
    narrow = {} if "cuda" in arguments.device else {"module__width": 16}
    nets = (("mnist", SmallCNN, n, {}), ("cifar10", ResNet18, n // 4, narrow))
    for data, module, n_images, sizes in nets:
        X, y, _, _ = load(data, n_images, 1, arguments.data_folder)
        X = np.ascontiguousarray(X)  # one layout for all: channels last is faster
        sizes = {"module__image_shape": X.shape[1:], **sizes}
        path = RESULTS / f"cost_{module.__name__}_{arguments.device}.json"
        if not path.exists():
            write_json(path, measure_cost(module, sizes, X, y, 10, arguments))
        print(path.read_text(), flush=True)


# --- tables --------------------------------------------------------------------------


def write_json(path, record):
    """Write a cell so that it is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, path)


def write_tables(folder=RESULTS):
    """Gather all cells into table.csv and results.md."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    table = [c for c in cells if c["part"] == "table"]
    table.sort(key=lambda c: (c["net"], c["n_train"], c["training"], c["seed"]))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SHOWN.values())
        writer.writerows([_rounded(c.get(k, "")) for k in SHOWN] for c in table)
    lines = ["# Adversarial training for large perturbations: measured", ""]
    lines += ["Written by `benchmarks/adversarial_training.py`; MNIST, linf.", ""]
    lines += _markdown(SHOWN.values(), [[c.get(k, "") for k in SHOWN] for c in table])
    costs = [c for c in cells if c["part"] == "cost"]
    if costs:
        columns = (
            "net", "n_images", "n_steps", "seconds_natural", "seconds_pgd",
            "seconds_pgd_floor", "pgd_over_floor", "natural_over_floor",
            "pgd_over_natural", "device",
        )  # fmt: skip
        lines += ["", "Cost of an epoch; the floor is PGD's k+1 forward-backwards.", ""]
        lines += _markdown(columns, [[c[k] for k in columns] for c in costs])
    (folder / "results.md").write_text("\n".join(lines) + "\n")


def _markdown(columns, rows):
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(str(_rounded(v)) for v in r) + " |" for r in rows]


def _rounded(value):
    return round(value, 2) if isinstance(value, float) else value


def parse_arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="table", choices=("table", "cost"))
    parser.add_argument("--data", default="mnist", choices=("mnist",))
    parser.add_argument("--data-folder", help="default: $ROBUSTFIT_DATA")
    parser.add_argument("--training", nargs="+", default=list(TRAININGS))
    parser.add_argument("--net", default="small", choices=sorted(NETS))
    parser.add_argument("--recipe", default="default", choices=("default", "paper"))
    parser.add_argument("--step-size", type=float, default=0.05)
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--n-train", type=int)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--n-autoattack", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--stage-epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main():
    """Run the cells that have no result yet."""
    arguments = parse_arguments()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if "cuda" not in arguments.device:
        torch.set_num_threads(1)
    if arguments.part == "cost":
        run_cost(arguments)
        write_tables()
        return
    data = load(
        arguments.data, arguments.n_train, arguments.n_test, arguments.data_folder
    )
    for seed in arguments.seed:
        for name in arguments.training:
            stem = cell_name(name, len(data[0]), seed, arguments)
            path = RESULTS / f"{stem}.json"
            if not path.exists():
                write_json(path, run_cell(name, data, arguments, seed))
            record = json.loads(path.read_text())
            numbers = {k: v for k, v in record.items() if k in SHOWN}
            print(json.dumps(numbers), flush=True)
            write_tables()


if __name__ == "__main__":
    main()
