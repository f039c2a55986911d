"""The geometry of the two balls: a step, the way back, a random start."""

import math

from keras import ops


class Linf:
    """The ball in which no pixel moves by more than epsilon."""

    def direction(self, gradient):
        """Returns the steepest ascent step of norm 1."""
        return ops.sign(gradient)

    def project(self, x_adv, x, epsilon):
        """Returns the point of the ball around `x` nearest to `x_adv`."""
        return ops.minimum(ops.maximum(x_adv, x - epsilon), x + epsilon)

    def uniform(self, shape, epsilon, draws):
        """Returns a perturbation drawn uniformly from the ball."""
        return epsilon * draws.uniform(shape)


class L2:
    """The ball in which no image moves by more than epsilon in length."""

    def direction(self, gradient):
        """Returns the steepest ascent step of norm 1."""
        return gradient / (_length(gradient) + 1e-12)

    def project(self, x_adv, x, epsilon):
        """Returns the point of the ball around `x` nearest to `x_adv`."""
        delta = x_adv - x
        scale = ops.minimum(1.0, epsilon / (_length(delta) + 1e-12))
        return x + scale * delta

    def uniform(self, shape, epsilon, draws):
        """Returns a perturbation drawn uniformly from the ball."""
        # A uniform point of the sphere in d + 2 dimensions, less its last two
        # coordinates, is a uniform point of the ball in d dimensions.
        dimensions = math.prod(shape[1:])
        point = draws.normal((shape[0], dimensions + 2))
        point = point / ops.norm(point, axis=-1, keepdims=True)
        return epsilon * ops.reshape(point[:, :dimensions], shape)


NORMS = {"linf": Linf(), "l2": L2()}


def _length(x):
    axes = tuple(range(1, len(x.shape)))
    return ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))
