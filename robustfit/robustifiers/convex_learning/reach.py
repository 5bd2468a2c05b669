"""How far a linear function of the input can be moved within a threat model."""

import math

import torch

__all__ = ["Reach"]


class Reach:
    """What an adversary gains on linear functions at each sample, in closed form.

    Under linf with the range as a box, so exactly; under l2 the range is left out.

    Parameters
    ----------
    x : torch.Tensor of shape (n_samples, n_features), float64
    threat_model : ThreatModel
        "linf" or "l2".
    smoothing : float, default=0
        Where the slopes are smaller than this their absolute values are rounded off,
        so that the gain has a gradient everywhere (linf).
    """

    def __init__(self, x, threat_model, smoothing=0.0):
        self.n_samples, self.threat_model = len(x), threat_model
        self.smoothing = smoothing
        if threat_model.norm == "linf":
            far = torch.full_like(x, math.inf)
            self.room_up = threat_model.project(far, x) - x
            self.room_down = x - threat_model.project(-far, x)

    def gain(self, slopes, rows=slice(None)):
        """Return the largest ``slopes @ delta``, (n_rows or 1, n_functions).

        Parameters
        ----------
        slopes : torch.Tensor of shape (n_functions, n_features)
        rows : slice or torch.Tensor of int64
        """
        if self.threat_model.norm == "l2":
            length = self.threat_model.eps * self.threat_model.dual_length(slopes)
            n_rows = self.n_samples if isinstance(rows, slice) else len(rows)
            return length.expand(n_rows, -1)
        size = (slopes**2 + self.smoothing**2).sqrt() - self.smoothing
        if self.smoothing == 0:
            size = slopes.abs()
        up = self.room_up[rows] @ (size + slopes).T
        return (up + self.room_down[rows] @ (size - slopes).T) / 2
