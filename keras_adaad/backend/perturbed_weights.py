"""Steps whose gradient is taken at perturbed weights, on two backends.

TensorFlow and PyTorch change the weights in place. JAX has no need of this.
"""

import contextlib
import contextvars

from keras import ops

# What puts the weights back. Each replica of TensorFlow has its own thread.
_restore = contextvars.ContextVar("restore", default=lambda: None)


@contextlib.contextmanager
def perturbed_until_update(model, offsets):
    """A scope in which the weights have offsets, until the optimizer's update.

    The optimizer then updates, constrains and averages the weights themselves.
    If the step fails before, they are put back too.

    Args:
        model: The compiled model.
        offsets: An offset for each of its trainable variables, or `None`.
    """
    pairs = [
        (v, ops.stop_gradient(ops.copy(v.value)), offset)
        for v, offset in zip(model.trainable_variables, offsets, strict=True)
        if offset is not None
    ]

    def restore():
        _restore.set(lambda: None)
        for variable, value, _ in pairs:
            variable.assign(value)

    _restore.set(restore)
    for variable, value, offset in pairs:
        variable.assign(value + offset)
    optimizer = model.optimizer
    # Not on the class, for an optimizer of another model may be of it too.
    optimizer.apply = lambda *args, **kwargs: _apply(optimizer, args, kwargs)
    try:
        yield
    finally:
        # All replicas are in `apply` before one leaves it.
        vars(optimizer).pop("apply", None)
        _restore.get()()


def _apply(optimizer, args, kwargs):
    _restore.get()()
    return type(optimizer).apply(optimizer, *args, **kwargs)
