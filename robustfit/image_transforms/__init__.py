"""Transforms that change the distribution of images and keep their meaning.

Every one is a stateless scikit-learn transformer that acts on training and on test
data. Those with a gradient are seen through by :func:`robustfit.as_torch`, so that a
pipeline is attacked end to end, in the pixels it is given.

The transforms are those of "On the Sensitivity of Adversarial Robustness to Input Data
Distributions" (Ding et al., 2019).
"""

from robustfit.image_transforms.edges import EdgeImages
from robustfit.image_transforms.pixelwise import (
    BinarizeImages,
    GammaCorrect,
    SaturateImages,
    ScaleContrast,
)
from robustfit.image_transforms.smoothing import SmoothImages

__all__ = [
    "BinarizeImages",
    "EdgeImages",
    "GammaCorrect",
    "SaturateImages",
    "ScaleContrast",
    "SmoothImages",
]
