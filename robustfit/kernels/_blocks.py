"""Kernels block by block: memory beyond the output is one block's scratch.

A *plan* is what a kernel gives to be evaluated here. It has

- ``block_size``: rows and columns of a block;
- ``prepare(x)``: the :class:`Rows` of a tensor, with numbers a row needed again;
- ``fill(rows_x, rows_y, out)``: write one block of the kernel into ``out``;
- ``add_vjp(rows_x, rows_y, K, G, to_x, to_y)``: for the upstream gradient G of the
  block K, add to the :class:`RowGradient` of x and of y (None where not needed);
- ``finish(rows, gradient)``: turn a RowGradient into the gradient;
- ``diagonal(x)``: the kernel of each row with itself, in closed form;
- ``plain(x, y)``: the whole kernel by torch operations that differentiate twice;
- ``scratch_entries(n_rows, n_columns, n_features)``: numbers held for one block.
"""

from dataclasses import dataclass

import torch

from robustfit._utils.torch_bridge import batch_slices

__all__ = [
    "BlockedKernel",
    "BlockedProduct",
    "RowGradient",
    "Rows",
    "blocked_product",
    "fill_blocks",
    "peak_bytes",
]


@dataclass
class Rows:
    """Rows of a tensor with their lengths and inverse lengths (0 for a zero row)."""

    x: torch.Tensor
    length: torch.Tensor | None = None
    inverse: torch.Tensor | None = None

    def __getitem__(self, rows):
        """Return some of the rows."""
        return Rows(
            self.x[rows],
            None if self.length is None else self.length[rows],
            None if self.inverse is None else self.inverse[rows],
        )

    def __len__(self):
        """Return the number of rows."""
        return len(self.x)


class RowGradient:
    """A gradient in the making: a sum over blocks, and a radial part a row."""

    def __init__(self, x):
        self.total = torch.zeros_like(x)
        self.radial = x.new_zeros(len(x))

    def __getitem__(self, rows):
        """Return views of some rows, to be added to."""
        part = object.__new__(RowGradient)
        part.total, part.radial = self.total[rows], self.radial[rows]
        return part


def fill_blocks(plan, x, y=None):
    """Return the kernel (n, m) of two sets of rows; ``y=None`` means x with itself.

    The kernel of x with itself is computed for one triangle of blocks and mirrored, and
    its diagonal is set in closed form: rounding would spoil just those entries.
    """
    rows_x = plan.prepare(x)
    rows_y = rows_x if y is None else plan.prepare(y)
    out = x.new_empty(len(rows_x), len(rows_y))
    for i, j in _blocks(plan, rows_x, rows_y):
        if y is not None or j.start > i.start:
            plan.fill(rows_x[i], rows_y[j], out[i, j])
        elif j.start == i.start:
            _fill_symmetric(plan, rows_x[i], out[i, i])
        else:
            out[i, j] = out[j, i].T
    return out


def _fill_symmetric(plan, rows, out):
    plan.fill(rows, rows, out)
    out.copy_(torch.triu(out) + torch.triu(out, 1).T)
    out.diagonal().copy_(plan.diagonal(rows.x))


def _blocks(plan, rows_x, rows_y):
    for i in batch_slices(len(rows_x), plan.block_size):
        for j in batch_slices(len(rows_y), plan.block_size):
            yield i, j


class BlockedKernel(torch.autograd.Function):
    """``fill_blocks`` with the closed-form derivative, taken block by block too.

    The graph holds x, y and the output; no intermediate of the size of the output. With
    ``create_graph=True`` the derivative is taken by plain autograd instead, which can
    be differentiated again and holds several matrices of the output's size.
    """

    @staticmethod
    def forward(ctx, plan, x, y):
        """Compute the kernel and keep what the derivative reads."""
        out = fill_blocks(plan, x.detach(), None if y is None else y.detach())
        ctx.plan = plan
        ctx.save_for_backward(x, y, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        """Return the gradients of x and y."""
        x, y, out = ctx.saved_tensors
        _, need_x, need_y = ctx.needs_input_grad
        if torch.is_grad_enabled():
            return None, *_plain_vjp(ctx.plan, x, y, grad, need_x, need_y)
        if y is None:
            return None, _symmetric_vjp(ctx.plan, x, out, grad), None
        return None, *_vjp(ctx.plan, x, y, out, grad, need_x, need_y)


def _plain_vjp(plan, x, y, grad, need_x, need_y):
    wanted = [rows for rows, need in ((x, need_x), (y, need_y)) if need]
    out = plan.plain(x, x if y is None else y)
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return (next(found) if need_x else None), (next(found) if need_y else None)


def _vjp(plan, x, y, out, grad, need_x, need_y):
    rows_x, rows_y = plan.prepare(x), plan.prepare(y)
    to_x = RowGradient(x) if need_x else None
    to_y = RowGradient(y) if need_y else None
    for i, j in _blocks(plan, rows_x, rows_y):
        plan.add_vjp(
            rows_x[i],
            rows_y[j],
            out[i, j],
            grad[i, j],
            to_x[i] if to_x else None,
            to_y[j] if to_y else None,
        )
    return (
        plan.finish(rows_x, to_x) if to_x else None,
        plan.finish(rows_y, to_y) if to_y else None,
    )


def _symmetric_vjp(plan, x, out, grad):
    """K(x, x) depends on x through both arguments: G + G.T on the first alone."""
    rows, to_x = plan.prepare(x), RowGradient(x)
    for i, j in _blocks(plan, rows, rows):
        both = grad[i, j] + grad[j, i].T
        plan.add_vjp(rows[i], rows[j], out[i, j], both, to_x[i], None)
    return plan.finish(rows, to_x)


def blocked_product(plan, x, y, weights):
    """Return ``K(x, y) @ weights`` without ever holding K."""
    rows_x, rows_y = plan.prepare(x), plan.prepare(y)
    product = x.new_zeros(len(x), weights.shape[1])
    for i, j in _blocks(plan, rows_x, rows_y):
        block = x.new_empty(i.stop - i.start, j.stop - j.start)
        plan.fill(rows_x[i], rows_y[j], block)
        product[i].addmm_(block, weights[j])
    return product


class BlockedProduct(torch.autograd.Function):
    """``blocked_product`` with its derivative; blocks of K are computed anew."""

    @staticmethod
    def forward(ctx, plan, x, y, weights):
        """Compute the product."""
        ctx.plan = plan
        ctx.save_for_backward(x, y, weights)
        return blocked_product(plan, x.detach(), y.detach(), weights.detach())

    @staticmethod
    def backward(ctx, grad):
        """Return the gradients of x, y and the weights."""
        x, y, weights = ctx.saved_tensors
        needs = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_plain_product_vjp(ctx.plan, x, y, weights, grad, needs)
        return None, *_product_vjp(ctx.plan, x, y, weights, grad, needs)


def _plain_product_vjp(plan, x, y, weights, grad, needs):
    inputs = (x, y, weights)
    wanted = [tensor for tensor, need in zip(inputs, needs, strict=True) if need]
    product = plan.plain(x, y) @ weights
    found = iter(torch.autograd.grad(product, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needs]


def _product_vjp(plan, x, y, weights, grad, needs):
    rows_x, rows_y = plan.prepare(x), plan.prepare(y)
    to_x = RowGradient(x) if needs[0] else None
    to_y = RowGradient(y) if needs[1] else None
    to_weights = torch.zeros_like(weights) if needs[2] else None
    for i, j in _blocks(plan, rows_x, rows_y):
        block = x.new_empty(i.stop - i.start, j.stop - j.start)
        plan.fill(rows_x[i], rows_y[j], block)
        if to_weights is not None:
            to_weights[j].addmm_(block.T, grad[i])
        if to_x or to_y:
            plan.add_vjp(
                rows_x[i],
                rows_y[j],
                block,
                grad[i] @ weights[j].T,
                to_x[i] if to_x else None,
                to_y[j] if to_y else None,
            )
    return (
        plan.finish(rows_x, to_x) if to_x else None,
        plan.finish(rows_y, to_y) if to_y else None,
        to_weights,
    )


def peak_bytes(plan, n, m, n_features, dtype, gradient):
    """Return the bytes of the output, one block's scratch and, if asked, gradients."""
    columns = n if m is None else m
    block = min(n, plan.block_size), min(columns, plan.block_size)
    entries = n * columns + plan.scratch_entries(*block, n_features)
    if gradient:
        n_rows = n if m is None else n + m
        entries += n * columns + 2 * n_rows * n_features
    return entries * dtype.itemsize
