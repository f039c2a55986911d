"""IGDM: indirect gradient matching (Lee et al., ICLR 2025)."""

import keras

from keras_adaad import checks
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.training.regularizer import Regularizer


@keras.saving.register_keras_serializable(package="keras_adaad")
class IGDM(Regularizer):
    """Indirect gradient matching: a term that any distiller can carry.

    Around an image, a robust network is nearly linear, so the change of its
    logits from one side to the other tells its gradient. The student learns
    the teacher's change, with `d = x* - x` of the distiller's own attack:

        weight * progress * KL(T(x + d) - T(x - d) || S(x + d) - S(x - d))

    where `KL` is between the softmax of the differences and `progress` is
    `(epoch + 1) / epochs`. The term is added to the distiller's loss. `x - d`,
    the view `"opposite"`, is not clipped to the range of the images.

    The reference code divides the epoch by 200 however long the training is;
    for 200 epochs the two are equal.

    Args:
        weight: Factor of the term. The script of the reference code has 20 for
            CIFAR-100; the same authors' later code has 1 for CIFAR-10 and 10
            for CIFAR-100 and Tiny-ImageNet. Defaults to `1.0`.
        order: The views in the order in which the student is run on them in
            training mode, each of which moves its BatchNorm statistics. The
            default, `None`, is the distiller's own order and then
            `"opposite"`: x + d is x*, so a term costs one more run of the
            student. The reference code for AdaAD runs it on x* twice:
            `("adversarial", "clean", "opposite", "adversarial")`.

    Raises:
        TypeError: If `weight` is no number.
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
          there, epsilon and step size of the attack are exchanged.
    """

    def __init__(self, weight=1.0, order=None):
        self.weight = checks.check_number("weight", weight)
        self.order = None if order is None else tuple(order)
        missing = {"adversarial", "opposite"} - set(self.order or ())
        if order is not None and missing:
            raise ValueError(
                "Argument `order` must name every view that the student is "
                f"run on; {sorted(missing)} are missing. "
                f"Received: order={order!r}"
            )

    def views(self, x, x_adv):
        """Returns the images that the term adds to the distiller's."""
        return {"opposite": x - (x_adv - x)}

    def forward_order(self, order):
        """Returns the distiller's `order` with the term's own view."""
        return (*order, "opposite") if self.order is None else self.order

    def loss(self, distiller, views, logits, y):
        """Returns the term of each sample, of shape `(batch_size,)`."""
        teacher = distiller.teacher_logits
        divergence = kl_divergence_from_logits(
            teacher(views["adversarial"]) - teacher(views["opposite"]),
            logits["adversarial"] - logits["opposite"],
        )
        return self.weight * distiller.progress() * divergence

    def get_config(self):
        return {"weight": self.weight, "order": self.order}
