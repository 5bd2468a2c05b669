r"""What a learned set costs: ``robust_dataset.py cost``.

    ROBUSTFIT_DATA=<folder> python benchmarks/robust_dataset.py cost --data mnist \
        --threat linf-0.2 --part growth against-training floor

growth            Seconds and peak memory of learning a set of 1,000, 10,000 and 60,000
                  rows, each in a process of its own.
against-training  Seconds of learning a set and of training on it, against PGD
                  adversarial training of the same net from the same theta_0 to the same
                  AutoAttack accuracy: the shortest of several trainings (each with a
                  schedule of its own length) that reaches it.
floor             CPU seconds of a learner's step over the bare forward and backward
                  passes that it needs, both alternating in one process.

One JSON file a cell under ``benchmarks/results/robust_dataset_cost/``, all in cost.csv.
"""

import argparse
import copy
import csv
import json
import platform
import subprocess
import sys
import time
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _data import load
from _learned_sets import (
    FINE_TUNING,
    NETS,
    make_net,
    parse_threat,
    peak_memory,
    recipe,
    replace_file,
)

import robustfit
from robustfit import RobustDatasetLearner, ThreatModel, as_torch, attack_estimator
from robustfit._utils.torch_bridge import (
    batch_slices,
    draw_seed,
    make_generator,
    seeded_torch,
    to_array,
    to_tensor,
)
from robustfit.classifiers.adversarial_training.module_training import (
    train_adversarially,
)
from robustfit.robustifiers.dataset_learning.fictitious_play import PlayRound
from robustfit.robustifiers.dataset_learning.learning_problem import LearningProblem
from robustfit.robustifiers.dataset_learning.learning_state import LearningState
from robustfit.robustifiers.dataset_learning.meta_gradient import MetaEpoch
from robustfit.robustifiers.dataset_learning.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "robust_dataset_cost"
# Epochs of PGD training that are tried, shortest first.
TRAINING_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
REPEATS = 5
COLUMNS = (
    "part", "data", "n_train", "threat", "protocol", "net", "seed", "what", "value",
    "unit", "n_test", "device", "torch", "robustfit", "date",
)  # fmt: skip


class Clock:
    """Wall-clock and CPU seconds since it was made, GPU work included."""

    def __init__(self, device):
        self.device = device
        self._wait()
        self.start = time.perf_counter(), time.process_time()

    def seconds(self):
        """Return wall-clock and CPU seconds."""
        self._wait()
        wall, cpu = self.start
        return time.perf_counter() - wall, time.process_time() - cpu

    def _wait(self):
        if str(self.device).startswith("cuda"):
            torch.cuda.synchronize()


def build(arguments, n_train):
    """Return data, threat model and an unfitted net."""
    data = load(
        arguments.data, n_train, arguments.n_test, arguments.data_folder
    )  # fmt: skip
    norm, eps = parse_threat(arguments.threat)
    net = make_net(
        arguments.net, data[0].shape[1:], int(data[1].max()) + 1,
        max_epochs=arguments.epochs, device=arguments.device,
    )  # fmt: skip
    return data, ThreatModel(norm, eps), net


def learn(arguments, X, y, threat_model, net):
    """Return a learner fitted for the command line's protocol, and its seconds."""
    clock = Clock(arguments.device)
    learner = RobustDatasetLearner(
        threat_model.eps, threat_model.norm, estimator=net, verbose=1,
        protocol=arguments.protocol, random_state=arguments.seed,
    ).fit(X, y)  # fmt: skip
    return learner, clock.seconds()


def train_on(arguments, learner, net):
    """Return a net naturally trained on the learned set, and the seconds it took."""
    net = copy.deepcopy(net)
    if arguments.protocol == "fine-tune":
        net.initialize()
        net.module_.load_state_dict(learner.estimator_.module_.state_dict())
        net.set_params(max_epochs=arguments.fine_tune_epochs, **FINE_TUNING)
    clock = Clock(arguments.device)
    with seeded_torch(1000 + arguments.seed):
        fit = net.partial_fit if arguments.protocol == "fine-tune" else net.fit
        fit(learner.X_robust_, learner.y_robust_)
    return net, clock.seconds()


def measure_growth(arguments, n_train):
    """Learn a set of ``n_train`` rows; return its seconds and peak memory."""
    (X, y, _, _), threat_model, net = build(arguments, n_train)
    before = peak_memory()
    learner, (wall, cpu) = learn(arguments, X, y, threat_model, net)
    _, (train_wall, _) = train_on(arguments, learner, net)
    measured = {
        "learning the set": (wall, "s"),
        "learning the set, CPU": (cpu, "s"),
        "natural training on it": (train_wall, "s"),
        "the natural set": (X.nbytes / 2**20, "MiB"),
        "peak memory before": (before, "MiB"),
        "peak memory": (peak_memory(), "MiB"),
    }
    if arguments.device.startswith("cuda"):
        measured["peak GPU memory"] = torch.cuda.max_memory_allocated() / 2**20, "MiB"
    return measured | {"rows": (len(X), "")}


def measure_against_training(arguments, n_train):
    """Return the seconds of both ways to the same AutoAttack accuracy."""
    (X, y, X_test, y_test), threat_model, net = build(arguments, n_train)
    learner, (set_wall, set_cpu) = learn(arguments, X, y, threat_model, net)
    trained, (train_wall, train_cpu) = train_on(arguments, learner, net)
    goal = robust_accuracy(trained, X_test, y_test, threat_model)
    print(f"naturally trained on the set: AutoAttack {goal:.1%}", flush=True)
    measured = {
        "learning the set (theta_0 included)": (set_wall, "s"),
        "learning the set, CPU": (set_cpu, "s"),
        "natural training on it": (train_wall, "s"),
        "natural training on it, CPU": (train_cpu, "s"),
        "AutoAttack accuracy": (100 * goal, "%"),
    }
    for n_epochs in TRAINING_LENGTHS:
        module, theta_0_wall, (wall, cpu) = train_adversarial_net(
            arguments, X, y, threat_model, net, n_epochs
        )
        reached = robust_accuracy(module, X_test, y_test, threat_model, goal=goal)
        print(f"{n_epochs} epochs of PGD training: {reached:.1%}", flush=True)
        if reached >= goal:
            break
    reaches = reached >= goal
    return measured | {
        "theta_0": (theta_0_wall, "s"),
        "PGD training" if reaches else "PGD training, goal not reached": (wall, "s"),
        "PGD training, CPU": (cpu, "s"),
        "PGD training, epochs": (n_epochs, ""),
        "PGD training, AutoAttack accuracy": (100 * reached, "%"),
        "first net, set over PGD training": (
            (set_wall + train_wall) / (theta_0_wall + wall), "x"
        ),
        "each further net, set over PGD training": (train_wall / wall, "x"),
    }  # fmt: skip


def train_adversarial_net(arguments, X, y, threat_model, net, n_epochs):
    """Return a PGD-trained module, theta_0's seconds and the training's."""
    clock = Clock(arguments.device)
    with seeded_torch(draw_seed(arguments.seed)):
        module = as_torch(copy.deepcopy(net).fit(X, y)).module
    theta_0_wall, _ = clock.seconds()
    x, target = to_tensor(X, arguments.device), torch.tensor(y, device=arguments.device)
    clock = Clock(arguments.device)
    for epoch in range(n_epochs):
        train_adversarially(
            module, x, target, threat_model, epoch=epoch, n_epochs=n_epochs,
            batch_size=128, generator=make_generator(epoch, arguments.device),
        )  # fmt: skip
    return module, theta_0_wall, clock.seconds()


def robust_accuracy(model, X, y, threat_model, goal=0.0):
    """Return AutoAttack accuracy; PGD's, an upper bound, where it is below ``goal``."""
    common = {
        "eps": threat_model.eps, "norm": threat_model.norm, "batch_size": 250,
    }  # fmt: skip
    bound = attack_estimator(model, X, y, attack="pgd", **common).robust_accuracy
    if bound < goal:
        return bound
    auto = attack_estimator(model, X, y, attack="autoattack-reference", **common)
    return auto.robust_accuracy


def measure_floor(arguments, n_train):
    """Return each stage's CPU seconds over those of its bare forwards and backwards."""
    (X, y, _, _), threat_model, net = build(arguments, n_train)
    torch.set_num_threads(1)
    with seeded_torch(draw_seed(arguments.seed)):
        module = as_torch(net.fit(X, y)).module
    x, y = to_tensor(X, arguments.device), torch.tensor(y, device=arguments.device)
    measured = {}
    for name, (step, floor) in floors(module, x, y, threat_model).items():
        pairs = []
        for _ in range(REPEATS + 1):
            pairs.append([cpu_seconds(step, arguments), cpu_seconds(floor, arguments)])
        ratios = [a / b for a, b in pairs[1:]]  # the first ones warm up
        measured[f"{name}, over its floor"] = float(np.median(ratios)), "x"
        measured[f"{name}, largest of {REPEATS}"] = max(ratios), "x"
        measured[f"{name}, floor"] = float(np.median([b for _, b in pairs[1:]])), "s"
    return measured


def cpu_seconds(function, arguments):
    """Return the CPU seconds of a call (wall-clock on a GPU)."""
    clock = Clock(arguments.device)
    function()
    wall, cpu = clock.seconds()
    return wall if str(arguments.device).startswith("cuda") else cpu


def floors(module, x, y, threat_model):
    """Return (step, floor) of a round of play and of an epoch of Algorithm 1."""
    learner = RobustDatasetLearner(
        threat_model.eps, threat_model.norm, protocol="fine-tune",
        method="fictitious-play", n_rounds=1, n_meta_epochs=1,
    )  # fmt: skip
    problem = LearningProblem(
        x=x, y=y, X_all=to_array(x), y_all=to_array(y), image_shape=x.shape[1:],
        n_classes=int(y.max()) + 1, threat_model=threat_model, theta_0s=[module],
        new_net=None,
    )  # fmt: skip
    recipe = Recipe.resolve(learner, problem)
    bare = copy.deepcopy(module)
    generator = make_generator(0, x.device)

    def run(step):
        step.run(LearningState(x, module), generator)

    def play_floor():
        for rows in batch_slices(len(x), recipe.batch_size):
            for _ in range(recipe.play.n_steps):
                pass_to_input(bare, x[rows], y[rows])
            for _ in range(recipe.play.n_epochs[0]):
                pass_to_parameters(bare, x[rows], y[rows])

    def epoch_floor():
        # theta(X); the attack; the adjoint; two slopes along it; the carried step.
        for rows in batch_slices(len(x), recipe.batch_size):
            for _ in range(recipe.meta.attack_steps + 2):
                pass_to_input(bare, x[rows], y[rows])
            for _ in range(3):
                pass_to_parameters(bare, x[rows], y[rows])

    return {
        "round of fictitious play": (
            partial(run, PlayRound(problem, recipe, 0)), play_floor,
        ),
        "epoch of Algorithm 1": (
            partial(run, MetaEpoch(problem, recipe, 0)), epoch_floor,
        ),
    }  # fmt: skip


def pass_to_input(module, x, y):
    """Forward, and backward to the input."""
    x = x.detach().requires_grad_(True)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    torch.autograd.grad(F.cross_entropy(module(x), y), x)


def pass_to_parameters(module, x, y):
    """Forward, and backward to the parameters."""
    parameters = [p.requires_grad_(True) for p in module.parameters()]
    torch.autograd.grad(F.cross_entropy(module(x), y), parameters)


PARTS = {
    "growth": measure_growth,
    "against-training": measure_against_training,
    "floor": measure_floor,
}


def parse_arguments(argv):
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust_dataset.py cost", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--part", nargs="+", default=list(PARTS), choices=PARTS)
    add("--data", default="digits", choices=("digits", "mnist", "cifar10"))
    add("--data-folder")
    add("--threat", default="linf-0.1", metavar="NORM-EPS")
    add("--protocol", default="fine-tune", choices=("fine-tune", "scratch"))
    add("--net", default="small-cnn", choices=NETS)
    add("--growth-rows", nargs="+", type=int, default=[1000, 10000, 60000])
    add("--n-train", type=int, default=10000, help="of the other parts")
    add("--n-test", type=int, default=1000)
    add("--epochs", type=int, default=10)
    add("--fine-tune-epochs", type=int, default=5)
    add("--seed", type=int, default=0)
    add("--device", default="cpu")
    add("--results", type=Path, default=RESULTS)
    add("--one-cell", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def write_table(folder):
    """Gather all cells into cost.csv, one line a number."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    with (folder / "cost.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for record in records:
            for what, (value, unit) in record["measured"].items():
                line = {"what": what, "value": f"{value:.4g}", "unit": unit}
                writer.writerow(record | line)


def run_cell(arguments, part, n_train, path):
    """Measure one cell and write its file."""
    measured = PARTS[part](arguments, n_train)
    device = f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"
    if arguments.device.startswith("cuda"):
        device = torch.cuda.get_device_name()
    record = {
        "part": part, "data": arguments.data, "n_train": n_train,
        "threat": arguments.threat, "protocol": arguments.protocol,
        "net": arguments.net, "seed": arguments.seed, "measured": measured,
        "n_test": arguments.n_test, "recipe": recipe(), "device": device,
        "torch": str(torch.__version__), "robustfit": robustfit.__version__,
        "date": date.today().isoformat(),
    }  # fmt: skip
    replace_file(path, json.dumps(record, indent=1).encode())


def main(argv):
    """Run the cells that have no result yet, each in a process of its own."""
    arguments = parse_arguments(argv)
    arguments.results.mkdir(parents=True, exist_ok=True)
    cells = [
        (part, n)
        for part in arguments.part
        for n in (arguments.growth_rows if part == "growth" else [arguments.n_train])
    ]
    for part, n_train in cells:
        threat = arguments.threat.replace("/", "over")
        name = f"{part}_{arguments.data}_{n_train}_{threat}_{arguments.protocol}"
        path = arguments.results / f"{name}_{arguments.net}_{arguments.seed}.json"
        cell = f"{part}:{n_train}"
        if arguments.one_cell is not None:
            if arguments.one_cell == cell:
                run_cell(arguments, part, n_train, path)
            continue
        if not path.exists():
            script = Path(__file__).with_name("robust_dataset.py")
            command = [sys.executable, str(script), "cost", *argv, "--one-cell", cell]
            subprocess.run(command, check=True)
        print(f"{path.stem}: done", flush=True)
    if arguments.one_cell is None:
        write_table(arguments.results)
