"""Imports the frameworks: one main module for each backend.

On every backend the package has these names:

- `STATIC_SHAPES`: whether each input shape needs its own compiled program.
- `value_and_input_gradient(function, x)`: calls a function that returns
  `(values, rest)`: one value per sample, and other results of the same forward
  pass. Also returns the gradient of the summed values at `x`.
- `input_jacobian(function, x)`: the same for values of shape
  `(batch_size, num_values)`. The second axis of the gradient is `num_values`.
- `gradients(function, values)`: the gradient of a scalar function at a list of
  tensors, averaged over the replicas of a distributed step.
- `repeat(steps, body, x)`: applies `x = body(x)`, unrolled or as a loop,
  whichever is faster.
- `conv2d(x, kernel, bias, ...)`, `depthwise_conv2d(...)`: fast convolutions for
  the networks under attack.
- `lay_out_kernel(kernel)`: the part of `conv2d` that can run once per attack.
- `views_then_step(keras_step, make_views, model, ...)`: attack, then step.
- `compile_function(function, model, ...)`: compiles a function of arrays or
  tensors. `jit_compile="auto"` is XLA on JAX, a graph on TensorFlow, eager on
  PyTorch.
- `describe()`: device and precision, for a report.
- `full_precision()`: a context in which GPUs compute float32 in float32. Their
  default may be TF32, which has the precision of float16.
- `building_scope(model)`: where the variables of `model` must be created.
- `replica_index()`: the index of this replica in a distributed step.
- `replica_count()`: the number of replicas that each need an image of a batch.
- `to_devices(batch)`: a NumPy array as a tensor, divided over the devices of a
  `keras.distribution`. `to_host(tensor)`: such a tensor as one NumPy array.
- `batch_of_first_process(batch)`: the NumPy array of the first process, in all
  processes that compute one step together.
- `fixed_randomness()`: a scope in which random draws that bypass Keras's seed
  generators are the same each time. It leaves their random state unchanged.
- `processes`: a module for processes that train one model together, on
  backends where Keras does not support this.
- `Model`: a `keras.Model` with the fixes that training here needs.
"""

import contextlib
import importlib

import keras

from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor

if keras.config.backend() not in ("tensorflow", "jax", "torch"):
    raise ValueError(
        "keras_adaad needs a Keras backend that computes gradients: set the "
        'environment variable `KERAS_BACKEND` to "tensorflow", "jax" or '
        '"torch" before importing keras. '
        f"Received: KERAS_BACKEND={keras.config.backend()!r}"
    )

_active = importlib.import_module(f"{__name__}.{keras.config.backend()}")
processes = importlib.import_module(
    f"{__name__}.{keras.config.backend()}_processes"
)

STATIC_SHAPES = _active.STATIC_SHAPES
value_and_input_gradient = _active.value_and_input_gradient
input_jacobian = _active.input_jacobian
gradients = _active.gradients
repeat = _active.repeat
conv2d = _active.conv2d
depthwise_conv2d = _active.depthwise_conv2d
lay_out_kernel = _active.lay_out_kernel
views_then_step = _active.views_then_step
compile_function = _active.compile_function
describe = _active.describe
full_precision = _active.full_precision
building_scope = _active.building_scope
replica_index = _active.replica_index
replica_count = getattr(_active, "replica_count", lambda: 1)
batch_of_first_process = getattr(
    _active, "batch_of_first_process", lambda batch: batch
)
fixed_randomness = getattr(_active, "fixed_randomness", contextlib.nullcontext)
Model = getattr(_active, "Model", keras.Model)
to_devices = getattr(_active, "to_devices", keras.ops.convert_to_tensor)
to_host = getattr(_active, "to_host", keras.ops.convert_to_numpy)


def input_gradient(function: Objective, x: Tensor) -> Tensor:
    """Computes the gradient of per-sample values with respect to the images.

    Args:
        function: Function from images to values of shape `(batch_size,)`, or
            to a tuple that starts with these values.
        x: Images, a float32 tensor of shape `(batch_size, ...)`.

    Returns:
        The gradient of the summed values at `x`, a tensor of its shape.

    Example:

    ```python
    student = keras_adaad.logits_function(distiller.student)
    gradient = keras_adaad.input_gradient(
        lambda x: keras.ops.max(student(x), axis=-1), images
    )
    ```
    """

    def values(x):
        found = function(x)
        return found[0] if isinstance(found, tuple) else found

    return value_and_input_gradient(lambda x: (values(x), ()), x)[-1]
