"""Answers questions about kernels with neural-tangents; run by ``kernels.py``.

It is a program of its own because neural-tangents 0.6.5 needs an old JAX and NumPy:

    python -m venv FOLDER
    FOLDER/bin/pip install jax==0.4.30 jaxlib==0.4.30 "numpy<2" "scipy<1.14" \
        neural-tangents==0.6.5

Reads one JSON question a line from stdin and writes one JSON answer a line. Arrays
travel in ``.npy`` files of the folder given as the only argument.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

# CPU seconds of one thread are compared: XLA's own pool must not add threads.
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import numpy as np
from _peak_memory import peak_bytes_during
from neural_tangents import stax

FOLDER = Path(sys.argv[1])
FUNCTIONS = {}


def make_net(question):
    """Return the kernel function of the net that the question describes."""
    options = {
        "W_std": question["w_std"],
        "b_std": question["b_std"] or None,
        "parameterization": "ntk",
    }
    readout = question.get("readout")
    hidden = [stax.Dense(512, **options), stax.Relu()]
    end = [stax.Dense(1, **options)]
    if readout:
        convolution = stax.Conv(64, (3, 3), padding="SAME", **options)
        hidden = [convolution, stax.Relu()]
        end = [stax.Flatten() if readout == "flatten" else stax.GlobalAvgPool(), *end]
    return stax.serial(*hidden * question["depth"], *end)[2]


def make_functions(question):
    """Return compiled ``forward(x, y)`` and ``both(x, y, g)`` (K and gradients)."""
    key = json.dumps({k: question[k] for k in sorted(question) if k != "ask"})
    if key not in FUNCTIONS:
        kernel = make_net(question)

        def forward(x, y):
            return kernel(x, y, get="ntk")

        def both(x, y, g):
            K, pull = jax.vjp(forward, x, y)
            return K, *pull(g)

        FUNCTIONS[key] = jax.jit(forward), jax.jit(both)
    return FUNCTIONS[key]


def load(question, names):
    """Return the arrays of the question as JAX arrays of its dtype."""
    dtype = question["dtype"]
    return [
        jax.numpy.asarray(np.load(FOLDER / f"{n}.npy").astype(dtype)) for n in names
    ]


def answer(question):
    """Return the answer to one question: CPU seconds, peak bytes, or a file's name."""
    jax.config.update("jax_enable_x64", question["dtype"] == "float64")
    forward, both = make_functions(question)
    is_both = question["task"] == "both"
    arrays = load(question, question["arrays"])
    function = both if is_both else forward
    if question["ask"] == "values":
        results = jax.block_until_ready(function(*arrays))
        results = results if is_both else (results,)
        for number, values in enumerate(results):
            np.save(FOLDER / f"reference{number}.npy", np.asarray(values))
        return {"n_arrays": len(results)}
    if question["ask"] == "warm":
        jax.block_until_ready(function(*arrays))
        return {}
    if question["ask"] == "seconds":
        start = time.process_time()
        jax.block_until_ready(function(*arrays))
        return {"seconds": time.process_time() - start}
    # Compiled but not run before: memory kept from an earlier run would hide the peak.
    compiled = function.lower(*arrays).compile()
    gc.collect()
    results, peak = peak_bytes_during(lambda: jax.block_until_ready(compiled(*arrays)))
    results = results if is_both else (results,)
    return {"peak_bytes": peak - sum(r.nbytes for r in results)}


def main():
    """Answer until stdin ends."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
