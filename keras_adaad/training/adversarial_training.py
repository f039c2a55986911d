"""The min-max step: perturb the batch, then train on its views."""

import functools
from typing import Any

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.float16 import uses_float16
from keras_adaad.losses import BatchMean
from keras_adaad.losses.reduction import check_per_sample
from keras_adaad.training import attack_arguments
from keras_adaad.training.checked_calls import CheckedCalls
from keras_adaad.training.weight_perturbation import weight_offsets


class AdversarialTraining(CheckedCalls):
    """Base class of the methods that train a student on adversarial images.

    Each step approximately solves

        x* = argmax_{||x' - x|| <= epsilon}  inner objective(x')
        minimise over the student's weights  mean_i outer loss_i(clean x, x*)

    A subclass defines three things:

    - `inner_objective(x, y)`: the function of `x'` that the attack maximises;
    - `forward_order`: the views (`"clean"`, `"adversarial"`) in the order in
      which the student runs on them in training mode. Each run updates the
      student's BatchNorm statistics, so the order is part of the method. A
      view may appear twice. Override `views(x, x_adv)` to add other views;
    - `outer_loss(views, logits, y)`: one value per sample.

    State that changes during training is kept in variables, which are saved
    with the model. `states` maps the names of scalars, which become attributes,
    to their initial values; `add_states` adds arrays. In `outer_loss`, assign
    to them only if `self.learning` is true. `fit` sets `self.epoch`, counted
    from 0, and `self.epochs`; `self.progress()` is `(epoch + 1) / epochs`.

    The penalties of the trained networks' layers are added to the mean of the
    outer loss: `add_loss` and `activity_regularizer` count for every run, and
    weight regularizers count once.

    The attack runs before Keras's own `train_step`, which receives the views as
    its input. Optimizers, mixed precision and callbacks are therefore Keras's
    own. `compile()` takes no `loss`: the method defines it.

    `fit` logs `loss`, the compiled metrics on clean images, and
    `adversarial_accuracy` on x*. `evaluate` and validation log
    `robust_accuracy` under `evaluation_attack` instead.

    Arrays, and the first batch of a data set, are checked before the training
    starts. The step checks later batches, and makes the loss NaN if an image
    or a label is invalid. If the loss is not finite, `fit` raises a
    `ValueError` at the end of the epoch, and `evaluate` at the end of the
    call. The values of one-hot labels are not checked.

    Args:
        student: The `keras.Model` to train; it returns logits.
        attack: The inner maximisation, e.g. a `keras_adaad.attacks.PGD`.
            Defaults to the method's published attack, scaled to `input_range`.
        evaluation_attack: The attack behind `robust_accuracy`. `"pgd-10"`, the
            default, is that of `keras_adaad.attacks.get` at the training
            epsilon: 10 steps of `epsilon / 4` on the cross-entropy, from a
            uniform start. `None` evaluates clean images only.
        input_range: Pair `(low, high)` of the smallest and largest pixel
            value. Defaults to `(0.0, 1.0)`, or to the range of `attack`.
        seed: Integer seed of the random starts during training. Defaults to
            the attack's seed.
        weight_perturbation: Size of the adversarial weight perturbation
            (AWP, [Wu et al. 2020](https://arxiv.org/abs/2004.05884)), relative
            to the norm of each layer's weights. The authors' code uses 0.01
            for PGD-AT and 0.005 for TRADES. It costs one more forward and
            backward pass. Defaults to `0.0`: none.
        forward_order: Overrides the class's `forward_order`. For subclasses;
            not serialized.
        other_networks: Dict of the networks besides the student. Each becomes
            an attribute named by its key. For subclasses. Defaults to none.
        name: Name of the model.
        **kwargs: Arguments of `keras.Model`. `dtype` does not change the
            student's precision: `keras_adaad.models.with_dtype` does.

    Raises:
        TypeError: If the student is not a `keras.Model`.
        ValueError: If it returns probabilities, or an argument is out of range.
    """

    forward_order: tuple[str, ...] = ("clean", "adversarial")
    needs_labels = False

    def __init__(
        self,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        evaluation_attack: str | ObjectiveAttack | None = "pgd-10",
        input_range: tuple[float, float] | None = None,
        seed: int | None = None,
        weight_perturbation: float = 0.0,
        forward_order: tuple[str, ...] | None = None,
        other_networks: dict[str, keras.Model] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        checks.check_model("student", student)
        attack_arguments.check_not_given(kwargs)
        weight_perturbation = checks.check_number(
            "weight_perturbation", weight_perturbation
        )
        # Decides whether Keras scales the loss. A loaded student has lost its
        # own policy: ask its layers. Without autocast the attack gets float32.
        half = uses_float16(student)
        kwargs.setdefault("dtype", "mixed_float16" if half else "float32")
        networks = {"student": student, **(other_networks or {})}
        super().__init__(networks, name=name, autocast=False, **kwargs)
        self.weight_perturbation = weight_perturbation
        if forward_order is not None:
            self.forward_order = forward_order
        self._set_attack(attack, input_range)
        self.evaluation_attack = evaluation_attack
        self._add_state(self.attack.seed if seed is None else seed)
        self._batch_mean = BatchMean()
        self.learning = False  # Whether a training step calls `outer_loss`.
        self._build_if_known()

    @classmethod  # For subclasses to override, down to `outer_loss`.
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        """Returns the attack of the method's paper for the given range."""
        return attack_arguments.default_attack(input_range)

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        """Returns the function of `x_adv` that the attack maximises.

        Args:
            x: Clean images, a float32 tensor of shape `(batch_size, ...)`.
            y: Labels, or `None`.

        Returns:
            A function from images to values of shape `(batch_size,)`. Call the
            networks through `logits_function`, so their state does not change.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `inner_objective`."
        )

    def views(self, x: Tensor, x_adv: Tensor) -> Tensors:
        """Returns the images that the student runs on, by view name.

        Args:
            x: Clean images, a float32 tensor of shape `(batch_size, ...)`.
            x_adv: Adversarial images of the same shape.

        Returns:
            A dict of tensors that includes `"clean"` and `"adversarial"`.
        """
        return {"clean": x, "adversarial": x_adv}

    def moves_statistics(self, view: str) -> Tensor:
        """Returns whether a run on a view updates the BatchNorm statistics.

        Args:
            view: Name of the view.

        Returns:
            `True`, or a boolean tensor that may depend on `self.epoch`.
        """
        return True

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        """Returns the loss of each sample.

        Args:
            views: Dict of the images, as returned by `views`.
            logits: Dict of the student's float32 logits on them, of shape
                `(batch_size, num_classes)`, in training mode in training steps.
            y: Labels, or `None`.

        Returns:
            A tensor of shape `(batch_size,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `outer_loss`."
        )

    def total_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        """Returns `outer_loss` plus the terms that a base class adds."""
        return self.outer_loss(views, logits, y)

    def train_step(self, *state_and_data: Any) -> Any:
        offsets = functools.partial(weight_offsets, self)
        return backend.views_then_step(
            super().train_step,
            self._training_views,
            self,
            *state_and_data,
            make_offsets=offsets if self.weight_perturbation else None,
        )

    def test_step(self, *state_and_data: Any) -> Any:
        return backend.views_then_step(
            super().test_step, self._evaluation_views, self, *state_and_data
        )

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        if not isinstance(x, dict):
            return self.student(x, training=training)
        order: Any = [view for view in self.forward_order if view in x]
        if not training:
            order = dict.fromkeys(order)
        # A view that appears twice keeps the logits of its last run.
        return {view: self._run(x, view, training) for view in order}

    def _run(self, x, view, training):
        moves = self.moves_statistics(view)
        if not training or moves is True:
            return self.student(x[view], training=training)
        variables = self.student.non_trainable_variables
        before = [ops.copy(variable.value) for variable in variables]
        logits = self.student(x[view], training=True)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(ops.where(moves, variable.value, value))
        return logits

    def compute_loss(
        self,
        x: Any = None,
        y: Labels = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        # First, because calling a network below clears its earlier penalties.
        penalties = [ops.reshape(ops.sum(p), (1,)) for p in self.losses]
        logits = {view: ops.cast(y_pred[view], "float32") for view in y_pred}
        for view in self.forward_order:
            if view not in x:  # Evaluated without an attack: clean images.
                x = {**x, view: x["clean"]}
                logits[view] = logits["clean"]
        self.learning = training
        per_sample = check_per_sample(self.total_loss(x, logits, y))
        valid = checks.are_valid(
            x["clean"], y, self.input_range, self.num_classes
        )
        per_sample = ops.where(valid, per_sample, float("nan"))
        loss = self._batch_mean.of(per_sample, sample_weight)
        loss = backend.processes.weighted_by_images(loss, per_sample)
        for penalty in penalties:
            loss += self._batch_mean.of(penalty)
        if training:
            loss = backend.processes.averaged_gradient(
                loss, self.trainable_variables
            )
        return loss

    def _training_views(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = ops.cast(x, "float32")
        views = self.views(x, self._attack_in_training(x, y))
        return keras.utils.pack_x_y_sample_weight(views, y, sample_weight)

    def _evaluation_views(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = ops.cast(x, "float32")
        views = {"clean": x}
        if self.evaluation_attack is not None and y is not None:
            x_adv = self.evaluation_attack._maximize_loss(self.student, x, y)
            views = self.views(x, x_adv)
        return keras.utils.pack_x_y_sample_weight(views, y, sample_weight)

    def _attack_in_training(self, x, y):
        """Returns x*. Overrides may keep state that the attack changes."""
        return self._maximize(x, y)

    def _maximize(self, x, y, noise=None):
        objective = self.inner_objective(x, y)
        return self.attack.maximize(
            objective, x, noise=noise, seed=self.seed_generator
        )

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
            "student": serialize(self.student),
            "attack": serialize(self.attack),
            "evaluation_attack": serialize(self.evaluation_attack),
            "input_range": list(self.input_range),
            "seed": self.seed_generator.get_config()["seed"],
            "weight_perturbation": self.weight_perturbation,
        }
