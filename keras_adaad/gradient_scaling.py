"""Input gradients through float16 that neither vanish nor overflow.

In float16 whatever is smaller than 6e-8 is zero, and the gradient of a
divergence between a student and its teacher is soon that small: the attack
would stand still. So the gradient that enters the network, at its logits, is
brought to one size, for each image, and leaves it, at the images, divided by
the same factor: a float32 number again, of the right value.
"""

from keras import ops

# Of gradient times logits: of the order of the sum of gradient times
# activation in every layer, which has thousands of them. Between this and
# float16's largest number, 65504, is room for a layer whose gradients are
# few and large; below it, for the many that are small.
SIZE = 1024.0


def with_scaled_gradient(function, x):
    """Returns `function(x)`, and scales the gradient on its way through.

    Args:
        function: Function from images to logits, which may compute in float16.
        x: Images, a float32 tensor of shape `(batch_size, ...)`.

    Returns:
        Float32 logits of shape `(batch_size, num_classes)`. Only their gradient
        at `x` is right: that at a weight would keep the scale.
    """
    packed = _enter(x)
    logits = function(packed[0])
    return _leave(ops.cast(logits, "float32"), packed[1])


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


@ops.custom_gradient
def _leave(logits, zeros):
    def gradient(*args, upstream=None):
        upstream = _upstream(args, upstream)
        # Large logits are the sign of large gradients in the network.
        size = _largest(upstream) * ops.maximum(_largest(logits), 1.0)
        scale = SIZE / ops.maximum(size, 1e-30)
        inverse_scale = ops.reshape(
            1.0 / scale, (-1,) + (1,) * (len(zeros.shape) - 1)
        )
        return upstream * scale, ops.zeros_like(zeros) + inverse_scale

    return logits, gradient


def _upstream(args, upstream):
    # PyTorch's backend gives it by name, after the arguments of the function.
    return args[0] if upstream is None else upstream


def _largest(x):
    return ops.max(ops.abs(x), axis=-1, keepdims=True)
