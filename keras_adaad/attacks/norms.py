"""The two norms: their balls, step directions and random starts."""

import math

from keras import ops


class Linf:
    """The ball in which no pixel moves by more than epsilon."""

    def size(self, delta):
        """Returns the norm of each image, with trailing axes of size 1."""
        return ops.max(ops.abs(delta), axis=_image_axes(delta), keepdims=True)

    def dual_size(self, gradient):
        """Returns the largest rise of a step of norm 1 along each gradient."""
        return ops.sum(
            ops.abs(gradient), axis=_image_axes(gradient), keepdims=True
        )

    def direction(self, gradient):
        """Returns the steepest ascent step of norm 1."""
        # The sign of NaN is zero in PyTorch: the attack would not move, and
        # nobody would know why.
        return ops.where(ops.isnan(gradient), gradient, ops.sign(gradient))

    def project(self, x_adv, x, epsilon):
        """Returns the point of the ball around `x` nearest to `x_adv`."""
        return ops.minimum(ops.maximum(x_adv, x - epsilon), x + epsilon)

    def uniform(self, shape, epsilon, rng):
        """Returns a perturbation drawn uniformly from the ball."""
        return epsilon * rng.uniform(shape)

    def on_sphere(self, shape, epsilon, rng):
        """Returns a random perturbation of norm epsilon."""
        return epsilon * _normalized(rng.uniform(shape), self)


class L2:
    """The ball in which no image moves by more than epsilon in L2 norm."""

    def size(self, delta):
        squares = ops.sum(
            ops.square(delta), axis=_image_axes(delta), keepdims=True
        )
        return ops.sqrt(squares)

    def dual_size(self, gradient):
        return self.size(gradient)

    def direction(self, gradient):
        return _normalized(gradient, self)

    def project(self, x_adv, x, epsilon):
        delta = x_adv - x
        scale = ops.minimum(1.0, epsilon / (self.size(delta) + 1e-12))
        return x + scale * delta

    def uniform(self, shape, epsilon, rng):
        # A uniform point on the sphere in d + 2 dimensions, without its last
        # two coordinates, is a uniform point in the ball in d dimensions.
        dimensions = math.prod(shape[1:])
        point = rng.normal((shape[0], dimensions + 2))
        point = point / ops.norm(point, axis=-1, keepdims=True)
        return epsilon * ops.reshape(point[:, :dimensions], shape)

    def on_sphere(self, shape, epsilon, rng):
        return epsilon * _normalized(rng.normal(shape), self)


NORMS: dict[str, Linf | L2] = {"linf": Linf(), "l2": L2()}


def _normalized(delta, norm):
    return delta / (norm.size(delta) + 1e-12)


def _image_axes(delta):
    return tuple(range(1, len(delta.shape)))


def radius_of_another_range(epsilon, norm, input_range):
    """Returns why a radius looks as if it had other units, or `None`."""
    low, high = input_range
    if norm == "linf" and epsilon >= 0.5 * (high - low):
        return half_across(epsilon, input_range)
    if norm == "l2" and 0.0 < epsilon < 0.05 * (high - low):
        return (
            f"epsilon {epsilon:g} is small for an L2 ball in [{low:g}, "
            f"{high:g}]: is it the radius of an L-infinity ball?"
        )
    if 0.0 < epsilon < 0.5 * (high - low) / 255:
        return (
            f"epsilon {epsilon:g} is less than half a step of 8-bit images in "
            f"[{low:g}, {high:g}]: is it in the units of the images?"
        )
    return None


def half_across(epsilon, input_range):
    """Returns what is wrong with a radius at which images can be anything."""
    low, high = input_range
    return (
        f"epsilon {epsilon:g} reaches half across the input range "
        f"[{low:g}, {high:g}], so every image can be made gray: is it in "
        "the units of the images?"
    )
