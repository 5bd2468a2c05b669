"""Neural networks of the papers, sized by arguments, as plain ``torch`` modules.

Each takes images (n, C, H, W) or the same images flattened (n, C*H*W) and returns
logits, so one net serves 4-D and flat pipelines.
"""

from robustfit.nets.default import CosineSchedule, default_classifier
from robustfit.nets.lenet import LeNet5
from robustfit.nets.mlp import MLP
from robustfit.nets.small_cnn import SmallCNN
from robustfit.nets.wide_resnet import WideResNet

__all__ = [
    "CosineSchedule",
    "LeNet5",
    "MLP",
    "SmallCNN",
    "WideResNet",
    "default_classifier",
]
