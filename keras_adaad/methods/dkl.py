"""DKL: decoupled Kullback-Leibler divergence (Cui et al., NeurIPS 2024)."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

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
from keras_adaad.methods import by_class
from keras_adaad.training.adversarial_training import AdversarialTraining


@keras.saving.register_keras_serializable(package="keras_adaad")
class DKL(by_class.SumsOfEpochs, AdversarialTraining):
    """Adversarial training with the decoupled KL divergence; no teacher.

    The method is the paper's IKL-AT: TRADES with another divergence. The
    gradient of `KL(p || q)` is that of a weighted square error of the logits
    plus a cross-entropy with the soft label `p`. The paper gives each part its
    own weight, lets the gradient of the square error flow through both outputs,
    and takes its class weights from the whole previous epoch:

        x*   = argmax_{||x' - x|| <= epsilon}  KL(S(x) || S(x'))
               + inner_beta D(S(x), S(x'))
        loss = CE(S(x), y) + beta D(S(x), S(x*))
               + alpha CE(S(x*), softmax S(x))

        D(a, b) = 1/4 sum_jk w_j w_k ((a - b)_j - (a - b)_k)^2

    The soft label `softmax S(x)` is detached. The class weights `w` of an image
    are the mean of `softmax(S(x) / temperature)` over all images of its class
    in the previous epoch, and `1 / num_classes` in the first epoch. They are
    the rows of the variable `class_means`. The variable `class_sums` collects
    the sums for the next epoch, and `summed_epoch` is the epoch of these sums.
    All three are saved.

    As in the reference code, epsilon and the step size grow linearly, from
    `1 / epochs` of their value in the first epoch to the whole in the last.
    Also as in that code, the student runs on x* first, then on the clean
    images, both in training mode. Both runs update its BatchNorm statistics.

    The reference code also perturbs the weights from epoch 10 on
    (`weight_perturbation=0.005`), and evaluates an exponential average of the
    epochs' weights. Its option `train_budget="high"` means to raise the number
    of attack steps from 2 to 5 during the training, but a chain of conditions
    sets 5 steps of `epsilon / 2` from the first epoch on. That is the default
    attack here.

    Args:
        student, attack, **kwargs: See `keras_adaad.AdversarialTraining`.
            `attack` defaults to that of the reference code: `PGD` with epsilon
            8/255, step size 4/255 and 5 steps from Gaussian noise of scale
            0.001, for inputs in [0, 1].
        alpha: Weight of the cross-entropy with the soft label. Defaults to
            `4.0`.
        beta: Weight of the square error. Defaults to `20.0`.
        temperature: Divides the logits in the class means. Defaults to `4.0`.
        inner_beta: Weight of the square error in the attack. The reference
            code has 0 for CIFAR-10 and 1 for CIFAR-100. Defaults to `0.0`.
        growing_epsilon: Whether the radius grows during the training. Defaults
            to `True`.

    Example:

    ```python
    trainer = keras_adaad.DKL(student, weight_perturbation=0.005)
    optimizer = keras.optimizers.SGD(0.2, momentum=0.9)
    trainer.compile(optimizer, metrics=["accuracy"])
    trainer.fit(x_train, y_train, validation_data=(x_test, y_test), epochs=200)
    trainer.student.save("student.keras")
    ```

    Reference:
        - Cui et al., "Decoupled Kullback-Leibler Divergence Loss",
          [2023](https://arxiv.org/abs/2305.13948).
        - [Reference code](https://github.com/jiequancui/DKL),
          `DKLv1/Adv-training-dkl/train_dkl_cifar10.py` and
          `train_dkl_cifar100.py`.
    """

    forward_order: tuple[str, ...] = ("adversarial", "clean")
    needs_labels = True
    leaves_own_outputs = True

    def __init__(
        self,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        alpha: float = 4.0,
        beta: float = 20.0,
        temperature: float = 4.0,
        inner_beta: float = 0.0,
        growing_epsilon: bool = True,
        **kwargs: Any,
    ) -> None:
        alpha = checks.check_number("alpha", alpha)
        beta = checks.check_number("beta", beta)
        temperature = checks.check_number(
            "temperature", temperature, open_minimum=True
        )
        inner_beta = checks.check_number("inner_beta", inner_beta)
        super().__init__(student, attack, **kwargs)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.inner_beta = inner_beta
        self.growing_epsilon = bool(growing_epsilon)

    @classmethod
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        config = super().published_attack(input_range).get_config()
        step_size = config["epsilon"] / 2
        return PGD(**{**config, "step_size": step_size, "steps": 5})

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        shape = (self.num_classes, self.num_classes)
        means = np.full(shape, 1 / self.num_classes)
        self.add_states({"class_means": means, "class_sums": np.zeros(shape)})

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        student = logits_function(self.student)
        target = student(x)
        weights = self._class_weights(y, target)

        def divergence(x_adv):
            logits = student(x_adv)
            value = kl_divergence_from_logits(target, logits)
            if self.inner_beta > 0.0:
                error = _weighted_square_error(target, logits, weights)
                value += self.inner_beta * error
            return value

        return divergence

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        clean, adversarial = logits["clean"], logits["adversarial"]
        weights = self._class_weights(y, clean)
        if self.learning:
            self._collect(y, clean)
        soft_label = ops.stop_gradient(ops.softmax(clean))
        return (
            cross_entropy_from_logits(y, clean)
            + self.beta * _weighted_square_error(clean, adversarial, weights)
            + self.alpha * cross_entropy_from_logits(soft_label, adversarial)
        )

    def _maximize(self, x, y, noise=None):
        return self.attack.maximize(
            self.inner_objective(x, y),
            x,
            noise=noise,
            seed=self.seed_generator,
            scale=self.progress() if self.growing_epsilon else None,
        )

    def _class_weights(self, y, logits):
        """Returns the class weights of each image: a row of the means."""
        return by_class.of_label(self._means(), y, logits)

    def _means(self):
        """Returns the class means, from the last epoch that is complete."""
        totals = ops.sum(self.class_sums, axis=1, keepdims=True)
        complete = ops.logical_and(self.follows_epoch(), totals > 0.0)
        means = ops.divide_no_nan(self.class_sums.value, totals)
        return ops.where(complete, means, self.class_means.value)

    def _collect(self, y, logits):
        softened = ops.softmax(ops.stop_gradient(logits) / self.temperature)
        sums = ops.where(self.begins_epoch(), 0.0, self.class_sums.value)
        sums += by_class.summed(softened, y, logits)
        self.class_means.assign(self._means())
        self.class_sums.assign(sums)
        self.summed_epoch.assign(self.epoch)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "temperature": self.temperature,
            "inner_beta": self.inner_beta,
            "growing_epsilon": self.growing_epsilon,
        }


def _weighted_square_error(target, predicted, weights):
    """Returns `1/4 sum_jk w_j w_k (d_j - d_k)^2` of each sample.

    The weights sum to 1. This is half the variance of the differences `d`.
    """
    difference = target - predicted
    mean = ops.sum(weights * difference, axis=-1, keepdims=True)
    return 0.5 * ops.sum(weights * ops.square(difference - mean), axis=-1)
