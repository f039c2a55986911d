"""The JAX seam."""

import contextlib

import jax
import keras


def input_gradient(objective, x):
    """Returns the gradient at `x` of the objective summed over the batch."""
    return jax.grad(lambda x: objective(x).sum())(x)


def repeat(steps, body, x):
    """Applies `x = body(x)`, `steps` times."""
    # XLA on CPU runs a convolution inside a loop on one thread: unroll there.
    if jax.default_backend() != "cpu":
        return jax.lax.fori_loop(0, steps, lambda _, x: body(x), x)
    for _ in range(steps):
        x = body(x)
    return x


def inference(model):
    """Returns `x -> model(x)` in inference mode, with the present weights.

    State that the model would change is computed and dropped, so nothing
    traced inside the attack's gradient can leak out of it.
    """
    trainable = [v.value for v in model.trainable_variables]
    non_trainable = [v.value for v in model.non_trainable_variables]

    def call(x):
        outputs, _ = model.stateless_call(
            trainable, non_trainable, x, training=False
        )
        return outputs

    return call


def views_then_step(keras_step, make_views, model, state, data):
    """Replaces the batch by its views, then runs Keras's own step on them."""
    trainable, non_trainable, *rest = state
    variables = model.trainable_variables + model.non_trainable_variables
    mapping = list(zip(variables, trainable + non_trainable))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        data = make_views(data)
    # The attack moves one thing: the state of the seed generator it drew from.
    non_trainable = [
        scope.get_current_value(v) for v in model.non_trainable_variables
    ]
    return keras_step((trainable, non_trainable, *rest), data)


def compile_function(function, model, jit_compile=True, run_eagerly=False):
    """Returns `function` compiled; it takes arrays and returns NumPy.

    The variables of `model` are arguments of the compiled program, so new
    weights need no new compilation.
    """
    variables = model.variables

    def run(values, args):
        mapping = list(zip(variables, values))
        with keras.StatelessScope(state_mapping=mapping):
            return function(*args)

    if jit_compile and not run_eagerly:
        run = jax.jit(run)

    def compiled(*args):
        return keras.ops.convert_to_numpy(
            run([v.value for v in variables], args)
        )

    return compiled


def building_scope(model):
    """Returns the scope in which the variables of `model` are created."""
    return contextlib.nullcontext()
