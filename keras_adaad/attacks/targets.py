"""The classes that a targeted attack aims at, one after another."""

import numpy as np


def runner_up_classes(attack, classifier, x, batch_size):
    """Returns the likeliest classes on the clean images but the first.

    Args:
        attack: An `Attack` with `targets` and `restarts`.
        classifier: The `Classifier` of the model.
        x: Clean images.
        batch_size: Images per compiled call.

    Returns:
        An int32 array of shape `(rounds, num_images)`: all restarts towards
        the second likeliest class, then towards the third, and so on.
    """
    ranking = np.argsort(-classifier.predict(x, batch_size), axis=-1)
    targets = ranking.T[1 : attack.targets + 1].astype("int32")
    return np.repeat(targets, attack.restarts, axis=0)
