"""Cross-entropies from logits, of one class or of several labels."""

from keras import ops

from keras_adaad._typing import Tensor


def cross_entropy_from_logits(
    labels: Tensor, logits: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Computes the cross-entropy of logits per sample.

    Logits can have axes between the two, such as those of pixels. The labels
    then have them too, and the result is the mean over these axes.

    Args:
        labels: Class indices of shape `(batch_size,)` or `(batch_size, 1)`, or
            probabilities (one-hot labels) of shape
            `(batch_size, num_classes)`.
        logits: Logits of shape `(batch_size, num_classes)`.
        label_smoothing: Share of a label that is spread evenly over all
            classes, in [0, 1]. Defaults to `0.0`.

    Returns:
        A tensor of shape `(batch_size,)`, in nats.
    """
    log_probabilities = ops.log_softmax(logits)
    if not _are_probabilities(labels, logits):
        labels = label_mask(labels, logits)
    labels = ops.cast(labels, log_probabilities.dtype)
    if label_smoothing:
        uniform = label_smoothing / logits.shape[-1]
        labels = (1.0 - label_smoothing) * labels + uniform
    return -_per_sample(ops.sum(labels * log_probabilities, axis=-1))


def binary_cross_entropy_from_logits(labels: Tensor, logits: Tensor) -> Tensor:
    """Computes the binary cross-entropy of logits per sample.

    Each output is a label of its own, which an image has or has not. The
    result is the mean over all outputs of an image.

    Args:
        labels: Targets of 0 or 1, or probabilities, of the shape of `logits`.
        logits: Logits of shape `(batch_size, num_labels)`, or with more axes.

    Returns:
        A tensor of shape `(batch_size,)`, in nats.
    """
    labels = ops.cast(labels, logits.dtype)
    # Not `softplus(z) - y z`, whose gradient is 0 in float32 at large `y z`.
    return _per_sample(
        labels * ops.softplus(-logits) + (1.0 - labels) * ops.softplus(logits)
    )


def label_mask(labels: Tensor, logits: Tensor) -> Tensor:
    """Returns a mask of the class of each sample.

    Args:
        labels: Class indices or one-hot labels, as in
            `cross_entropy_from_logits`.
        logits: Logits of shape `(batch_size, num_classes)`; only their shape
            is read.

    Returns:
        A boolean tensor of shape `(batch_size, num_classes)`.
    """
    # Not `ops.one_hot`, which raises for some labels on torch only.
    indices = ops.expand_dims(label_indices(labels, logits), -1)
    return indices == ops.arange(logits.shape[-1], dtype="int32")


def label_indices(labels: Tensor, logits: Tensor) -> Tensor:
    """Returns the class index of every label.

    Args:
        labels, logits: See `keras_adaad.losses.label_mask`.

    Returns:
        An int32 tensor of shape `(batch_size,)`.
    """
    if _are_probabilities(labels, logits):
        return ops.cast(ops.argmax(labels, axis=-1), "int32")
    shape = (-1, *ops.shape(logits)[1:-1])
    return ops.cast(ops.reshape(labels, shape), "int32")


def _are_probabilities(labels, logits):
    same_rank = len(labels.shape) == len(logits.shape)
    return same_rank and labels.shape[-1] == logits.shape[-1]


def _per_sample(values):
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values
