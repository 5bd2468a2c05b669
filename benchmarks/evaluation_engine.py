"""How fast the evaluation is, and whether its verdicts are those of the reference.

Two small CNNs on MNIST, one naturally and one adversarially trained here, are attacked
by PGD, by ``AutoAttack`` and by the package pyautoattack, in one process, in turns.
Times are CPU seconds of one thread, so that other load on the machine counts little;
only their ratios mean something elsewhere.

    python benchmarks/evaluation_engine.py --data FOLDER --n 200
    python benchmarks/evaluation_engine.py --cases resnet-natural:8/255 --n 32
    python benchmarks/evaluation_engine.py --cases robust:0.2 --parts jobs --n 256

``FOLDER`` (or the environment variable ROBUSTFIT_DATA) holds the data of ``_data.py``.
Takes some minutes. ResNet-18s for CIFAR-10 are read from ``--models``, or trained and
kept there (``_resnet_models.py``). Where torchattacks can be imported, its AutoAttack
is compared as well. The part ``jobs`` takes wall-clock seconds for one and two jobs,
which only mean something on an idle machine.
"""

import argparse
import csv
import datetime
import os
import platform
import time
import warnings
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import pyautoattack
import torch
from _data import load
from _resnet_models import model as resnet
from torch import nn

import robustfit
from robustfit import ThreatModel, as_torch, attack_estimator
from robustfit.attacks import PGD, AutoAttack
from robustfit.nets import SmallCNN
from robustfit.sklearn_to_torch.fast_copy import fast_copy

try:
    import torchattacks
except ImportError:  # for this comparison only
    torchattacks = None

CASES = "natural:0.2,natural:0.1,robust:0.2"
STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")
KEYS = ("model", "what", "n", "seed")


def load_mnist(folder, n_test):
    """Return training and test images in [0, 1] as tensors, with labels."""
    return tuple(map(torch.as_tensor, load("mnist", 10000, n_test, folder)))


def load_case(kind, eps, arguments):
    """Return the trained net of a case, and test images with their labels."""
    seed = arguments.seed
    if kind.startswith("resnet-"):
        net = resnet(
            kind.removeprefix("resnet-"),
            arguments.models,
            n_steps=arguments.resnet_steps,
            width=arguments.resnet_width,
        )
        _, _, x, y = load("cifar10", 1, arguments.n * (seed + 1), arguments.data)
        # Contiguous: pyautoattack fails on gradients in another memory format.
        x, y = (np.ascontiguousarray(a[-arguments.n :]) for a in (x, y))
        return net, torch.as_tensor(x), torch.as_tensor(y)
    x_train, y_train, x, y = load_mnist(arguments.data, arguments.n)
    trained_at = eps if kind == "robust" else 0.0
    return train(x_train, y_train, trained_at, seed, arguments.epochs), x, y


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


def reference_stage(net, x, y, eps, stage, seed=0):
    """Return adversarial inputs of one stage of the package."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = pyautoattack.AutoAttack(
            net, eps=eps, norm="Linf", seed=seed, version="custom", attacks=[stage]
        )
        engine.verbose, engine.apgd.n_restarts, engine.fab.n_restarts = False, 1, 1
        return engine.run_standard_evaluation(x, y, batch_size=128)[0]


def own_stage(net, x, y, eps, stage, seed=0):
    """Return adversarial inputs of one stage of our own, chunk by chunk."""
    return own_attack(net, x, y, eps, AutoAttack([stage]), seed)


def own_attack(net, x, y, eps, attack, seed=0):
    """Attack as ``attack_estimator`` does, without its checks of model and data."""
    ball = ThreatModel("linf", eps)
    fast = fast_copy(as_torch(net), x[:8])
    parts = [
        attack.run(fast, x[rows], y[rows], ball, torch.Generator().manual_seed(seed))
        for rows in torch.arange(len(x)).split(128)
    ]
    return torch.cat(parts)


def compare_autoattack(name, net, x, y, eps):
    """Yield rows: every stage of both ensembles on its own survivors, and the sum."""
    alive = {"own": net(x).argmax(1) == y, "other": net(x).argmax(1) == y}
    total = {"own": 0.0, "other": 0.0}
    runs = {"own": own_stage, "other": reference_stage}
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
    yield from compare_with_others(name, net, x, y, eps, total, alive)


def compare_seeds(name, net, x, y, eps, n_seeds=12):
    """Yield a row: how often other random starts fool samples that APGD-CE parted."""
    right = torch.nonzero(net(x).argmax(1) == y)[:, 0]
    runs = (own_stage, reference_stage)
    fooled = [
        net(run(net, x[right], y[right], eps, "apgd-ce")).argmax(1) != y[right]
        for run in runs
    ]
    parted = right[fooled[0] != fooled[1]]
    counts, seconds = [0, 0], [0.0, 0.0]
    for seed in range(n_seeds if len(parted) else 0):
        for who, run in enumerate(runs):
            arguments = (net, x[parted], y[parted], eps, "apgd-ce", seed)
            taken, x_adv = timed(lambda r=run, a=arguments: r(*a))
            counts[who] += int((net(x_adv).argmax(1) != y[parted]).sum())
            seconds[who] += taken
    total = f"{len(parted)} parted; fooled {counts[0]} / {counts[1]} times"
    what = f"apgd-ce from {n_seeds} seeds where verdicts part"
    ratio = seconds[1] / seconds[0] if len(parted) else float("nan")
    yield row(name, what, *seconds, ratio, total)


def compare_with_others(name, net, x, y, eps, total, alive):
    """Yield rows: our bfloat16 search, and torchattacks, against what was timed."""
    if name.startswith("resnet"):
        seconds, stands = whole_attack(net, x, y, eps, "bfloat16")
        for who, what in (("other", "pyautoattack"), ("own", "our float32")):
            times = {"own": seconds, "other": total[who]}
            verdicts = {"own": stands, "other": alive[who]}
            yield compare(name, f"bfloat16 search over {what}", times, verdicts)
    elif torchattacks is not None:
        attack = torchattacks.AutoAttack(net, eps=eps, n_classes=10, seed=0)
        with torch.random.fork_rng():
            seconds, x_adv = timed(lambda: attack(x, y))
        stands = {"own": alive["own"], "other": net(x_adv).argmax(1) == y}
        seconds = {"own": total["own"], "other": seconds}
        yield compare(name, "torchattacks' AutoAttack (10 steps)", seconds, stands)


def whole_attack(net, x, y, eps, precision):
    """Return CPU seconds of our ensemble, and which samples (bool) stand."""
    stands = net(x).argmax(1) == y
    rows = torch.nonzero(stands)[:, 0]
    attack = AutoAttack(precision=precision)
    seconds, x_adv = timed(lambda: own_attack(net, x[rows], y[rows], eps, attack))
    stands[rows] = net(x_adv).argmax(1) == y[rows]
    return seconds, stands


def compare_precisions(name, net, x, y, eps):
    """Yield a row: our ensemble with a bfloat16 search over our float32."""
    seconds, alive = {}, {}
    for who, precision in (("other", "float32"), ("own", "bfloat16")):
        seconds[who], alive[who] = whole_attack(net, x, y, eps, precision)
    yield compare(name, "bfloat16 search over our float32", seconds, alive)


def compare(name, what, seconds, alive):
    """Return a row: how many times faster, and the verdicts that differ."""
    own, reference = seconds["own"], seconds["other"]
    differ = int((alive["own"] != alive["other"]).sum())
    counts = f"{int(alive['own'].sum())} / {int(alive['other'].sum())} robust"
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


def compare_jobs(name, net, x, y, eps, repeats=2):
    """Yield a row: seconds for two jobs over those for one, taken in turns."""
    seconds, robust = {1: [], 2: []}, {}
    for _ in range(repeats):
        for n_jobs in seconds:
            start = time.perf_counter()
            result = attack_estimator(
                net, x.numpy(), y.numpy(), attack="autoattack", eps=eps,
                batch_size=64, n_jobs=n_jobs, random_state=0,
            )  # fmt: skip
            seconds[n_jobs].append(time.perf_counter() - start)
            robust[n_jobs] = torch.as_tensor(result.robust)
    two, one = (float(np.median(seconds[n])) for n in (2, 1))
    alive = {"own": robust[2], "other": robust[1]}
    what = "n_jobs=2 over n_jobs=1, wall-clock seconds, chunks of 64"
    yield compare(name, what, {"own": two, "other": one}, alive)


def write(rows, arguments):
    """Write the rows as CSV and as a table; other rows stay."""
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    date = str(datetime.date.today())
    rows = [
        {**line, "n": str(arguments.n), "seed": str(arguments.seed), "date": date}
        for line in rows
    ]
    rows = _kept_rows(rows, out / "evaluation_engine.csv") + rows
    with (out / "evaluation_engine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "# Evaluation engine",
        "",
        f"torch {torch.__version__}, robustfit {robustfit.__version__}, Python "
        f"{platform.python_version()}, one CPU thread, CPU seconds unless it says "
        "otherwise. The small CNNs see MNIST, the ResNets CIFAR-10.",
        "For PGD the ratio is own time over 40 x (forward + backward to the input) of "
        "the bare model (smaller is better); for AutoAttack it is the other's time "
        "(pyautoattack's unless named) over ours (larger is better). Verdicts are "
        "ours / the other's.",
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
        new = {tuple(line[key] for key in KEYS) for line in rows}
        old = list(csv.DictReader(file))
    return [line for line in old if tuple(line[key] for key in KEYS) not in new]


PARTS = {
    "pgd": compare_pgd,
    "autoattack": compare_autoattack,
    "precisions": compare_precisions,
    "seeds": compare_seeds,
    "jobs": compare_jobs,
}


def main():
    """Train the models, compare, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("ROBUSTFIT_DATA", "data"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--resnet-steps", type=int, default=300)
    parser.add_argument("--resnet-width", type=int, default=64)
    parser.add_argument("--n", type=int, default=200, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--cases", default=CASES, help="model:eps,...")
    parser.add_argument(
        "--parts", default="pgd,autoattack", help=f"what to measure, of {list(PARTS)}"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for case in arguments.cases.split(","):
        kind, eps = case.split(":")
        number = float(Fraction(eps))
        net, x, y = load_case(kind, number, arguments)
        name = f"{kind}, eps={eps}"
        if kind.startswith("resnet"):
            name += f", {arguments.resnet_width} channels"
        lines = chain.from_iterable(
            PARTS[part](name, net, x, y, number) for part in arguments.parts.split(",")
        )
        for line in lines:
            print(line, flush=True)
            rows.append(line)
            write(rows, arguments)


if __name__ == "__main__":
    main()
