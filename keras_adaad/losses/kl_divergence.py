"""Kullback-Leibler divergence between two softmax distributions."""

from keras import ops


def kl_divergence_from_logits(target_logits, predicted_logits, temperature=1.0):
    """Computes `KL(softmax(target / t) || softmax(predicted / t))` per sample.

    In every method of this library the teacher (or the clean branch) is the
    target. Neither argument is detached: gradients flow into both.

    Args:
        target_logits: Logits of the target distribution, of shape
            `(batch_size, num_classes)`.
        predicted_logits: Logits of the distribution that is pulled to the
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
    target_log_probabilities = ops.log_softmax(target_logits / temperature)
    predicted_log_probabilities = ops.log_softmax(
        predicted_logits / temperature
    )
    return ops.sum(
        ops.exp(target_log_probabilities)
        * (target_log_probabilities - predicted_log_probabilities),
        axis=-1,
    )
