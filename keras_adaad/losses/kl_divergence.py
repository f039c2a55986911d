"""Kullback-Leibler divergence between two softmax distributions."""

from keras import ops

from keras_adaad._typing import Tensor


def kl_divergence_from_logits(
    target_logits: Tensor, predicted_logits: Tensor, temperature: float = 1.0
) -> Tensor:
    """Computes `KL(softmax(target / t) || softmax(predicted / t))` per sample.

    In every method of this library the teacher (or the clean branch) is the
    target. Neither argument is detached: gradients flow into both.

    Args:
        target_logits: Logits of the target distribution, of shape
            `(batch_size, num_classes)`.
        predicted_logits: Logits of the distribution that is fitted to the
            target, of the same shape.
        temperature: Both logits are divided by it. The divergence is *not*
            multiplied by `temperature ** 2`. Defaults to `1.0`.

    Returns:
        A tensor of shape `(batch_size,)`, in nats.

    Example:

    ```python
    teacher_logits = np.array([[2.0, 0.0, -1.0]])
    student_logits = np.array([[1.0, 0.5, 0.0]])
    kl_divergence_from_logits(teacher_logits, student_logits)
    ```
    """
    log_p = ops.log_softmax(target_logits / temperature)
    log_q = ops.log_softmax(predicted_logits / temperature)
    p, ratio = ops.exp(log_p), log_p - log_q
    # sum p log(p / q) + q - p is the same, because p and q each sum to 1, but
    # has no negative terms. At a high temperature, the terms of p log(p / q)
    # nearly cancel, and float32 would keep only three digits of their sum.
    near = ops.abs(ratio) < 1.0
    small = ops.where(near, ratio, 0.0)
    return ops.sum(
        p * (ratio + ops.expm1(-small))
        + ops.where(near, 0.0, ops.exp(log_q) - p),
        axis=-1,
    )
