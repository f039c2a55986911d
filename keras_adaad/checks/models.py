"""Checks that models are classifiers that return logits and fit together."""

import keras
import numpy as np

_LOGITS_FIX = (
    "The attack and the loss need logits: probabilities hide the gradient "
    "where they saturate. Build the model without the final activation, e.g. "
    "`keras.layers.Dense(num_classes)`, and use `from_logits=True` in losses "
    "you train it with elsewhere."
)
# What layers are called that leave probabilities what they are.
_PASSES_ON = ("linear", "average", "reshape", "flatten", "identity", "dropout")


def check_model(name, model, allow_probabilities=False):
    """Raises unless `model` is a classifier without a final softmax."""
    check_final_activation(name, model, allow_probabilities)
    if getattr(model, "inputs", None):
        check_one_input(name, model.input_shape)
        check_classifier(name, model.output_shape)


def check_final_activation(name, model, allow_probabilities=False):
    """Raises unless `model` is a Keras model without a final softmax."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Argument `{name}` must be a `keras.Model`. "
            f"Received: {name}={model!r} (of type {type(model).__name__})"
        )
    activation = None if allow_probabilities else _final_activation(model)
    if activation in ("softmax", "sigmoid", "log_softmax"):
        raise ValueError(
            f"Argument `{name}` ends in a {activation}. {_LOGITS_FIX} "
            f"Received: {name}={model.name!r}"
        )


def check_classifier(name, output_shape):
    """Raises unless outputs of a shape are logits, one for each class."""
    if not is_classifier(output_shape):
        raise ValueError(
            f"Argument `{name}` must have one output, logits of shape "
            "`(batch_size, num_classes)` with at least 2 classes. Only the "
            "attacks `PGD` and `FGSM` take models with other outputs, such as "
            "a class for each pixel: call `attack(model, x, y)`, and compute "
            "your own metric on the images that it returns. "
            f"Received: {name}.output_shape={output_shape}"
        )


def is_classifier(output_shape):
    """Whether outputs of a shape are logits, one for each class."""
    if not _is_one_tensor(output_shape) or len(output_shape) != 2:
        return False
    return (output_shape[1] or 0) >= 2


def check_one_output(name, output_shape):
    """Raises unless a shape is that of one tensor."""
    if not _is_one_tensor(output_shape):
        raise ValueError(
            f"Argument `{name}` must have one output. Select it: "
            "`keras.Model(model.inputs, model.outputs[0])`. "
            f"Received: {name}.output_shape={output_shape}"
        )


def check_one_input(name, input_shape):
    """Raises unless a shape is that of one batch of images."""
    if isinstance(input_shape, (list, dict)) or isinstance(
        input_shape[0], (list, tuple)
    ):
        raise ValueError(
            f"Argument `{name}` must have one input, the images. "
            f"Received: {name}.input_shape={input_shape}"
        )


def _is_one_tensor(shape):
    if not isinstance(shape, tuple):
        return False
    return all(size is None or isinstance(size, int) for size in shape)


def output_shape(model, input_shape):
    """Returns the shape of the outputs of a built model."""
    if getattr(model, "inputs", None):
        shape = model.output_shape
        # A network for images of any size has outputs of any size.
        if not _is_one_tensor(shape) or None not in shape[1:]:
            return shape
    outputs = model.compute_output_spec(keras.KerasTensor(input_shape))
    return keras.tree.map_structure(lambda output: tuple(output.shape), outputs)


def check_pair(teacher, student, name):
    """Raises unless two models are different networks for the same data."""
    if teacher is student:
        raise ValueError(
            f"Arguments `{name}` and `student` are the same model. Build the "
            "student as a model of its own, e.g. with "
            f"`keras.models.clone_model`. Received: {teacher.name!r} twice"
        )
    shared = {id(v) for v in teacher.variables} & {
        id(v) for v in student.variables
    }
    if shared:
        raise ValueError(
            f"Arguments `{name}` and `student` share weights, and each must "
            "have its own. Build them from separate layers. "
            f"Received: {len(shared)} shared variables"
        )
    if getattr(teacher, "inputs", None) and getattr(student, "inputs", None):
        if not _compatible(teacher.input_shape, student.input_shape):
            raise ValueError(
                f"The input shapes of `{name}` and `student` differ, and both "
                "see the same images. Build them for the same images. "
                f"Received: {name}.input_shape={teacher.input_shape}, "
                f"student.input_shape={student.input_shape}"
            )
        check_same_classes(teacher.output_shape, student.output_shape, name)


def check_same_classes(teacher_output_shape, student_output_shape, name):
    """Raises unless teacher and student have the same number of classes."""
    if not _compatible(teacher_output_shape, student_output_shape):
        raise ValueError(
            f"The numbers of classes of `{name}` and `student` differ, and "
            "the student learns the teacher's outputs. Give both the same "
            f"classes. Received: {name} output shape {teacher_output_shape}, "
            f"student output shape {student_output_shape}"
        )


def _compatible(shape, other):
    if len(shape) != len(other):
        return False
    pairs = zip(shape, other, strict=True)
    return all(a is None or b is None or a == b for a, b in pairs)


def check_logits(name, outputs):
    """Raises if the outputs of a model on real images are probabilities."""
    if are_probabilities(outputs):
        raise ValueError(
            f"The outputs of `{name}` are probabilities: each row lies in "
            f"[0, 1] and sums to 1. {_LOGITS_FIX} "
            f"Received: first row {outputs[0]}"
        )


def are_probabilities(outputs):
    """Returns whether each row lies in [0, 1] and sums to 1.

    The tolerance is that of a softmax in bfloat16, or of one whose values are
    rounded to whole multiples of 1/256, as in an int8 file.
    """
    # Below 1, which is how far zeros are, as of a new head.
    tolerance = min(0.5, max(0.02, outputs.shape[-1] / 512))
    return (
        np.abs(outputs.sum(-1) - 1.0).max() <= tolerance
        and outputs.min() >= -1e-5
        and outputs.max() <= 1.0 + 1e-5
    )


def _final_activation(model):
    """Returns the name of a model's final activation, or `None` if unknown."""
    if isinstance(model, keras.Sequential):
        operations = model.layers
    else:
        operations = getattr(model, "operations", [])
    for operation in reversed(operations):
        if isinstance(operation, keras.Model):
            return _final_activation(operation)
        name = _activation_of(operation)
        if name not in _PASSES_ON:
            return name
    return None


def _activation_of(operation):
    activation = getattr(operation, "activation", operation)
    if isinstance(operation, keras.layers.Layer) and activation is operation:
        return type(operation).__name__.lower()
    name = getattr(activation, "__name__", type(activation).__name__)
    name = {"LogSoftmax": "log_softmax"}.get(name, name.lower())
    if name == "linear" and not isinstance(operation, keras.layers.Activation):
        return "logits"  # Of a layer that computes them.
    return name
