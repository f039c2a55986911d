"""Terms that any distiller can add to its loss."""

from typing import Any
from typing import Self

from keras_adaad._typing import Labels
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors


class Regularizer:
    """Base class of the terms that a distiller adds to its loss.

    A subclass implements `loss`. If the term runs the student on additional
    images, it also overrides `views` and `forward_order`, as `keras_adaad.IGDM`
    does. To make distillers with the term saveable, register the subclass with
    `keras.saving.register_keras_serializable` and implement `get_config`.

    Example:

    ```python
    @keras.saving.register_keras_serializable(package="my_methods")
    class LogitNorm(keras_adaad.Regularizer):
        def loss(self, distiller, views, logits, y):
            return 0.01 * keras.ops.sum(logits["clean"] ** 2, axis=-1)

    distiller = keras_adaad.AdaAD(teacher, student, regularizers=[LogitNorm()])
    ```
    """

    def views(self, x: Tensor, x_adv: Tensor) -> Tensors:
        """Returns the images that the term adds to those of the distiller.

        Args:
            x: Clean images, a float32 tensor of shape `(batch_size, ...)`.
            x_adv: Adversarial images of the same shape.

        Returns:
            A dict from view name to tensor.
        """
        return {}

    def forward_order(self, order: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the views in the order in which the student runs on them.

        Args:
            order: The `forward_order` of the distiller, a tuple of names.
        """
        return order

    def loss(
        self, distiller: Any, views: Tensors, logits: Tensors, y: Labels
    ) -> Tensor:
        """Returns the term of each sample.

        Args:
            distiller: The `keras_adaad.Distiller` that uses the term.
            views: Dict of the images.
            logits: Dict of the student's logits on them.
            y: Labels, or `None`.

        Returns:
            A tensor of shape `(batch_size,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement "
            "`loss(distiller, views, logits, y)`."
        )

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


def check_regularizers(regularizers):
    """Returns the regularizers of a distiller as a tuple, or raises."""
    fits = isinstance(regularizers, (list, tuple))
    if not fits or not all(isinstance(r, Regularizer) for r in regularizers):
        raise TypeError(
            "Argument `regularizers` must be a list of "
            "`keras_adaad.Regularizer`s, e.g. `[keras_adaad.IGDM()]`. "
            f"Received: regularizers={regularizers!r}"
        )
    return tuple(regularizers)
