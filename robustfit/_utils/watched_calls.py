"""Calls of torch's functions, seen from outside."""

from torch.overrides import TorchFunctionMode

__all__ = ["WatchedCalls"]


class WatchedCalls(TorchFunctionMode):
    """Call ``watch(args, kwargs, output)`` after each call of ``functions`` in a block.

    Nothing of torch is replaced, and calls by other threads are not seen.

    Parameters
    ----------
    functions : tuple of callable
        Functions of torch, or methods of ``torch.Tensor``.
    watch : callable
    """

    def __init__(self, functions, watch):
        super().__init__()
        self.functions, self.watch = functions, watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run the function; tell ``watch`` if it is one of ours."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func in self.functions:
            self.watch(args, kwargs, output)
        return output
