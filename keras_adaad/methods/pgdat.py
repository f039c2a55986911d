"""PGD-AT: adversarial training (Madry et al., ICLR 2018)."""

from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import PGD
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.methods import objectives
from keras_adaad.training.adversarial_training import AdversarialTraining


@keras.saving.register_keras_serializable(package="keras_adaad")
class PGDAT(AdversarialTraining):
    """Adversarial training with projected gradient ascent; no teacher.

        x*   = argmax_{||x' - x|| <= epsilon}  CE(S(x'), y)
        loss = CE(S(x*), y)

    Use it to train a robust teacher. As in AdaAD's reference code, the student
    runs on x* first, then on the clean images, both in training mode. Both runs
    update its BatchNorm statistics.

    Args:
        student, attack, **kwargs: See `keras_adaad.AdversarialTraining`.
            `attack` defaults to `PGD` with epsilon 8/255, step size 2/255 and
            10 steps from Gaussian noise of scale 0.001, clipped, for inputs in
            [0, 1].
        label_smoothing: Share of a label that is spread evenly over all
            classes, in [0, 1]. The attack does not use it. Defaults to `0.0`.

    Example:

    ```python
    trainer = keras_adaad.PGDAT(teacher)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    trainer.compile(optimizer, metrics=["accuracy"])
    trainer.fit(x_train, y_train, validation_data=(x_test, y_test), epochs=110)
    teacher.save("teacher.keras")
    ```

    Reference:
        - [Madry et al., 2018](https://arxiv.org/abs/1706.06083), equation 2.1.
        - [AdaAD's code](https://github.com/boyellow/AdaAD), `Madry_PGD` in
          `AT_helper.py`.
    """

    forward_order: tuple[str, ...] = ("adversarial", "clean")
    needs_labels = True

    def __init__(
        self,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        label_smoothing = checks.check_number(
            "label_smoothing", label_smoothing, maximum=1.0
        )
        super().__init__(student, attack, **kwargs)
        self.label_smoothing = label_smoothing

    @classmethod
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        attack = super().published_attack(input_range)
        return PGD(**{**attack.get_config(), "clip_start": True})

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.cross_entropy(logits_function(self.student), y)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        return cross_entropy_from_logits(
            y, logits["adversarial"], self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
