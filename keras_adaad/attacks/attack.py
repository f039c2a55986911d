"""What every attack is: a ball, a loss to raise, and a call on arrays."""

import functools
import random
import weakref

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad import folding
from keras_adaad.attacks.draws import HostDraws
from keras_adaad.attacks.norms import NORMS
from keras_adaad.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import label_indices

LOSSES = {"cross_entropy": cross_entropy_from_logits}


class Attack:
    """Base class of the attacks.

    An attack holds its parameters and no state. It is used in two ways:

    - `attack(model, x, y)` attacks a model on arrays, batch by batch, and
      returns the adversarial images;
    - `attack.maximize(objective, x)` raises any per-sample objective inside
      a compiled training step. This is what the distillers call, and what a
      subclass writes.

    Args:
        epsilon: Radius of the ball, in the units of the model's input.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        restarts: Number of searches from different starts; the best point is
            kept per sample. Defaults to `1`.
        loss: What `attack(model, x, y)` raises: `"cross_entropy"`, or a
            function `loss(labels, logits)` that returns one value per sample.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`.
        seed: Integer that decides the random starts, or `None` for a new one
            (which `keras.utils.set_random_seed` decides).
    """

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
        # The model attacked last and its compiled attack: (reference, run).
        self._compiled = (None, None)

    def maximize(self, objective, x, noise=None, seed=None, succeeded=None):
        """Searches the ball around `x` for the highest objective.

        Args:
            objective: Function from images to one value per sample.
            x: Images, a float32 tensor of shape `(batch_size, ...)`.
            noise: The starting perturbation, in place of a random one: a
                tensor of the shape of `x`, or of shape `(restarts, *x.shape)`.
            seed: Source of the random starts: a `keras.random.SeedGenerator`
                or an int. Defaults to the attack's own seed.
            succeeded: Function from images to one bool per sample. With
                several restarts, a point where it holds beats any other.

        Returns:
            A float32 tensor of the shape of `x`, inside ball and range.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `maximize`."
        )

    def start_noise(self, shape, draws):
        """Returns a random starting perturbation, or `None` to start at `x`."""
        return None

    def __call__(self, model, x, y, noise=None, batch_size=128):
        """Attacks a model on arrays.

        Args:
            model: A `keras.Model` that returns logits.
            x: Images, of shape `(num_images, ...)`, within `input_range`.
            y: Labels: class indices or one-hot.
            noise: Starting perturbation in place of a random one, of the
                shape of `x`, or of shape `(restarts, *x.shape)`.
            batch_size: Images per compiled call; the last batch is padded.
                It does not change the result. Defaults to `128`.

        Returns:
            The adversarial images, a float32 NumPy array of the shape of `x`.

        Raises:
            TypeError: If `model` is no `keras.Model` or `x` is no array.
            ValueError: If the model returns probabilities, or the data or
                the labels do not fit.

        Example:

        ```python
        attack = keras_adaad.attacks.PGD(epsilon=8 / 255, steps=20)
        x_adv = attack(model, x_test, y_test)
        ```
        """
        checks.check_model("model", model)
        x = checks.check_images("x", x, self.input_range).astype("float32")
        if y is None:
            raise ValueError(
                "Argument `y` is missing: the attack raises the loss of the "
                "true labels. Received: y=None"
            )
        batch_size = min(checks.check_integer("batch_size", batch_size), len(x))
        if not model.built:
            model(ops.convert_to_tensor(x[:1]))
        folding.prepare(model)
        num_classes = checks.output_shape(model, (1, *x.shape[1:]))[-1]
        y = checks.check_labels("y", y, len(x), num_classes)
        if noise is not None:
            noise = self.check_noise(noise, x.shape)
        seed = random.randrange(2**31) if self.seed is None else self.seed
        draws = [HostDraws([seed, k]) for k in range(self.restarts)]

        run = self._compile_for(model)
        x_adv = np.empty_like(x)
        for begin in range(0, len(x), batch_size):
            rows = np.arange(begin, min(begin + batch_size, len(x)))
            if noise is None:
                start = self._host_noise((len(rows), *x.shape[1:]), draws)
            else:
                start = noise[:, rows]
            # The last batch repeats its last image: shapes stay static.
            padding = (0, batch_size - len(rows))
            rows_in = np.pad(rows, padding, mode="edge")
            if start is not None:
                start = start[:, rows_in - begin]
            x_adv[rows] = run(x[rows_in], y[rows_in], start)[: len(rows)]
        return x_adv

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
        logits = logits_function(model)
        loss = LOSSES.get(self.loss, self.loss)

        def objective(x_adv):
            return loss(y, logits(x_adv))

        def misclassified(x_adv):
            predicted = logits(x_adv)
            return ops.argmax(predicted, axis=-1) != label_indices(y, predicted)

        return self.maximize(
            objective,
            x,
            noise=noise,
            # A fixed seed needs no state: the same start for every batch.
            seed=self.seed or 0,
            succeeded=misclassified,
        )

    def _host_noise(self, shape, draws):
        noise = [self.start_noise(shape, source) for source in draws]
        if noise[0] is None:
            return None
        return np.stack([ops.convert_to_numpy(n) for n in noise])

    def check_noise(self, noise, shape):
        """Returns `noise` with its axis of restarts, or raises."""
        noise = np.asarray(noise, "float32")
        if noise.shape == shape:
            noise = noise[None]
        if noise.shape != (self.restarts, *shape):
            raise ValueError(
                "Argument `noise` must have the shape of `x`, or that shape "
                f"after an axis of {self.restarts} restarts. "
                f"Received: noise.shape={noise.shape}, x.shape={shape}"
            )
        return noise

    def _compile_for(self, model):
        """Returns the compiled attack on `model`, kept for the next call."""
        reference, run = self._compiled
        if reference is None or reference() is not model:
            run = backend.compile_function(
                functools.partial(self.on_batch, model),
                model,
                model.jit_compile,
            )
            self._compiled = (weakref.ref(model), run)
        return run

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
