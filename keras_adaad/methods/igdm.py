"""IGDM: indirect gradient matching (Lee et al., ICLR 2025)."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.training.regularizer import Regularizer


@keras.saving.register_keras_serializable(package="keras_adaad")
class IGDM(Regularizer):
    """Indirect gradient matching: a loss term for any distiller.

    Around an image, a robust network is nearly linear, so the difference of
    its logits between opposite sides reflects its gradient. The student learns
    the teacher's difference, with `d = x* - x` from the distiller's attack:

        weight * progress * KL(T(x + d) - T(x - d) || S(x + d) - S(x - d))

    where `KL` is between the softmax of the differences and `progress` is
    `(epoch + 1) / epochs`. The term is added to the distiller's loss. The view
    `"opposite"` is `x - d`. It is not clipped to the range of the images.

    The reference code always divides the epoch by 200. In a training of 200
    epochs, the two are equal.

    Args:
        weight: Factor of the term. The script of the reference code uses 20
            for CIFAR-100. The same authors' later code uses 1 for CIFAR-10 and
            10 for CIFAR-100 and Tiny-ImageNet. Defaults to `1.0`.
        order: The views in the order in which the student runs on them in
            training mode. Each run updates its BatchNorm statistics. The
            default, `None`, is the distiller's order followed by `"opposite"`.
            It costs one more run of the student, because x + d is x*. The
            reference code for AdaAD runs the student on x* twice:
            `("adversarial", "clean", "opposite", "adversarial")`.

    Raises:
        TypeError: If `weight` is not a number.
        ValueError: If `weight` is negative, or `order` lacks a view.

    Example:

    ```python
    distiller = keras_adaad.AdaAD(
        teacher, student, regularizers=[keras_adaad.IGDM(weight=10.0)]
    )
    ```

    Reference:
        - Lee et al., "Indirect Gradient Matching for Adversarial Robust
          Distillation", [2023](https://arxiv.org/abs/2312.03286).
        - [The authors' code](https://github.com/HongsinLee/saad), `igdm.py`;
          there, epsilon and step size of the attack are swapped.
    """

    def __init__(
        self, weight: float = 1.0, order: Sequence[str] | None = None
    ) -> None:
        self.weight = checks.check_number("weight", weight)
        self.order = None if order is None else tuple(order)
        # Clean images are for the logged accuracy, whatever the loss.
        missing = {"clean", "adversarial", "opposite"} - set(self.order or ())
        if order is not None and missing:
            raise ValueError(
                "Argument `order` must name every view that the student is "
                f"run on; {sorted(missing)} are missing. "
                f"Received: order={order!r}"
            )

    def views(self, x: Tensor, x_adv: Tensor) -> Tensors:
        """Returns the images that the term adds to those of the distiller."""
        return {"opposite": x - (x_adv - x)}

    def forward_order(self, order: tuple[str, ...]) -> tuple[str, ...]:
        """Returns `self.order`, or `order` followed by `"opposite"`."""
        return (*order, "opposite") if self.order is None else self.order

    def loss(
        self, distiller: Any, views: Tensors, logits: Tensors, y: Labels
    ) -> Tensor:
        """Returns the term of each sample, of shape `(batch_size,)`."""
        teacher = distiller.teacher_logits
        divergence = kl_divergence_from_logits(
            teacher(views["adversarial"]) - teacher(views["opposite"]),
            logits["adversarial"] - logits["opposite"],
        )
        return self.weight * distiller.progress() * divergence

    def get_config(self) -> dict[str, Any]:
        return {"weight": self.weight, "order": self.order}
