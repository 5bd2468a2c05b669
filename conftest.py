"""One thread a test worker: more of them wait for each other and slow all down.

Before torch is imported, and for the processes that tests start; variables that are set
outside have precedence.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads do not spin
os.environ.setdefault("MPLBACKEND", "agg")
