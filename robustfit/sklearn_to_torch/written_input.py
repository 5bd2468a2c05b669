"""Models that write into their input, which belongs to the attack.

``x -= mean`` or a first layer ``ReLU(inplace=True)`` changes the tensor that an attack
holds, or fails on it. A copy costs a thousandth of a forward pass, and finding out who
needs one costs a query. A :class:`TorchClassifier` makes its own.
"""

from torch import nn

__all__ = ["OwnInput"]


class OwnInput(nn.Module):
    """A model that is given a copy at every call, to write into as it likes.

    Parameters
    ----------
    logits_fn : torch.nn.Module or callable
    """

    def __init__(self, logits_fn):
        super().__init__()
        self.logits_fn = logits_fn

    def forward(self, x):
        """Return the logits of a copy of ``x``."""
        return self.logits_fn(x.clone())
