"""The min-max step with a teacher."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.logits import logits_function
from keras_adaad.training.adversarial_training import AdversarialTraining
from keras_adaad.training.regularizer import Regularizer
from keras_adaad.training.regularizer import check_regularizers
from keras_adaad.training.sample_weighting import SampleWeighting
from keras_adaad.training.sample_weighting import check_sample_weighting
from keras_adaad.training.settings import plain_values
from keras_adaad.training.teacher_check import TeacherCheck


class Distiller(AdversarialTraining):
    """Base class of the methods that distil a robust teacher into a student.

    Like `keras.distillation.Distiller`, it has the attributes `teacher` and
    `student`, and `call`, `predict` and `evaluate` use the student. The teacher
    is frozen: it is never in the optimizer, it runs in inference mode, and its
    logits carry no gradient in the outer loss. It stays frozen even if
    `teacher.trainable` is later set to `True`.

    A subclass defines what `AdversarialTraining` describes, and calls
    `teacher_logits` in its outer loss. A second teacher is a constructor
    argument of the subclass, which passes it on in `other_teachers`.

    If the loss has the teacher's outputs at x*, set `teacher_sees_adversarial`.
    In trainings of 5 epochs or more, `fit` then checks the teacher on up to 64
    images after the first epoch. It warns if the teacher's accuracy at x* is
    less than half of its clean accuracy: the radius of the attack is then too
    large for this teacher. On several devices, `fit` does not check this.

    Args:
        teacher: A trained `keras.Model` that returns logits.
        student: The `keras.Model` to train, for the same inputs and classes.
        attack: The inner maximisation. Defaults to the method's published
            attack. Unless the method names another, this is `PGD` with epsilon
            8/255, step size 2/255 and 10 steps from Gaussian noise of scale
            0.001, for inputs in [0, 1].
        other_teachers: Dict of further teachers. Each key is the name of the
            subclass's constructor argument, and becomes an attribute. For
            subclasses. Defaults to none.
        regularizers: List of terms that are added to the method's loss, e.g.
            `[keras_adaad.IGDM()]`. Defaults to none.
        sample_weighting: Weights of the samples, a
            `keras_adaad.SampleWeighting`, e.g.
            `keras_adaad.EntropyWeighting()`. They multiply the loss and the
            regularizers. Defaults to `None`: all samples count alike.
        **kwargs: `evaluation_attack`, `input_range`, `seed`,
            `weight_perturbation`, `forward_order` and `name`; see
            `keras_adaad.AdversarialTraining`.

    Raises:
        TypeError: If a network is missing or not a `keras.Model`.
        ValueError: If the networks do not fit together or return
            probabilities, or an argument is out of range. `fit` raises it if
            the method needs labels and the data has none.
    """

    teacher_sees_adversarial = False
    teacher: keras.Model

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        other_teachers: dict[str, keras.Model] | None = None,
        regularizers: Sequence[Regularizer] = (),
        sample_weighting: SampleWeighting | None = None,
        **kwargs: Any,
    ) -> None:
        teachers = {"teacher": teacher, **(other_teachers or {})}
        checks.check_model("student", student)
        for name, network in teachers.items():
            checks.check_model(name, network)
            checks.check_pair(network, student, name)
        regularizers = check_regularizers(regularizers)
        sample_weighting = check_sample_weighting(sample_weighting)
        super().__init__(student, attack, other_networks=teachers, **kwargs)
        _freeze(teachers)
        self.regularizers = regularizers
        self.sample_weighting = sample_weighting
        # In an object that Keras does not track.
        self._target_cache = _TargetCache()
        for regularizer in self.regularizers:
            self.forward_order = regularizer.forward_order(self.forward_order)

    def teacher_logits(
        self, x: Tensor, teacher: keras.Model | None = None
    ) -> Tensor:
        """Returns a teacher's logits as a target of the outer loss.

        Args:
            x: Images, a tensor of shape `(batch_size, ...)`.
            teacher: The teacher to call. Defaults to `self.teacher`.

        Returns:
            Float32 logits of shape `(batch_size, num_classes)`, through which
            no gradient flows.
        """
        teacher = teacher or self.teacher
        targets = self._target_cache.targets
        targets = {} if targets is None else targets
        key = id(teacher), id(x)
        if key not in targets:
            target = ops.stop_gradient(logits_function(teacher)(x))
            targets[key] = x, target  # Keeps `x`, so that its id stays taken.
        return targets[key][1]

    def total_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        # The method, a regularizer and the weights may ask for one target.
        self._target_cache.targets = {}
        try:
            loss = super().total_loss(views, logits, y)
            for regularizer in self.regularizers:
                loss = loss + regularizer.loss(self, views, logits, y)
            if self.sample_weighting is not None:
                loss = self.sample_weighting.weighted_loss(
                    self, views, logits, y, loss
                )
        finally:
            self._target_cache.targets = None
        return loss

    def _settings(self):
        settings = [*super()._settings()]
        for part in (*self.regularizers, self.sample_weighting):
            settings.append(part)
            settings += plain_values(part) if part is not None else ()
        return tuple(settings)

    def _training_views(self, data):
        return self._with_regularizers(super()._training_views(data))

    def _evaluation_views(self, data):
        return self._with_regularizers(super()._evaluation_views(data))

    def _with_regularizers(self, data):
        """Adds the views of the regularizers to those of the method."""
        views, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if "adversarial" in views:
            for regularizer in self.regularizers:
                more = regularizer.views(views["clean"], views["adversarial"])
                views = {**views, **more}
        return keras.utils.pack_x_y_sample_weight(views, y, sample_weight)

    def _teachers(self):
        return {k: v for k, v in self._networks().items() if k != "student"}

    def _first_batch(self, *args, **kwargs):
        # The user may have set their `trainable` flags.
        _freeze(self._teachers())
        return super()._first_batch(*args, **kwargs)

    def _watchers(self, batch, epochs):
        if not self.teacher_sees_adversarial:
            return []
        x, y = batch
        return [TeacherCheck(x, y, epochs)]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        teachers = self._teachers().items()
        return {
            **super().get_config(),
            **{name: serialize(teacher) for name, teacher in teachers},
            "regularizers": [serialize(r) for r in self.regularizers],
            "sample_weighting": serialize(self.sample_weighting),
        }


class _TargetCache:
    """The targets of a loss that is being computed, by network and images."""

    targets: dict[Any, Any] | None = None


def _freeze(teachers):
    for teacher in teachers.values():
        teacher.trainable = False
