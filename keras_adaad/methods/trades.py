"""TRADES: accuracy against robustness (Zhang et al., ICML 2019)."""

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
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.methods import objectives
from keras_adaad.training.adversarial_training import AdversarialTraining


@keras.saving.register_keras_serializable(package="keras_adaad")
class TRADES(AdversarialTraining):
    """TRADES: a trade-off between accuracy and robustness; no teacher.

    The student is its own target. The attack moves its outputs away from those
    on the clean image, and the loss pulls the two together:

        x*   = argmax_{||x' - x|| <= epsilon}  KL(S(x) || S(x'))
        loss = CE(S(x), y) + beta KL(S(x) || S(x*))

    The target `S(x)` of the loss is not detached: the gradient flows through
    both outputs of the student, as in the reference code. Also as in that code,
    the student runs on the clean images, on x*, and on the clean images again,
    all in training mode. All runs update its BatchNorm statistics.

    Args:
        student, attack, **kwargs: See `keras_adaad.AdversarialTraining`.
            `attack` defaults to the paper's: `PGD` with epsilon 0.031, step
            size 0.007 and 10 steps from Gaussian noise of scale 0.001, for
            inputs in [0, 1].
        beta: Weight of the robust term, the paper's `1 / lambda`. The function
            in the reference code defaults to 1, and its training script uses
            the paper's 6. Defaults to `6.0`.
        label_smoothing: Share of a label that is spread evenly over all
            classes, in [0, 1]. The published value for generated images is 0.1.
            Defaults to `0.0`.

    Example:

    ```python
    trainer = keras_adaad.TRADES(student, beta=6.0)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    trainer.compile(optimizer, metrics=["accuracy"])
    trainer.fit(x_train, y_train, validation_data=(x_test, y_test), epochs=76)
    trainer.student.save("student.keras")
    ```

    Reference:
        - Zhang et al., "Theoretically Principled Trade-off between Robustness
          and Accuracy", [2019](https://arxiv.org/abs/1901.08573), algorithm 1.
        - [Reference code](https://github.com/yaodongyu/TRADES), `trades.py`.
    """

    forward_order: tuple[str, ...] = ("clean", "adversarial", "clean")
    needs_labels = True
    leaves_own_outputs = True

    def __init__(
        self,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        beta: float = 6.0,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        beta = checks.check_number("beta", beta)
        label_smoothing = checks.check_number(
            "label_smoothing", label_smoothing, maximum=1.0
        )
        super().__init__(student, attack, **kwargs)
        self.beta = beta
        self.label_smoothing = label_smoothing

    @classmethod
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        width = input_range[1] - input_range[0]
        return PGD(
            **{
                **super().published_attack(input_range).get_config(),
                "epsilon": 0.031 * width,
                "step_size": 0.007 * width,
            }
        )

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        student = logits_function(self.student)
        target = student(x)
        return objectives.divergence_from(target, student)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        accuracy = cross_entropy_from_logits(
            y, logits["clean"], self.label_smoothing
        )
        robustness = kl_divergence_from_logits(
            logits["clean"], logits["adversarial"]
        )
        return accuracy + self.beta * robustness

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta": self.beta,
            "label_smoothing": self.label_smoothing,
        }
