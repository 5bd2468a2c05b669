"""Neural networks of the papers, sized by arguments, as plain ``torch`` modules.

Each takes images (n, C, H, W) or the same images flattened (n, C*H*W) and returns
logits, so one net serves 4-D and flat pipelines.
"""

from robustfit.nets.classic_cnns import VGG11, AlexNet
from robustfit.nets.default import CosineSchedule, default_classifier
from robustfit.nets.lenet import LeNet5
from robustfit.nets.mlp import MLP
from robustfit.nets.photo_cnn import PhotoCNN
from robustfit.nets.resnet import ResNet, ResNet18, ResNet34, ResNet50
from robustfit.nets.small_cnn import SmallCNN
from robustfit.nets.wide_resnet import WideResNet

__all__ = [
    "AlexNet",
    "CosineSchedule",
    "LeNet5",
    "MLP",
    "PhotoCNN",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "SmallCNN",
    "VGG11",
    "WideResNet",
    "default_classifier",
]
