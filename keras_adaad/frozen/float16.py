"""Input gradients through float16 that neither vanish nor overflow.

In float16 whatever is smaller than 6e-8 is zero, and the gradient of a
divergence between a student and its teacher is soon that small: the attack
would stand still. So the gradient that enters the network, at its logits, is
brought to one size, for each image, and leaves it, at the images, divided by
the same factor: a float32 number again, of the right value.

In training mode BatchNorm mixes the images, and the factor must be one for all.
"""

from keras import ops

# Of gradient times logits: of the order of the sum of gradient times
# activation in every layer, which has thousands of them. Between this and
# float16's largest number, 65504, is room for a layer whose gradients are
# few and large; below it, for the many that are small.
SIZE = 1024.0


def with_scaled_gradient(function, x, training=False):
    """Returns `function(x)`, and scales the gradient on its way through.

    Args:
        function: Function from images to logits, which may compute in float16.
        x: Images, a float32 tensor of shape `(batch_size, ...)`.
        training: Whether the function runs a network in training mode.
            Defaults to `False`.

    Returns:
        Float32 logits of shape `(batch_size, num_classes)`. Only their gradient
        at `x` is right: that at a weight would keep the scale.
    """
    packed = _enter(x)
    logits = ops.cast(function(packed[0]), "float32")
    leave = _leave_together if training else _leave
    return leave(logits, packed[1])


@ops.custom_gradient
def with_large_gradient(logits):
    """Returns the logits, and enlarges their gradient by an unknown factor.

    For gradients whose direction alone matters, at weights that compute in
    float16. The factor is one for all values: those of several views go in
    together. Replicas that average their gradients each have their own.

    Args:
        logits: A float32 tensor of logits.

    Returns:
        The same.
    """

    def gradient(*args, upstream=None):
        upstream = _upstream(args, upstream)
        # A weight's gradient is a sum over the images, a pixel's is not.
        size = ops.sum(ops.abs(upstream)) * ops.maximum(
            ops.max(ops.abs(logits)), 1.0
        )
        return upstream * (SIZE / ops.maximum(size, 1e-30))

    return logits, gradient


# The factor of each image is known where the backward pass enters the network
# and needed where it leaves. It travels as the gradient of a second tensor, of
# zeros, that is packed with the images.


@ops.custom_gradient
def _enter(x):
    def gradient(*args, upstream=None):
        upstream = _upstream(args, upstream)
        # Where a gradient overflows in spite of all, its sign is kept.
        scaled = ops.nan_to_num(upstream[0], posinf=65504.0, neginf=-65504.0)
        return scaled * upstream[1]

    return ops.stack([x, ops.zeros_like(x)]), gradient


def _leaving(together):
    @ops.custom_gradient
    def leave(logits, zeros):
        def gradient(*args, upstream=None):
            upstream = _upstream(args, upstream)
            # Large logits are the sign of large gradients in the network.
            size = _largest(upstream) * ops.maximum(_largest(logits), 1.0)
            if together:
                size = ops.max(size) + ops.zeros_like(size)
            scale = SIZE / ops.maximum(size, 1e-30)
            inverse_scale = ops.reshape(
                1.0 / scale, (-1,) + (1,) * (len(zeros.shape) - 1)
            )
            return upstream * scale, ops.zeros_like(zeros) + inverse_scale

        return logits, gradient

    return leave


_leave, _leave_together = _leaving(together=False), _leaving(together=True)


def _upstream(args, upstream):
    # PyTorch's backend gives it by name, after the arguments of the function.
    return args[0] if upstream is None else upstream


def _largest(x):
    return ops.max(ops.abs(x), axis=-1, keepdims=True)
