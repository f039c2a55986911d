"""The network that an attack runs in place of a model, and its check.

A folded graph is used only after it has been compared with the model on real
images. A model that has changed is compared again. If the graph does not agree
with the model, the model itself runs.
"""

import warnings
import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad.backend import keras_private
from keras_adaad.frozen import folding
from keras_adaad.frozen.fingerprint import fingerprint
from keras_adaad.frozen.fingerprint import is_same
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.frozen.float16 import uses_float16
from keras_adaad.frozen.float16 import with_scaled_gradient

# Number of images that a graph is compared on.
SAMPLE = 32

# The checked network of each model, kept as long as the model lives.
_CHECKED: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class FrozenNetwork:
    """A model in inference mode whose weights are constants.

    It has no side effects: updates of the model's state are computed and
    discarded. It is valid as long as the model's fingerprint is the same. With
    `folded`, it runs the model's folded graph, if there is one.

    Lists of values have the order of `variables`, which later changes of
    `trainable` flags do not affect. `difference` says what is wrong with the
    logits, or is `None`.
    """

    def __init__(self, model, folded):
        # Weak, so that a cached network does not keep its model alive.
        self.model: Any = weakref.ref(model)
        self.variables = _variables(model)
        self._num_own = len(_own_variables(model))
        graph = folding.fold_graph(model) if folded else None
        self.graph: Any
        self.graph, self.folds = graph or (None, [])
        self.difference = None
        self.checked_logits = None
        self._scales = uses_float16(model)
        self._fingerprint = fingerprint(model)
        self._compiled: Any = None

    def is_valid(self):
        """Returns whether the model's fingerprint is unchanged."""
        return is_same(self._fingerprint, fingerprint(self.model()))

    def weights(self):
        """Returns a list of the current values of `variables`, folded."""
        values = {}
        for conv, batch_norm in self.folds:
            values.update(folding.fold(conv, batch_norm))
        # Otherwise PyTorch's compiler would compute their gradients too.
        return [
            ops.stop_gradient(values.get(id(v), v.value))
            for v in self.variables
        ]

    def random_states(self):
        """Returns the indices in `weights()` that hold random state."""
        return _random_states(self.variables)

    def call(self, values, x):
        """Returns the logits with `values`, a list as `weights()` returns."""
        network = self.graph or self.model()
        # `keras.utils.clear_session` replaces Keras's global generator.
        variables = [
            *self.variables[: self._num_own],
            *keras_private.global_random_states(),
        ]
        mapping = list(zip(variables, values, strict=False))

        def run(x):
            with keras.StatelessScope(state_mapping=mapping):
                return network(x, **folding.inference_mode(network))

        return with_scaled_gradient(run, x) if self._scales else run(x)

    def __call__(self, x):
        return self.call(self.weights(), x)

    def logits(self, x):
        """Computes the logits of a few images, compiled, as a NumPy array."""
        if self._compiled is None:
            # Weak: the function must not keep the network, and with it the
            # compiled programs, alive.
            this: Any = weakref.ref(self)
            self._compiled = backend.compile_function(
                lambda x: ops.cast(this()(x), "float32"),
                self.model(),
            )
        with backend.fixed_randomness():
            return backend.to_host(self._compiled(x))


def frozen_network(model):
    """Returns the network that `check_network` stored for a model.

    If there is none, or the model has changed since, returns one that runs the
    model itself.
    """
    network = _CHECKED.get(model)
    if network is None or not network.is_valid():
        return FrozenNetwork(model, folded=False)
    return network


def check_network(model, x):
    """Returns the frozen network of a model, checked on real images.

    The logits may differ by `tolerance(model)` times the largest one. If those
    of the folded graph differ by more, the model itself runs, and a warning
    names the first layer that differs. If the logits still differ, the model
    does not return the same logits twice, and the warning says so. The network
    keeps the warning in `difference`, and the model's logits on the images in
    `checked_logits`.
    """
    x = np.asarray(x[:SAMPLE], "float32")
    x = backend.to_devices(backend.batch_of_first_process(x))
    expected = _own_logits(model, x)

    def agrees(network):
        return _agree(expected, network.logits(x), tolerance(model))

    kept = _CHECKED.get(model)
    if kept and kept.is_valid() and agrees(kept):
        kept.checked_logits = expected
        return kept
    network = FrozenNetwork(model, folded=True)
    if not agrees(network):
        place = network.graph and _first_difference(network, x)
        network = FrozenNetwork(model, folded=False)
        network.difference = _describe(model, place, agrees(network))
        warnings.warn(network.difference, stacklevel=2)
    network.checked_logits = expected
    _CHECKED[model] = network
    return network


def tolerance(model):
    """Returns the allowed rounding error, as a fraction of the largest logit.

    This is 1e-4 in float32 on a CPU, and otherwise eight roundings to the
    coarsest dtype that a layer of the model may compute in.
    """
    dtypes = {layer.compute_dtype for layer in layers_within(model)}
    steps = [_ROUNDING.get(dtype, 0.0) for dtype in dtypes]
    if backend.describe()["device"] != "cpu":
        # Float32 convolutions may multiply in TensorFloat-32.
        steps.append(2.0**-10)
    return max(1e-4, 8 * max(steps))


_ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def relative_difference(first, second, x):
    """Returns the largest difference between the logits of two models.

    It is a fraction of the largest logit of the first model. The random state
    is the same in both.
    """
    x = backend.to_devices(np.asarray(x, "float32"))
    a, b = (_own_logits(model, x, random_state=0) for model in (first, second))
    return np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)


def _own_logits(model, x, random_state=None):
    """Returns the logits of the model as Keras calls it, without updates."""
    with _present_values(model, random_state), backend.fixed_randomness():
        outputs = model(x, **folding.inference_mode(model))
    return _to_numpy(outputs)


def _present_values(model, random_state=None):
    variables = _variables(model)
    values = [ops.stop_gradient(v.value) for v in variables]
    if random_state is not None:
        for place in _random_states(variables):
            values[place] = ops.full_like(values[place], random_state)
    return keras.StatelessScope(
        state_mapping=list(zip(variables, values, strict=True))
    )


def _variables(model):
    """Returns all state that the logits depend on, Keras's global one last."""
    return [*_own_variables(model), *keras_private.global_random_states()]


def _own_variables(model):
    return [*model.trainable_variables, *model.non_trainable_variables]


def _random_states(variables):
    return [
        place
        for place, variable in enumerate(variables)
        if variable.name == "seed_generator_state"
    ]


def _to_numpy(tensor):
    return backend.to_host(ops.cast(ops.stop_gradient(tensor), "float32"))


def _agree(expected, found, tolerance):
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    return np.allclose(
        found, expected, rtol=0.0, atol=tolerance * largest, equal_nan=True
    )


def _first_difference(network, x):
    """Returns the name of the first layer whose stand-in differs from it."""
    model, values, differ = network.model(), network.weights(), []

    def observe(stand_in, args, kwargs, outputs):
        with _present_values(model):
            expected = stand_in.original(*args, **kwargs)
        pairs = zip(
            keras.tree.flatten(expected),
            keras.tree.flatten(outputs),
            strict=True,
        )
        if not all(
            _agree(_to_numpy(a), _to_numpy(b), tolerance(model))
            for a, b in pairs
        ):
            differ.append(stand_in.name)

    token = folding.observer.set(observe)
    try:
        network.call(values, x)
    finally:
        folding.observer.reset(token)
    return differ[0] if differ else None


def _describe(model, place, agrees):
    if not agrees:
        return (
            f"the model {model.name!r} does not return the same logits twice "
            "for the same images: it is random in a way that Keras's seed "
            "generators do not decide, or it changes when it is called"
        )
    where = "as a whole" if place is None else f"at the layer {place!r}"
    return (
        f"the graph that stands for {model.name!r} during an attack differs "
        f"from the model {where}. The model runs as it is: slower, and right"
    )
