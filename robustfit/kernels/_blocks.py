"""Kernels block by block: memory beyond the output is one block's scratch.

A *plan* is what a kernel gives to be evaluated here. It has

- ``block_size``: rows and columns of a block,
- ``fill(x, y, out)``: write the kernel of two small sets of rows into ``out``,
- ``vjp(x, y, K, G, need_x, need_y)``: for the upstream gradient G of the block K,
  return the gradients of x and y (None where not needed),
- ``diagonal(x)``: the kernel of each row with itself, in closed form,
- ``scratch_entries``: block-sized buffers that ``fill`` and ``vjp`` hold at once.
"""

import torch

from robustfit._torch_bridge import batch_slices

__all__ = ["BlockedKernel", "fill_blocks", "peak_bytes"]


def fill_blocks(plan, x, y=None):
    """Return the kernel (n, m) of two sets of rows; ``y=None`` means x with itself.

    The kernel of x with itself is computed for one triangle of blocks and mirrored, and
    its diagonal is set in closed form: rounding would spoil just those entries.
    """
    columns = x if y is None else y
    out = x.new_empty(len(x), len(columns))
    for rows in batch_slices(len(x), plan.block_size):
        for cols in batch_slices(len(columns), plan.block_size):
            if y is not None or cols.start >= rows.start:
                plan.fill(x[rows], columns[cols], out[rows, cols])
            else:
                out[rows, cols] = out[cols, rows].T
    if y is None:
        for rows in batch_slices(len(x), plan.block_size):
            block = out[rows, rows]
            block.copy_(torch.triu(block) + torch.triu(block, 1).T)
        out.diagonal().copy_(plan.diagonal(x))
    return out


class BlockedKernel(torch.autograd.Function):
    """``fill_blocks`` with the closed-form derivative, taken block by block too.

    The graph holds x, y and the output; no intermediate of the size of the output.
    """

    @staticmethod
    def forward(ctx, plan, x, y):
        """Compute the kernel and keep what the derivative reads."""
        out = fill_blocks(plan, x.detach(), None if y is None else y.detach())
        ctx.plan = plan
        ctx.save_for_backward(x, y, out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        """Return the gradients of x and y."""
        x, y, out = ctx.saved_tensors
        _, need_x, need_y = ctx.needs_input_grad
        if y is None:
            return None, _symmetric_vjp(ctx.plan, x, out, grad), None
        return None, *_vjp(ctx.plan, x, y, out, grad, need_x, need_y)


def _vjp(plan, x, y, out, grad, need_x, need_y):
    grad_x = torch.zeros_like(x) if need_x else None
    grad_y = torch.zeros_like(y) if need_y else None
    for rows in batch_slices(len(x), plan.block_size):
        for cols in batch_slices(len(y), plan.block_size):
            block_x, block_y = plan.vjp(
                x[rows], y[cols], out[rows, cols], grad[rows, cols], need_x, need_y
            )
            if need_x:
                grad_x[rows] += block_x
            if need_y:
                grad_y[cols] += block_y
    return grad_x, grad_y


def _symmetric_vjp(plan, x, out, grad):
    """K(x, x) depends on x through both arguments: G + G.T on the first alone."""
    grad_x = torch.zeros_like(x)
    for rows in batch_slices(len(x), plan.block_size):
        for cols in batch_slices(len(x), plan.block_size):
            both = grad[rows, cols] + grad[cols, rows].T
            grad_x[rows] += plan.vjp(
                x[rows], x[cols], out[rows, cols], both, True, False
            )[0]
    return grad_x


def peak_bytes(plan, n, m, n_features, dtype):
    """Return the bytes of the (n, m) output and of one block's scratch."""
    rows, columns = min(n, plan.block_size), min(m, plan.block_size)
    entries = n * m + plan.scratch_entries(rows, columns, n_features)
    return entries * dtype.itemsize
