"""How fast the evaluation is, and whether its verdicts are those of the reference.

Two small CNNs on MNIST, one naturally and one adversarially trained here, are attacked
by PGD, by ``AutoAttack`` and by the package pyautoattack, in one process, in turns.
Times are CPU seconds of one thread, so that other load on the machine counts little;
only their ratios mean something elsewhere.

    python benchmarks/evaluation_engine.py --data FOLDER --n 200

``FOLDER`` (or the environment variable ROBUSTFIT_DATA) holds ``mnist.npz`` with
``X_train, y_train, X_test, y_test``, uint8 images of 28x28. Takes some minutes.
"""

import argparse
import csv
import datetime
import os
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import pyautoattack
import torch
from torch import nn

import robustfit
from robustfit import ThreatModel, as_torch
from robustfit._fast_model import fast_copy
from robustfit.attacks import PGD, AutoAttack
from robustfit.nets import SmallCNN

CASES = "natural:0.2,natural:0.1,robust:0.2"
STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")


def load_mnist(folder, n_test):
    """Return training and test images in [0, 1] as tensors, with labels."""
    with np.load(Path(folder) / "mnist.npz") as stored:
        arrays = [stored[k] for k in ("X_train", "y_train", "X_test", "y_test")]
    X, y, X_test, y_test = arrays
    X, X_test = (
        torch.tensor(a[:, None], dtype=torch.float32) / 255 for a in (X, X_test)
    )
    y, y_test = torch.tensor(y).long(), torch.tensor(y_test).long()
    return X[:10000], y[:10000], X_test[:n_test], y_test[:n_test]


def train(x, y, eps, seed, n_epochs):
    """Train a small CNN, adversarially with PGD when ``eps`` is positive."""
    torch.manual_seed(seed)
    net, generator = SmallCNN(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for epoch in range(n_epochs):
        ball = ThreatModel("linf", eps * min(1, (epoch + 1) / 3))
        for rows in torch.randperm(len(x), generator=generator).split(128):
            x_adv = x[rows]
            if eps:
                x_adv = PGD(5)(net, x[rows], y[rows], ball, generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x_adv), y[rows]).backward()
            optimizer.step()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net.eval()


def timed(function):
    """Return CPU seconds and the result of ``function()``."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def bare_floor(net, x, y, n_steps, batch_size):
    """Run forward and backward to the input ``n_steps`` times, and nothing else."""
    for rows in torch.arange(len(x)).split(batch_size):
        for _ in range(n_steps):
            point = x[rows].requires_grad_(True)
            loss = nn.functional.cross_entropy(net(point), y[rows], reduction="sum")
            torch.autograd.grad(loss, point)


def compare_pgd(name, net, x, y, eps, repeats=3):
    """Yield rows: PGD-40 over its floor."""
    ball, ratios, seconds = ThreatModel("linf", eps), [], []
    fast = fast_copy(as_torch(net), x[:8])
    for _ in range(repeats):
        floor, _ = timed(lambda: bare_floor(net, x, y, 40, 128))
        own, _ = timed(
            lambda: [
                PGD(40)(fast, x[rows], y[rows], ball, torch.Generator().manual_seed(0))
                for rows in torch.arange(len(x)).split(128)
            ]
        )
        ratios.append(own / floor)
        seconds.append((own, floor))
    own, floor = np.median(seconds, axis=0)
    yield row(name, "PGD-40 over its floor", own, floor, np.median(ratios), "")


def reference_stage(net, x, y, eps, stage):
    """Return adversarial inputs of one stage of the package."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = pyautoattack.AutoAttack(
            net, eps=eps, norm="Linf", seed=0, version="custom", attacks=[stage]
        )
        engine.verbose, engine.apgd.n_restarts, engine.fab.n_restarts = False, 1, 1
        return engine.run_standard_evaluation(x, y, batch_size=128)[0]


def own_stage(net, x, y, eps, stage):
    """Return adversarial inputs of one stage of our own, chunk by chunk."""
    attack, ball = AutoAttack([stage]), ThreatModel("linf", eps)
    fast = fast_copy(as_torch(net), x[:8])  # as attack_estimator does
    parts = [
        attack.run(fast, x[rows], y[rows], ball, torch.Generator().manual_seed(0))
        for rows in torch.arange(len(x)).split(128)
    ]
    return torch.cat(parts)


def compare_autoattack(name, net, x, y, eps):
    """Yield rows: every stage of both ensembles on its own survivors, and the sum."""
    alive = {"own": net(x).argmax(1) == y, "reference": net(x).argmax(1) == y}
    total = {"own": 0.0, "reference": 0.0}
    runs = {"own": own_stage, "reference": reference_stage}
    for stage in STAGES:
        seconds = {}
        for who, run in runs.items():
            rows = torch.nonzero(alive[who])[:, 0]
            if len(rows) == 0:
                seconds[who] = 0.0
                continue
            arguments = (net, x[rows], y[rows], eps, stage)
            seconds[who], x_adv = timed(lambda r=run, a=arguments: r(*a))
            alive[who][rows] = net(x_adv).argmax(1) == y[rows]
            total[who] += seconds[who]
        yield compare(name, f"AutoAttack {stage}", seconds, alive)
    yield compare(name, "AutoAttack standard", total, alive)


def compare(name, what, seconds, alive):
    """Return a row: how many times faster, and the verdicts that differ."""
    own, reference = seconds["own"], seconds["reference"]
    differ = int((alive["own"] != alive["reference"]).sum())
    counts = f"{int(alive['own'].sum())} / {int(alive['reference'].sum())} robust"
    faster = reference / own if own else float("nan")
    return row(name, what, own, reference, faster, f"{counts}, {differ} differ")


def row(model, what, own, other, ratio, verdicts):
    """Return one line of the table."""
    return {
        "model": model,
        "what": what,
        "own_cpu_s": f"{own:.2f}",
        "other_cpu_s": f"{other:.2f}",
        "ratio": f"{ratio:.2f}",
        "verdicts": verdicts,
    }


def write(rows, out, arguments):
    """Write the rows as CSV and as a table; rows of other models stay."""
    out.mkdir(parents=True, exist_ok=True)
    rows = _kept_rows(rows, out / "evaluation_engine.csv") + rows
    with (out / "evaluation_engine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "# Evaluation engine",
        "",
        f"Date {datetime.date.today()}, n={arguments.n}, seed={arguments.seed}, torch "
        f"{torch.__version__}, robustfit {robustfit.__version__}, Python "
        f"{platform.python_version()}, one thread, CPU seconds.",
        "For PGD the ratio is own time over 40 x (forward + backward to the input) of "
        "the bare model (smaller is better); for AutoAttack it is pyautoattack's time "
        "over ours (larger is better).",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|" + " --- |" * len(rows[0]),
        *("| " + " | ".join(line.values()) + " |" for line in rows),
        "",
    ]
    (out / "evaluation_engine.md").write_text("\n".join(lines))


def _kept_rows(rows, path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        models = {line["model"] for line in rows}
        return [line for line in csv.DictReader(file) if line["model"] not in models]


def main():
    """Train both models, compare, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("ROBUSTFIT_DATA", "data"))
    parser.add_argument("--n", type=int, default=200, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--cases", default=CASES, help="model:eps,...")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    x_train, y_train, x, y = load_mnist(arguments.data, arguments.n)
    rows = []
    for case in arguments.cases.split(","):
        kind, eps = case.split(":")
        trained_at = float(eps) if kind == "robust" else 0.0
        net = train(x_train, y_train, trained_at, arguments.seed, arguments.epochs)
        for part in (compare_pgd, compare_autoattack):
            for line in part(f"{kind}, eps={eps}", net, x, y, float(eps)):
                print(line, flush=True)
                rows.append(line)
            write(rows, arguments.out, arguments)


if __name__ == "__main__":
    main()
