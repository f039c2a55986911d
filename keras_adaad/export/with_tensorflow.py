"""What of an export needs TensorFlow, whatever backend Keras runs on.

To write, Keras must run on TensorFlow; elsewhere this is run as a program:

    python -m keras_adaad.export.with_tensorflow PATH STUDENT.keras [IMAGES.npy]
"""

import pathlib
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_adaad.export.formats import format_of


def write(student, path, calibration_images=None):
    """Writes a student with Keras's exporter; see `export_student`."""
    if getattr(student, "inputs", None):
        # Keras exports only what has been called: on any image.
        _, *shape = student.input_shape
        student(np.zeros([1, *(size or 32 for size in shape)], "float32"))
    options = {}
    if calibration_images is not None:

        def samples():
            for image in calibration_images:
                yield [image[np.newaxis]]

        int8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": samples,
            # Of int8 alone: where the converter has none it says so.
            "target_spec": {"supported_ops": [int8]},
        }
    with warnings.catch_warnings():
        # Keras asks NumPy for a name that is no more, on behalf of tf2onnx.
        warnings.filterwarnings("ignore", ".*np.object", FutureWarning)
        student.export(
            str(path), format=format_of(path), verbose=False, **options
        )


def load_saved_model(path):
    """Returns a SavedModel's function from NumPy images to logits."""
    loaded = tf.saved_model.load(str(path))

    def call(x):
        return loaded.serve(x).numpy()

    # Without the object, its variables would go.
    call.loaded = loaded
    return call


def main(path, student, images=None):
    write(
        keras.saving.load_model(student, compile=False),
        pathlib.Path(path),
        None if images is None else np.load(images),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
