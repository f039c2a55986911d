"""The min-max step with a robust teacher that goes on learning."""

from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.float16 import uses_float16
from keras_adaad.frozen.logits import logits_function
from keras_adaad.optimizers import PerNetwork
from keras_adaad.optimizers.per_network import per_network_within
from keras_adaad.training.adversarial_training import AdversarialTraining


class LearningTeacher(AdversarialTraining):
    """Base class of the methods that train the robust teacher too.

    In a training step, the teacher runs on the clean images and then on x*, in
    training mode. Both runs update its BatchNorm statistics, and `logits` of
    `outer_loss` has its logits on x* under the name `"teacher"`. It has an
    optimizer of its own, which takes no step before `teacher_start`.

    Args:
        teacher: The robust teacher, a `keras.Model` that returns logits.
        student, attack: See `keras_adaad.AdversarialTraining`.
        clean_teacher: A second teacher, which is frozen.
        teacher_start: Fraction of the epochs before the teacher's first step.
        **kwargs: See `keras_adaad.AdversarialTraining`.
    """

    teacher: keras.Model
    clean_teacher: keras.Model

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        clean_teacher: keras.Model,
        teacher_start: float = 0.0,
        **kwargs: Any,
    ) -> None:
        teachers = {"teacher": teacher, "clean_teacher": clean_teacher}
        checks.check_model("student", student)
        for name, network in teachers.items():
            checks.check_model(name, network)
            checks.check_pair(network, student, name)
        _check_separate(teacher, clean_teacher)
        teacher_start = checks.check_number(
            "teacher_start", teacher_start, maximum=1.0
        )
        if uses_float16(teacher):
            # Keras scales the loss by the policy of the whole model.
            kwargs.setdefault("dtype", "mixed_float16")
        super().__init__(student, attack, other_networks=teachers, **kwargs)
        clean_teacher.trainable = False
        self.teacher_start = teacher_start
        # A constant of the compiled step, which is compiled again when it
        # changes. So the steps before it compute no gradient for the teacher.
        self.teacher_learns = self._has_started(0.0, 1.0)

    def trained_networks(self) -> list[keras.Model]:
        return [self.student, self.teacher]

    @classmethod
    def published_teacher_optimizer(cls) -> keras.optimizers.Optimizer:
        """Returns the optimizer of the teacher in the method's code."""
        raise NotImplementedError(
            f"{cls.__name__} must implement `published_teacher_optimizer`."
        )

    def compile(
        self,
        optimizer: Any = "rmsprop",
        teacher_optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures the training, as `keras.Model.compile` does.

        Args:
            optimizer: The student's optimizer: an instance, or its name. Or
                the `keras_adaad.optimizers.PerNetwork` of an earlier training.
            teacher_optimizer: The teacher's optimizer. It counts its own
                steps, so a schedule of its learning rate begins with the
                teacher's first step. Defaults to that of the published code,
                at its initial learning rate.
            **kwargs: Further arguments of `keras.Model.compile`, except
                `loss`.
        """
        if per_network_within(optimizer) is None:
            if teacher_optimizer is None:
                teacher_optimizer = self.published_teacher_optimizer()
            optimizer = PerNetwork(
                {"student": optimizer, "teacher": teacher_optimizer}
            )
        elif teacher_optimizer is not None:
            raise ValueError(
                "Argument `optimizer` has an optimizer of the teacher already. "
                f"Received: teacher_optimizer={teacher_optimizer!r}"
            )
        super().compile(optimizer, **kwargs)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        super().start_epoch(epoch, epochs)
        self.teacher_learns = self._has_started(epoch, epochs)

    def train_step(self, *state_and_data: Any) -> Any:
        optimizer: Any = per_network_within(self.optimizer)
        optimizer.idle = () if self.teacher_learns else ("teacher",)
        return super().train_step(*state_and_data)

    def call(self, x: Tensor, training: bool = False) -> Any:
        outputs = super().call(x, training)
        if isinstance(x, dict) and "adversarial" in x:
            if training:  # For the statistics.
                self.teacher(x["clean"], training=True)
            outputs["teacher"] = self.teacher(
                x["adversarial"], training=training
            )
        return outputs

    def teacher_at_x_adv(self, views: Tensors, logits: Tensors) -> Tensor:
        """Returns the logits `T(x*)`, through which a gradient flows."""
        if "teacher" in logits:
            return logits["teacher"]
        # Only the student runs in training mode, or neither.
        return logits_function(self.teacher)(views["adversarial"])

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        self.teacher_learns = self._has_started(
            float(self.epoch), float(self.epochs)
        )

    def _has_started(self, epoch, epochs):
        # Less a part of an epoch, because the fraction is rounded.
        return epoch >= self.teacher_start * epochs - 1e-3

    def _settings(self):
        return *super()._settings(), self.teacher_learns

    def _first_batch(self, *args, **kwargs):
        # The user may have set its `trainable` flag.
        self.clean_teacher.trainable = False
        return super()._first_batch(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "teacher": serialize(self.teacher),
            "clean_teacher": serialize(self.clean_teacher),
            "teacher_start": self.teacher_start,
        }


def _check_separate(teacher, clean_teacher):
    """Raises if freezing one teacher would freeze the other."""
    ids = {id(variable) for variable in teacher.variables}
    shared = [v for v in clean_teacher.variables if id(v) in ids]
    if teacher is clean_teacher or shared:
        raise ValueError(
            "Arguments `teacher` and `clean_teacher` share weights. The one is "
            "trained and the other is frozen: build them from separate layers. "
            f"Received: {len(shared)} shared variables"
        )
