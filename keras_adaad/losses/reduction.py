"""Reduces per-sample losses to the scalar training loss."""

from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Tensor


@keras.saving.register_keras_serializable(package="keras_adaad")
class BatchMean(keras.losses.Loss):
    """Averages per-sample losses over the batch, weighted by `sample_weight`.

    Keras divides the result of a `keras.losses.Loss` by the number of replicas
    of a `tf.distribute` strategy. A bare `ops.mean` is not divided, and would
    make the update `num_replicas` times too large.
    """

    def __init__(
        self,
        reduction: str = "sum_over_batch_size",
        name: str = "batch_mean",
        **kwargs: Any,
    ) -> None:
        super().__init__(reduction=reduction, name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred

    def of(
        self, per_sample: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Returns the mean of `per_sample`, a tensor of rank 1."""
        return self(per_sample, per_sample, sample_weight=sample_weight)


def check_per_sample(loss):
    """Returns the loss of each image, or raises if it has another shape."""
    if len(loss.shape) != 1:
        raise ValueError(
            "`outer_loss`, regularizers and sample weights must return one "
            "value per image, of shape `(batch_size,)`. Received: a loss of "
            f"shape {tuple(loss.shape)}"
        )
    return loss


def check_reduction(reduction):
    """Returns the argument `reduction`, or raises."""
    return checks.check_choice("reduction", reduction, ("batchmean", "mean"))


def over_classes(per_sample, reduction, num_classes):
    """Returns the losses, divided by `num_classes` if `reduction="mean"`.

    The mean over the batch follows in both cases.
    """
    return per_sample / num_classes if reduction == "mean" else per_sample
