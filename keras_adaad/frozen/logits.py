"""Logits for the attack and the loss, in float32 for every dtype policy."""

import keras
from keras import ops

from keras_adaad._typing import Logits
from keras_adaad.frozen.network import frozen_network


def logits_function(model: keras.Model) -> Logits:
    """Returns the function `x -> logits` that the attacks use.

    Weights are constants, and the model is in inference mode. Calling the
    function changes no BatchNorm statistic, dropout state or weight.

    Args:
        model: A built `keras.Model`.

    Returns:
        A function from images of shape `(batch_size, ...)` to float32 logits
        of shape `(batch_size, num_classes)`.
    """
    network = frozen_network(model)
    # Computed once, and not at each step of an attack.
    values = network.weights()
    return lambda x: ops.cast(network.call(values, x), "float32")
