"""PeerAiD: a peer that learns with the student (Jung et al., CVPR 2024)."""

from typing import Any

import keras
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.float16 import uses_float16
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.methods import objectives
from keras_adaad.training.adversarial_training import AdversarialTraining


@keras.saving.register_keras_serializable(package="keras_adaad")
class PeerAiD(AdversarialTraining):
    """Adversarial distillation from a peer that learns with the student.

    A pretrained teacher is robust to attacks on itself, not to those on the
    student. The peer `P` starts untrained and learns, in the same steps, to
    classify the images that are adversarial to the student:

        x*   = argmax_{||x' - x|| <= epsilon}  KL(P(x) || S(x'))
        loss = lambda1 CE(S(x*), y) + lambda2 t^2 D_t(P(x*) || S(x*))
               + lambda3 t^2 D_t(S(x) || S(x*))
               + gamma1 CE(P(x*), y) + gamma2 D(S(x*) || P(x*))

    `D` is the KL divergence divided by the number of classes, and the
    temperature `t` divides the logits of both networks within `D_t`. `P(x*)` is
    detached in the term of `lambda2`. As in the reference code, no other target
    is detached: the gradient of the last term flows into the student too.

    In the attack, both networks are constant. Then the student runs on x*
    twice and on the clean images once, and the peer on x* once, all in training
    mode. All runs update BatchNorm statistics. The logged accuracies are the
    student's.

    One optimizer trains both networks. The reference code has one optimizer for
    each, with the same settings and schedule. For SGD the two are equivalent;
    `keras_adaad.optimizers.PerNetwork` gives each network its own.
    The peer is not a teacher: it is trained, and stored with the student in
    `save`.

    Args:
        peer: The `keras.Model` that learns with the student, for the same
            inputs and classes. It returns logits. The reference code gives it
            the student's architecture.
        student, attack, **kwargs: See `keras_adaad.AdversarialTraining`.
        temperature: Divides the logits in `D_t`. Defaults to `5.0`.
        lambda1: Weight of the labels in the student's loss. Defaults to `0.0`.
        lambda2: Weight of the peer's outputs. Defaults to `1.0`.
        lambda3: Weight of the student's outputs on clean images. Defaults to
            `1.0`.
        gamma1: Weight of the labels in the peer's loss. Defaults to `1.0`.
        gamma2: Weight of the student's outputs in the peer's loss. The
            reference code has 0.1 for CIFAR-10, 1 for CIFAR-100. Defaults to
            `0.1`.

    Example:

    ```python
    trainer = keras_adaad.PeerAiD(keras.models.clone_model(student), student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    trainer.compile(optimizer, metrics=["accuracy"])
    trainer.fit(x_train, y_train, validation_data=(x_test, y_test), epochs=300)
    trainer.student.save("student.keras")
    ```

    Reference:
        - Jung et al., "PeerAiD: Improving Adversarial Distillation from a
          Specialized Peer Tutor", [2024](https://arxiv.org/abs/2403.06668).
        - [Reference code](https://github.com/jaewonalive/PeerAiD), `main.py`
          and `attack_function.py`.
    """

    forward_order: tuple[str, ...] = ("adversarial", "adversarial", "clean")
    needs_labels = True
    peer: keras.Model

    def __init__(
        self,
        peer: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        temperature: float = 5.0,
        lambda1: float = 0.0,
        lambda2: float = 1.0,
        lambda3: float = 1.0,
        gamma1: float = 1.0,
        gamma2: float = 0.1,
        **kwargs: Any,
    ) -> None:
        checks.check_model("student", student)
        checks.check_model("peer", peer)
        checks.check_pair(peer, student, "peer")
        temperature = checks.check_number(
            "temperature", temperature, open_minimum=True
        )
        lambda1 = checks.check_number("lambda1", lambda1)
        lambda2 = checks.check_number("lambda2", lambda2)
        lambda3 = checks.check_number("lambda3", lambda3)
        gamma1 = checks.check_number("gamma1", gamma1)
        gamma2 = checks.check_number("gamma2", gamma2)
        if uses_float16(peer):
            # Keras scales the loss by the policy of the whole model.
            kwargs.setdefault("dtype", "mixed_float16")
        super().__init__(
            student, attack, other_networks={"peer": peer}, **kwargs
        )
        self.temperature = temperature
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.lambda3 = lambda3
        self.gamma1 = gamma1
        self.gamma2 = gamma2

    def trained_networks(self) -> list[keras.Model]:
        return [self.student, self.peer]

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        target = ops.stop_gradient(logits_function(self.peer)(x))
        student = logits_function(self.student)
        return objectives.divergence_from(target, student)

    def call(self, x: Tensor, training: bool = False) -> Any:
        outputs = super().call(x, training)
        if isinstance(x, dict) and "adversarial" in x:
            outputs["peer"] = self.peer(x["adversarial"], training=training)
        return outputs

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        student, clean = logits["adversarial"], logits["clean"]
        peer = logits.get("peer")
        if peer is None:  # Only the student runs in training mode, or neither.
            peer = logits_function(self.peer)(views["adversarial"])
        return (
            self.lambda1 * cross_entropy_from_logits(y, student)
            + self.lambda2 * self._softened(ops.stop_gradient(peer), student)
            + self.lambda3 * self._softened(clean, student)
            + self.gamma1 * cross_entropy_from_logits(y, peer)
            + self.gamma2
            * kl_divergence_from_logits(student, peer)
            / self.num_classes
        )

    def _softened(self, target, predicted):
        """Returns `t^2 D_t(target || predicted)` of each sample."""
        divergence = kl_divergence_from_logits(
            target, predicted, self.temperature
        )
        return self.temperature**2 * divergence / self.num_classes

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "peer": keras.saving.serialize_keras_object(self.peer),
            "temperature": self.temperature,
            "lambda1": self.lambda1,
            "lambda2": self.lambda2,
            "lambda3": self.lambda3,
            "gamma1": self.gamma1,
            "gamma2": self.gamma2,
        }
