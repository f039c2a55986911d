"""Entropy of a softmax distribution."""

from keras import ops

from keras_adaad._typing import Tensor


def entropy_from_logits(logits: Tensor) -> Tensor:
    """Computes the entropy of `softmax(logits)` per sample.

    Args:
        logits: Logits of shape `(batch_size, num_classes)`.

    Returns:
        A tensor of shape `(batch_size,)`, in nats.
    """
    log_probabilities = ops.log_softmax(logits)
    return -ops.sum(ops.exp(log_probabilities) * log_probabilities, axis=-1)
