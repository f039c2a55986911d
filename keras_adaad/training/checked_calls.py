"""`fit`, `evaluate` and `perturb`, with checks before any work starts."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad.backend import keras_private
from keras_adaad.frozen.network import check_network
from keras_adaad.optimizers.per_network import per_network_within
from keras_adaad.training import batch_division
from keras_adaad.training.fit_arguments import EvaluateArguments
from keras_adaad.training.fit_arguments import FitArguments
from keras_adaad.training.settings import Settings

# To a type checker, what `functools.wraps` returns is no method.
_wraps: Any = functools.wraps


class CheckedCalls(Settings):
    """A model that checks its data and networks before every call.

    `networks` maps argument names, `"student"` among them, to networks. Each
    network becomes an attribute of that name.
    """

    student: keras.Model
    needs_labels = False

    def __init__(self, networks, **kwargs):
        super().__init__(**kwargs)
        for name, network in networks.items():
            setattr(self, name, network)
        self._network_names = tuple(networks)
        self._compiled_perturb: tuple[Any, Any] = (None, None)
        self._frozen_networks = {}  # Those that the compiled functions use.
        self._validation_has_labels = True

    def _networks(self):
        """Returns the networks by the names of their arguments."""
        return {name: getattr(self, name) for name in self._network_names}

    def trained_networks(self) -> list[keras.Model]:
        """Returns the networks whose weights and statistics the steps move."""
        return [self.student]

    def _networks_to_train(self):
        """Returns the trained networks by the names of their arguments."""
        ids = {id(network) for network in self.trained_networks()}
        networks = self._networks().items()
        return {name: net for name, net in networks if id(net) in ids}

    # Public calls.

    @_wraps(keras.Model.compile)
    def compile(self, optimizer="rmsprop", *args, **kwargs):
        per_network = per_network_within(optimizer)
        if per_network is not None:
            per_network.networks = self._networks_to_train
            _check_first(per_network)
        super().compile(optimizer, *args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # Keras's does nothing if `compile` is not its own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    @_wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        call = FitArguments(super().fit, args, kwargs)
        keras_private.forget_resumed_epoch(self)
        batch = self._first_batch(call.data)
        self._check_can_train()
        labels = self._validation_has_labels = _has_labels(batch)
        if batch is not None:
            watchers = self._watchers(batch, call.epochs())
            call.callbacks = [*watchers, *call.callbacks]
        if call.validation is not None:
            held_out = self._first_batch(call.validation, compare=False)
            self._validation_has_labels = _has_labels(held_out)
            _check_same_labels(batch, held_out)
        with backend.building_scope(self):
            backend.processes.check_optimizer(getattr(self, "optimizer", None))
            call.divide_between_processes(self)
            call.check_batches()
        with self._phase(True, labels), batch_division.explained():
            return super().fit(**call.keywords())

    @_wraps(keras.Model.evaluate)
    def evaluate(self, *args, **kwargs):
        if keras_private.is_validation(kwargs):
            return self._validate(*args, **kwargs)
        call = EvaluateArguments(super().evaluate, args, kwargs)
        labels = self._check_data(call.data)
        with backend.building_scope(self):
            call.divide_between_processes(self)
            call.check_batches()
        with self._evaluation_phase(labels), batch_division.explained():
            results = super().evaluate(**call.keywords())
        by_name = isinstance(results, dict)
        loss = results["loss"] if by_name else np.ravel(results)[0]
        self.check_loss("loss", loss)
        return results

    def _validate(self, *args, **kwargs):
        """Evaluates after an epoch of `fit`, which has checked the data."""
        labels = self._validation_has_labels
        with self._evaluation_phase(labels), batch_division.explained():
            return super().evaluate(*args, **kwargs)

    @_wraps(keras.Model.train_on_batch)
    def train_on_batch(self, *args, **kwargs):
        call = EvaluateArguments(super().train_on_batch, args, kwargs)
        labels = self._check_data(call.data, self._has_changed())
        self._check_can_train()
        with backend.building_scope(self):
            backend.processes.check_optimizer(getattr(self, "optimizer", None))
        with self._phase(True, labels), batch_division.explained():
            return super().train_on_batch(**call.keywords())

    @_wraps(keras.Model.test_on_batch)
    def test_on_batch(self, *args, **kwargs):
        call = EvaluateArguments(super().test_on_batch, args, kwargs)
        labels = self._check_data(call.data, self._has_changed())
        with self._evaluation_phase(labels), batch_division.explained():
            return super().test_on_batch(**call.keywords())

    def perturb(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        noise: ArrayLike | None = None,
    ) -> np.ndarray:
        """Returns x*, as the next training step would compute it.

        Runs the inner maximisation, compiled as `fit` compiles it. Weights,
        BatchNorm statistics and the random state do not change, so the call
        has no effect on later training.

        Args:
            x: Images, of shape `(batch_size, ...)`, within `input_range`.
            y: Labels, if the method needs them.
            noise: Starting perturbation that replaces the random one, of the
                shape of `x`.

        Returns:
            The adversarial images, a float32 NumPy array of the shape of `x`.
        """
        x, y = self._check_batch(x, y)
        self._check_networks(x)
        return self._perturb(x, y, noise)

    def _perturb(self, x, y, noise=None):
        x = x.astype("float32")
        if noise is not None:
            restarts = self.attack.restarts
            noise = self.attack._check_noise(noise, x.shape, restarts)
        options = (self.jit_compile, self.run_eagerly)
        if self._compiled_perturb[0] != (self.attack, *options):
            function = backend.compile_function(self._maximize, self, *options)
            self._compiled_perturb = ((self.attack, *options), function)
        state = ops.convert_to_numpy(self.seed_generator.state)
        try:
            x_adv = self._compiled_perturb[1](backend.to_devices(x), y, noise)
            return backend.to_host(x_adv)
        finally:
            self.seed_generator.state.assign(state)

    def _evaluation_phase(self, labels):
        attacked = self.evaluation_attack is not None
        return self._phase(False, labels, attacked)

    # Checks.

    def _check_data(self, data, compare=True):
        """Checks the data of a call; returns whether it has labels."""
        return _has_labels(self._first_batch(data, compare))

    def _first_batch(self, data, compare=True):
        """Checks the data of a call; returns its first images and labels.

        Arrays are checked completely, data sets only in their first batch. The
        networks are built. The result is `None` if the batches are not arrays.
        """
        if getattr(self, "loss", None) is not None:
            raise ValueError(
                f"`compile()` received loss={self.loss!r}, but "
                f"{type(self).__name__} defines its own loss. Compile without "
                "`loss`; metrics and optimizer are yours."
            )
        batch: tuple[Any, Any] | None = data.first_batch()
        if batch is None:
            return None
        x, y = self._check_batch(*batch, data.name, data.y_name)
        if compare:
            self._check_networks(x)
        return x, y

    def _watchers(self, batch, epochs):
        """Returns callbacks for `fit`, given its first images and labels."""
        return []

    def check_loss(self, name: str, loss: float) -> None:
        """Raises if the mean loss of an epoch is not a finite number."""
        loss = float(loss)
        checks.check_loss(name, loss, self.input_range, self.num_classes)

    def _check_networks(self, x):
        """Compares each network with its frozen version, on real images."""
        networks = {}
        for name, network in self._networks().items():
            networks[name] = check_network(network, x)
            checks.check_logits(name, networks[name].checked_logits)
        settings = self._settings()
        compiled = (self._frozen_networks, self._compiled_settings)
        if (networks, settings) != compiled:
            # The compiled functions use earlier networks or settings.
            self.train_function = self.test_function = None
            self._compiled_perturb = (None, None)
            self._frozen_networks = networks
            self._compiled_settings = settings

    def _has_changed(self):
        """Returns whether the compiled functions may be out of date."""
        return self._compiled_settings != self._settings() or not all(
            network.is_valid() for network in self._frozen_networks.values()
        )

    def _check_batch(
        self, x: Any, y: Any, x_name: str = "x", y_name: str = "y"
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Checks a batch and returns it as NumPy; builds the networks."""
        x = checks.check_images(x_name, x, self.input_range)
        if y is None and self.needs_labels:
            raise ValueError(
                f"{type(self).__name__} needs labels, and `{x_name}` has none. "
                f"Pass `{y_name}` with labels, or a data set of `(x, y)` "
                "pairs. Received: y=None"
            )
        if not self.built:
            self._build_on(x[:1])
        if y is not None:
            y = checks.check_labels(y_name, y, (len(x), self.num_classes))
        return x, y

    # Building.

    def _build_on(self, x):
        """Builds the networks by running them on one real image."""
        with backend.building_scope(self):
            x = ops.convert_to_tensor(x, dtype="float32")
            for name, network in self._networks().items():
                outputs = network(x)
                checks.check_classifier(name, tuple(outputs.shape))
                checks.check_logits(name, ops.convert_to_numpy(outputs))
            self.build((None, *x.shape[1:]))

    def _build_if_known(self):
        """Builds immediately if the inputs of all networks are known."""
        networks = self._networks().values()
        if all(getattr(network, "inputs", None) for network in networks):
            self.build(self.student.input_shape)

    def build(self, input_shape: Sequence[int | None]) -> None:
        shapes = {
            name: checks.output_shape(network, input_shape)
            for name, network in self._networks().items()
        }
        student = shapes.pop("student")
        for name, shape in shapes.items():
            checks.check_same_classes(shape, student, name)
        self.num_classes = student[-1]
        if self.evaluation_attack is not None:
            self.evaluation_attack._check_classes(self.num_classes)


def _check_first(per_network):
    """Raises if callbacks would change another network's learning rate."""
    first, *_ = per_network.parts
    if first != "student":
        raise ValueError(
            "The student's optimizer must be the first one of `PerNetwork`, "
            "whose learning rate callbacks read and change. Received: "
            f"optimizers of {', '.join(per_network.parts)}"
        )


def _has_labels(batch):
    # Batches that are not arrays cannot be looked at.
    return batch is None or batch[1] is not None


def _check_same_labels(batch, held_out):
    """Raises if the compiled metrics would misread the validation labels."""
    if not (batch and held_out) or batch[1] is None or held_out[1] is None:
        return
    shapes = [np.shape(y)[1:] for _, y in (batch, held_out)]
    one_hot = [shape not in ((), (1,)) for shape in shapes]
    if one_hot[0] != one_hot[1]:
        raise ValueError(
            "Argument `validation_data` must have labels like those that the "
            "student is trained on: class indices, or a probability of each "
            "class (`num_classes` of the loaders of `keras_adaad.data`). "
            f"Received: labels with {shapes[1]} values per image to validate, "
            f"and {shapes[0]} to train"
        )
