"""The min-max step with a teacher."""

import keras
from keras import ops

from keras_adaad import checks
from keras_adaad.adversarial_training import AdversarialTraining
from keras_adaad.logits import logits_function


class Distiller(AdversarialTraining):
    """Base class of the methods that distil a robust teacher into a student.

    A sibling of `keras.distillation.Distiller`: the same `teacher` and
    `student` attributes, `call`, `predict` and `evaluate` are the student's,
    and the teacher is frozen. It stays frozen: it is never in the optimizer,
    runs in inference mode, and its outputs stop gradients in the outer loss,
    even if somebody sets `teacher.trainable = True` later.

    A method states what `AdversarialTraining` describes, with `teacher_logits`
    to call in the outer loss.

    Args:
        teacher: A trained `keras.Model` that returns logits.
        student: The `keras.Model` to train, for the same inputs and classes.
        attack: The inner maximisation. Defaults to the method's published
            attack.
        **kwargs: Arguments of `AdversarialTraining`.
    """

    def __init__(self, teacher, student, attack=None, **kwargs):
        checks.check_model("teacher", teacher)
        checks.check_model("student", student)
        checks.check_pair(teacher, student)
        super().__init__(student, attack, **kwargs)
        teacher.trainable = False
        self.teacher = teacher
        self._build_if_known()

    def teacher_logits(self, x):
        """Returns the teacher's logits as a target of the outer loss.

        Args:
            x: Images, a tensor of shape `(batch_size, ...)`.

        Returns:
            Float32 logits of shape `(batch_size, num_classes)`, through which
            no gradient flows.
        """
        return ops.stop_gradient(logits_function(self.teacher)(x))

    def build(self, input_shape):
        checks.check_same_classes(
            checks.output_shape(self.teacher, input_shape),
            checks.output_shape(self.student, input_shape),
        )
        super().build(input_shape)

    def _networks(self):
        return {
            "teacher": getattr(self, "teacher", None),
            **super()._networks(),
        }

    def _check_data(self, *args):
        # Whatever was done to its `trainable` flags since.
        self.teacher.trainable = False
        return super()._check_data(*args)

    def get_config(self):
        teacher = keras.saving.serialize_keras_object(self.teacher)
        return {**super().get_config(), "teacher": teacher}
