"""The sample weights of SAAD (Lee & Chung, TMLR 2026)."""

from typing import Any

import keras
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.losses import entropy_from_logits
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.training.sample_weighting import SampleWeighting


@keras.saving.register_keras_serializable(package="keras_adaad")
class EntropyWeighting(SampleWeighting):
    """Weights each sample by the teacher's entropy, as SAAD does.

    Any distiller can use these weights. Adversarial images that fool the
    student but leave the teacher certain teach little. The weight of a sample
    is the entropy `H` of the teacher at x*, minus the smallest entropy of the
    batch. Where the weight is small, the student can learn from the clean image
    instead:

        w        = scale (H(T(x*)) - min_batch H(T(x*)))
        weighted = w loss + clean_weight (1 - w / max_batch w) KL(T(x) || S(x))

    `loss` is that of the method and its regularizers. The teacher runs on x*
    and, if `clean_weight` is positive, on the clean images, unless the method
    runs it there anyway. On several replicas, the minimum and the maximum are
    taken over each replica's part of the batch.

    The weights are not normalised. With the default `scale` and 10 classes they
    lie between 0 and 11.5, and all are small if the teacher is certain
    everywhere. An image alone in its batch, or in its replica's part, has the
    weight 0.

    Args:
        scale: Factor of the weights. Defaults to `5.0`, as in the reference
            code.
        clean_weight: Weight of the clean term, `beta` in the reference code.
            Defaults to `0.0`.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is negative or not finite.

    Example:

    ```python
    distiller = keras_adaad.AdaAD(
        teacher,
        student,
        sample_weighting=keras_adaad.EntropyWeighting(clean_weight=0.5),
    )
    ```

    Reference:
        - Lee and Chung, "Sample-wise Adaptive Weighting for Transfer
          Consistency in Adversarial Distillation",
          [2025](https://arxiv.org/abs/2512.10275).
        - [Reference code](https://github.com/HongsinLee/saad), `saad.py`.
    """

    def __init__(self, scale: float = 5.0, clean_weight: float = 0.0) -> None:
        self.scale = checks.check_number("scale", scale)
        self.clean_weight = checks.check_number("clean_weight", clean_weight)

    def weights(
        self, distiller: Any, views: Tensors, logits: Tensors, y: Labels
    ) -> Tensor:
        """Returns the weight of each sample, of shape `(batch_size,)`."""
        entropy = entropy_from_logits(
            distiller.teacher_logits(views["adversarial"])
        )
        return self.scale * (entropy - ops.min(entropy))

    def weighted_loss(
        self,
        distiller: Any,
        views: Tensors,
        logits: Tensors,
        y: Labels,
        loss: Tensor,
    ) -> Tensor:
        """Returns the weighted loss, with the clean term."""
        weight = self.weights(distiller, views, logits, y)
        loss = weight * loss
        if self.clean_weight > 0.0:
            certainty = 1.0 - weight / (ops.max(weight) + 1e-8)
            loss += self.clean_weight * (
                certainty
                * kl_divergence_from_logits(
                    distiller.teacher_logits(views["clean"]), logits["clean"]
                )
            )
        return loss

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "clean_weight": self.clean_weight}
