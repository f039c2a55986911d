"""What every attack is: a ball, a loss to raise, and a search in steps."""

import copy
import inspect
import itertools
import random
import warnings

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad.attacks import black_box
from keras_adaad.attacks.digest import digest
from keras_adaad.attacks.draws import GraphDraws
from keras_adaad.attacks.norms import NORMS
from keras_adaad.attacks.search import search
from keras_adaad.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import dlr_from_logits
from keras_adaad.losses import label_indices
from keras_adaad.losses import margin_from_logits

LOSSES = {
    "cross_entropy": cross_entropy_from_logits,
    "dlr": dlr_from_logits,
    "margin": margin_from_logits,
}


class Attack:
    """Base class of the attacks.

    An attack holds its parameters and no state. It is used in two ways:

    - `attack(model, x, y)` attacks a model on arrays, batch by batch, and
      returns the adversarial images;
    - `attack.maximize(objective, x)` raises any per-sample objective inside
      a compiled training step. This is what the distillers call.

    A subclass says how its search begins, moves and ends:

    - `begin(objective, x, noise, setting)` returns the state of the search, a
      dict of tensors;
    - `step(objective, x, state, setting)` returns the next state;
    - `result(x, state, setting)` returns the point found;
    - `settings(shape, seed, round_)` returns the numbers of each step (the
      radius, a step size): a list of dicts.

    There, `objective(x_adv)` returns a pair: one value per sample, and one
    bool per sample that is true where the model is fooled.

    `begin`, `step` and `result` are compiled, once for all attacks of a class
    whose attributes are the same; `values` and the loss are part of them. Two
    attacks that differ in an attribute share nothing. To share what is
    compiled for every radius, say, a class names the attribute in
    `not_compiled` and takes the value from `setting`. Subclasses do not
    inherit it, for their `step` may read what that of their parent does not.

    From its first use on, what the constructor set cannot be changed.

    Args:
        epsilon: Radius of the ball, in the units of the model's input.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        restarts: Number of searches from different starts. Per image, the
            first point that fools the model is kept or, failing that, the
            point with the highest loss. Defaults to `1`.
        loss: What `attack(model, x, y)` raises: `"cross_entropy"`,
            `"margin"`, `"dlr"`, or a function `loss(labels, logits)` that
            returns one value per sample.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`.
        seed: Integer that decides the random draws, or `None` for a new one
            (which `keras.utils.set_random_seed` decides).
    """

    # Attributes that the compiled search does not read: `settings`, `rounds`
    # and the random start do, outside of it. One that it reads nevertheless
    # raises. Each class states its own.
    not_compiled = ()
    # Whether the search needs a classifier, so that `maximize` cannot work.
    needs_classifier = False
    # Whether it differentiates. One that does not can attack any function.
    needs_gradient = True

    def __init__(
        self,
        *,
        epsilon,
        norm="linf",
        restarts=1,
        loss="cross_entropy",
        input_range=(0.0, 1.0),
        seed=None,
    ):
        self.epsilon = checks.check_number("epsilon", epsilon)
        self.norm = checks.check_choice("norm", norm, tuple(NORMS))
        self.restarts = checks.check_integer("restarts", restarts)
        if not callable(loss):
            checks.check_choice("loss", loss, tuple(LOSSES))
        self.loss = loss
        self.input_range = checks.check_input_range(input_range)
        if seed is not None:
            seed = checks.check_integer("seed", seed, minimum=0)
        self.seed = seed

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "not_compiled" not in vars(cls):
            cls.not_compiled = ()

    # What a subclass states.

    def settings(self, shape, seed, round_=0):
        """Returns the numbers of each step, a list (or iterator) of dicts.

        Args:
            shape: Shape of an image.
            seed: Integer, for numbers that are drawn.
            round_: Index of the round.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `settings`."
        )

    def begin(self, objective, x, noise, setting):
        """Returns the state from which the search starts, a dict of tensors."""
        return {"x_adv": x if noise is None else self._clip(x + noise)}

    def step(self, objective, x, state, setting):
        """Returns the state after one more step."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `step`."
        )

    def result(self, x, state, setting):
        """Returns the point found, inside ball and range."""
        return state["x_adv"]

    def start_noise(self, shape, draws, round_=0):
        """Returns a random starting perturbation, or `None` to start at `x`."""
        return None

    def host_noise(self, x, x_last, draws, round_):
        """Returns what `begin` gets as `noise`, for a search on arrays.

        Args:
            x: Images, a NumPy array.
            x_last: The points that the round before found.
            draws: Source of random numbers.
            round_: Index of the round.
        """
        noise = self.start_noise(x.shape, draws, round_)
        return None if noise is None else ops.convert_to_numpy(noise)

    def rounds(self, num_classes):
        """Returns the number of searches per image."""
        return self.restarts

    def target_classes(self, classifier, x, batch_size):
        """Returns the class each round aims at, of shape `(rounds, images)`."""
        return None

    def values(self, labels, targets, logits):
        """Returns what the attack raises, one value per sample."""
        return LOSSES.get(self.loss, self.loss)(labels, logits)

    # The search inside a compiled training step.

    def maximize(self, objective, x, noise=None, seed=None):
        """Searches the ball around `x` for the highest objective.

        Args:
            objective: Function from images to one value per sample, or to a
                pair: the values, and one bool per sample. With several
                restarts, a point where the bool holds beats any other.
            x: Images, a float32 tensor of shape `(batch_size, ...)`.
            noise: The starting perturbation, in place of a random one: a
                tensor of the shape of `x`, or of shape `(restarts, *x.shape)`.
            seed: Source of the random starts: a `keras.random.SeedGenerator`
                or an int. Defaults to the attack's own seed.

        Returns:
            A float32 tensor of the shape of `x`, inside ball and range.
        """
        if self.needs_classifier:
            raise NotImplementedError(
                f"{type(self).__name__} needs the logits of a classifier and "
                "cannot raise any objective. Call `attack(model, x, y)`, or "
                "use `PGD` or `APGD` here."
            )
        self.check_usable()
        draws = GraphDraws(self.seed if seed is None else seed)
        objective = _pair(objective)
        if noise is not None and len(noise.shape) == len(x.shape):
            noise = noise[None]

        def search_once(round_):
            if noise is None:
                start = self.start_noise(ops.shape(x), draws, round_)
            else:
                start = noise[round_]
            return self._search_once(objective, x, start)

        best = search_once(0)
        if self.restarts == 1:
            return best
        best_score = objective(best)
        for restart in range(1, self.restarts):
            new = search_once(restart)
            new_score = objective(new)
            better = _better(new_score, best_score)
            best = ops.where(per_image(better, x), new, best)
            best_score = [
                ops.where(better, a, b)
                for a, b in zip(new_score, best_score, strict=True)
            ]
        return best

    def on_batch(self, model, x, y, noise=None):
        """Attacks a model on one batch, inside a compiled function.

        Args:
            model: A built `keras.Model` that returns logits.
            x: Images, a float32 tensor of shape `(batch_size, ...)`.
            y: Labels: class indices or one-hot.
            noise: Starting perturbation, as in `maximize`.

        Returns:
            A float32 tensor of the shape of `x`.
        """
        return self.maximize(
            self.compiled_part().objective(logits_function(model), y),
            x,
            noise=noise,
            # A fixed seed needs no state: the same start for every batch.
            seed=self.seed or 0,
        )

    def objective(self, logits, y, target=None):
        """Returns the function from images to values and verdicts."""

        def objective(x_adv):
            predicted = logits(x_adv)
            fooled = ops.cast(
                ops.argmax(predicted, axis=-1), "int32"
            ) != label_indices(y, predicted)
            values = self.values(y, target, predicted)
            if not _is_per_sample(values, predicted):
                raise _averaged(values)
            return values, fooled

        return objective

    def _search_once(self, objective, x, noise):
        settings = list(self.settings(tuple(x.shape[1:]), 0))
        compiled = self.compiled_part()
        state = compiled.begin(objective, x, noise, settings[0])
        for setting, equal in itertools.groupby(settings):

            def step(state, setting=setting):
                return compiled.step(objective, x, state, setting)

            state = backend.repeat(len(list(equal)), step, state)
        return compiled.result(x, state, settings[-1])

    def _clip(self, x):
        return ops.clip(x, *self.input_range)

    # The search on arrays.

    def __call__(self, model, x, y, noise=None, batch_size=256):
        """Attacks a model on arrays.

        Args:
            model: A `keras.Model` that returns logits. `Square`, which needs
                no gradient, takes any function from float32 NumPy images of
                shape `(batch_size, ...)` to logits too: a deployed file.
            x: Images, of shape `(num_images, ...)`, within `input_range`.
            y: Labels: class indices or one-hot.
            noise: Starting perturbation in place of a random one, of the
                shape of `x`, or of shape `(rounds, *x.shape)`; there is a
                round for each restart and target class.
            batch_size: Images per compiled call; the last batch is padded.
                It does not change the result. Defaults to `256`.

        Returns:
            The adversarial images, a float32 NumPy array of the shape of `x`.

        Raises:
            TypeError: If `model` is no `keras.Model`, and no function that
                this attack can attack; or if `x` is no array.
            ValueError: If the model returns probabilities, or the data or
                the labels do not fit.

        Example:

        ```python
        attack = keras_adaad.attacks.PGD(epsilon=8 / 255, steps=20)
        x_adv = attack(model, x_test, y_test)
        ```
        """
        self.check_usable()
        if isinstance(model, keras.Model):
            checks.check_model("model", model)
        else:
            black_box.check_attacks(model, {type(self).__name__: self})
        x, y, num_classes = check_attackable(model, x, y, self.input_range)
        batch_size = checks.check_integer("batch_size", batch_size)
        self.check_classes(num_classes)
        if noise is not None:
            noise = self.check_noise(noise, x.shape, self.rounds(num_classes))
        seed = random.randrange(2**31) if self.seed is None else self.seed
        outcome = self.run(
            black_box.classifier_of(model, num_classes, seed, x),
            x,
            y,
            seed=seed,
            noise=noise,
            batch_size=min(batch_size, len(x)),
        )
        if outcome.lost.any():
            warnings.warn(
                f"{type(self).__name__} met NaN in the logits, the loss or "
                f"the gradient at {outcome.lost.sum()} images, and returns "
                "what it had found there before: the clean image, or the "
                "point of another restart.",
                stacklevel=2,
            )
        return outcome.x_adv

    def run(self, classifier, x, y, **options):
        """Runs the search on checked arrays; see `search`."""
        return search(self, classifier, x, y, **options)

    def check_noise(self, noise, shape, rounds=None):
        """Returns `noise` with its axis of rounds, or raises."""
        rounds = self.restarts if rounds is None else rounds
        noise = np.asarray(noise, "float32")
        if not np.isfinite(noise).all():
            raise ValueError(
                "Argument `noise` must hold finite numbers. Received: "
                f"{(~np.isfinite(noise)).sum()} values of NaN or infinity"
            )
        if noise.shape == shape:
            noise = noise[None]
        if noise.shape != (rounds, *shape):
            raise ValueError(
                "Argument `noise` must have the shape of `x`, or that shape "
                f"after an axis of {rounds} restarts. "
                f"Received: noise.shape={noise.shape}, x.shape={shape}"
            )
        return noise

    def check_classes(self, num_classes):
        """Raises if the attack cannot work with so few classes."""
        if self.loss == "dlr" and num_classes < 3:
            raise ValueError(
                f"The DLR loss of {type(self).__name__} needs at least 3 "
                'classes. Use `loss="margin"`. '
                f"Received: a model with {num_classes} classes"
            )

    # Identity and saving.

    def contents(self):
        """Returns all that the attack holds, a dict."""
        return {k: v for k, v in vars(self).items() if k != "_fixed"}

    def compiled_part(self):
        """Returns the attack without what its class names in `not_compiled`."""
        part = copy.copy(self)
        for name in self.not_compiled:
            vars(part).pop(name, None)
        return part

    def program_key(self):
        """Returns what the compiled search depends on, hashable."""
        contents = self.compiled_part().contents()
        return type(self), digest([type(self), contents], in_process=True)

    def check_usable(self):
        """Raises if `get_config` is incomplete, and fixes the attributes."""
        if "_fixed" in vars(self):
            return
        missing = _constructor_arguments(type(self)) - set(self.get_config())
        if missing:
            items = [f'"{name}": self.{name}' for name in sorted(missing)]
            raise ValueError(
                f"`{type(self).__name__}.get_config` lacks arguments of the "
                "constructor, so reports and saved models would not tell this "
                "attack from others. Return `{**super().get_config(), "
                f"{', '.join(items)}}}`. "
                f"Received: a config without {', '.join(sorted(missing))}"
            )
        vars(self)["_fixed"] = frozenset(vars(self))

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

    def __getattr__(self, name):
        # Python asks this for what an instance does not have.
        kind = type(self).__name__
        if name in self.not_compiled and "_fixed" in vars(self):
            raise RuntimeError(
                f"`{kind}.{name}` is not part of the compiled search, which "
                f"reads it: `{kind}.not_compiled` names it. Let `settings` "
                f'return it, and read `setting["{name}"]`; or take it out of '
                f"`not_compiled`. Received: `self.{name}` in `begin`, `step`, "
                "`result`, `values` or `objective`"
            )
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def get_config(self):
        loss = self.loss
        return {
            "epsilon": self.epsilon,
            "norm": self.norm,
            "restarts": self.restarts,
            "loss": loss
            if isinstance(loss, str)
            else keras.saving.serialize_keras_object(loss),
            "input_range": list(self.input_range),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if "loss" in config and not isinstance(config["loss"], str):
            config["loss"] = keras.saving.deserialize_keras_object(
                config["loss"]
            )
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(
            f"{k}={v!r}" for k, v in self.get_config().items()
        )
        return f"{type(self).__name__}({arguments})"


def _constructor_arguments(cls):
    """Returns the names of the arguments of a constructor, a set."""
    names = set()
    for kind in cls.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = inspect.signature(vars(kind)["__init__"]).parameters
        kinds = {parameter.kind for parameter in parameters.values()}
        names |= {
            name
            for name, parameter in parameters.items()
            if parameter.kind
            not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        }
        # What it hands on is the next class's.
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return names - {"self"}


def check_attackable(model, x, y, input_range, allow_probabilities=False):
    """Returns images, class indices and the number of classes, or raises.

    An unbuilt model is built; a function is called on the first image.
    """
    x = checks.check_images("x", x, input_range).astype("float32")
    if y is None:
        raise ValueError(
            "Argument `y` is missing: the attack raises the loss of the "
            "true labels. Received: y=None"
        )
    if isinstance(model, keras.Model):
        if not model.built:
            model(ops.convert_to_tensor(x[:1]))
        outputs = checks.output_shape(model, (1, *x.shape[1:]))
        checks.check_classifier("model", x.shape, outputs)
        num_classes = outputs[-1]
    else:
        logits = black_box.call(model, x[:1])
        if not allow_probabilities:
            checks.check_logits("model", logits)
        num_classes = logits.shape[1]
    y = checks.check_labels("y", y, len(x), num_classes)
    if y.shape == (len(x), num_classes):
        largest = y == y.max(-1, keepdims=True)
        undecided = np.flatnonzero(largest.sum(-1) > 1)
        if len(undecided):
            raise ValueError(
                "Argument `y` must have one largest value in each row of "
                "one-hot labels. Received: rows without one, at "
                f"{', '.join(map(str, undecided[:10]))}"
            )
        y = y.argmax(-1)
    return x, y.reshape(-1).astype("int32"), num_classes


def _pair(objective):
    """Lets an objective return a verdict beside the values, or nothing."""

    def pair(x):
        found = objective(x)
        values, fooled = found if isinstance(found, tuple) else (found, None)
        if len(values.shape) != 1:
            raise _averaged(values)
        if fooled is None:
            fooled = ops.zeros_like(values, dtype="bool")
        return values, fooled

    return pair


def _is_per_sample(values, logits):
    if len(values.shape) == 0:
        return False
    # A size that a program leaves open may be any.
    return len({values.shape[0], logits.shape[0]} - {None}) < 2


def _averaged(values):
    return ValueError(
        "The objective of an attack must return one value per sample, of shape "
        "`(batch_size,)`: do not average over the batch. "
        f"Received: objective of shape {tuple(values.shape)}"
    )


def _better(new, old):
    """Returns where a new score beats the old one: fooled first, then value."""
    (new_value, new_fooled), (old_value, old_fooled) = new, old
    higher = ops.logical_or(new_fooled, new_value > old_value)
    return ops.logical_and(higher, ops.logical_not(old_fooled))


def per_image(values, x):
    """Returns one value per image with the axes to broadcast against `x`."""
    return ops.reshape(values, (-1,) + (1,) * (len(x.shape) - 1))
