"""A shared set as PNG folders, as a torch data set, for Hugging Face ``datasets``."""

import csv
import json
import os
import shutil
from pathlib import Path
from threading import get_ident
from urllib.parse import quote

import numpy as np
import torch
from torch.utils.data import Dataset

from robustfit._utils.torch_bridge import to_tensor
from robustfit.exceptions import ImageShapeError
from robustfit.sharing._png import COLOUR_TYPES, png_bytes
from robustfit.threat_model import ThreatModel

__all__ = ["TorchView", "as_huggingface", "write_png_folder"]

PNG_NOTE = (
    "Values were rounded to 256 levels, so an image differs from the shared one by up "
    "to 1/510 of the range of values. Robustness was measured before rounding."
)


class TorchView(Dataset):
    """The rows of a shared set as ``(image, label)`` tensors.

    Labels are columns 0..n_classes-1 (int64), or probabilities where they are soft.
    """

    def __init__(self, X, targets):
        self.X, self.targets = X, targets

    def __len__(self):
        """Return the number of rows."""
        return len(self.X)

    def __getitem__(self, index):
        """Return one image (float32) and its label."""
        target = self.targets[index]
        if np.ndim(target):
            return to_tensor(self.X[index]), to_tensor(target)
        return to_tensor(self.X[index]), torch.tensor(int(target))


def as_huggingface(dataset):
    """Return a ``datasets.Dataset`` with columns ``image`` and ``label``."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "to_huggingface needs the library datasets: pip install datasets"
            " (version 4 or later)."
        ) from error
    images = dataset.images
    pixels = datasets.List(datasets.Value("float32"))
    if images.ndim == 4:
        pixels = datasets.Array3D(images.shape[1:], "float32")
    label = datasets.ClassLabel(names=[str(c) for c in dataset.classes])
    if dataset.has_soft_labels:
        label = datasets.List(datasets.Value("float32"), length=len(dataset.classes))
    features = datasets.Features({"image": pixels, "label": label})
    return datasets.Dataset.from_dict(
        {"image": images, "label": dataset.targets},
        features=features,
        info=datasets.DatasetInfo(
            description=json.dumps(dataset.card), features=features
        ),
    )


def write_png_folder(dataset, folder):
    """Write one PNG a row into a subfolder a class; all of it or nothing.

    Returns
    -------
    pathlib.Path
        ``folder``.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; give the name of a new folder.")
    pixels = _as_bytes(dataset)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{get_ident()}.tmp")
    try:
        _write_files(dataset, pixels, temporary)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _as_bytes(dataset):
    images = dataset.images
    if images.ndim != 4 or images.shape[1] not in COLOUR_TYPES:
        raise ImageShapeError(
            f"The rows have shape {images.shape[1:]}; PNG holds images of 1 or 3 "
            "channels. Save flat rows with the image_shape they came from."
        )
    clip_range = (dataset.card.get("threat_model") or {}).get("clip_range")
    if clip_range is None:
        raise ValueError(
            "The card names no clip_range, so it is not known which values are black "
            "and white. Save the set with clip_range=(low, high)."
        )
    low, high = clip_range
    threat_model = ThreatModel(clip_range=(low, high))
    threat_model.refuse_per_feature("PNG", "Pixels of an image have one range.")
    images = threat_model.check_range(images)
    return np.rint((images - low) / (high - low) * 255).astype(np.uint8)


def _write_files(dataset, pixels, folder):
    columns = dataset.targets.argmax(1) if dataset.has_soft_labels else dataset.targets
    names = class_folders(dataset.classes)
    for name in names:
        (folder / name).mkdir(parents=True)
    width = len(str(len(pixels) - 1))
    for row, (image, column) in enumerate(zip(pixels, columns, strict=True)):
        path = folder / names[column] / f"{row:0{width}d}.png"
        path.write_bytes(png_bytes(image))
    card = dataset.card | {"png": PNG_NOTE, "class_folders": names}
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    if dataset.has_soft_labels:
        with (folder / "soft_labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", *names])
            rows = enumerate(dataset.targets.tolist())
            writer.writerows([row, *probabilities] for row, probabilities in rows)


def class_folders(classes):
    """Return a folder's name for each class, sorted as the classes are.

    The class number comes first; of a label, only letters that are safe in a name stay
    as they are.
    """
    width = len(str(len(classes) - 1))
    names = []
    for number, label in enumerate(classes):
        place, text = f"{number:0{width}d}", quote(str(label), safe="")[:80]
        names.append(place if text == place else f"{place}-{text}")
    return names
