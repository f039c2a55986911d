"""SAAD: sample-wise adaptive distillation (Lee & Chung, TMLR 2026)."""

from typing import Any

import keras
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.linear_teacher import linear_teacher
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.losses import label_mask
from keras_adaad.methods import objectives
from keras_adaad.methods.entropy_weighting import EntropyWeighting
from keras_adaad.methods.igdm import IGDM
from keras_adaad.training.distiller import Distiller
from keras_adaad.training.settings import plain_values


@keras.saving.register_keras_serializable(package="keras_adaad")
class SAAD(Distiller):
    """Sample-wise adaptive adversarial distillation.

    Adversarial images that fool the student but leave the teacher certain
    teach little. Each sample is therefore weighted by the entropy `H` of the
    teacher at x*, minus the smallest entropy of the batch:

        w    = entropy_scale (H(T(x*)) - min_batch H(T(x*)))
        loss = w [KL(T(x*) || S(x*)) + IGDM]
               + clean_weight (1 - w / max_batch w) KL(T(x) || S(x))

    `IGDM` is the term of `keras_adaad.IGDM`, and the weights and the clean term
    are `keras_adaad.EntropyWeighting`. Any distiller can have either. The
    attack is AdaAD's with a teacher that is linearised at x, in the logit of
    the true class only:

        z(x') = T(x) + lambda <grad_x T_y(x), x' - x> e_y
        x*    = argmax_{||x' - x|| <= epsilon}  KL(z(x') || S(x'))

    The attack therefore runs and differentiates the teacher once per batch,
    not once per step. Its gradient flows through `z(x')` and `S(x')`.

    As in the reference code, the student runs on x*, then on the opposite
    point x - (x* - x), then on the clean images, all in training mode. All
    runs update its BatchNorm statistics. On several replicas, the minimum and
    maximum are taken over each replica's part of the batch.

    The defaults are those of the reference code and its script. That code
    evaluates an average of the student's weights from the 95th of 200 epochs
    on; see `start_epoch=94` of
    `keras_adaad.callbacks.StochasticWeightAveraging`.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`. Its
            `sample_weighting` multiplies the weights of SAAD.
        entropy_scale: Factor of `w`. Defaults to `5.0`.
        igdm_weight: Weight of IGDM: 1 for CIFAR-10, 10 for CIFAR-100 and
            Tiny-ImageNet. Defaults to `1.0`.
        clean_weight: Weight of the clean term, `beta` in the reference code.
            Defaults to `0.0`.
        correction: The `lambda` of the attack; `0.0` keeps the target at
            `T(x)`. Defaults to `1.0`.

    Example:

    ```python
    distiller = keras_adaad.SAAD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=200)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Lee and Chung, "Sample-wise Adaptive Weighting for Transfer
          Consistency in Adversarial Distillation",
          [2025](https://arxiv.org/abs/2512.10275).
        - [Reference code](https://github.com/HongsinLee/saad), `saad.py` and
          `saad_inner_loss` in `attacks.py`.
    """

    teacher_sees_adversarial = True
    forward_order: tuple[str, ...] = ("adversarial", "opposite", "clean")
    needs_labels = True

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        entropy_scale: float = 5.0,
        igdm_weight: float = 1.0,
        clean_weight: float = 0.0,
        correction: float = 1.0,
        **kwargs: Any,
    ) -> None:
        entropy_scale = checks.check_number("entropy_scale", entropy_scale)
        igdm_weight = checks.check_number("igdm_weight", igdm_weight)
        clean_weight = checks.check_number("clean_weight", clean_weight)
        correction = checks.check_number("correction", correction)
        super().__init__(teacher, student, attack, **kwargs)
        self.igdm = IGDM(igdm_weight)
        self.weighting = EntropyWeighting(entropy_scale, clean_weight)
        self.correction = correction

    @property
    def entropy_scale(self) -> float:
        return self.weighting.scale

    @entropy_scale.setter
    def entropy_scale(self, value: float) -> None:
        self.weighting.scale = value

    @property
    def igdm_weight(self) -> float:
        return self.igdm.weight

    @igdm_weight.setter
    def igdm_weight(self, value: float) -> None:
        self.igdm.weight = value

    @property
    def clean_weight(self) -> float:
        return self.weighting.clean_weight

    @clean_weight.setter
    def clean_weight(self, value: float) -> None:
        self.weighting.clean_weight = value

    def _settings(self):
        parts = plain_values(self.igdm), plain_values(self.weighting)
        return *super()._settings(), *parts

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        teacher = logits_function(self.teacher)
        student = logits_function(self.student)
        label = label_mask(y, ops.zeros((1, self.num_classes)))
        label = ops.cast(label, "float32")

        def label_logit(logits):
            return ops.sum(label * logits, axis=-1), self.correction * label

        linear = linear_teacher(teacher, x, label_logit)
        return objectives.disagreement(linear, student)

    def views(self, x: Tensor, x_adv: Tensor) -> Tensors:
        return {**super().views(x, x_adv), **self.igdm.views(x, x_adv)}

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        target = self.teacher_logits(views["adversarial"])
        divergence = kl_divergence_from_logits(target, logits["adversarial"])
        gradient_matching = self.igdm.loss(self, views, logits, y)
        return self.weighting.weighted_loss(
            self, views, logits, y, divergence + gradient_matching
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "entropy_scale": self.entropy_scale,
            "igdm_weight": self.igdm_weight,
            "clean_weight": self.clean_weight,
            "correction": self.correction,
        }
