"""Several optimizers in one, each for the weights of one network."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

import keras

from keras_adaad._typing import Tensor

# Of an optimizer that is a part, these would change the other parts too.
_REFUSED = {
    "use_ema": "`fit` could not end with the averages of one network alone",
    "loss_scale_factor": "the loss of all networks is one number",
}


@keras.saving.register_keras_serializable(package="keras_adaad")
class PerNetwork(keras.optimizers.Optimizer):
    """An optimizer that trains each network with an optimizer of its own.

    Keras gives a model one optimizer. This one passes each gradient on to the
    optimizer of the network that the weight belongs to. An optimizer whose
    name is in `idle` is left out: its weights, its momentum and its number of
    iterations stay as they are.

    `parts` is the dict of the optimizers. `learning_rate` and `iterations` are
    those of the first one, and callbacks that change the learning rate change
    that of the first alone. Clipping, weight decay and gradient accumulation
    are arguments of each optimizer.

    Args:
        optimizers: Dict from the names of the networks to their optimizers,
            instances or names of Keras's.
        networks: Function that returns a dict from the same names to the
            networks. It is not part of the config. A `keras_adaad` model that
            trains two networks sets it in `compile`, and needs the student's
            optimizer first. Defaults to `None`: set it before training.
        name: Name of the optimizer.

    Raises:
        TypeError: If `optimizers` is not a dict of optimizers.
        ValueError: If it is empty, has an optimizer twice, or one with
            `use_ema` or a loss scale. `build` raises it if a variable belongs
            to none of the networks.

    Example:

    ```python
    networks = {"student": student, "teacher": teacher}
    optimizer = keras_adaad.optimizers.PerNetwork(
        {
            "student": keras.optimizers.SGD(0.1, momentum=0.9),
            "teacher": keras.optimizers.SGD(1e-4),
        },
        lambda: networks,
    )
    ```
    """

    def __init__(
        self,
        optimizers: Mapping[str, str | keras.optimizers.Optimizer],
        networks: Callable[[], Mapping[str, keras.Model]] | None = None,
        name: str | None = None,
    ) -> None:
        checked: dict[str, Any] = _checked(optimizers)
        # Keras wants a number. Nothing reads it.
        super().__init__(learning_rate=0.0, name=name)
        # Keras's callbacks would take an optimizer with `optimizers` for its
        # own `MultiOptimizer`, whose learning rates they change together.
        self.parts = checked
        self.networks = networks
        self.idle: tuple[str, ...] = ()
        # The name of each variable's network, in the order of `build`.
        self._owners: dict[int, str] = {}

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        if self.networks is None:
            raise ValueError(
                "This optimizer does not know its networks. Pass it to "
                "`compile` of a model of `keras_adaad` that trains two, or "
                "pass `networks`; load another model with `compile=False`, and "
                "compile it anew. Received: networks=None"
            )
        networks = self.networks()
        _check_names(self.parts, networks)
        names = {
            id(variable): name
            for name, network in networks.items()
            for variable in network.trainable_variables
        }
        unknown = [v.path for v in variables if id(v) not in names]
        if unknown:
            raise ValueError(
                f"No network among {', '.join(networks)} has these variables, "
                f"so that no optimizer could train them: {unknown}"
            )
        self._owners = {id(v): names[id(v)] for v in variables}
        for name, optimizer in self.parts.items():
            optimizer.build(_of(name, variables, self._owners.values()))
        super().build(list(variables))

    @property
    def variables(self) -> list[keras.Variable]:
        parts = self.parts.values()
        return super().variables + [v for part in parts for v in part.variables]

    def apply(
        self,
        grads: Sequence[Tensor | None],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        owners = list(self._owners.values())
        if trainable_variables is not None:
            owners = [self._owner(v) for v in trainable_variables]
        grads = list(grads)
        if len(grads) != len(owners):
            raise ValueError(
                "`PerNetwork` needs one gradient, or `None`, for each of "
                f"{len(owners)} variables, in their order. "
                f"Received: {len(grads)}"
            )
        for name, optimizer in self.parts.items():
            if name not in self.idle:
                variables = None
                if trainable_variables is not None:
                    variables = _of(name, trainable_variables, owners)
                optimizer.apply(_of(name, grads, owners), variables)

    def _owner(self, variable):
        """Returns the name of the network that a variable belongs to."""
        if id(variable) not in self._owners:
            raise ValueError(
                "`PerNetwork` was built before this variable could be trained: "
                f"{variable.path!r}. Compile with new optimizers after setting "
                "`trainable = True`."
            )
        return self._owners[id(variable)]

    def _first(self):
        # No property, because Keras saves what the attributes hold.
        return next(iter(self.parts.values()))

    @property
    def iterations(self) -> keras.Variable:
        return self._first().iterations

    @property
    def learning_rate(self) -> Any:
        return self._first().learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self._first().learning_rate = learning_rate

    def exclude_from_weight_decay(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(
            "`PerNetwork` has no weight decay of its own. Call this on one of "
            f"its `parts`: {', '.join(self.parts)}."
        )

    def save_own_variables(self, store: Any) -> None:
        """Saves nothing, because each optimizer saves its own variables."""

    def load_own_variables(self, store: Any) -> None:
        """Loads nothing, because each optimizer loads its own variables."""

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        optimizers = self.parts.items()
        return {
            "name": self.name,
            "optimizers": {name: serialize(part) for name, part in optimizers},
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> Self:
        optimizers = {
            name: keras.saving.deserialize_keras_object(
                part, custom_objects=custom_objects
            )
            for name, part in config["optimizers"].items()
        }
        return cls(optimizers, name=config["name"])


def per_network_within(optimizer):
    """Returns the `PerNetwork` that an optimizer is or wraps, or `None`."""
    # Keras wraps an optimizer for float16.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return optimizer if isinstance(optimizer, PerNetwork) else None


def _checked(optimizers):
    """Returns the argument `optimizers` as a dict of instances, or raises."""
    if not isinstance(optimizers, Mapping):
        raise TypeError(
            "Argument `optimizers` must be a dict from the names of networks "
            f"to their optimizers. Received: optimizers={optimizers!r}"
        )
    if not optimizers:
        raise ValueError(
            "Argument `optimizers` must have an optimizer for each network. "
            "Received: an empty dict"
        )
    checked = {}
    for name, optimizer in optimizers.items():
        if isinstance(optimizer, str):
            optimizer = keras.optimizers.get(optimizer)
        checked[name] = _check_optimizer(name, optimizer)
    if len({id(optimizer) for optimizer in checked.values()}) < len(checked):
        raise ValueError(
            "Argument `optimizers` has one optimizer twice, and each network "
            "needs its own: an optimizer counts its steps. Make a second one. "
            f"Received: optimizers={optimizers!r}"
        )
    return checked


def _check_optimizer(name, optimizer):
    wrappers = (PerNetwork, keras.optimizers.LossScaleOptimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"The optimizer of {name!r} must be a `keras.optimizers.Optimizer` "
            f"or the name of one. Received: {optimizer!r} (of type "
            f"{type(optimizer).__name__})"
        )
    if isinstance(optimizer, wrappers):
        raise ValueError(
            f"The optimizer of {name!r} must not contain others. Pass the "
            "optimizer within; `compile` adds the loss scale that float16 "
            f"needs. Received: {type(optimizer).__name__}"
        )
    for argument, reason in _REFUSED.items():
        if getattr(optimizer, argument):
            raise ValueError(
                f"The optimizer of {name!r} can't have `{argument}`: {reason}. "
                "Leave it out. "
                f"Received: {argument}={getattr(optimizer, argument)!r}"
            )
    return optimizer


def _of(name, values, owners):
    """Returns the values whose owner has this name."""
    pairs = zip(values, owners, strict=True)
    return [value for value, owner in pairs if owner == name]


def _check_names(optimizers, networks):
    if set(optimizers) != set(networks):
        raise ValueError(
            "The optimizers and the networks must have the same names. "
            f"Received: optimizers of {', '.join(optimizers)}; networks "
            f"{', '.join(networks)}"
        )
