"""Attacks that search in steps."""

import copy
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import RNG
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import Logits
from keras_adaad._typing import Loss
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.attack import Attack
from keras_adaad.attacks.search import search
from keras_adaad.frozen.digest import digest
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import dlr_from_logits
from keras_adaad.losses import label_indices
from keras_adaad.losses import margin_from_logits
from keras_adaad.losses import probability_margin_from_logits

LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy_from_logits,
    "dlr": dlr_from_logits,
    "margin": margin_from_logits,
    "pma": probability_margin_from_logits,
}


class IterativeAttack(Attack):
    """Base class of the attacks that search in steps.

    A subclass defines how its search begins, moves and ends:

    - `settings(shape, seed, round_)` returns the parameters of each step (the
      radius, a step size) as a list of dicts;
    - `start_noise(shape, rng, round_)` returns a random starting perturbation;
    - `begin(objective, x, noise, setting)` returns the state of the search, a
      dict of tensors;
    - `step(objective, x, state, setting)` returns the next state;
    - `result(x, state, setting)` returns the point found;
    - `values(labels, targets, logits)` returns the loss to maximise.

    `objective(x_adv)` returns a pair: one value per sample, and one bool per
    sample that is true if the model is fooled.

    `begin`, `step` and `result` are compiled, together with `values` and the
    loss. Attacks of one class share the compiled programs only if their
    attributes are equal. To compile once for all values of an attribute, such
    as the radius, a class names it in `not_compiled` and takes the value from
    `setting`. Subclasses do not inherit `not_compiled`, because their `step`
    may read other attributes.

    Args:
        restarts: Number of searches from different starts. Per image, the
            first point that fools the model is kept or, failing that, the
            point with the highest loss. Defaults to `1`.
        loss: Loss that `attack(model, x, y)` maximises: `"cross_entropy"`,
            `"margin"`, `"dlr"`, `"pma"`, or a function `loss(labels, logits)`
            that returns one value per sample.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.
    """

    # Attributes that only `settings` and the random start read. Reading one
    # in the compiled search raises an error.
    not_compiled: tuple[str, ...] = ()
    _losses: dict[str, Loss] = LOSSES

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        restarts: int = 1,
        loss: str | Loss = "cross_entropy",
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        super().__init__(
            epsilon=epsilon, norm=norm, input_range=input_range, seed=seed
        )
        self.restarts = checks.check_integer("restarts", restarts)
        if not callable(loss):
            checks.check_choice("loss", loss, tuple(self._losses))
        self.loss: Any = loss
        # The state file of an evaluation depends on the order of attributes.
        for name in ("input_range", "seed"):
            vars(self)[name] = vars(self).pop(name)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "not_compiled" not in vars(cls):
            cls.not_compiled = ()

    def settings(
        self, shape: tuple[int, ...], seed: int, round_: int = 0
    ) -> Iterable[dict[str, Any]]:
        """Returns the parameters of each step, a list or iterator of dicts.

        Args:
            shape: Shape of an image.
            seed: Integer seed, for parameters that are drawn at random.
            round_: Index of the round.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `settings`."
        )

    def start_noise(
        self, shape: tuple[int, ...], rng: RNG, round_: int = 0
    ) -> Tensor | None:
        """Returns a random starting perturbation, or `None` to start at `x`.

        Args:
            shape: Shape of the batch of images.
            rng: Source of random numbers: `rng.normal(shape)`, and
                `rng.uniform(shape)` in [-1, 1].
            round_: Index of the round.
        """
        return None

    def begin(
        self,
        objective: Objective,
        x: Tensor,
        noise: Tensor | None,
        setting: dict[str, Any],
    ) -> Tensors:
        """Returns the state from which the search starts, a dict of tensors."""
        return {"x_adv": x if noise is None else self._clip(x + noise)}

    def step(
        self,
        objective: Objective,
        x: Tensor,
        state: Tensors,
        setting: dict[str, Any],
    ) -> Tensors:
        """Returns the state after one more step."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `step`."
        )

    def result(
        self, x: Tensor, state: Tensors, setting: dict[str, Any]
    ) -> Tensor:
        """Returns the point found, inside ball and range."""
        return state["x_adv"]

    def values(
        self, labels: Tensor, targets: Tensor | None, logits: Tensor
    ) -> Tensor:
        """Returns the loss that the attack maximises, one value per sample.

        Args:
            labels: Class indices or one-hot labels.
            targets: Target classes of the round, or `None`.
            logits: Float32 logits of shape `(batch_size, num_classes)`.
        """
        return self._losses.get(self.loss, self.loss)(labels, logits)

    def __call__(  # type: ignore[override]
        self,
        model: keras.Model | Logits,
        x: ArrayLike,
        y: ArrayLike,
        noise: ArrayLike | None = None,
        batch_size: int = 256,
    ) -> np.ndarray:
        """Attacks a model on arrays.

        Args:
            noise: Starting perturbation in place of a random one, of the
                shape of `x`, or of shape `(starts, *x.shape)`, with one start
                for each restart and target class.
            model, x, y, batch_size: See `keras_adaad.attacks.Attack`.

        Returns:
            The adversarial images, a float32 NumPy array of the shape of `x`.
        """
        return self._attack_arrays(model, x, y, batch_size, noise=noise)

    def _run(self, classifier, x, y, *, noise=None, **options):
        if noise is not None:
            noise = self._check_noise(
                noise, x.shape, self._starts(classifier.num_classes)
            )
        return search(self, classifier, x, y, noise=noise, **options)

    def _starts(self, num_classes):
        """Returns the number of searches per image."""
        return self.restarts

    def _rounds(self, num_classes):
        """Returns the number of rounds: each search has one or several."""
        return self._starts(num_classes)

    def _target_classes(self, classifier, x, batch_size):
        """Returns target classes, of shape `(rounds, images)`, or `None`."""
        return None

    def _start(self, x, x_last, rng, round_, noise=None):
        """Returns the argument `noise` of `begin`, for a search on arrays.

        `x_last` are the points that the previous round found. `noise` is what
        the user passed, of shape `(starts, *x.shape)`, or `None`.
        """
        if noise is not None:
            return noise[round_]
        start = self.start_noise(x.shape, rng, round_)
        return None if start is None else ops.convert_to_numpy(start)

    def _objective(self, logits, y, target=None):
        """Returns the function from images to values and fooled flags."""

        def objective(x_adv):
            predicted = logits(x_adv)
            fooled = self._fooled(y, predicted)
            values = self.values(y, target, predicted)
            if not _is_per_sample(values, predicted):
                raise not_per_sample(values)
            return values, fooled

        return objective

    def _fooled(self, labels, logits):
        """Returns which images are classified wrongly, one bool per image."""
        predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
        return predicted != label_indices(labels, logits)

    def _clip(self, x):
        return ops.clip(x, *self.input_range)

    def _check_noise(self, noise, shape, starts):
        """Returns `noise` with its axis of starts, or raises."""
        noise = np.asarray(noise, "float32")
        if not np.isfinite(noise).all():
            raise ValueError(
                "Argument `noise` must hold finite numbers. Received: "
                f"{(~np.isfinite(noise)).sum()} values of NaN or infinity"
            )
        if noise.shape == shape:
            noise = noise[None]
        if noise.shape != (starts, *shape):
            raise ValueError(
                "Argument `noise` must have the shape of `x`, or that shape "
                f"after an axis of {starts} restarts. "
                f"Received: noise.shape={noise.shape}, x.shape={shape}"
            )
        return noise

    def _check_classes(self, num_classes):
        if self.loss == "dlr" and num_classes < 3:
            raise ValueError(
                f"The DLR loss of {type(self).__name__} needs at least 3 "
                'classes. Use `loss="margin"`. '
                f"Received: a model with {num_classes} classes"
            )

    def _compiled_part(self):
        """Returns a copy without the attributes that `not_compiled` names."""
        part = copy.copy(self)
        for name in self.not_compiled:
            vars(part).pop(name, None)
        return part

    def _program_key(self):
        """Returns a hashable key of all that the compiled search depends on."""
        contents = self._compiled_part()._contents()
        return type(self), digest([type(self), contents], in_process=True)

    def __getattr__(self, name):
        # Python calls this for attributes that the instance does not have.
        kind = type(self).__name__
        if name in self.not_compiled and "_fixed" in vars(self):
            raise RuntimeError(
                f"`{kind}.{name}` is not part of the compiled search, which "
                f"reads it: `{kind}.not_compiled` names it. Let `settings` "
                f'return it, and read `setting["{name}"]`; or take it out of '
                f"`not_compiled`. Received: `self.{name}` in `begin`, `step`, "
                "`result` or `values`"
            )
        raise AttributeError(f"{kind!r} object has no attribute {name!r}")


def per_image(values, x):
    """Reshapes one value per image so that it broadcasts against `x`."""
    return ops.reshape(values, (-1,) + (1,) * (len(x.shape) - 1))


def _is_per_sample(values, logits):
    # `FAB` has one value per sample and class.
    ranks = (1, 2) if len(logits.shape) == 2 else (1,)
    if len(values.shape) not in ranks:
        return False
    # A dimension of unknown size is `None`.
    return len({values.shape[0], logits.shape[0]} - {None}) < 2


def not_per_sample(values):
    """Returns the error for an objective that was averaged over the batch."""
    return ValueError(
        "The objective of an attack must return one value per sample, of shape "
        "`(batch_size,)`: do not average over the batch. "
        f"Received: objective of shape {tuple(values.shape)}"
    )
