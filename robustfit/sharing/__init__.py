"""Sharing a learned set: one file with a card, no pickles, checksums."""

from robustfit.sharing.npz_file import load_robust_dataset, save_robust_dataset
from robustfit.sharing.robust_dataset import RobustDataset

__all__ = ["RobustDataset", "load_robust_dataset", "save_robust_dataset"]
