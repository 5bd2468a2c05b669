"""
One evaluation, many machines
=============================

Samples are attacked in chunks, and chunks travel: to processes on this machine with
``n_jobs``, or to a Dask cluster with joblib's ``parallel_config``. The result is the
same to the last bit, and finished chunks can be kept, so that a run that was killed
goes on where it stopped.

Data: scikit-learn's digits (8x8 pixels in [0, 1]); every seed is 0.
"""

import tempfile

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from robustfit import attack_estimator
from robustfit.attacks import AutoAttack

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
X_test, y_test = X_test[:100], y_test[:100]
model = LogisticRegression(C=0.1, max_iter=500).fit(X_train, y_train)
attack = AutoAttack(["apgd-ce", "fab-t"])
parameters = {"attack": attack, "eps": 0.06, "batch_size": 25}


def evaluate(**more):
    """Attack the test set in chunks of 25 samples."""
    return attack_estimator(model, X_test, y_test, **parameters, **more)


# %%
# A cluster of two workers
# ------------------------
# ``Client("tcp://scheduler:8786")`` would use the machines of a real cluster. The two
# workers here are threads; a script that starts processes (``processes=True``) does so
# under ``if __name__ == "__main__":``.
alone = evaluate()
try:
    from distributed import Client, LocalCluster
except ImportError:
    print("pip install robustfit[dask] runs this part")
    spread = evaluate(n_jobs=1)
else:
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        spread = evaluate()
print("same bytes:", np.array_equal(alone.X_adv, spread.X_adv))

# %%
# Kept and resumed
# ----------------
with tempfile.TemporaryDirectory() as folder:
    evaluate(checkpoint=folder)
    resumed = evaluate(checkpoint=folder)  # reads every chunk, attacks nothing
print("same verdicts:", np.array_equal(alone.robust, resumed.robust))

# %%
# Who survived which attack
# -------------------------
names = ["natural", *alone.robust_after]
values = [alone.natural_accuracy, *(v.mean() for v in alone.robust_after.values())]
_, ax = plt.subplots(figsize=(5, 3))
ax.bar(names, values)
ax.set_ylabel("accuracy")
plt.show()
