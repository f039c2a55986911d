"""Input gradients through float16 that neither vanish nor overflow.

In float16, numbers smaller than 6e-8 are zero. The gradient of a divergence
between a student and its teacher soon becomes that small, and the attack would
stop. Therefore the backward pass scales the gradient at the logits to a fixed
size, for each image, and divides the gradient at the images by the same factor.
The result is a float32 number of the correct value.

In training mode BatchNorm mixes the images, so all images must share a factor.
"""

from keras import ops

from keras_adaad.frozen.fingerprint import layers_within

# Size of gradient times logits after scaling. It is of the order of the sum of
# gradient times activation in every layer, over thousands of activations. The
# range up to 65504, float16's largest number, is for layers with few and large
# gradients. The range below is for layers with many small gradients.
SIZE = 1024.0


def uses_float16(model):
    """Returns whether a model, or a layer inside it, computes in float16."""
    return any(
        layer.compute_dtype == "float16" for layer in layers_within(model)
    )


def with_scaled_gradient(function, x, training=False):
    """Returns `function(x)` in float32, and scales the gradient inside it.

    Only the gradient with respect to `x` is correct: gradients of weights keep
    the scale. With `training`, all images share one factor.
    """
    packed = _enter(x)
    logits = ops.cast(function(packed[0]), "float32")
    leave = _leave_together if training else _leave
    return leave(logits, packed[1])


@ops.custom_gradient
def with_large_gradient(logits):
    """Returns the logits, and scales their gradient by an unknown factor.

    Use it for gradients of float16 weights if only their direction matters. All
    values share one factor, so pass the logits of several views together. Each
    replica has its own factor, even if the replicas average their gradients.
    """

    def gradient(*args, upstream=None):
        upstream = _upstream(args, upstream)
        # A sum, because a weight's gradient is a sum over the images.
        size = ops.sum(ops.abs(upstream)) * ops.maximum(
            ops.max(ops.abs(logits)), 1.0
        )
        return upstream * (SIZE / ops.maximum(size, 1e-30))

    return logits, gradient


# The factor of each image is computed where the backward pass enters the
# network, and needed where it leaves. It is passed on as the gradient of a
# second tensor, of zeros, which is stacked with the images.


@ops.custom_gradient
def _enter(x):
    def gradient(*args, upstream=None):
        upstream = _upstream(args, upstream)
        # If a gradient overflows nevertheless, its sign is kept.
        scaled = ops.nan_to_num(upstream[0], posinf=65504.0, neginf=-65504.0)
        return scaled * upstream[1]

    return ops.stack([x, ops.zeros_like(x)]), gradient


def _leaving(together):
    @ops.custom_gradient
    def leave(logits, zeros):
        def gradient(*args, upstream=None):
            upstream = _upstream(args, upstream)
            # Large logits indicate large gradients in the network.
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
    # PyTorch's backend passes it by name, after the function's arguments.
    return args[0] if upstream is None else upstream


def _largest(x):
    axes = tuple(range(1, len(x.shape)))
    return ops.max(ops.abs(x), axis=axes, keepdims=True)
