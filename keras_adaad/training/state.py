"""State besides weights that changes during training, and how it is saved."""

import functools
import os
from collections.abc import Mapping
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_adaad._typing import ArrayLike
from keras_adaad._typing import PathLike
from keras_adaad._typing import Tensor
from keras_adaad.attacks.randomness import SeedGenerator
from keras_adaad.training.metrics import PhaseMetrics
from keras_adaad.writing import saving_in_one_process
from keras_adaad.writing import write_atomically


class TrainingState(PhaseMetrics):
    """A model with a random state, the epoch, and the state of its method.

    All of this is part of the compiled step, and is saved and restored.
    `states` maps the names of scalars to their initial values. State whose
    shape depends on the classes is added in `build`, with `add_states`.
    """

    states: dict[str, float] = {}

    def progress(self) -> Tensor:
        """Returns `(epoch + 1) / epochs`, a float32 tensor in (0, 1]."""
        return (self.epoch + 1.0) / self.epochs

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the number of the epoch that begins, and of all epochs.

        `fit` calls it. A subclass may extend it.
        """
        self.epoch.assign(epoch)
        self.epochs.assign(epochs)

    def end_epoch(self) -> None:
        """Notes that all batches of an epoch have been seen.

        `fit` calls it. A subclass may extend it.
        """

    def _add_state(self, seed):
        """Creates the variables, which become attributes."""
        self.seed_generator = SeedGenerator(seed)
        self._states: list[keras.Variable] = []
        self._own_weights: list[keras.Variable] = []
        self.add_states({"epoch": 0.0, "epochs": 200.0, **self.states})

    def add_states(self, states: Mapping[str, ArrayLike]) -> None:
        """Creates float32 variables that are saved, and become attributes.

        Args:
            states: Dict from names to initial values: numbers, or arrays.
        """
        for name, value in states.items():

            def initial(shape, dtype, value=value):
                return ops.convert_to_tensor(value, dtype=dtype)

            variable = super().add_weight(
                shape=np.shape(value),
                initializer=initial,
                dtype="float32",
                trainable=False,
                # Each replica updates it from its part of the batch.
                aggregation="mean",
                name=name,
            )
            setattr(self, name, variable)
            self._states.append(variable)

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Creates a variable of the method itself, which `save` includes."""
        variable = super().add_weight(*args, **kwargs)
        self._own_weights.append(variable)
        return variable

    def save(self, *args: Any, **kwargs: Any) -> None:
        with saving_in_one_process():
            return super().save(*args, **kwargs)

    def save_weights(
        self, filepath: PathLike, overwrite: bool = True, **kwargs: Any
    ) -> None:
        # If another process has died, the failed step raises when its result
        # is read. Read it here, before a complete backup is overwritten.
        ops.convert_to_numpy(self.seed_generator.state)
        write = functools.partial(
            super().save_weights, overwrite=overwrite, **kwargs
        )
        with saving_in_one_process():
            # Not for shards, questions, and paths such as "gs://bucket/file".
            if kwargs or not overwrite or "://" in os.fspath(filepath):
                write(filepath)
            else:
                write_atomically(filepath, write)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
        }
        return cls(**config)

    def save_own_variables(self, store: Any) -> None:
        # Keras does not save seed generators. A resumed run must draw the same
        # random starts, and the same dropout, as an uninterrupted one.
        for name, variable in self._saved_variables().items():
            store[name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        for name, variable in self._saved_variables().items():
            # Files of earlier versions have no random states of networks.
            if name in store or not name.startswith("random_state_"):
                variable.assign(store[name])

    def _saved_variables(self):
        """Returns the variables that are not weights of a network, by key."""
        random_states = (
            variable
            for network in self.trained_networks()
            for variable in network.non_trainable_variables
            if variable.name == "seed_generator_state"
        )
        return {
            "random_state": self.seed_generator.state,
            **{f"random_state_{i}": v for i, v in enumerate(random_states)},
            **{variable.name: variable for variable in self._states},
            **{f"weight_{i}": v for i, v in enumerate(self._own_weights)},
        }
