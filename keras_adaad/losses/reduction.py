"""Reduces per-sample losses to the scalar training loss."""

import keras

from keras_adaad import checks


@keras.saving.register_keras_serializable(package="keras_adaad")
class BatchMean(keras.losses.Loss):
    """Averages per-sample losses over the batch, weighted by `sample_weight`.

    Keras divides the result of a `keras.losses.Loss` by the number of replicas
    of a `tf.distribute` strategy. A bare `ops.mean` is not divided, and would
    make the update `num_replicas` times too large.
    """

    def __init__(
        self, reduction="sum_over_batch_size", name="batch_mean", **kwargs
    ):
        super().__init__(reduction=reduction, name=name, **kwargs)

    def call(self, y_true, y_pred):
        return y_pred

    def of(self, per_sample, sample_weight=None):
        """Returns the mean of `per_sample`, a tensor of rank 1."""
        return self(per_sample, per_sample, sample_weight=sample_weight)


def check_reduction(reduction):
    """Returns the argument `reduction`, or raises."""
    return checks.check_choice("reduction", reduction, ("batchmean", "mean"))


def over_classes(per_sample, reduction, num_classes):
    """Returns the losses, divided by `num_classes` if `reduction="mean"`.

    The mean over the batch follows in both cases.
    """
    return per_sample / num_classes if reduction == "mean" else per_sample
