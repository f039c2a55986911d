"""Functions from images to logits, for attacks on arrays."""

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad.checks.data import to_numpy
from keras_adaad.frozen.classifier import Classifier
from keras_adaad.frozen.classifier import batches


class NotFiniteError(ValueError):
    """A function returned NaN or infinite logits for the images at `places`."""

    def __init__(self, places):
        self.places = np.asarray(places)
        super().__init__(
            "Argument `model` must return finite logits: NaN and infinity "
            "say no class. Received: NaN or infinite logits for the images "
            f"at {', '.join(map(str, self.places[:10]))}"
            f"{', ...' if len(self.places) > 10 else ''} of those attacked"
        )

    def of(self, rows):
        """Returns the error with places in `rows` instead of in the batch."""
        # A padded batch holds the last image several times.
        places = np.minimum(self.places, len(rows) - 1)
        return NotFiniteError(np.unique(rows[places]))


class FunctionClassifier:
    """The counterpart of `Classifier` for functions that are not Keras models.

    The function takes a float32 NumPy array and returns an array or tensor. The
    attack on it runs eagerly, because Keras cannot compile it.
    """

    def __init__(self, function, num_classes):
        self.function = function
        self.num_classes = num_classes

    def program(self, key, function):
        """Returns `function(logits, *args)` as a `program(*args)`."""

        def program(*args):
            args = keras.tree.map_structure(_as_tensor, args)
            return function(self._logits, *args)

        return program

    def predict(self, x, batch_size):
        """Returns the logits of images, a float32 NumPy array."""
        outputs = []
        for some, _ in batches(np.arange(len(x)), batch_size):
            try:
                outputs.append(call(self.function, x[some], self.num_classes))
            except NotFiniteError as error:
                raise error.of(some) from None
        return np.concatenate(outputs)

    def _logits(self, x):
        x = backend.to_host(x)
        return backend.to_devices(call(self.function, x, self.num_classes))


def classifier_of(model, num_classes, seed=0, images=None):
    """Returns the classifier of a Keras model or of a function."""
    if isinstance(model, keras.Model):
        return Classifier.of(model, num_classes, seed, images)
    return FunctionClassifier(model, num_classes)


def _as_tensor(value):
    # PyTorch does not support the product of an array and a tensor.
    if isinstance(value, (np.ndarray, np.generic)):
        return ops.convert_to_tensor(value)
    return value


def call(function, x, num_classes=None):
    """Returns the logits of images, a float32 NumPy array, or raises."""
    # A copy: a function that normalises in place must not change the attack.
    logits = to_numpy(function(np.array(x)))
    fits = logits.ndim == 2 and len(logits) == len(x) and logits.shape[1] > 1
    if not fits or num_classes not in (None, logits.shape[1]):
        raise ValueError(
            "Argument `model` must return logits of shape `(batch_size, "
            "num_classes)`, of at least 2 classes, for NumPy images of any "
            f"batch size. Received: outputs of shape {logits.shape} for "
            f"images of shape {x.shape}"
        )
    logits = logits.astype("float32")
    finite = np.isfinite(logits).all(-1)
    if not finite.all():
        raise NotFiniteError(np.flatnonzero(~finite))
    return logits
