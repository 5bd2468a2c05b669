"""The only file that uses names skorch does not promise to keep."""

__all__ = ["set_training"]


def set_training(net, training):
    """Put all modules and criteria of a skorch net in training or in eval mode."""
    net._set_training(training)
