"""Adversarial weight perturbation: takes each step at the worst nearby weights.

Wu et al., "Adversarial Weight Perturbation Helps Robust Generalization",
[NeurIPS 2020](https://arxiv.org/abs/2004.05884), equations 7 to 10.
docs/methods.md says where the student's runs differ from the authors' code.
"""

from typing import Any

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad.frozen.float16 import uses_float16
from keras_adaad.frozen.float16 import with_large_gradient
from keras_adaad.losses import BatchMean


def weight_offsets(model, data):
    """Returns the offset of each trainable variable, a tensor or `None`.

    For each matrix or kernel `w` of the student, with `g` the gradient of the
    loss with respect to `w`, computed with the student in training mode:

        v = weight_perturbation ||w|| g / ||g||

    BatchNorm statistics do not change. Vectors, such as biases and BatchNorm's
    weights, are not perturbed, nor are weights whose gradient is not finite,
    which can happen in float16.
    """
    views, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    model.learning = False
    student = model.student
    values = [v.value for v in student.trainable_variables]
    others = [v.value for v in student.non_trainable_variables]

    order = list(dict.fromkeys(model.forward_order))

    def loss(values):
        logits: Any = []
        for view in order:
            outputs, _ = student.stateless_call(
                values, others, views[view], training=True
            )
            logits.append(ops.cast(outputs, "float32"))
        if uses_float16(student):
            # Scaled together: separate factors would reweight the views.
            logits = ops.unstack(with_large_gradient(ops.stack(logits)))
        logits = dict(zip(order, logits, strict=True))
        per_sample = model.total_loss(views, logits, y)
        return BatchMean().of(per_sample, sample_weight)

    gradients = backend.gradients(loss, values)
    offsets = {
        id(variable): _offset(model.weight_perturbation, value, gradient)
        for variable, value, gradient in zip(
            student.trainable_variables, values, gradients, strict=True
        )
        if len(variable.shape) > 1
    }
    return [offsets.get(id(v)) for v in model.trainable_variables]


def _offset(size, value, gradient):
    # Flattened: not every backend supports the norm of a rank-4 kernel.
    norm = ops.norm(ops.ravel(gradient))
    length = ops.norm(ops.ravel(value)) / (norm + 1e-20)
    offset = ops.where(ops.isfinite(norm), size * length * gradient, 0.0)
    return ops.stop_gradient(offset)
