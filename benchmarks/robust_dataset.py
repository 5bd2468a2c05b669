r"""Robust dataset learning against its baselines, in both protocols.

    ROBUSTFIT_DATA=<folder> python benchmarks/robust_dataset.py --data mnist \
        --n-train 10000 --n-test 1000 --threat linf-0.1 linf-0.2

Every cell of the table (set x protocol x threat x seed x fraction x consumer x epochs)
is a JSON file under ``benchmarks/results/robust_dataset/``; a run that is stopped goes
on where it was, and the table (CSV and Markdown) is written anew after each cell.
``--data digits`` needs no file. Sets: the natural one; Gaussian noise; adversarial data
of a natural, of a PGD-trained and of a TRADES classifier; the learned one (hard labels;
with another radius of play; soft labels; the paper's literal Algorithm 1). A set is
learned once for ``--net`` and kept as a file, whatever nets are trained on it.
Protocols: ``scratch`` trains a net of another seed on the set alone; ``fine-tune``
continues from theta_0, naturally trained on the natural set, with SGD 0.01, momentum
0.9 and weight decay 5e-4 (section 5.1 of "Towards Robust Dataset Learning").

Table 2 of the paper:             --fraction 0.1 0.2
Figure 3, other initialisation:   --init 1 2
Figure 3, other architecture:     --consumer mlp lenet5 wide-cnn
How long a set holds:             --fine-tune-epochs 3 5 10 20
CIFAR-10 on a CPU:                --data cifar10 --n-train 20000 --n-test 500 \
    --net photo-cnn --epochs 12 --attack autoattack --learned-for linf-4/255 \
    --threat linf-2/255 linf-4/255 linf-8/255 --set natural noise-0.2 learned \
    learned-robust-judge learned-soft pgd-trained
Nets trained with Adam:           --net small-cnn-adam, --net photo-cnn-adam
CIFAR-10 on a GPU, again and again until it says that all cells are there, each time
under ten minutes:                timeout 580 python benchmarks/robust_dataset.py \
    --data cifar10 --net resnet18 --device cuda --attack autoattack \
    --threat linf-2/255 linf-4/255 l2-0.25 l2-0.5 --epochs 30
Cost (time, memory, floor):       python benchmarks/robust_dataset.py cost --help
"""

import argparse
import csv
import json
import platform
import sys
import time
from datetime import date
from pathlib import Path

import sklearn
import torch
from _data import load
from _learned_sets import (
    FINE_TUNING,
    NETS,
    SETS,
    Workshop,
    file_part,
    load_weights,
    parse_threat,
    recipe,
    replace_file,
    save_weights,
    train_by_pgd,
)

import robustfit
from robustfit import ThreatModel, attack_estimator

RESULTS = Path(__file__).parent / "results" / "robust_dataset"
PROTOCOLS = ("scratch", "fine-tune")
# Of PGD training from natural weights.
CEILING_EPOCHS = 8
DEFAULT_SETS = ("natural", "noise", "adversarial-natural", "learned", "learned-soft")
# "Towards Robust Dataset Learning", Table 1 (MNIST, 60,000 images, fine-tuned).
PAPER_THREATS = {
    "mnist": ("linf-0.1", "linf-0.2", "l2-1.0", "l2-2.0"),
    "cifar10": ("linf-2/255", "linf-4/255", "l2-0.25", "l2-0.5"),
}
PAPER = {
    ("mnist", "natural"): (71.73, 8.28, 79.14, 21.28),
    ("mnist", "adversarial-natural"): (84.17, 19.40, 86.81, 26.58),
    ("mnist", "adversarial-robust"): (76.70, 11.79, 79.67, 24.21),
    ("mnist", "learned"): (93.53, 52.36, 91.60, 48.40),
    ("cifar10", "natural"): (6.28, 0.02, 9.85, 0.04),
    ("cifar10", "adversarial-natural"): (48.21, 17.86, 47.05, 21.33),
    ("cifar10", "adversarial-robust"): (10.51, 0.21, 11.68, 0.39),
    ("cifar10", "learned"): (54.74, 26.79, 59.52, 27.35),
}
COLUMNS = (
    "data", "n_train", "threat", "set", "protocol", "seed", "epochs", "natural", "pgd",
    "autoattack", "paper", "n_test", "seconds_set", "seconds_training", "learned_for",
    "fraction", "net", "consumer", "init", "attack", "seconds_autoattack", "device",
    "torch", "robustfit", "date",
)  # fmt: skip
# What cells that were measured before these were options had.
DEFAULTS = {
    "fraction": 1.0, "net": "small-cnn", "consumer": "small-cnn", "init": 0,
    "attack": "autoattack-reference",
}  # fmt: skip


def train(cell, X, y, workshop):
    """Return a net naturally trained on ``X, y`` and the seconds this training took."""
    if cell["set"] == "pgd-trained":
        return train_ceiling(cell, X, y, workshop)
    if cell["protocol"] == "fine-tune":
        net = workshop.theta_0(cell["consumer"], cell["seed"], cell["init"])
        net.set_params(max_epochs=cell["epochs"], **FINE_TUNING)
        fit = net.partial_fit
    else:
        net = workshop.new_net(cell["consumer"], cell["epochs"])
        fit = net.fit
    torch.manual_seed(1000 + cell["seed"] + 100 * cell["init"])  # not the inner net's
    start = time.perf_counter()
    fit(X, y)
    return net, time.perf_counter() - start


def train_ceiling(cell, X, y, workshop):
    """Return the adversarially trained net of the consumer's architecture.

    No set is learned: it is what sets are measured against.
    """
    net = workshop.theta_0(cell["consumer"], cell["seed"], cell["init"])
    threat_model = ThreatModel(*parse_threat(cell["learned_for"]))
    start = time.perf_counter()
    train_by_pgd(net, X, y, threat_model, n_epochs=CEILING_EPOCHS, seed=cell["seed"])
    return net, time.perf_counter() - start


def trained_net(cell, path, workshop):
    """Return the net of a cell and the seconds of set and training; keep it on disk."""
    times = path.with_suffix(".seconds")
    if path.exists() and times.exists():
        net = workshop.new_net(cell["consumer"])
        load_weights(net, path)
        return net, json.loads(times.read_text())
    X, y, seconds_set = workshop.learned_set(cell)
    net, seconds = train(cell, X, y, workshop)
    record = {"seconds_set": seconds_set, "seconds_training": seconds}
    replace_file(times, json.dumps(record).encode())
    save_weights(net, path)
    return net, record


def measure(net, X, y, cell, batch_size, folder):
    """Return natural, PGD-40 and AutoAttack accuracy in %, and AutoAttack's seconds."""
    norm, eps = parse_threat(cell["threat"])
    common = {"eps": eps, "norm": norm, "batch_size": batch_size, "checkpoint": folder}
    pgd = attack_estimator(net, X, y, attack="pgd", **common)
    start = time.perf_counter()
    auto = attack_estimator(net, X, y, attack=cell["attack"], **common)
    return {
        "natural": 100 * auto.natural_accuracy,
        "pgd": 100 * pgd.robust_accuracy,
        "autoattack": 100 * auto.robust_accuracy,
        "n_test": len(X),
        "seconds_autoattack": time.perf_counter() - start,
    }


def run_cell(cell, name, data, arguments):
    """Measure one cell and return its record."""
    X, y, X_test, y_test = data
    folder = arguments.results / "cache"
    workshop = Workshop(
        folder, X, y, net=cell["net"], epochs=arguments.epochs[0],
        device=arguments.device,
    )  # fmt: skip
    trained_for = cell_name(
        cell | {"threat": cell["learned_for"]}, arguments.epochs[0], len(X_test)
    )
    path = folder / "nets" / f"{trained_for}_{workshop.set_path(cell).stem[-8:]}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    net, seconds = trained_net(cell, path, workshop)
    return cell | {
        **measure(net, X_test, y_test, cell, arguments.batch_size, folder / "attacks"),
        **seconds,
        "device": device_name(arguments.device),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "robustfit": robustfit.__version__,
        "recipe": recipe(),
        "date": date.today().isoformat(),
    }


def paper_accuracy(cell):
    """Return the robust accuracy of Table 1 that a cell is to be compared with."""
    threats = PAPER_THREATS.get(cell["data"], ())
    other = any(cell[k] != DEFAULTS[k] for k in ("fraction", "init"))
    other |= cell["learned_for"] != cell["threat"]
    other |= cell["data"] == "cifar10" and cell["net"] != "resnet18"
    if cell["protocol"] == "scratch" or other or cell["consumer"] != cell["net"]:
        return ""
    row = PAPER.get((cell["data"], cell["set"].removesuffix("-radius-1.5")))
    if row is None or cell["threat"] not in threats:
        return ""
    return row[threats.index(cell["threat"])]


def cell_name(cell, epochs, n_test):
    """Return the name of a cell's file; what is as it always was is not in it."""
    fine_tuned = cell["epochs"] if cell["protocol"] == "fine-tune" else 5
    trained = epochs if cell["protocol"] == "fine-tune" else cell["epochs"]
    parts = [file_part(cell), cell["protocol"], str(cell["seed"])]
    parts += [f"e{trained}-{fine_tuned}", f"n{n_test}"]
    short = {
        "fraction": "f",
        "net": "net-",
        "consumer": "on-",
        "init": "i",
        "attack": "",
    }
    defaults = DEFAULTS | {"consumer": cell["net"]}
    if cell["threat"] != cell["learned_for"]:
        parts.append("at-" + cell["threat"].replace("/", "over"))
    parts += [f"{v}{cell[k]}" for k, v in short.items() if cell[k] != defaults[k]]
    return "_".join(parts)


def device_name(device):
    """Return what ran the computation, in words."""
    if str(device).startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"


def write_tables(folder):
    """Gather all cells into results.csv and results.md."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    cells = [
        DEFAULTS | {"learned_for": c["threat"]} | c for c in cells if "autoattack" in c
    ]
    cells = [c | {"paper": paper_accuracy(c)} for c in cells]
    cells.sort(key=lambda c: [c[k] for k in (*COLUMNS[:6], *DEFAULTS, "epochs")])
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({k: _rounded(v) for k, v in c.items()} for c in cells)
    lines = ["# Robust dataset learning: measured", ""]
    lines += ["Written by `benchmarks/robust_dataset.py`; accuracies in %.", ""]
    shown = COLUMNS[:20]
    lines += ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    for c in cells:
        row = " | ".join(str(_rounded(c.get(k, ""))) for k in shown)
        lines.append(f"| {row} |")
    (folder / "results.md").write_text("\n".join(lines) + "\n")


def _rounded(value):
    return round(value, 2) if isinstance(value, float) else value


def parse_arguments():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", default="digits", choices=("digits", "mnist", "cifar10"))
    add("--data-folder", help="default: $ROBUSTFIT_DATA")
    add("--threat", nargs="+", default=["linf-0.1"], metavar="NORM-EPS")
    add("--learned-for", metavar="NORM-EPS", help="budget that sets are learned for; "
        "default: each threat")  # fmt: skip
    add("--set", nargs="+", dest="sets", default=DEFAULT_SETS, choices=SETS)
    add("--protocol", nargs="+", default=list(PROTOCOLS), choices=PROTOCOLS)
    add("--seed", nargs="+", type=int, default=[0])
    add("--fraction", nargs="+", type=float, default=[1.0], help="share of the rows")
    add("--net", default="small-cnn", choices=NETS, help="inner net of the learners")
    add(
        "--consumer", nargs="+", choices=NETS, help="nets trained on it; default: --net"
    )
    add(
        "--init", nargs="+", type=int, default=[0], help="the consumers' initialisation"
    )
    add("--n-train", type=int)
    add("--n-test", type=int, default=1000)
    add("--epochs", nargs="+", type=int, default=[10], help="from scratch; of theta_0: "
        "the first")  # fmt: skip
    add("--fine-tune-epochs", nargs="+", type=int, default=[5])
    add("--attack", default="autoattack-reference",
        choices=("autoattack-reference", "autoattack"),
        help="autoattack resumes chunk by chunk")  # fmt: skip
    add("--batch-size", type=int, default=250)
    add("--device", default="cpu")
    add("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def list_cells(arguments, n_train):
    """Return all cells of the command line, as dicts."""
    epochs = {"scratch": arguments.epochs, "fine-tune": arguments.fine_tune_epochs}
    return [
        {
            "data": arguments.data, "n_train": n_train, "threat": threat,
            "learned_for": arguments.learned_for or threat, "set": name,
            "protocol": protocol, "seed": seed, "fraction": fraction,
            "net": arguments.net, "consumer": consumer, "init": init,
            "epochs": n_epochs, "attack": arguments.attack,
        }
        for seed in arguments.seed
        for threat in arguments.threat
        for fraction in arguments.fraction
        for name in arguments.sets
        for protocol in arguments.protocol
        for consumer in arguments.consumer or [arguments.net]
        for init in arguments.init
        for n_epochs in epochs[protocol]
    ]  # fmt: skip


def main():
    """Run the cells that have no result yet."""
    arguments = parse_arguments()
    arguments.results.mkdir(parents=True, exist_ok=True)
    data = load(
        arguments.data, arguments.n_train, arguments.n_test, arguments.data_folder
    )
    cells = list_cells(arguments, len(data[0]))
    for number, cell in enumerate(cells, 1):
        name = cell_name(cell, arguments.epochs[0], len(data[2]))
        path = arguments.results / f"{name}.json"
        if not path.exists():
            record = run_cell(cell, name, data, arguments)
            replace_file(path, json.dumps(record, indent=1).encode())
        record = json.loads(path.read_text())
        print(
            f"[{number}/{len(cells)}] {path.stem}: natural {record['natural']:.1f} "
            f"PGD {record['pgd']:.1f} AutoAttack {record['autoattack']:.1f}",
            flush=True,
        )
        write_tables(arguments.results)
    print(f"All {len(cells)} cells are there.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["cost"]:
        from _robust_dataset_cost import main as main_cost

        main_cost(sys.argv[2:])
    else:
        main()
