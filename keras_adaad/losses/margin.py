"""Margins of logits and of probabilities: objectives of attacks."""

from keras import ops

from keras_adaad._typing import Tensor
from keras_adaad.losses.cross_entropy import label_indices
from keras_adaad.losses.cross_entropy import label_mask


def margin_from_logits(labels: Tensor, logits: Tensor) -> Tensor:
    """Computes `max_{i != y} z_i - z_y` per sample.

    Positive where the sample is misclassified. Square and the attack of
    Carlini and Wagner ([2017](https://arxiv.org/abs/1608.04644)) maximise it.

    Args:
        labels: Class indices of shape `(batch_size,)`, or one-hot labels of
            shape `(batch_size, num_classes)`.
        logits: Logits of shape `(batch_size, num_classes)`.

    Returns:
        A tensor of shape `(batch_size,)`.
    """
    is_label = label_mask(labels, logits)
    others = ops.where(is_label, -float("inf"), logits)
    return ops.max(others, axis=-1) - _pick(is_label, logits)


def probability_margin_from_logits(labels: Tensor, logits: Tensor) -> Tensor:
    """Computes `max_{i != y} p_i - p_y` per sample, `p = softmax(logits)`.

    This is the loss of the probability margin attack, PMA (Xie et al.,
    [2024](https://arxiv.org/abs/2411.15210)).

    Args:
        labels: Class indices or one-hot labels, as in `margin_from_logits`.
        logits: Logits of shape `(batch_size, num_classes)`.

    Returns:
        A tensor of shape `(batch_size,)`, from -1 to 1, and positive where
        misclassified.
    """
    others = ops.where(label_mask(labels, logits), 0.0, ops.softmax(logits))
    # 1 - p_y is the sum of the others. Where p_y is nearly 1, float32 would
    # lose the gradient of p_y.
    return ops.max(others, axis=-1) + ops.sum(others, axis=-1) - 1.0


def dlr_from_logits(labels: Tensor, logits: Tensor) -> Tensor:
    """Computes the difference of logits ratio per sample.

        -(z_y - max_{i != y} z_i) / (z_(1) - z_(3))

    where `z_(i)` is the i-th largest logit. The ratio does not change when the
    logits are scaled or shifted (Croce & Hein,
    [2020](https://arxiv.org/abs/2003.01690), equation 6).

    Args:
        labels: Class indices or one-hot labels, as in `margin_from_logits`.
        logits: Logits of shape `(batch_size, num_classes)`, with at least
            three classes.

    Returns:
        A tensor of shape `(batch_size,)`, positive where misclassified.
    """
    largest, indices = ops.top_k(logits, 3)
    is_label = label_mask(labels, logits)
    right = ops.cast(indices[:, 0], "int32") == label_indices(labels, logits)
    others = ops.where(right, largest[:, 1], largest[:, 0])
    gap = largest[:, 0] - largest[:, 2] + 1e-12
    return (others - _pick(is_label, logits)) / gap


def targeted_dlr_from_logits(
    labels: Tensor, targets: Tensor, logits: Tensor
) -> Tensor:
    """Computes the targeted difference of logits ratio per sample.

        -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)

    (Croce & Hein, [2020](https://arxiv.org/abs/2003.01690), equation 7.)

    Args:
        labels: Class indices or one-hot labels, as in `margin_from_logits`.
        targets: Class indices `t` of shape `(batch_size,)`.
        logits: Logits of shape `(batch_size, num_classes)`, with at least
            four classes.

    Returns:
        A tensor of shape `(batch_size,)`.
    """
    largest, _ = ops.top_k(logits, 4)
    gap = largest[:, 0] - 0.5 * (largest[:, 2] + largest[:, 3]) + 1e-12
    return targeted_margin_from_logits(labels, targets, logits) / gap


def targeted_margin_from_logits(
    labels: Tensor, targets: Tensor, logits: Tensor
) -> Tensor:
    """Computes `z_t - z_y` per sample, for class indices `targets`."""
    return _pick(label_mask(targets, logits), logits) - _pick(
        label_mask(labels, logits), logits
    )


def _pick(is_class, logits):
    # `where`, not a product, which is NaN if another class's logit is infinite.
    return ops.sum(ops.where(is_class, logits, 0.0), axis=-1)
