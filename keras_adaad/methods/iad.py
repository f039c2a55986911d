"""IAD: introspective adversarial distillation (Zhu et al., ICLR 2022)."""

from typing import Any

import keras
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.methods import objectives
from keras_adaad.methods.ard import ARD
from keras_adaad.training.reference_passes import ReferencePasses


@keras.saving.register_keras_serializable(package="keras_adaad")
class IAD(ReferencePasses):
    """Introspective adversarial distillation (IAD-I).

    A robust teacher errs on images that are adversarial to the student. The
    lower its probability of the label on x*, the more the student trusts
    itself. The temperature `t` divides the logits within `KL_t`:

        x*   = argmax_{||x' - x|| <= epsilon}  CE(S(x'), y)
        w    = P_T(y | x*)^beta, or 1 before `begin_epoch`
        loss = alpha [ t^2 KL_t(T(x) || S(x*)) + (1 - w) KL(S(x) || S(x*)) ]
               + (1 - alpha) CE(S(x), y)

    This is the loss of the reference code: the teacher's term has no weight
    `w`, and the target `S(x)` is not detached.

    The student runs on x* first, then on the clean images, both in training
    mode. Both runs update its BatchNorm statistics. The reference code runs it
    on x* twice, on the clean images once more from `begin_epoch` on, and in
    training mode within the attack; `reference_passes=True` does the same.
    By default the attack uses the student in inference mode, as in later
    implementations of IAD.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`.
            `attack` defaults to that of `keras_adaad.ARD`.
        alpha: Weight of the distillation, in [0, 1]. The labels have the weight
            `1 - alpha`. Defaults to `1.0`.
        beta: Exponent of the teacher's probability of the label. A lower value
            trusts the teacher more. Defaults to `0.1`.
        begin_epoch: The epoch, counted from 0, in which introspection begins.
            Defaults to `60`.
        temperature: Divides the logits of teacher and student in the teacher's
            term. Defaults to `1.0`.
        reference_passes: Whether to run the student in training mode as often
            as the reference code does. Defaults to `False`.

    Example:

    ```python
    distiller = keras_adaad.IAD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=200)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Zhu et al., "Reliable Adversarial Distillation with Unreliable
          Teachers", [2022](https://arxiv.org/abs/2106.04928).
        - [Reference code](https://github.com/ZFancy/IAD), `IAD-I.py`.
    """

    forward_order: tuple[str, ...] = ("adversarial", "clean")
    reference_order: tuple[str, ...] = (
        "adversarial",
        "adversarial",
        "clean",
        "introspection",
    )
    needs_labels = True

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        alpha: float = 1.0,
        beta: float = 0.1,
        begin_epoch: int = 60,
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        alpha = checks.check_number("alpha", alpha, maximum=1.0)
        beta = checks.check_number("beta", beta)
        begin_epoch = checks.check_integer("begin_epoch", begin_epoch, 0)
        temperature = checks.check_number(
            "temperature", temperature, open_minimum=True
        )
        super().__init__(teacher, student, attack, **kwargs)
        self.alpha = alpha
        self.beta = beta
        self.begin_epoch = begin_epoch
        self.temperature = temperature

    @classmethod
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        return ARD.published_attack(input_range)

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.cross_entropy(logits_function(self.student), y)

    def views(self, x: Tensor, x_adv: Tensor) -> Tensors:
        views = super().views(x, x_adv)
        again = "introspection" in self.forward_order
        return {**views, "introspection": x} if again else views

    def moves_statistics(self, view: str) -> Tensor:
        return self._has_begun() if view == "introspection" else True

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        return self._introspective_loss(
            self.teacher_logits(views["clean"]),
            self.teacher_logits(views["adversarial"]),
            logits,
            y,
        )

    def _introspective_loss(self, target, teacher_at_x_adv, logits, y):
        teacher_term = self.temperature**2 * kl_divergence_from_logits(
            target, logits["adversarial"], self.temperature
        )
        own_term = kl_divergence_from_logits(
            logits["clean"], logits["adversarial"]
        )
        distrust = 1.0 - self._trust(teacher_at_x_adv, y)
        cross_entropy = cross_entropy_from_logits(y, logits["clean"])
        return (
            self.alpha * (teacher_term + distrust * own_term)
            + (1.0 - self.alpha) * cross_entropy
        )

    def _trust(self, teacher_at_x_adv, y):
        """Returns the weight `w` of each sample."""
        surprise = cross_entropy_from_logits(y, teacher_at_x_adv)
        return ops.where(self._has_begun(), ops.exp(-self.beta * surprise), 1.0)

    def _has_begun(self):
        return self.epoch >= self.begin_epoch

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "begin_epoch": self.begin_epoch,
            "temperature": self.temperature,
        }


@keras.saving.register_keras_serializable(package="keras_adaad")
class IADII(IAD):
    """Introspective adversarial distillation with two teachers (IAD-II).

    A naturally trained teacher `T'` is added to the robust one. The student
    learns from both, and from the labels, on x* only. The temperature `t`
    divides the logits within `KL_t`:

        x*   = argmax_{||x' - x|| <= epsilon}  CE(S(x'), y)
        w    = P_T(y | x*)^beta, or 1 before `begin_epoch`
        loss = alpha t^2 [ w KL_t(T(x*) || S(x*)) + (1 - w) KL(S(x) || S(x*)) ]
               + clean_alpha t^2 KL_t(T'(x*) || S(x*))
               + (1 - alpha - clean_alpha) CE(S(x*), y)

    Unlike in IAD-I, the robust teacher is evaluated on x*, and its term is
    weighted by `w`. The target `S(x)` is not detached.

    The student runs on x* first, then on the clean images, both in training
    mode. Both runs update its BatchNorm statistics. The reference code leaves
    out the clean images before `begin_epoch`, and runs the student in training
    mode within the attack; `reference_passes=True` does the same.

    Args:
        teacher, student, attack, begin_epoch, **kwargs: See
            `keras_adaad.IAD`. `begin_epoch` defaults to `40`.
        clean_teacher: A naturally trained `keras.Model` that returns logits.
            Required.
        alpha: Weight of the robust teacher and the introspection. Defaults to
            `0.5`.
        clean_alpha: Weight of the clean teacher, at most `1 - alpha`. The
            labels have the rest. Defaults to `0.25`.

    Example:

    ```python
    distiller = keras_adaad.IADII(
        robust_teacher, student, clean_teacher=natural_teacher
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=200)
    ```

    Reference:
        - Zhu et al., "Reliable Adversarial Distillation with Unreliable
          Teachers", [2022](https://arxiv.org/abs/2106.04928).
        - [Reference code](https://github.com/ZFancy/IAD), `IAD-II.py`.
    """

    teacher_sees_adversarial = True
    reference_order: tuple[str, ...] = ("adversarial", "clean")

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        clean_teacher: keras.Model,
        alpha: float = 0.5,
        clean_alpha: float = 0.25,
        begin_epoch: int = 40,
        **kwargs: Any,
    ) -> None:
        alpha = checks.check_number("alpha", alpha)
        clean_alpha = checks.check_number("clean_alpha", clean_alpha)
        if alpha + clean_alpha > 1.0:
            raise ValueError(
                "Arguments `alpha` and `clean_alpha` must sum to at most 1; "
                "the rest is the weight of the labels. "
                f"Received: alpha={alpha}, clean_alpha={clean_alpha}"
            )
        super().__init__(
            teacher,
            student,
            attack,
            alpha=alpha,
            begin_epoch=begin_epoch,
            other_teachers={"clean_teacher": clean_teacher},
            **kwargs,
        )
        self.clean_alpha = clean_alpha

    def moves_statistics(self, view: str) -> Tensor:
        leaves_out = self.reference_passes and view == "clean"
        return self._has_begun() if leaves_out else True

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        x_adv, student = views["adversarial"], logits["adversarial"]
        target = self.teacher_logits(x_adv)
        clean_target = self.teacher_logits(x_adv, self.clean_teacher)
        t = self.temperature

        w = self._trust(target, y)
        robust_term = w * kl_divergence_from_logits(target, student, t)
        robust_term += (1.0 - w) * kl_divergence_from_logits(
            logits["clean"], student
        )
        clean_term = kl_divergence_from_logits(clean_target, student, t)
        return (
            self.alpha * t**2 * robust_term
            + self.clean_alpha * t**2 * clean_term
            + (1.0 - self.alpha - self.clean_alpha)
            * cross_entropy_from_logits(y, student)
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clean_alpha": self.clean_alpha}
