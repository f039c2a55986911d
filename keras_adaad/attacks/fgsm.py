"""The fast gradient sign method (Goodfellow et al., ICLR 2015)."""

import keras

from keras_adaad._typing import Loss
from keras_adaad.attacks.pgd import PGD


@keras.saving.register_keras_serializable(package="keras_adaad")
class FGSM(PGD):
    """One step of length epsilon from the clean image, no random start.

    Args:
        loss: See `keras_adaad.attacks.PGD`, which also says which models
            other than classifiers the attack takes.
        epsilon, norm, input_range: See `keras_adaad.attacks.Attack`.

    Example:

    ```python
    x_adv = keras_adaad.attacks.FGSM(epsilon=8 / 255)(model, x_test, y_test)
    ```

    Reference:
        - [Goodfellow et al., 2015](https://arxiv.org/abs/1412.6572)
    """

    not_compiled: tuple[str, ...] = PGD.not_compiled

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        loss: str | Loss = "cross_entropy",
        input_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            step_size=epsilon,
            steps=1,
            norm=norm,
            start=None,
            loss=loss,
            input_range=input_range,
        )
