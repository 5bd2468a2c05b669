"""Look at the data: diagnostics, studies of robustness against them, pictures."""

from robustfit.input_distribution.diagnostics import (
    PixelHistogramDisplay,
    inter_class_distance,
    perturbable_volume,
    pixel_histogram,
)
from robustfit.input_distribution.studies import (
    robustness_by_training_size,
    robustness_by_transform,
    robustness_by_width,
)
from robustfit.input_distribution.study_displays import (
    TrainingSizeRobustnessDisplay,
    TransformRobustnessDisplay,
    WidthRobustnessDisplay,
)

__all__ = [
    "inter_class_distance",
    "perturbable_volume",
    "pixel_histogram",
    "PixelHistogramDisplay",
    "robustness_by_training_size",
    "robustness_by_transform",
    "robustness_by_width",
    "TrainingSizeRobustnessDisplay",
    "TransformRobustnessDisplay",
    "WidthRobustnessDisplay",
]
