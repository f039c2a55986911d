"""Attacks that can maximise any objective inside a compiled step."""

import itertools

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad.attacks.iterative import IterativeAttack
from keras_adaad.attacks.iterative import not_per_sample
from keras_adaad.attacks.iterative import per_image
from keras_adaad.attacks.randomness import GraphRNG
from keras_adaad.frozen.logits import logits_function


class ObjectiveAttack(IterativeAttack):
    """Base class of the attacks that can maximise any objective.

    `attack.maximize(objective, x)` maximises a per-sample objective inside a
    compiled training step. The distillers call it. A subclass defines its
    search like any `IterativeAttack`.

    Args:
        restarts, loss: See `keras_adaad.attacks.IterativeAttack`.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.
    """

    def maximize(
        self,
        objective: Objective,
        x: Tensor,
        noise: Tensor | None = None,
        seed: keras.random.SeedGenerator | int | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Searches the ball around `x` for the highest objective.

        Args:
            objective: Function from images to one value per sample, or to a
                pair: the values, and one bool per sample. With several
                restarts, a point whose bool is true beats any other.
            x: Images, a float32 tensor of shape `(batch_size, ...)`.
            noise: Starting perturbation in place of a random one: a tensor of
                the shape of `x`, or of shape `(restarts, *x.shape)`.
            seed: Source of the random starts: a `keras.random.SeedGenerator`
                or an int. Defaults to the attack's own seed.
            scale: Factor of `epsilon` and of `step_size`, a scalar tensor that
                may change from step to step. Defaults to none.

        Returns:
            A float32 tensor of the shape of `x`, inside ball and range.
        """
        self._check_usable()
        rng = GraphRNG(self.seed if seed is None else seed)
        objective = _with_verdicts(objective)
        if noise is not None and len(noise.shape) == len(x.shape):
            noise = noise[None]

        def search_once(restart):
            if noise is None:
                start = self.start_noise(ops.shape(x), rng, restart)
            else:
                start = noise[restart]
            return self._search_once(objective, x, start, scale)

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

    def _maximize_loss(self, model, x, y):
        """Attacks a built model on one batch, inside a compiled function."""
        return self.maximize(
            self._compiled_part()._objective(logits_function(model), y),
            x,
            # An integer has no state: the same start for every batch.
            seed=self.seed or 0,
        )

    def _starts_in_ball(self):
        """Whether the size of the start is that of the ball."""
        return False

    def _search_once(self, objective, x, noise, scale=None):
        if scale is not None and self._starts_in_ball():
            noise = scale * noise
        settings = list(self.settings(tuple(x.shape[1:]), 0))
        compiled = self._compiled_part()
        first, last = (_scaled(settings[i], scale) for i in (0, -1))
        state = compiled.begin(objective, x, noise, first)
        for setting, equal in itertools.groupby(settings):
            setting = _scaled(setting, scale)

            def step(state, setting=setting):
                return compiled.step(objective, x, state, setting)

            state = backend.repeat(len(list(equal)), step, state)
        return compiled.result(x, state, last)


def _scaled(setting, scale):
    """Returns the setting of a step in a ball of another radius."""
    if scale is None:
        return setting
    lengths = {"epsilon", "step_size"} & setting.keys()
    return {**setting, **{name: scale * setting[name] for name in lengths}}


def _with_verdicts(objective):
    """Returns an objective of values and bools; by default all false."""

    def values_and_verdicts(x):
        found = objective(x)
        values, fooled = found if isinstance(found, tuple) else (found, None)
        if len(values.shape) != 1:
            raise not_per_sample(values)
        if fooled is None:
            fooled = ops.zeros_like(values, dtype="bool")
        return values, fooled

    return values_and_verdicts


def _better(new, old):
    """Returns where a new score beats the old: fooled first, then value."""
    (new_value, new_fooled), (old_value, old_fooled) = new, old
    higher = ops.logical_or(new_fooled, new_value > old_value)
    return ops.logical_and(higher, ops.logical_not(old_fooled))
