"""Gradients of a loss of the kernel predictor with respect to its training set.

With ``alpha = A^-1 Y`` and ``V = A^-1 K_TS^T G``, G being the gradient of the loss to
the outputs, the gradient to the kernel matrices is ``G alpha^T`` (targets, support) and
``-V alpha^T`` (support, support), and to the labels V: no autograd through Cholesky.
Both matrices have the rank of the number of classes and are never held as a whole.
"""

import torch

from robustfit._utils.torch_bridge import batch_slices

__all__ = ["dataset_gradients"]


def dataset_gradients(regression, targets, upstream, batch_size):
    """Return the gradients of a loss to the support images and labels.

    Parameters
    ----------
    regression : KernelRegression
        Solved on the support.
    targets : torch.Tensor of shape (n_targets, n_features)
    upstream : torch.Tensor of shape (n_targets, n_classes)
        Gradient of the loss to the outputs at the targets: G.
    batch_size : int
        Rows of a kernel matrix that are held at a time.

    Returns
    -------
    gradient_x : torch.Tensor of shape (n_support, n_features)
    gradient_y : torch.Tensor of shape (n_support, n_classes)
    """
    gradient_x, pulled = _through_targets(regression, targets, upstream, batch_size)
    gradient_y = regression.solve(pulled)
    gradient_x += _through_support(regression, gradient_y, batch_size)
    return gradient_x, gradient_y


def _through_targets(regression, targets, upstream, batch_size):
    """Return the part through K_TS, and ``K_TS^T G``."""
    points, dual = regression.points, regression.dual
    gradient, pulled = torch.zeros_like(points), torch.zeros_like(dual)
    for rows in batch_slices(len(targets), batch_size):
        support = points.detach().requires_grad_(True)
        with torch.enable_grad():
            matrix = regression.kernel(targets[rows], support)
        (part,) = torch.autograd.grad(matrix, support, upstream[rows] @ dual.T)
        gradient += part
        pulled += matrix.detach().T @ upstream[rows]
    return gradient, pulled


def _through_support(regression, solved, batch_size):
    """Return the part through K_SS and its ridge, a block of rows at a time.

    The matrix is symmetric, so the gradient to its second argument is the one to the
    first with the transposed cotangent: one product instead of two.
    """
    points, dual = regression.points, regression.dual
    gradient = torch.empty_like(points)
    through_ridge = -2 * regression.ridge * (solved * dual).sum() / len(points)
    for rows in batch_slices(len(points), batch_size):
        block = points[rows].detach().requires_grad_(True)
        with torch.enable_grad():
            matrix = regression.kernel(block, points)
        cotangent = -(solved[rows] @ dual.T + dual[rows] @ solved.T)
        cotangent[:, rows].diagonal().add_(through_ridge)
        (gradient[rows],) = torch.autograd.grad(matrix, block, cotangent)
    return gradient
