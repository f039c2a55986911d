"""The only room that imports a framework: three modules with the same names.

- `STATIC_SHAPES`: whether a program is compiled for each shape.
- `value_and_input_gradient(function, x)`: of a function that returns
  `(values, rest)`: one value per sample, and what else the same forward pass
  gives; the gradient is that of the summed values at `x`.
- `input_jacobian(function, x)`: the same for values of shape
  `(batch_size, num_values)`; the second axis of the gradient is that of values.
- `gradients(function, values)`: of a scalar function of a list of tensors, the
  mean over the replicas of a distributed step.
- `repeat(steps, body, x)`: `x = body(x)`, unrolled or looped as is faster.
- `conv2d(x, kernel, bias, ...)`, `depthwise_conv2d(...)`: a convolution of the
  attack.
- `lay_out_kernel(kernel)`: what of `conv2d` can be done once per attack.
- `views_then_step(keras_step, make_views, model, ...)`: attack, then step.
- `compile_function(function, model, ...)`: compiled, for arrays or tensors.
  `jit_compile="auto"` is XLA on JAX, a graph on TensorFlow, eager on PyTorch.
- `describe()`: device and precision, for a report.
- `full_precision()`: a context in which GPUs compute float32 in float32, where
  their default is TF32, with the digits of a float16.
- `building_scope(model)`: where the variables of `model` must be created.
- `replica_index()`: which of the replicas of a distributed step this is.
- `replica_count()`: how many of them each must get an image of every batch.
- `to_devices(batch)`: a NumPy array as a tensor, over the devices of a
  `keras.distribution`; `to_host(tensor)`: a result of theirs as NumPy, whole.
- `batch_of_first_process(batch)`: a NumPy array of the first process, in all
  processes that compute one step together.
- `fixed_randomness()`: a scope in which what is random besides Keras's seed
  generators is the same each time, and which moves no state of it.
- `processes`: a module: processes that train one model together, where Keras
  leaves that to us.
- `Model`: `keras.Model`, and what it lacks to train here.
"""

import contextlib
import importlib

import keras

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


def input_gradient(function, x):
    """Computes the gradient of per-sample values with respect to the images.

    Args:
        function: Function from images to values of shape `(batch_size,)`, or
            to a tuple whose first element they are.
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
