"""B-MTARD: MTARD with balanced teachers (Zhao et al., TPAMI 2024)."""

from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.methods.mtard import MTARD
from keras_adaad.methods.temperatures import softened


@keras.saving.register_keras_serializable(package="keras_adaad")
class BMTARD(MTARD):
    """Balanced multi-teacher adversarial robustness distillation.

    MTARD with one temperature per teacher. The temperatures keep the entropies
    of the two teachers similar, so that both give the student a similar amount
    of information. Only the teachers' logits are divided by them:

        L_a = KL(T(x*) / t_a || S(x*)),   L_c = KL(T_clean(x) / t_c || S(x))

    Both start at 1. Each step updates them for the next step, where `H` is the
    mean entropy of a teacher's softened outputs:

        t_a <- clip(t_a - temperature_rate sign(H_a - H_c), 1, max_temperature)
        t_c <- clip(t_c - temperature_rate sign(H_c - H_a), 1, max_temperature)

    `adversarial_temperature` and `clean_temperature` are variables of the
    model. The weights of the two losses are those of `MTARD`. The published
    clipping of the weights at 0 and their normalisation have no effect,
    because the weights stay in [0, 1] and sum to 1 anyway.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.MTARD`. Its
            `clean_teacher` is required.
        temperature_rate: Step size of the temperatures. It is divided by 10
            after each of `drops`. Defaults to `0.001`.
        max_temperature: Largest temperature, at least 1. Defaults to `10.0`.

    Example:

    ```python
    distiller = keras_adaad.BMTARD(
        robust_teacher, student, clean_teacher=clean_teacher
    )
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    distiller.fit(x_train, y_train, epochs=300)
    ```

    Reference:
        - Zhao et al., "Mitigating Accuracy-Robustness Trade-off via Balanced
          Multi-Teacher Adversarial Distillation",
          [2023](https://arxiv.org/abs/2306.16170).
        - [Reference code](https://github.com/zhaoshiji123/MTARD-extension),
          `resnet18_mtard_cifar10.py`.
    """

    states = {
        **MTARD.states,
        "adversarial_temperature": 1.0,
        "clean_temperature": 1.0,
    }

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        temperature_rate: float = 0.001,
        max_temperature: float = 10.0,
        **kwargs: Any,
    ) -> None:
        temperature_rate = checks.check_number(
            "temperature_rate", temperature_rate
        )
        max_temperature = checks.check_number(
            "max_temperature", max_temperature, minimum=1.0
        )
        super().__init__(teacher, student, attack, **kwargs)
        self.temperature_rate = temperature_rate
        self.max_temperature = max_temperature

    def targets(self, views: Tensors) -> tuple[Tensor, Tensor]:
        rate = self.dropped(self.temperature_rate)
        return softened(self, *super().targets(views), rate)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature_rate": self.temperature_rate,
            "max_temperature": self.max_temperature,
        }
