"""A teacher that is linearised at the clean images, for a cheaper attack.

Linearising every logit would cost one backward pass per class. One backward
pass gives the gradient of one number. Therefore only one scalar function of the
logits is linearised, and its change is added to one logit.
"""

from keras import ops

from keras_adaad import backend


def linear_teacher(teacher, x, value):
    """Returns a linearised teacher, from one forward and one backward pass.

        z(x') = T(x) + <grad_x v(T(x)), x' - x> e

    `value` maps logits to `v`, of shape `(batch_size,)`, and `e`, of the shape
    of the logits. The gradient flows through `z(x')` into `x'`.
    """

    def value_and_logits(x):
        logits = teacher(x)
        values, direction = value(logits)
        return values, (logits, direction)

    _, rest, slope = backend.value_and_input_gradient(value_and_logits, x)
    logits, direction = (ops.stop_gradient(tensor) for tensor in rest)
    axes = tuple(range(1, len(x.shape)))

    def linear(x_adv):
        change = ops.sum(slope * (x_adv - x), axis=axes)
        return logits + change[:, None] * direction

    return linear


def log_odds_of_first_class(logits):
    """Returns the log-odds of each image's top class, and that class, one-hot.

    If this is `value` of `linear_teacher`, then `z` has log-odds of that class
    that are linear in `x'`, and the probabilities of the other classes keep
    their proportions.
    """
    first = ops.one_hot(
        ops.argmax(logits, axis=-1), logits.shape[-1], dtype=logits.dtype
    )
    others = ops.logsumexp(logits - 1e9 * first, axis=-1)
    return ops.sum(first * logits, axis=-1) - others, first
