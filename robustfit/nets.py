"""Neural networks of the papers, sized by arguments, as plain ``torch`` modules.

Each takes images (n, C, H, W) or the same images flattened (n, C*H*W) and returns
logits, so one net serves 4-D and flat pipelines.
"""

import math

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

__all__ = ["MLP", "CosineSchedule", "SmallCNN", "default_classifier"]


class SmallCNN(nn.Module):
    """Two convolutional and two fully connected layers, with ReLU between.

    The MNIST network of "Towards Robust Dataset Learning" (section 5.1).

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(1, 28, 28)
        Height and width at least 4.
    n_classes : int, default=10
    channels : tuple of (int, int), default=(16, 32)
        Output channels of the two 4x4 convolutions of stride 2.
    n_hidden : int, default=100
        Width of the hidden fully connected layer.

    Raises
    ------
    ValueError
        If height or width is below 4.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import SmallCNN
    >>> SmallCNN()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, image_shape=(1, 28, 28), n_classes=10, channels=(16, 32), n_hidden=100
    ):
        super().__init__()
        n_channels, height, width = image_shape
        if min(height, width) < 4:
            raise ValueError(
                f"image_shape is {tuple(image_shape)}; SmallCNN needs height and width "
                "of at least 4. Use MLP for smaller inputs."
            )
        self.image_shape = tuple(image_shape)
        n_flat = channels[1] * (height // 2 // 2) * (width // 2 // 2)
        self.features = nn.Sequential(
            nn.Conv2d(n_channels, channels[0], 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels[0], channels[1], 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(n_flat, n_hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(n_hidden, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x.reshape(len(x), *self.image_shape)))


class MLP(nn.Module):
    """Fully connected layers with ReLU between.

    Parameters
    ----------
    n_features : int or tuple of int
        Length of a flattened sample, or the shape of one.
    n_classes : int, default=10
    hidden : tuple of int, default=(256, 256)
        Width of each hidden layer.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import MLP
    >>> MLP((1, 8, 8), hidden=(32,))(torch.zeros(2, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_features, n_classes=10, hidden=(256, 256)):
        super().__init__()
        if not isinstance(n_features, int):
            n_features = math.prod(n_features)
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            layers += [nn.Linear(n_features, width), nn.ReLU()]
            n_features = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x))


class CosineSchedule(Callback):
    """Take the learning rate of each training from its start to zero on a cosine.

    It reads ``max_epochs`` when training begins, so ``partial_fit`` and
    ``set_params(max_epochs=...)`` get a schedule of their own.
    """

    def on_train_begin(self, net, **kwargs):
        """Remember the length of the training and the learning rates."""
        self.epoch_ = 0
        self.rates_ = [net.lr for _ in net.optimizer_.param_groups]

    def on_epoch_begin(self, net, **kwargs):
        """Set the learning rates of this epoch."""
        factor = 0.5 * (1 + math.cos(math.pi * self.epoch_ / net.max_epochs))
        for group, rate in zip(net.optimizer_.param_groups, self.rates_, strict=True):
            group["lr"] = rate * factor
        self.epoch_ += 1


def default_classifier(image_shape, n_classes, *, max_epochs=10, device="cpu"):
    """Return an unfitted skorch net that suits inputs of shape ``image_shape``.

    Parameters
    ----------
    image_shape : tuple of (C, H, W) or (n_features,)
        ``SmallCNN`` for images of at least 4x4 pixels, ``MLP`` for everything else.
    n_classes : int
    max_epochs : int, default=10
    device : str, default="cpu"

    Returns
    -------
    skorch.NeuralNetClassifier
        SGD with learning rate 0.05 on a cosine and momentum 0.9, batches of 128,
        shuffled, cross-entropy on logits, silent.
    """
    is_image = len(image_shape) == 3 and min(image_shape[1:]) >= 4
    if is_image:
        module, arguments = SmallCNN, {"module__image_shape": tuple(image_shape)}
    else:
        module, arguments = MLP, {"module__n_features": math.prod(image_shape)}
    return NeuralNetClassifier(
        module,
        **arguments,
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.05,
        batch_size=128,
        max_epochs=max_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[("cosine", CosineSchedule())],
        verbose=0,
        device=str(device),
    )
