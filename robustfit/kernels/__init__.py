"""Neural tangent kernels: kernel machines that describe infinitely wide nets.

Kernels are callables on torch tensors (differentiable in both arguments) and on numpy
arrays, and they are kernels of :mod:`sklearn.gaussian_process`, so that
``KernelRidge(kernel=...)``, ``SVC(kernel=...)`` and
``GaussianProcessRegressor(kernel=...)`` take them as they are.
"""

from robustfit.kernels.convolutional import ConvolutionalNTK
from robustfit.kernels.empirical import EmpiricalNTK
from robustfit.kernels.fully_connected import FullyConnectedNNGP, FullyConnectedNTK

__all__ = [
    "ConvolutionalNTK",
    "EmpiricalNTK",
    "FullyConnectedNNGP",
    "FullyConnectedNTK",
]
