"""A SavedModel as a function, on TensorFlow."""

import tensorflow as tf

from keras_adaad.export.samples import as_dtype


def load_saved_model(path):
    """Returns a SavedModel's function from images to logits, and its dtype."""
    loaded = tf.saved_model.load(str(path))
    if not hasattr(loaded, "serve"):
        raise ValueError(
            "Argument `path` must be a SavedModel with a function `serve`, as "
            f"Keras exports it. Received: path={str(path)!r}, with the "
            f"signatures {list(loaded.signatures)}"
        )
    signature = next(iter(loaded.signatures.values()))
    (images,) = tf.nest.flatten(signature.structured_input_signature)
    dtype = images.dtype.as_numpy_dtype

    def call(x):
        return loaded.serve(as_dtype(x, dtype)).numpy()

    # Keeps the object, and so its variables, alive.
    call.loaded = loaded  # type: ignore[attr-defined]
    return call, dtype
