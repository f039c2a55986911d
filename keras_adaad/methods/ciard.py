"""CIARD: a robust teacher that learns on (Lu et al., ICCV 2025)."""

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
from keras_adaad.losses import label_indices
from keras_adaad.losses.reduction import check_reduction
from keras_adaad.losses.reduction import over_classes
from keras_adaad.methods import objectives
from keras_adaad.methods.temperatures import softened
from keras_adaad.optimizers import CoupledSGD
from keras_adaad.training.learning_teacher import LearningTeacher


@keras.saving.register_keras_serializable(package="keras_adaad")
class CIARD(LearningTeacher):
    """Cyclic iterative adversarial robustness distillation.

    **The training changes `teacher`.** The robust teacher goes on learning on
    the images that are adversarial to the student. To keep the original, load
    it again afterwards, or pass a copy. Only `clean_teacher` is frozen.

    The student learns from the robust teacher on x*, and from the clean one on
    clean images. It is pushed away from the clean teacher where that errs:

        x*   = argmax_{||x' - x|| <= epsilon}  CE(S(x'), y)
        L_a  = KL(T(x*) / t_a || S(x*)),   L_c = KL(T_clean(x) / t_c || S(x))
        L_p  = KL(T_clean(x*) || S(x*) / push_temperature) if T_clean errs on x*
        loss = L_a + L_c - push m L_p + CE(T(x*), y)

    `L_p` is the mean over the images on which `T_clean` errs at x*, and 0 if
    there are none. `T(x*)` is detached in `L_a`, so that the last term trains
    the teacher alone. The factor `m` is a power of ten, which brings `L_p` to
    the order of magnitude of the smaller of the other two. It is constant for
    the gradient, and computed from means over images and classes, whatever
    `reduction` is:

        m = 10^(min(o(L_a), o(L_c)) - o(L_p)),   o(L) = floor(log10 L)

    The temperatures `t_a` and `t_c` are those of `BMTARD`: they start at 1, and
    each step moves them for the next step, so that the entropies of the two
    teachers become similar. `adversarial_temperature` and `clean_temperature`
    are variables of the model.

    In each step the student and the teacher run on the clean images and then on
    x*, in training mode. All of these runs update BatchNorm statistics, those
    of the teacher from the first epoch on. The teacher's weights do not move
    before `teacher_start`. It has an optimizer of its own:
    `compile(optimizer, teacher_optimizer)`.

    Where code and paper differ, this is the code. It computes MTARD's weights
    of the two losses and does not use them. It multiplies the rate of the
    temperatures by 0.1 in each step of an epoch in which it means to do so
    once; therefore the rate is 0 here after `temperature_end`. The divergences
    and entropies are exact, without the 1e-5 that the code adds in logarithms.

    Args:
        teacher: The robust teacher, a trained `keras.Model` that returns
            logits. Its weights change. It must be trainable, which a model that
            was a distiller's teacher is not: set `teacher.trainable = True`.
        student, attack, **kwargs: See `keras_adaad.AdversarialTraining`.
        clean_teacher: A naturally trained `keras.Model` that returns logits,
            accurate on clean images. Required.
        push: Weight of the push term. Defaults to `1.0`.
        push_temperature: Divides the student's logits in `L_p`. Defaults to
            `5.0`.
        temperature_rate: Step size of the temperatures. Defaults to `0.001`.
        max_temperature: Largest temperature, at least 1. Defaults to `10.0`.
        temperature_end: Fraction of the epochs after which the temperatures
            stay as they are. Defaults to 214 of 300 epochs.
        teacher_start: Fraction of the epochs before the teacher's first step.
            Defaults to 50 of 300 epochs.
        reduction: `"batchmean"` divides the student's loss by the batch size,
            `"mean"` by the batch size and the number of classes. The reference
            code uses `"mean"`. The cross-entropy of the teacher is divided by
            the batch size in both cases. Defaults to `"batchmean"`.

    Example:

    ```python
    trainer = keras_adaad.CIARD(
        robust_teacher, student, clean_teacher=clean_teacher
    )
    trainer.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        teacher_optimizer=keras.optimizers.SGD(1e-4),
        metrics=["accuracy"],
    )
    trainer.fit(x_train, y_train, epochs=300)
    trainer.student.save("student.keras")
    ```

    Reference:
        - Lu et al., "CIARD: Cyclic Iterative Adversarial Robustness
          Distillation", [2025](https://arxiv.org/abs/2509.12633).
        - [Reference code](https://github.com/eminentgu/CIARD), `CIARD.py` and
          `mtard_loss.py`.
    """

    needs_labels = True
    states = {"adversarial_temperature": 1.0, "clean_temperature": 1.0}

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        clean_teacher: keras.Model,
        push: float = 1.0,
        push_temperature: float = 5.0,
        temperature_rate: float = 0.001,
        max_temperature: float = 10.0,
        temperature_end: float = 214 / 300,
        teacher_start: float = 50 / 300,
        reduction: str = "batchmean",
        **kwargs: Any,
    ) -> None:
        push = checks.check_number("push", push)
        push_temperature = checks.check_number(
            "push_temperature", push_temperature, open_minimum=True
        )
        temperature_rate = checks.check_number(
            "temperature_rate", temperature_rate
        )
        max_temperature = checks.check_number(
            "max_temperature", max_temperature, minimum=1.0
        )
        temperature_end = checks.check_number(
            "temperature_end", temperature_end, maximum=1.0
        )
        check_reduction(reduction)
        super().__init__(
            teacher,
            student,
            attack,
            clean_teacher=clean_teacher,
            teacher_start=teacher_start,
            **kwargs,
        )
        self.push = push
        self.push_temperature = push_temperature
        self.temperature_rate = temperature_rate
        self.max_temperature = max_temperature
        self.temperature_end = temperature_end
        self.reduction = reduction

    @classmethod
    def published_teacher_optimizer(cls) -> keras.optimizers.Optimizer:
        return CoupledSGD(1e-4, momentum=0.1, weight_decay=2e-4)

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.cross_entropy(logits_function(self.student), y)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        student = logits["adversarial"]
        teacher = self.teacher_at_x_adv(views, logits)
        if not self.teacher_learns:
            teacher = ops.stop_gradient(teacher)
        clean_teacher = logits_function(self.clean_teacher)
        on_clean = ops.stop_gradient(clean_teacher(views["clean"]))
        on_x_adv = ops.stop_gradient(clean_teacher(views["adversarial"]))

        robust, clean = softened(
            self,
            ops.stop_gradient(teacher),
            on_clean,
            self._temperature_rate(),
        )
        l_a = kl_divergence_from_logits(robust, student)
        l_c = kl_divergence_from_logits(clean, logits["clean"])
        l_p = kl_divergence_from_logits(
            on_x_adv, student / self.push_temperature
        )
        # Their mean over the batch is that over the images with an error. It
        # is 0 if there is none.
        errs = ops.argmax(on_x_adv, axis=-1) != label_indices(y, on_x_adv)
        errs = ops.cast(errs, l_p.dtype)
        l_p = l_p * ops.divide_no_nan(errs, ops.mean(errs))

        order = ops.minimum(self._order(l_a), self._order(l_c))
        m = 10.0 ** (order - self._order(l_p))
        loss = l_a + l_c - self.push * m * l_p
        return over_classes(
            loss, self.reduction, self.num_classes
        ) + cross_entropy_from_logits(y, teacher)

    def _order(self, losses):
        """Returns `floor(log10 L)` of the mean `L` over images and classes."""
        mean = ops.abs(ops.stop_gradient(ops.mean(losses))) / self.num_classes
        return ops.floor(ops.log10(ops.where(mean == 0.0, 1e-7, mean)))

    def _temperature_rate(self):
        # Less a part of an epoch, because the fraction is rounded.
        end = self.temperature_end * self.epochs - 1e-3
        return ops.where(self.epoch < end, self.temperature_rate, 0.0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "push": self.push,
            "push_temperature": self.push_temperature,
            "temperature_rate": self.temperature_rate,
            "max_temperature": self.max_temperature,
            "temperature_end": self.temperature_end,
            "reduction": self.reduction,
        }
