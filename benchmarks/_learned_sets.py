"""Nets, sets and naturally trained weights of the robust-dataset benchmark, as files.

A set is learned once and evaluated with many consumers; a run that is killed goes on.
Files are named by what they depend on, the learner's own code included: a set that an
older recipe learned is never taken for one of the current recipe.
"""

import hashlib
import io
import json
import os
import resource
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier

import robustfit
from robustfit import (
    AdversarialDataset,
    NoisyDataset,
    RobustDatasetLearner,
    ThreatModel,
    load_robust_dataset,
    save_robust_dataset,
)
from robustfit._utils.torch_bridge import (
    draw_seed,
    seeded_torch,
    stage_generator,
    to_tensor,
)
from robustfit.classifiers.adversarial_training.module_training import (
    train_adversarially,
)
from robustfit.nets import LeNet5, PhotoCNN, ResNet18, SmallCNN, default_classifier
from robustfit.robustifiers.dataset_learning.row_selection import select_rows

# "-adam": as most users train, with Adam at 1e-3, no schedule and no augmentation.
NETS = (
    "small-cnn", "small-cnn-adam", "wide-cnn", "lenet5", "mlp", "photo-cnn",
    "photo-cnn-adam", "small-resnet", "resnet18",
)  # fmt: skip
SETS = (
    "natural", "noise", "noise-0.1", "noise-0.2", "noise-0.35", "noise-0.5",
    "noise-0.7", "adversarial-natural", "adversarial-robust",
    "adversarial-trades", "learned", "learned-robust-judge", "learned-radius-1.5",
    "learned-soft", "learned-soft-cross-fitted", "paper-algorithm-1", "pgd-trained",
)  # fmt: skip
# The code that learns sets, below the package's folder.
PACKAGE = Path(robustfit.__file__).parent
RECIPE = (
    "robustifiers/dataset_learning",
    "classifiers/adversarial_training",
    "robustifiers/baselines.py",
    "nets/default.py",
    "nets/photo_cnn.py",
    "evaluation/judge.py",
    "_utils/row_splits.py",
)
# Of section 5.1: fine-tuning on any set starts from theta_0 with these.
FINE_TUNING = {"lr": 0.01, "optimizer__weight_decay": 5e-4}


def make_net(name, image_shape, n_classes, *, max_epochs, device):
    """Return an unfitted skorch net; all but "-adam" are trained in the same way."""
    kind = name.removesuffix("-adam")
    shape = image_shape if kind != "mlp" else (int(np.prod(image_shape)),)
    net = default_classifier(shape, n_classes, max_epochs=max_epochs, device=device)
    if kind != "mlp":
        modules = {
            "lenet5": LeNet5, "photo-cnn": PhotoCNN, "small-resnet": ResNet18,
            "resnet18": ResNet18,
        }  # fmt: skip
        net.set_params(module=modules.get(kind, SmallCNN))
    if kind == "wide-cnn":
        net.set_params(module__channels=(64, 128), module__n_hidden=400)
    elif kind == "small-resnet":
        net.set_params(module__width=8, module__stem_stride=2)
    if name.endswith("-adam"):
        net = as_users_train(net)
        if kind == "photo-cnn":
            net.set_params(module__flip=False)
    return net


def as_users_train(net):
    """Return an unfitted net of the same module that Adam trains, at 1e-3 throughout.

    A new one: what skorch was once told for SGD, it tells Adam, too.
    """
    module = {
        name: value
        for name, value in net.get_params(deep=False).items()
        if name.startswith("module")
    }
    return NeuralNetClassifier(
        **module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=net.batch_size,
        max_epochs=net.max_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=net.device,
    )


def parse_threat(threat):
    """Return ("linf", 2/255) for "linf-2/255"."""
    norm, budget = threat.split("-")
    numerator, _, denominator = budget.partition("/")
    return norm, float(numerator) / float(denominator or 1)


def file_part(cell):
    """Return what tells a set from others, as part of a file's name."""
    threat = cell["learned_for"].replace("/", "over")
    return f"{cell['data']}_{cell['n_train']}_{threat}_{cell['set']}"


class Workshop:
    """Makes what a cell needs, or finds it in ``folder``.

    Parameters
    ----------
    folder : Path
        Where sets and weights are kept (git ignores them).
    X, y : ndarray
        The natural training set.
    net : str
        The inner net of the learners.
    epochs : int
        Of natural training from scratch, the inner net's too.
    device : str
    """

    def __init__(self, folder, X, y, *, net, epochs, device):
        self.folder = Path(folder)
        self.X, self.y = X, y
        self.net, self.epochs, self.device = net, epochs, device

    def new_net(self, name, epochs=None):
        """Return an unfitted net of that name for the data."""
        return make_net(
            name,
            self.X.shape[1:],
            int(self.y.max()) + 1,
            max_epochs=epochs or self.epochs,
            device=self.device,
        )

    def learned_set(self, cell):
        """Return the set of a cell, its labels and the seconds it took to learn."""
        if cell["set"] in ("natural", "pgd-trained") and cell["fraction"] == 1:
            return self.X, self.y, 0.0
        path = self.set_path(cell)
        if not path.exists():
            self._learn(cell, path)
        dataset = load_robust_dataset(path)
        return dataset.X, dataset.y, json.loads(dataset.card["description"])["seconds"]

    def set_path(self, cell):
        """Return the file of a cell's set."""
        name = f"{file_part(cell)}_{cell['seed']}_f{cell['fraction']:g}"
        if cell["set"].startswith(("learned", "paper")):
            name += f"_{cell['protocol']}"
        return self.folder / f"{name}_{self.net}_e{self.epochs}_{recipe()}.npz"

    def _learn(self, cell, path):
        start = time.perf_counter()
        norm, eps = parse_threat(cell["learned_for"])
        robustifier, X, y = self._robustifier(cell, norm, eps), self.X, self.y
        if not isinstance(robustifier, RobustDatasetLearner) and cell["fraction"] < 1:
            rows = select_rows(y, draw_seed(cell["seed"]), cell["fraction"], 0).learned
            X, y = X[rows], y[rows]  # the rows that the learner chooses
        given = {"X": X, "y": y, "threat_model": ThreatModel(norm, eps)}
        if robustifier is not None:
            given = {"X": robustifier.fit(X, y)}
        seconds = time.perf_counter() - start
        description = json.dumps({"seconds": seconds, "peak_mib": peak_memory()})
        save_robust_dataset(
            path, **given, source=(self.X, self.y), description=description
        )

    def _robustifier(self, cell, norm, eps):
        given = {"eps": eps, "norm": norm, "random_state": cell["seed"]}
        inner = self.new_net(self.net)
        learned = given | {
            "estimator": inner, "protocol": cell["protocol"], "verbose": 1,
            "fraction": cell["fraction"],
            "checkpoint": str(self.folder / f"checkpoints_{recipe()}"),
        }  # fmt: skip
        return {
            "natural": lambda: None,
            "noise": lambda: NoisyDataset(**given),
            **{
                f"noise-{scale}": partial(NoisyDataset, **given, scale=scale)
                for scale in (0.1, 0.2, 0.35, 0.5, 0.7)
            },
            "adversarial-natural": lambda: AdversarialDataset(**given, estimator=inner),
            "adversarial-robust": lambda: AdversarialDataset(
                **given, estimator=inner, source="robust"
            ),
            "adversarial-trades": lambda: AdversarialDataset(
                **given, estimator=trades_net(inner, norm, eps)
            ),
            "learned": lambda: RobustDatasetLearner(**learned),
            "learned-radius-1.5": lambda: RobustDatasetLearner(
                **learned, radius_factor=1.5
            ),
            "learned-robust-judge": lambda: RobustDatasetLearner(
                **learned, judge="adversarial"
            ),
            "learned-soft": lambda: RobustDatasetLearner(**learned, soft_labels=True),
            "learned-soft-cross-fitted": lambda: RobustDatasetLearner(
                **learned, soft_labels=True, judge="cross-fitted"
            ),
            "paper-algorithm-1": lambda: RobustDatasetLearner(
                **learned, method="paper"
            ),
        }[cell["set"]]()

    def theta_0(self, name, seed, init):
        """Return a net naturally trained on the natural set; init 0 is the learners'.

        Its optimizer is new, as RobustifiedClassifier's: no momentum is carried over.
        """
        path = self.folder / (
            f"theta_{self.data_key()}_{name}_{seed}_i{init}_e{self.epochs}_{recipe()}.pt"
        )
        if not path.exists():
            with seeded_torch(draw_seed(seed) if init == 0 else 7919 * init + seed):
                save_weights(self.new_net(name).fit(self.X, self.y), path)
        net = self.new_net(name)
        load_weights(net, path)
        return net

    def data_key(self):
        """Return the natural set's number of rows and a hash of its labels."""
        return f"{len(self.X)}-{hashlib.sha256(self.y.tobytes()).hexdigest()[:8]}"


def train_by_pgd(net, X, y, threat_model, *, n_epochs, seed):
    """Train a net, initialised with natural weights, as the learners' teachers are."""
    x, labels = to_tensor(X, net.device), to_tensor(y, net.device, torch.int64)
    for epoch in range(n_epochs):
        train_adversarially(
            net.module_, x, labels, threat_model,
            epoch=epoch, n_epochs=n_epochs, batch_size=128,
            generator=stage_generator(seed, epoch, device=net.device),
        )  # fmt: skip


def trades_net(net, norm, eps):
    """Return ``net`` with its training replaced by TRADES (section 5.1)."""
    from robustfit import AdversarialNet

    parameters = net.get_params(deep=False)
    return AdversarialNet(**parameters, eps=eps, norm=norm, method="trades")


def recipe(package=PACKAGE):
    """Return a hash of the code that learns sets.

    It changes with every byte of that code. Which recipes learn the same sets all the
    same is written in ``results/robust_dataset/recipes.json``.

    Raises
    ------
    FileNotFoundError
        If a folder or file of that code is missing or empty: it was moved, and the hash
        would not tell a change of it.
    """
    digest = hashlib.sha256()
    for place in RECIPE:
        path = package / place
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        code = b"".join(file.read_bytes() for file in files if file.exists())
        if not code.strip():
            raise FileNotFoundError(
                f"{path} is missing or empty; expected code that learns sets. Name the "
                f"place that it was moved to in RECIPE of {Path(__file__).name}."
            )
        digest.update(code)
    return digest.hexdigest()[:8]


def save_weights(net, path):
    """Save a net's weights in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(net.module_.state_dict(), buffer)
    replace_file(path, buffer.getvalue())


def load_weights(net, path):
    """Initialise ``net`` with saved weights."""
    with seeded_torch(0):
        net.initialize()
    weights = torch.load(path, map_location=net.device, weights_only=True)
    net.module_.load_state_dict(weights)


def replace_file(path, data):
    """Write bytes to ``path`` in one step."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def peak_memory():
    """Return the largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (20 if sys.platform == "darwin" else 10)
