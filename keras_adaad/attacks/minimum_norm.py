"""Attacks that look for the smallest perturbation."""

import math
from typing import Any

from keras import ops

from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.iterative import IterativeAttack
from keras_adaad.attacks.iterative import per_image
from keras_adaad.attacks.norms import NORMS


class MinimumNormAttack(IterativeAttack):
    """An attack that remembers the closest point that fools the model.

    Only a point within epsilon counts. If there is none, the attack returns the
    clean image.
    """

    minimum_norm = True

    def begin(
        self,
        objective: Objective,
        x: Tensor,
        noise: Tensor | None,
        setting: dict[str, Any],
    ) -> Tensors:
        return {
            **super().begin(objective, x, noise, setting),
            "closest": x,
            "distance": ops.full_like(self._size(x), math.inf),
        }

    def result(
        self, x: Tensor, state: Tensors, setting: dict[str, Any]
    ) -> Tensor:
        within = state["distance"] <= setting["epsilon"]
        return ops.where(per_image(within, x), state["closest"], x)

    def _closest(self, state, point, size, fooled):
        """Returns the closest points and their distances, with a new point."""
        closer = ops.logical_and(fooled, size < state["distance"])
        return {
            "closest": ops.where(
                per_image(closer, point), point, state["closest"]
            ),
            "distance": ops.where(closer, size, state["distance"]),
        }

    def _size(self, perturbation):
        """Returns the norm of each image's perturbation."""
        return ops.reshape(NORMS[self.norm].size(perturbation), (-1,))
