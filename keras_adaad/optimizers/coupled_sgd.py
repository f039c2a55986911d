"""SGD as PyTorch defines it."""

from typing import Any

import keras
from keras import ops

from keras_adaad._typing import Tensor
from keras_adaad.backend import keras_private


@keras.saving.register_keras_serializable(package="keras_adaad")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay and momentum are those of `torch.optim.SGD`.

    The papers of this field state values for PyTorch, which mean something
    else in `keras.optimizers.SGD`. The update is PyTorch's:

    ```python
    g = g + weight_decay * w
    m = momentum * m + g
    w = w - learning_rate * (g + momentum * m if nesterov else m)
    ```

    Weight decay passes through the momentum, which at 0.9 makes it ten times
    as strong as Keras's decoupled decay of the same value. The learning rate
    is outside the momentum, so a drop takes effect at once. All trainable
    variables decay, those of BatchNorm and biases included, except those of
    `exclude_from_weight_decay`.

    Args:
        learning_rate: A float or a
            `keras.optimizers.schedules.LearningRateSchedule`. Defaults to
            `0.1`.
        momentum: Float in [0, 1]. Defaults to `0.9`.
        weight_decay: Float of at least 0. Defaults to `0.0`.
        nesterov: Whether to use Nesterov momentum. Defaults to `False`.
        **kwargs: Arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If `weight_decay` is negative.

    Example:

    ```python
    distiller.compile(
        keras_adaad.optimizers.CoupledSGD(0.1, momentum=0.9, weight_decay=5e-4)
    )
    ```

    Reference:
        [torch.optim.SGD](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html)
    """

    def __init__(
        self,
        learning_rate: float
        | keras.optimizers.schedules.LearningRateSchedule = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(weight_decay, (int, float)) or weight_decay < 0:
            raise ValueError(
                "Argument `weight_decay` must be a number of at least 0. "
                f"Received: weight_decay={weight_decay!r}"
            )
        # Not passed on: Keras would apply `weight_decay` decoupled.
        super().__init__(learning_rate, momentum, nesterov, **kwargs)
        self.coupled_weight_decay = weight_decay

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if keras_private.is_decayed(self, variable):
            gradient = gradient + self.coupled_weight_decay * variable
        if self.momentum:
            # Keras has no public way to find the momentum of a variable.
            m = self.momentums[keras_private.place_of(self, variable)]
            self.assign(m, self.momentum * m + gradient)
            gradient = gradient + self.momentum * m if self.nesterov else m
        self.assign_sub(variable, learning_rate * gradient)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_decay": self.coupled_weight_decay,
        }
