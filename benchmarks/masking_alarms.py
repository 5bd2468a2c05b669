"""Count the alarms of check_gradient_masking on honest and on masked models.

    python benchmarks/masking_alarms.py [--n-seeds 40] [--n-samples 50]

Embedded digits: for each seed other training images (400), test images and initial
weights. Honest are a naturally trained net at linf 0.05 and an adversarially trained
one at 0.12; masked are the natural net with rounded inputs and with logits times 300.
Rows go to ``benchmarks/results/masking_alarms.csv``; seeds that are there are skipped.
A minute for five seeds on one core.
"""

import argparse
import csv
import datetime
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

import robustfit
from robustfit import AdversarialClassifier, as_torch, check_gradient_masking
from robustfit.nets import default_classifier

RESULTS = Path(__file__).parent / "results" / "masking_alarms.csv"
COLUMNS = (
    "model", "honest", "seed", "n_samples", "eps", "n_run", "n_failed", "failed",
    "version", "date",
)  # fmt: skip


class Scaled(nn.Module):
    """Logits so large that the gradients of the cross-entropy vanish."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        """Return the logits."""
        return 300 * self.net(x)


class Rounded(nn.Module):
    """Inputs in steps of 1/32: no gradient anywhere."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        """Return the logits."""
        return self.net((x * 32).round() / 32)


def train_models(X, y, seed):
    """Return {name: (model, whether it is honest, eps)}."""
    net = default_classifier((1, 8, 8), 10, max_epochs=40)
    torch.manual_seed(seed)
    natural = clone(net).fit(X, y)
    robust = AdversarialClassifier(eps=0.12, n_epochs=40, random_state=seed).fit(X, y)
    module = as_torch(natural).module
    return {
        "natural": (natural, True, 0.05),
        "adversarially trained": (robust, True, 0.12),
        "rounded inputs": (Rounded(module), False, 0.12),
        "logits times 300": (Scaled(module), False, 0.12),
    }


def measure(seed, n_samples):
    """Yield a row for each model of a seed."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = order[:400], order[400 : 400 + n_samples]
    models = train_models(X[train], y[train], seed)
    baseline = models["natural"][0]
    for name, (model, honest, eps) in models.items():
        report = check_gradient_masking(
            model, X[test], y[test], eps=eps, n_steps=20, n_queries=150,
            baseline=None if name == "natural" else baseline,
        )  # fmt: skip
        n_run = sum(check.passed is not None for check in report.checks)
        yield {
            "model": name, "honest": honest, "seed": seed, "n_samples": n_samples,
            "eps": eps, "n_run": n_run, "n_failed": len(report.failed),
            "failed": "; ".join(report.failed), "version": robustfit.__version__,
            "date": datetime.date.today().isoformat(),
        }  # fmt: skip


def read_rows():
    """Return the rows that are there."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def summarise(rows):
    """Print alarms over reports, for each model and number of samples."""
    keys = dict.fromkeys((row["model"], row["n_samples"]) for row in rows)
    for model, n_samples in keys:
        own = [r for r in rows if (r["model"], r["n_samples"]) == (model, n_samples)]
        n_alarms = sum(row["n_failed"] != "0" for row in own)
        print(f"{model}, n={n_samples}: {n_alarms} of {len(own)} reports alarm")


def main():
    """Measure the seeds that are missing and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--n-samples", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the models are what the warnings are about
    done = {(row["seed"], row["n_samples"]) for row in read_rows()}
    seeds = range(options.first_seed, options.first_seed + options.n_seeds)
    for seed in seeds:
        if (str(seed), str(options.n_samples)) in done:
            continue
        rows = list(measure(seed, options.n_samples))
        is_new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if is_new:
                writer.writeheader()
            writer.writerows(rows)
    summarise(read_rows())


if __name__ == "__main__":
    main()
