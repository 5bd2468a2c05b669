"""Data for the benchmarks, read from a folder that the user names.

``mnist.npz`` holds ``X_train, y_train, X_test, y_test`` (uint8 images of 28x28);
``cifar10_jpeg.npz`` holds JPEG copies of CIFAR-10: for each split ``jpeg_<split>`` (all
files one after the other), ``length_<split>`` (bytes of each) and ``y_<split>``. Both
can be made from ``sklearn.datasets.fetch_openml`` ("mnist_784", "CIFAR_10").
"""

import io
import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATA_FOLDER = os.environ.get("ROBUSTFIT_DATA", "data")


def load(name, n_train=None, n_test=None, folder=None):
    """Return X_train, y_train, X_test, y_test: float32 images in [0, 1], int labels.

    ``n_train`` and ``n_test`` take the first rows; None takes all.
    """
    folder = Path(folder or DATA_FOLDER)
    reader = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}[name]
    X_train, y_train, X_test, y_test = reader(folder, n_train, n_test)
    return (
        X_train[:n_train],
        y_train[:n_train].astype(np.int64),
        X_test[:n_test],
        y_test[:n_test].astype(np.int64),
    )


def _digits(folder, n_train, n_test):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=400, random_state=0, stratify=y
    )
    return X_train, y_train, X_test, y_test


def _mnist(folder, n_train, n_test):
    with np.load(folder / "mnist.npz") as stored:
        return tuple(
            stored[f"X_{part}"][:n, None].astype(np.float32) / 255
            if kind == "X"
            else stored[f"y_{part}"]
            for part, n in (("train", n_train), ("test", n_test))
            for kind in "Xy"
        )


def _cifar10(folder, n_train, n_test):
    with np.load(folder / "cifar10_jpeg.npz") as stored:
        parts = []
        for part, n in (("train", n_train), ("test", n_test)):
            images = _decode(stored[f"jpeg_{part}"], stored[f"length_{part}"], n)
            parts += [images, stored[f"y_{part}"]]
    return tuple(parts)


def _decode(jpeg, length, n):
    from PIL import Image

    ends = np.cumsum(length.astype(np.int64))[:n]
    images = [
        np.asarray(Image.open(io.BytesIO(jpeg[end - size : end].tobytes())))
        for end, size in zip(ends, length, strict=False)
    ]
    channels_first = np.stack(images).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(channels_first, dtype=np.float32) / 255
