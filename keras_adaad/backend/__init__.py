"""The only room that imports a framework: three modules with the same names.

- `input_gradient(objective, x)`: gradient of the summed objective at `x`.
- `repeat(steps, body, x)`: `x = body(x)`, unrolled or looped as is faster.
- `conv2d(x, kernel, bias, ...)`: a convolution of the attack.
- `lay_out_kernel(kernel)`: what of `conv2d` can be done once per attack.
- `views_then_step(keras_step, make_views, model, ...)`: attack, then step.
- `compile_function(function, model, ...)`: compiled, NumPy in and out.
- `building_scope(model)`: where the variables of `model` must be created.
"""

import keras

if keras.config.backend() == "tensorflow":
    from keras_adaad.backend.tensorflow import *  # noqa: F403
elif keras.config.backend() == "jax":
    from keras_adaad.backend.jax import *  # noqa: F403
elif keras.config.backend() == "torch":
    from keras_adaad.backend.torch import *  # noqa: F403
else:
    raise ValueError(
        "keras_adaad needs a Keras backend that computes gradients: set the "
        'environment variable `KERAS_BACKEND` to "tensorflow", "jax" or '
        '"torch" before importing keras. '
        f"Received: KERAS_BACKEND={keras.config.backend()!r}"
    )
