"""The base class of the attacks, and the checks of what they attack."""

import inspect
import random
import warnings
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import Logits
from keras_adaad.attacks.norms import NORMS
from keras_adaad.frozen import function


class Attack:
    """Base class of the attacks.

    An attack holds its parameters and no state. `attack(model, x, y)` attacks
    a model on arrays, batch by batch, and returns the adversarial images.

    Most attacks search in steps: see `keras_adaad.attacks.IterativeAttack`.
    A `keras_adaad.attacks.ObjectiveAttack` can also maximise any objective
    inside a compiled training step. The distillers need one.

    To change an argument, make a new attack. An attribute that is set later
    leaves what depends on it, such as a step size, as it was. After the first
    use it cannot be set.

    Args:
        epsilon: Radius of the ball, in the units of the model's input.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`.
        seed: Integer seed for the random draws, or `None` to draw a new one
            (reproducible with `keras.utils.set_random_seed`).
    """

    # Whether the attack needs the model's gradient. If not, it can attack any
    # function from images to logits.
    needs_gradient = True
    # Whether the attack looks for the smallest perturbation, whatever epsilon
    # is. The state of its search then has `"distance"`: the size for each
    # image, infinite where none has been found.
    minimum_norm = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls) and not hasattr(cls, "not_compiled"):
            raise TypeError(
                "An attack that searches in steps is a subclass of "
                "`keras_adaad.attacks.ObjectiveAttack`, or of "
                "`IterativeAttack` if it can't raise any objective. "
                f"Received: {cls.__name__}, a subclass of `Attack` with `step`"
            )

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        self.epsilon = checks.check_number("epsilon", epsilon)
        self.norm = checks.check_choice("norm", norm, tuple(NORMS))
        self.input_range = checks.check_input_range(input_range)
        if seed is not None:
            seed = checks.check_integer("seed", seed, minimum=0)
        self.seed = seed

    def __call__(
        self,
        model: keras.Model | Logits,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Attacks a model on arrays.

        Args:
            model: A `keras.Model` that returns logits. An attack that needs
                no gradient, such as `Square`, also takes any function from
                float32 NumPy images of shape `(batch_size, ...)` to logits,
                such as an exported file.
            x: Images, of shape `(num_images, ...)`, within `input_range`.
            y: Labels: class indices or one-hot.
            batch_size: Images per compiled call; the last batch is padded.
                It does not change the result. Defaults to `256`.

        Returns:
            The adversarial images, a float32 NumPy array of the shape of `x`.

        Raises:
            TypeError: If `model` is neither a `keras.Model` nor a function
                that this attack can attack, or if `x` is not an array.
            ValueError: If the model returns probabilities, or if the data or
                the labels are invalid.

        Example:

        ```python
        attack = keras_adaad.attacks.PGD(epsilon=8 / 255, steps=20)
        x_adv = attack(model, x_test, y_test)
        ```
        """
        return self._attack_arrays(model, x, y, batch_size)

    def _attack_arrays(self, model, x, y, batch_size, **options):
        self._check_usable()
        if not isinstance(model, keras.Model):
            check_function_attacks(model, {type(self).__name__: self})
        x, outputs = check_images_of(model, x, self.input_range)
        y = self._check_labels(y, outputs)
        batch_size = checks.check_integer("batch_size", batch_size)
        seed = random.randrange(2**31) if self.seed is None else self.seed
        outcome = self._run(
            function.classifier_of(model, outputs[-1], seed, x),
            x,
            y,
            seed=seed,
            batch_size=min(batch_size, len(x)),
            **options,
        )
        if outcome.lost.any():
            warnings.warn(
                f"{type(self).__name__} met NaN in the logits, the loss or "
                f"the gradient at {outcome.lost.sum()} images, and returns "
                "what it had found there before: the clean image, or the "
                "point of another restart.",
                stacklevel=3,
            )
        return outcome.x_adv

    def _run(
        self, classifier, x, y, *, seed, rows=None, batch_size=256, stop=None
    ):
        """Attacks a `Classifier` on checked arrays; returns an `Outcome`."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `_run`."
        )

    def _check_labels(self, y, outputs):
        """Returns the labels of images with outputs of a shape, or raises."""
        checks.check_classifier("model", outputs)
        y = class_indices(y, outputs)
        self._check_classes(outputs[-1])
        return y

    def _check_classes(self, num_classes):
        """Raises if the attack needs more classes."""

    def _contents(self):
        """Returns the attributes of the attack, a dict."""
        return {k: v for k, v in vars(self).items() if k != "_fixed"}

    def _check_usable(self):
        """Checks `get_config`, then makes the attributes read-only."""
        if "_fixed" in vars(self):
            return
        config, kind = self.get_config(), type(self).__name__
        names = _constructor_arguments(type(self))
        missing = [name for name in names if name not in config]
        if missing:
            raise ValueError(
                f"`{kind}.get_config` lacks arguments of the constructor, so "
                "reports and saved models would not tell this attack from "
                "others. Set the attributes "
                f"{', '.join(f'`self.{name}`' for name in missing)} in the "
                "constructor, or return them from `get_config`. "
                f"Received: a config without {', '.join(missing)}"
            )
        changed = self._changed_arguments(names)
        if changed:
            raise ValueError(
                f"`{kind}.get_config` returns attributes that differ from the "
                "arguments of the constructor, so a saved attack would load as "
                "another one. Store the arguments as they are, or override "
                f"`get_config`. Received: {', '.join(changed)}"
            )
        vars(self)["_fixed"] = frozenset(vars(self))

    def _changed_arguments(self, names):
        """Returns the attributes that the constructor does not reproduce."""
        if type(self).get_config is not Attack.get_config:
            return []
        attributes = vars(self)
        with warnings.catch_warnings(action="ignore"):
            twin = type(self)(**{name: attributes[name] for name in names})
        plain = (bool, int, float, str, tuple)
        return [
            name
            for name in names
            if isinstance(attributes[name], plain)
            and getattr(twin, name) != attributes[name]
        ]

    def __setattr__(self, name, value):
        if name in vars(self).get("_fixed", ()):
            kind = type(self).__name__
            raise AttributeError(
                "An attack that has been used cannot be changed: other "
                f"arguments follow from `{name}`, and training steps are "
                f"compiled with it. Make a new one: `{kind}.from_config({{"
                f"**attack.get_config(), {name!r}: ...}})`. "
                f"Received: {name}={value!r} for {self!r}"
            )
        super().__setattr__(name, value)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, by name.

        Each is taken from the attribute of the same name. A subclass must
        override this if an attribute differs from its argument in name or
        value.
        """
        config = {}
        for name in _constructor_arguments(type(self)):
            if name in vars(self):
                config[name] = _serialized(getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                if isinstance(value, dict)
                else value
                for name, value in config.items()
            }
        )

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{k}={v!r}" for k, v in self.get_config().items()
        )
        return f"{type(self).__name__}({arguments})"


def _constructor_arguments(cls):
    """Returns the names of the arguments of a constructor, in order."""
    names = []
    for kind in cls.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = inspect.signature(vars(kind)["__init__"]).parameters
        kinds = {parameter.kind for parameter in parameters.values()}
        names += [
            name
            for name, parameter in parameters.items()
            if parameter.kind
            not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ]
        # `**kwargs` are the arguments of the next class.
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return [name for name in dict.fromkeys(names) if name != "self"]


def _serialized(value):
    if isinstance(value, tuple):
        return list(value)
    if callable(value):
        return keras.saving.serialize_keras_object(value)
    return value


def check_attackable(model, x, y, input_range, allow_probabilities=False):
    """Returns images, class indices and the number of classes, or raises."""
    x, outputs = check_images_of(model, x, input_range, allow_probabilities)
    checks.check_classifier("model", outputs)
    return x, class_indices(y, outputs), outputs[-1]


def check_images_of(model, x, input_range, allow_probabilities=False):
    """Returns images and the shape of a model's outputs on them, or raises."""
    is_function = not isinstance(model, keras.Model)
    if is_function and hasattr(model, "check_input_range"):
        # An exported file may take whole numbers alone.
        model.check_input_range(input_range)
    if not is_function:
        checks.check_final_activation("model", model, allow_probabilities)
        if getattr(model, "inputs", None):
            checks.check_one_input("model", model.input_shape)
    x = checks.check_images("x", x, input_range).astype("float32")
    if is_function:
        logits = function.call(model, x[:1])
        if not allow_probabilities:
            checks.check_logits("model", logits)
        return x, (len(x), logits.shape[1])
    if not model.built:
        model(ops.convert_to_tensor(x[:1]))
    outputs = checks.output_shape(model, (1, *x.shape[1:]))
    checks.check_one_output("model", outputs)
    if len(outputs) > 2 and outputs[-1] > 1 and not allow_probabilities:
        # Layers after a softmax hide it. An evaluation, which looks at the
        # logits, is for one class per image.
        logits = model(ops.convert_to_tensor(x[:1]), training=False)
        checks.check_logits("model", ops.convert_to_numpy(logits))
    return x, (len(x), *outputs[1:])


def class_indices(y, outputs):
    """Returns the labels as class indices, or raises."""
    if y is None:
        raise ValueError(
            "Argument `y` is missing: the attack raises the loss of the "
            "true labels. Received: y=None"
        )
    y = checks.check_labels("y", y, outputs)
    if y.shape == outputs:
        largest = y == y.max(-1, keepdims=True)
        several = largest.sum(-1) > 1
        undecided = np.flatnonzero(several.reshape(len(y), -1).any(-1))
        if len(undecided):
            raise ValueError(
                "Argument `y` must have one largest value in each row of "
                "one-hot labels. For several labels of an image use "
                '`PGD(loss="binary_cross_entropy")`, or `FGSM` with this loss. '
                "Received: rows without one, at "
                f"{', '.join(map(str, undecided[:10]))}"
            )
        y = y.argmax(-1)
    return y.reshape(outputs[:-1]).astype("int32")


def check_function_attacks(model, attacks):
    """Raises unless every attack, in a dict by name, can attack a function."""
    if not callable(model):
        raise TypeError(
            "Argument `model` must be a `keras.Model`, or a function from "
            "NumPy images to logits for an attack without gradients. "
            f"Received: model={model!r} (of type {type(model).__name__})"
        )
    need = [name for name, attack in attacks.items() if attack.needs_gradient]
    if need:
        raise TypeError(
            "Argument `model` must be a `keras.Model` for an attack that "
            "follows its gradient. A function has none: attack it with "
            "`Square`, or attack the Keras model that it was made of and "
            "show the function those images. "
            f"Received: a model of type {type(model).__name__}, and "
            f"{', '.join(need)}"
        )
