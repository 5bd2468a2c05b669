"""Neural kernels against neural-tangents: exactness, CPU time, memory.

Both sides run on one thread, each in its own process (neural-tangents needs an old JAX,
see ``_neural_tangents.py``), and take turns, so that other load hits both alike.

    python benchmarks/kernels.py --reference-python FOLDER/bin/python

Rows are MNIST images in [0, 1] (``--data``, or the environment variable
ROBUSTFIT_DATA): X test images, Y training images. Relative errors are against
neural-tangents in float64 on rows that are not duplicates. Times are medians of CPU
seconds. Memory is the peak of resident memory during the call, less the outputs.
"""

import argparse
import csv
import datetime
import gc
import json
import multiprocessing
import os
import platform
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from _data import load
from _peak_memory import peak_bytes_during

import robustfit
from robustfit.kernels import ConvolutionalNTK, FullyConnectedNTK

RESULTS = Path(__file__).parent / "results" / "kernels"
SIZES = ((1000, 5000), (2000, 10000))
DEPTHS = (3, 7)


class Reference:
    """neural-tangents in a process of its own."""

    def __init__(self, python, folder):
        self.folder = Path(folder)
        environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        script = Path(__file__).parent / "_neural_tangents.py"
        self.process = subprocess.Popen(
            [python, str(script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, what, net, task, dtype="float32"):
        """Return the answer to one question about ``net``."""
        arrays = ["x", "y", "g"] if task == "both" else ["x", "y"]
        question = {"ask": what, "task": task, "dtype": dtype, "arrays": arrays, **net}
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                "neural-tangents ended; run _neural_tangents.py by hand."
            )
        return json.loads(line)

    def values(self, net, task, dtype):
        """Return K, or K and both gradients, as float64 arrays."""
        n_arrays = self.ask("values", net, task, dtype)["n_arrays"]
        return [np.load(self.folder / f"reference{i}.npy") for i in range(n_arrays)]

    def give(self, **arrays):
        """Hand arrays over."""
        for name, values in arrays.items():
            np.save(self.folder / f"{name}.npy", values)


def run_own(kernel, arrays, task):
    """Return K, or K and both gradients, as tensors."""
    if task == "both":
        arrays = [*(a.detach().clone().requires_grad_() for a in arrays[:2]), arrays[2]]
    return run_once(kernel, arrays, task)


def run_once(kernel, arrays, task):
    """Return K, or K and both gradients; arrays of "both" must require them."""
    if task == "forward":
        return (kernel(*arrays[:2]),)
    K = kernel(*arrays[:2])
    return K.detach(), *torch.autograd.grad(K, arrays[:2], arrays[2])


def images(n, m, seed, folder):
    """Return x (n), y (m) and an upstream gradient g, float32; no row twice."""
    X, _, X_test, _ = load("mnist", 60000, 10000, folder)
    rng = np.random.default_rng(seed)
    x = X_test[rng.choice(len(X_test), n, replace=False)].reshape(n, -1)
    y = X[rng.choice(len(X), m, replace=False)].reshape(m, -1)
    return x, y, rng.normal(size=(n, m)).astype(np.float32)


def compare_values(reference, options, net, kernel_of):
    """Return the cell of exactness: K and gradients in float32 and float64."""
    n, m = (200, 500) if "readout" not in net else (6, 10)
    x, y, g = images(n, m, options.seed, options.data)
    if "image" in net:
        side = net["image"]
        cut = slice(10, 10 + side)
        x, y = (a.reshape(-1, 28, 28)[:, cut, cut] for a in (x, y))
    channels_last = (lambda a: a[..., None]) if "image" in net else (lambda a: a)
    reference.give(x=channels_last(x), y=channels_last(y), g=g)
    exact = reference.values(net, "both", "float64")
    theirs = reference.values(net, "both", "float32")
    cell = {"n": n, "m": m}
    for dtype in ("float32", "float64"):
        arrays = [torch.tensor(a, dtype=getattr(torch, dtype)) for a in (x, y, g)]
        own = run_own(kernel_of(dtype), arrays, "both")
        cell |= {f"{dtype} {k}": v for k, v in errors(own, exact).items()}
    cell |= {
        f"neural-tangents float32 {k}": v for k, v in errors(theirs, exact).items()
    }
    return cell


def errors(found, exact):
    """Return the largest relative error of K, and those of gradients in l2 norm."""
    K, grad_x, grad_y = (np.asarray(a, dtype=np.float64) for a in found)
    relative = [
        np.linalg.norm(a.ravel() - b.ravel()) / np.linalg.norm(b)
        for a, b in ((grad_x, exact[1]), (grad_y, exact[2]))
    ]
    return {
        "K": float(np.abs(K / exact[0] - 1).max()),
        "gradients": float(max(relative)),
    }


def compare_times(reference, options, net, kernel, n, m, task):
    """Return the cell of CPU seconds, and of the matrix product alone."""
    x, y, g = images(n, m, options.seed, options.data)
    reference.give(x=x, y=y, g=g)
    arrays = [torch.tensor(a) for a in (x, y, g)]
    reference.ask("warm", net, task)
    run_own(kernel, arrays, task)
    own, theirs, product = [], [], []
    for _ in range(options.repeats):
        theirs.append(reference.ask("seconds", net, task)["seconds"])
        own.append(cpu_seconds(lambda: run_own(kernel, arrays, task)))
        product.append(cpu_seconds(lambda: arrays[0] @ arrays[1].T))
    own, theirs, product = (float(np.median(s)) for s in (own, theirs, product))
    fresh = Reference(options.reference_python, reference.folder)
    memory = fresh.ask("memory", net, task)["peak_bytes"]
    fresh.process.stdin.close()
    return {
        "n": n,
        "m": m,
        "task": task,
        "own seconds": own,
        "neural-tangents seconds": theirs,
        "product seconds": product,
        "times faster": theirs / own,
        "own over product": own / product,
        "own MB beyond": own_memory(kernel, reference.folder, task) / 1e6,
        "neural-tangents MB beyond": memory / 1e6,
        "repeats": options.repeats,
    }


def own_memory(kernel, folder, task):
    """Return the peak bytes beyond the outputs, measured in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_memory, kernel, folder, task).result()


def measure_memory(kernel, folder, task):
    """Return the peak bytes beyond the outputs; for a process that did nothing yet."""
    torch.set_num_threads(1)
    arrays = [torch.tensor(np.load(Path(folder) / f"{name}.npy")) for name in "xyg"]
    small = [arrays[0][:8], arrays[1][:8], arrays[2][:8, :8]]
    run_own(kernel, small, task)  # loads the libraries
    if task == "both":  # run_own copies x and y to take their gradients
        arrays[:2] = [a.requires_grad_() for a in arrays[:2]]
    gc.collect()
    results, peak = peak_bytes_during(lambda: run_once(kernel, arrays, task))
    return peak - sum(r.nbytes for r in results)


def cpu_seconds(function):
    """Return the CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def fully_connected(depth):
    """Return the net's description."""
    return {"depth": depth, "w_std": 2**0.5, "b_std": 0.0}


def cells(options, reference):
    """Yield the name of each cell and the function that computes it."""
    for depth in DEPTHS:
        net = fully_connected(depth)
        for b_std in (0.0, 0.1):
            biased = net | {"b_std": b_std}

            def kernel_of(dtype, depth=depth, b_std=b_std):
                return FullyConnectedNTK(depth, b_std=b_std, dtype=dtype)

            yield (
                f"exact_fc{depth}_b{b_std}",
                lambda net=biased, of=kernel_of: compare_values(
                    reference, options, net, of
                ),
            )
        for n, m in SIZES:
            for task in ("forward", "both"):
                arguments = (net, FullyConnectedNTK(depth), n, m, task)
                yield (
                    f"time_fc{depth}_{n}x{m}_{task}",
                    lambda a=arguments: compare_times(reference, options, *a),
                )
    for readout, side, depth in (("flatten", 12, 3), ("gap", 6, 2)):
        net = fully_connected(depth) | {"readout": readout, "image": side}

        def kernel_of(dtype, depth=depth, side=side, readout=readout):
            return ConvolutionalNTK(
                depth, (1, side, side), readout=readout, dtype=dtype
            )

        yield (
            f"exact_conv{depth}_{readout}",
            lambda net=net, of=kernel_of: compare_values(reference, options, net, of),
        )


def write_tables():
    """Write one CSV and one markdown table from all cells."""
    found = {p.stem: json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))}
    lines = ["# Kernels against neural-tangents", ""]
    some = next(iter(found.values()))
    lines += [
        f"neural-tangents 0.6.5 (jax 0.4.30) and robustfit {some['robustfit']} (torch "
        f"{some['torch']}), one thread each, {some['device']}; MNIST images, seed "
        f"{some['seed']}.",
        "",
    ]
    for kind in ("exact", "time"):
        rows = [{"cell": k, **v} for k, v in found.items() if k.startswith(kind)]
        if not rows:
            continue
        fields = [f for f in rows[0] if f not in HIDDEN]
        lines += ["| " + " | ".join(fields) + " |", "|---" * len(fields) + "|"]
        lines += [
            "| " + " | ".join(format_value(row[f]) for f in fields) + " |"
            for row in rows
        ]
        lines.append("")
        with open(RESULTS.parent / f"kernels_{kind}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    (RESULTS.parent / "kernels.md").write_text("\n".join(lines))


HIDDEN = ("seed", "device", "torch", "robustfit", "date")


def format_value(value):
    """Return a number with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main():
    """Compute the missing cells and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference-python", required=True)
    parser.add_argument("--data", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--again", action="store_true", help="compute cells anew")
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    about = {
        "seed": options.seed,
        "device": f"CPU, {platform.machine()}",
        "torch": torch.__version__,
        "robustfit": robustfit.__version__,
        "date": datetime.date.today().isoformat(),
    }
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(options.reference_python, folder)
        for name, compute in cells(options, reference):
            path = RESULTS / f"{name}.json"
            if options.only in name and (options.again or not path.exists()):
                cell = compute()
                path.write_text(json.dumps(cell | about, indent=1) + "\n")
                print(name, {k: format_value(v) for k, v in cell.items()}, flush=True)
    write_tables()


if __name__ == "__main__":
    main()
