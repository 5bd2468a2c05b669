"""LeNet5 in the size that adversarial training on MNIST uses."""

from torch import nn

__all__ = ["LeNet5"]


class LeNet5(nn.Module):
    """Two 5x5 convolutions with pooling and two fully connected layers.

    The MNIST network of [1]_ (appendix B.1): 32 channels, 64 channels, 1024 units,
    each followed by ReLU, max pooling of size 2 after the convolutions. It is also the
    MNIST network of [2]_ (the TensorFlow tutorial's), but for dropout.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(1, 28, 28)
        Height and width at least 4.
    n_classes : int, default=10
    widen_factor : float, default=1.0
        Multiplies the channels and units of every layer but the last; table 4 of [1]_
        has 0.125, 0.25, 0.5, 1, 2 and 4. At least 1/32.

    Raises
    ------
    ValueError
        If height or width is below 4, or ``widen_factor`` leaves a layer empty.

    Notes
    -----
    The appendix does not give the size of the filters; 5x5 with padding 2 is that of
    the network of Madry et al. (2018), whose settings it follows.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.
    .. [2] A. Shaeiri, R. Nobahari, M. H. Rohban. "Towards Deep Learning Models
       Resistant to Large Perturbations", 2020.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import LeNet5
    >>> LeNet5(widen_factor=0.125)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, image_shape=(1, 28, 28), n_classes=10, widen_factor=1.0):
        super().__init__()
        n_channels, height, width = image_shape
        if min(height, width) < 4:
            raise ValueError(
                f"image_shape is {tuple(image_shape)}; LeNet5 needs height and width "
                "of at least 4. Use MLP for smaller inputs."
            )
        first, second, n_hidden = (int(widen_factor * n) for n in (32, 64, 1024))
        if first < 1:
            raise ValueError(
                f"widen_factor is {widen_factor!r}, which leaves the first of LeNet5's "
                "layers without channels; expected at least 1/32."
            )
        self.image_shape = tuple(image_shape)
        n_flat = second * (height // 2 // 2) * (width // 2 // 2)
        self.features = nn.Sequential(
            nn.Conv2d(n_channels, first, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(n_flat, n_hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(n_hidden, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x.reshape(len(x), *self.image_shape)))
