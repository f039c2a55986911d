"""The processes of `MultiWorkerMirroredStrategy`, on TensorFlow.

This module has the names of `torch_processes.py`. The strategy itself divides
the data and reduces gradients and metrics.
"""

import itertools

import keras
import tensorflow as tf

from keras_adaad.backend.one_process import (
    averaged_gradient as averaged_gradient,
)
from keras_adaad.backend.one_process import broadcast as broadcast
from keras_adaad.backend.one_process import count as count
from keras_adaad.backend.one_process import start as start
from keras_adaad.backend.one_process import totals as totals

# Arguments of an optimizer that Keras applies on each replica alone, before it
# adds up the gradients, or that it can't apply on several replicas.
ON_ONE_REPLICA = (
    *("clipnorm", "clipvalue", "global_clipnorm"),
    *("gradient_accumulation_steps", "ema_overwrite_frequency"),
)


def index():
    """Returns 0 in the chief, which writes the files, and 1 in the others."""
    strategy = tf.distribute.get_strategy()
    return 0 if strategy.extended.should_checkpoint else 1


def check_optimizer(optimizer):
    """Raises if an optimizer would take other steps than on one device.

    The strategy is that of the current scope.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if optimizer is None or replicas == 1:
        return
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "A student in mixed_float16 can't train on several replicas of "
            "TensorFlow: Keras's `LossScaleOptimizer` looks for infinite "
            "gradients on the first replica alone. Use mixed_bfloat16, or one "
            f"device. Received: {replicas} replicas"
        )
    for part, name in itertools.product(_parts(optimizer), ON_ONE_REPLICA):
        value = getattr(part, name, None)
        if name == "ema_overwrite_frequency" and not part.use_ema:
            value = None
        if value is not None:
            raise ValueError(
                f"The optimizer's `{name}` can't be used on several replicas "
                "of TensorFlow, where Keras would apply it to each replica's "
                "part of the gradient, or fail. Leave it out, or train on one "
                "device, with JAX or with PyTorch. "
                f"Received: {name}={value}, and {replicas} replicas"
            )


def _parts(optimizer):
    """Returns the optimizers that an optimizer is made of, or itself alone.

    One that is made of others has none of these arguments of its own.
    """
    if hasattr(optimizer, "parts"):  # Ours.
        return optimizer.parts.values()
    return getattr(optimizer, "optimizers", [optimizer])  # Keras's.


def weighted_by_images(loss, per_image):
    """Returns a replica's mean loss, weighted by its number of images.

    Only its gradient is, because Keras weights the value when it averages the
    logs. Keras adds up the gradients of the replicas' means: in a batch that
    does not divide evenly, an image of a small part would count more.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return loss
    images = tf.cast(tf.shape(per_image)[0], loss.dtype)
    mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, images)
    weighted = loss * images / mean
    return weighted - tf.stop_gradient(weighted - loss)
