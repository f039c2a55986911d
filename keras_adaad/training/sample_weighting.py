"""Weights of the samples that any distiller can use."""

from typing import Any
from typing import Self

from keras import ops

from keras_adaad._typing import Labels
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors


class SampleWeighting:
    """Base class of the weights that a distiller gives to its samples.

    A subclass implements `weights`. They multiply the loss of the method and
    its regularizers, sample by sample, in training and in evaluation. No
    gradient flows through them. To add a term, override `weighted_loss`, as
    `keras_adaad.EntropyWeighting` does. To make distillers with the weights
    saveable, register the subclass with
    `keras.saving.register_keras_serializable` and implement `get_config`.

    The `sample_weight` of `fit` multiplies the weighted loss.

    Example:

    ```python
    @keras.saving.register_keras_serializable(package="my_methods")
    class WhereTeacherIsRight(keras_adaad.SampleWeighting):
        def weights(self, distiller, views, logits, y):
            target = distiller.teacher_logits(views["adversarial"])
            label = keras_adaad.losses.label_indices(y, target)
            predicted = keras.ops.argmax(target, axis=-1)
            right = keras.ops.cast(predicted, "int32") == label
            return keras.ops.cast(right, "float32")

    distiller = keras_adaad.RSLAD(
        teacher, student, sample_weighting=WhereTeacherIsRight()
    )
    ```
    """

    def weights(
        self, distiller: Any, views: Tensors, logits: Tensors, y: Labels
    ) -> Tensor:
        """Returns the weight of each sample.

        Args:
            distiller: The `keras_adaad.Distiller` that uses the weights.
            views: Dict of the images.
            logits: Dict of the student's logits on them.
            y: Labels, or `None`.

        Returns:
            A tensor of shape `(batch_size,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement "
            "`weights(distiller, views, logits, y)`."
        )

    def weighted_loss(
        self,
        distiller: Any,
        views: Tensors,
        logits: Tensors,
        y: Labels,
        loss: Tensor,
    ) -> Tensor:
        """Returns the weighted loss of each sample.

        Args:
            distiller, views, logits, y: See `weights`.
            loss: The loss of each sample, of shape `(batch_size,)`.

        Returns:
            A tensor of shape `(batch_size,)`.
        """
        weights = self.weights(distiller, views, logits, y)
        return ops.stop_gradient(weights) * loss

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


def check_sample_weighting(sample_weighting):
    """Returns the sample weighting of a distiller, or raises."""
    if sample_weighting is None or isinstance(
        sample_weighting, SampleWeighting
    ):
        return sample_weighting
    raise TypeError(
        "Argument `sample_weighting` must be a `keras_adaad.SampleWeighting`, "
        "e.g. `keras_adaad.EntropyWeighting()`, or `None`. "
        f"Received: sample_weighting={sample_weighting!r}"
    )
