"""The min-max step: perturb the batch, then train on its views."""

import contextlib
import inspect

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad.attacks import PGD
from keras_adaad.attacks.attack import Attack
from keras_adaad.attacks.draws import SeedGenerator
from keras_adaad.distribution import divisible
from keras_adaad.distribution import own_part
from keras_adaad.distribution.writing import alone
from keras_adaad.frozen.folding import uses_float16
from keras_adaad.frozen.network import check_network
from keras_adaad.losses import BatchMean
from keras_adaad.losses import label_indices
from keras_adaad.weight_perturbation import weight_offsets


class AdversarialTraining(backend.Model):
    """Base class of the methods that train a student on adversarial images.

    Each step solves, approximately,

        x* = argmax_{||x' - x|| <= epsilon}  inner objective(x')
        minimise over the student's weights  mean_i outer loss_i(clean x, x*)

    A method states three things:

    - `inner_objective(x, y)`: the function of `x'` that the attack raises;
    - `forward_order`: the views (`"clean"`, `"adversarial"`) in the order in
      which the student is run on them in training mode. Each run updates the
      student's BatchNorm statistics, so the order is part of the method, and
      a view may be in it twice. `views(x, x_adv)` makes other views;
    - `outer_loss(views, logits, y)`: one value per sample.

    What changes while a method trains is in scalar variables, saved, resumed,
    and part of the compiled step: `states` has their names, which become
    attributes, and first values. To move one, assign to it in `outer_loss`
    where `self.learning` is true. `fit` moves `self.epoch`, counted from 0, and
    `self.epochs`; `self.progress()` is the share of the training that the
    present epoch completes.

    The penalties of the student's layers are added to the mean of the outer
    loss, by Keras's rules for a network that is called several times:
    `add_loss` and `activity_regularizer` count for every run, and the
    regularizers of weights count once.

    Everything else is here. The attack runs before and outside Keras's own
    `train_step`, which then sees the views as its input; so optimizers, loss
    scaling, gradient accumulation, mixed precision, distribution and callbacks
    are Keras's own. `compile()` takes no `loss`: the method defines it.

    `fit` logs `loss`, the compiled metrics on clean images, and
    `adversarial_accuracy` on x*. `evaluate` and validation log
    `robust_accuracy` under `evaluation_attack` in its place.

    Arrays are checked whole before the training starts, and so is the first
    batch of a data set. A later batch is checked within the step, which can't
    raise: an image with NaN or values outside `input_range`, or a label that
    is no class, makes the loss NaN. `fit` raises a `ValueError` at the end of
    an epoch whose loss is not finite, `evaluate` at its end. A training that
    diverges ends in the same way, unless a callback such as
    `keras.callbacks.TerminateOnNaN` has stopped it before. The values of
    one-hot labels are not checked.

    Args:
        student: The `keras.Model` to train; it returns logits.
        attack: The inner maximisation, e.g. a `keras_adaad.attacks.PGD`.
            Defaults to the method's published attack, scaled to `input_range`.
        evaluation_attack: The attack behind `robust_accuracy`. `"pgd"`, the
            default, is PGD-10 on the cross-entropy at the training epsilon,
            with steps of `epsilon / 4` from a uniform start. `None` turns
            robust evaluation off.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`, or to the range of `attack`.
        seed: Integer that decides the random starts during training. Defaults
            to the attack's seed.
        weight_perturbation: Size of the adversarial weight perturbation,
            relative to the norm of each layer's weights: the step is taken at
            the weights that raise the loss most nearby (AWP,
            [Wu et al. 2020](https://arxiv.org/abs/2004.05884), whose code has
            0.01 for PGD-AT and 0.005 for TRADES). It costs one more forward
            and backward pass. Defaults to `0.0`: none.
        forward_order: Another order than that of the class. It is for methods
            to hand on; they save what it follows from.
        name: Name of the model.
    """

    forward_order = ("clean", "adversarial")
    needs_labels = False
    states = {}

    def __init__(
        self,
        student,
        attack=None,
        *,
        evaluation_attack="pgd",
        input_range=None,
        seed=None,
        weight_perturbation=0.0,
        forward_order=None,
        name=None,
        **kwargs,
    ):
        checks.check_model("student", student)
        weight_perturbation = checks.check_number(
            "weight_perturbation", weight_perturbation
        )
        # Of this policy Keras asks one thing: whether to scale the loss. It
        # depends on the student's layers, for a loaded model has lost its own
        # policy. No autocast, so that the attack sees float32 images.
        half = uses_float16(student)
        kwargs.setdefault("dtype", "mixed_float16" if half else "float32")
        super().__init__(name=name, autocast=False, **kwargs)
        self.student = student
        self.weight_perturbation = weight_perturbation
        if forward_order is not None:
            self.forward_order = forward_order
        self.attack, self.input_range = self._resolve_attack(
            attack, input_range
        )
        self.evaluation_attack = self._resolve_evaluation(evaluation_attack)
        self.seed_generator = SeedGenerator(
            self.attack.seed if seed is None else seed
        )
        self.adversarial_accuracy = keras.metrics.Mean("adversarial_accuracy")
        self.robust_accuracy = keras.metrics.Mean("robust_accuracy")
        self._batch_mean = BatchMean()
        self._states = []
        for state, value in {
            "epoch": 0.0,
            "epochs": 200.0,
            **self.states,
        }.items():
            self._add_state(state, value)
        # Whether the present call of `outer_loss` is of a training step.
        self.learning = False
        self._idle_metrics = ("robust_accuracy",)
        self._had_labels = {}
        # Whether the metrics asked for are of a batch, or of an epoch.
        self._in_batch = False
        self._compiled_perturb = (None, None)
        # What the compiled functions are made of.
        self._frozen_networks, self._attacks = {}, None
        self._build_if_known()

    # What a method states.

    @classmethod
    def published_attack(cls, input_range):
        """Returns the attack of the method's paper for the given range."""
        width = input_range[1] - input_range[0]
        return PGD(
            epsilon=8 / 255 * width,
            step_size=2 / 255 * width,
            steps=10,
            start="normal",
            start_scale=0.001 * width,
            clip_start=False,
            input_range=input_range,
        )

    def inner_objective(self, x, y):
        """Returns the function of `x_adv` that the attack raises.

        Args:
            x: Clean images, a float32 tensor of shape `(batch_size, ...)`.
            y: Labels, or `None`.

        Returns:
            A function from images to values of shape `(batch_size,)`. Call the
            networks through `logits_function`, so that no state moves.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `inner_objective(x, y)`."
        )

    def views(self, x, x_adv):
        """Returns the images that the student is run on, by name.

        Args:
            x: Clean images, a float32 tensor of shape `(batch_size, ...)`.
            x_adv: What the attack found, of the same shape.

        Returns:
            A dict of tensors, `"clean"` and `"adversarial"` among them.
        """
        return {"clean": x, "adversarial": x_adv}

    def moves_statistics(self, view):
        """Returns whether a run on a view moves the BatchNorm statistics.

        Args:
            view: Name of the view.

        Returns:
            `True`, or a boolean tensor that may depend on `self.epoch`.
        """
        return True

    def outer_loss(self, views, logits, y):
        """Returns the loss of each sample.

        Args:
            views: Dict of the images, as `views` returned it.
            logits: Dict of the student's float32 logits on them, of shape
                `(batch_size, num_classes)`, in training mode.
            y: Labels, or `None`.

        Returns:
            A tensor of shape `(batch_size,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement "
            "`outer_loss(views, logits, y)`."
        )

    def total_loss(self, views, logits, y):
        """Returns `outer_loss`, and what a base class adds to it."""
        return self.outer_loss(views, logits, y)

    # What a method has at hand.

    def progress(self):
        """Returns `(epoch + 1) / epochs`, a float32 tensor in (0, 1]."""
        return (self.epoch + 1.0) / self.epochs

    # The step.

    def train_step(self, *state_and_data):
        return backend.views_then_step(
            super().train_step,
            self._training_views,
            self,
            *state_and_data,
            make_offsets=self._weight_offsets
            if self.weight_perturbation
            else None,
        )

    def test_step(self, *state_and_data):
        return backend.views_then_step(
            super().test_step, self._evaluation_views, self, *state_and_data
        )

    def call(self, x, training=False):
        if not isinstance(x, dict):
            return self.student(x, training=training)
        order = [view for view in self.forward_order if view in x]
        if not training:
            order = dict.fromkeys(order)
        # A view that comes twice keeps the logits of its last run.
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
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        # First, because calling a network below clears what it had added.
        penalties = [ops.sum(penalty) for penalty in self.losses]
        logits = {view: ops.cast(y_pred[view], "float32") for view in y_pred}
        for view in self.forward_order:
            if view not in x:
                # Evaluation without an attack: the loss at the clean images.
                x = {**x, view: x["clean"]}
                logits[view] = logits["clean"]
        self.learning = training
        per_sample = self.total_loss(x, logits, y)
        valid = checks.are_valid(
            x["clean"], y, self.input_range, self.num_classes
        )
        per_sample = ops.where(valid, per_sample, float("nan"))
        loss = self._batch_mean.of(per_sample, sample_weight)
        for penalty in penalties:
            loss += self._batch_mean.of(ops.reshape(penalty, (1,)))
        if training:
            loss = backend.processes.averaged_gradient(
                loss, self.trainable_variables
            )
        return loss

    def get_metrics_result(self):
        if self._in_batch:
            return super().get_metrics_result()
        with backend.processes.totals(self.metrics_variables):
            return super().get_metrics_result()

    def compute_metrics(self, *args, **kwargs):
        self._in_batch = True
        try:
            return self._compute_metrics(*args, **kwargs)
        finally:
            self._in_batch = False

    def _compute_metrics(self, x, y, y_pred, sample_weight=None):
        if y is None:
            return self.get_metrics_result()
        logits = y_pred if isinstance(y_pred, dict) else {"clean": y_pred}
        if "adversarial" in logits:
            adversarial = logits["adversarial"]
            correct = ops.argmax(adversarial, axis=-1) == label_indices(
                y, adversarial
            )
            for metric in self.metrics:
                if metric in (self.adversarial_accuracy, self.robust_accuracy):
                    metric.update_state(correct)
        return super().compute_metrics(
            x, y, logits["clean"], sample_weight=sample_weight
        )

    @property
    def metrics(self):
        # Asked by Keras during construction too, before there is any metric.
        idle = getattr(self, "_idle_metrics", ())
        return [m for m in super().metrics if m.name not in idle]

    def _training_views(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = ops.cast(x, "float32")
        views = self.views(x, self._attack_in_training(x, y))
        return keras.utils.pack_x_y_sample_weight(views, y, sample_weight)

    def _add_state(self, name, value):
        variable = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
            # Each replica moves it by its part of the batch.
            aggregation="mean",
            name=name,
        )
        setattr(self, name, variable)
        self._states.append(variable)

    def _weight_offsets(self, data):
        views, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.learning = False
        return weight_offsets(self, views, y, sample_weight)

    def _evaluation_views(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = ops.cast(x, "float32")
        views = {"clean": x}
        if self.evaluation_attack is not None and y is not None:
            x_adv = self.evaluation_attack.on_batch(self.student, x, y)
            views = self.views(x, x_adv)
        return keras.utils.pack_x_y_sample_weight(views, y, sample_weight)

    def _attack_in_training(self, x, y):
        """Returns x*. Here a method may move what its attack moves."""
        return self._maximize(x, y)

    def _maximize(self, x, y, noise=None):
        return self.attack.maximize(
            self.inner_objective(x, y),
            x,
            noise=noise,
            seed=self.seed_generator,
        )

    # What a user calls.

    def perturb(self, x, y=None, noise=None):
        """Returns x*, as the next training step would see it.

        The inner maximisation, compiled as `fit` compiles it. Nothing moves:
        no weight, no BatchNorm statistic, no random state, so training after
        a call is the same as without it.

        Args:
            x: Images, of shape `(batch_size, ...)`, within `input_range`.
            y: Labels, where the method needs them.
            noise: The starting perturbation in place of the random one, of
                the shape of `x`.

        Returns:
            The adversarial images, a float32 NumPy array of the shape of `x`.
        """
        x, y = self._check_batch(x, y)
        self._check_networks(x)
        x = x.astype("float32")
        if noise is not None:
            noise = self.attack.check_noise(noise, x.shape)
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

    def fit(self, *args, **kwargs):
        arguments = _bind(super().fit, args, kwargs)
        labels = self._check_data(arguments, "x", "y")
        validation = arguments.get("validation_data")
        validation_labels = labels
        if validation is not None:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(validation)
            held_out = {"validation_data": x, "y": y}
            validation_labels = self._check_data(
                held_out, "validation_data", "y", compare=False
            )
            arguments["validation_data"] = keras.utils.pack_x_y_sample_weight(
                *held_out.values(), weight
            )
        self._validation_has_labels = validation_labels
        self._follow_epochs(arguments)
        with backend.building_scope(self):
            own_part.of_fit(self, arguments)
            divisible.check_fit(arguments)
        with self._phase(training=True, labels=labels):
            return super().fit(**arguments)

    def evaluate(self, *args, **kwargs):
        arguments = _bind(super().evaluate, args, kwargs)
        if kwargs.get("_use_cached_eval_dataset"):
            labels = self._validation_has_labels
        else:
            labels = self._check_data(arguments, "x", "y")
            with backend.building_scope(self):
                own_part.of_evaluate(arguments)
                divisible.check_evaluate(arguments)
        with self._phase(training=False, labels=labels):
            results = super().evaluate(**arguments)
        if not kwargs.get("_use_cached_eval_dataset"):
            by_name = isinstance(results, dict)
            loss = results["loss"] if by_name else np.ravel(results)[0]
            self._check_loss("loss", loss)
        return results

    def train_on_batch(self, *args, **kwargs):
        arguments = _bind(super().train_on_batch, args, kwargs)
        compare = self._has_changed()
        labels = self._check_data(arguments, "x", "y", compare)
        with self._phase(training=True, labels=labels):
            return super().train_on_batch(**arguments)

    def test_on_batch(self, *args, **kwargs):
        arguments = _bind(super().test_on_batch, args, kwargs)
        compare = self._has_changed()
        labels = self._check_data(arguments, "x", "y", compare)
        with self._phase(training=False, labels=labels):
            return super().test_on_batch(**arguments)

    def _follow_epochs(self, arguments):
        """Adds the callback that tells the epoch to those of `fit`."""
        follow = _Epoch(arguments.get("epochs", 1))
        callbacks = arguments.get("callbacks") or []
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = callbacks.callbacks
        arguments["callbacks"] = [follow, *keras.tree.flatten(callbacks)]

    @contextlib.contextmanager
    def _phase(self, training, labels):
        """Sets aside the metrics that the phase does not measure."""
        before = self._idle_metrics
        idle = ["robust_accuracy" if training else "adversarial_accuracy"]
        if not training and self.evaluation_attack is None:
            idle.append("robust_accuracy")
        if not labels:
            idle += [
                "adversarial_accuracy",
                "robust_accuracy",
                "compile_metrics",
            ]
        self._idle_metrics = tuple(idle)
        phase = "train_function" if training else "test_function"
        if self._had_labels.get(phase, labels) != labels:
            # On several devices JAX's program is made for so many metrics.
            setattr(self, phase, None)
        self._had_labels[phase] = labels
        try:
            with divisible.explained():
                yield
        finally:
            self._idle_metrics = before

    # Checks, before any work starts.

    def _check_data(self, arguments, x_name, y_name, compare=True):
        """Checks the data of a call, builds the networks, finds the labels.

        Arrays are checked whole, data sets by their first batch.

        Returns:
            Whether the data has labels.
        """
        if getattr(self, "loss", None) is not None:
            raise ValueError(
                f"`compile()` received loss={self.loss!r}, but "
                f"{type(self).__name__} defines its own loss. Compile without "
                "`loss`; metrics and optimizer are yours."
            )
        x, y = arguments.get(x_name), arguments.get(y_name)
        if isinstance(y, (list, tuple)):
            y = arguments[y_name] = np.asarray(y)
        if x is None or checks.is_array(x) or isinstance(x, (dict, list)):
            batch = (x, y)
        else:
            batch, arguments[x_name] = checks.first_batch(x_name, x)
        if batch is None:
            return True
        x, y = self._check_batch(*batch, x_name)
        if compare:
            self._check_networks(x)
        return y is not None

    def _check_loss(self, name, loss):
        loss = float(loss)
        checks.check_loss(name, loss, self.input_range, self.num_classes)

    def _check_networks(self, x):
        """Compares what stands for each network with it, on real images."""
        networks = {
            name: check_network(network, x)
            for name, network in self._networks().items()
        }
        attacks = (self.attack, self.evaluation_attack)
        if (networks, attacks) != (self._frozen_networks, self._attacks):
            # The compiled functions are of networks or attacks from before.
            self.train_function = self.test_function = None
            self._compiled_perturb = (None, None)
            self._frozen_networks, self._attacks = networks, attacks

    def _has_changed(self):
        """Returns whether compiled functions need a check before their use."""
        return self._attacks != (
            self.attack,
            self.evaluation_attack,
        ) or not all(
            network.is_valid() for network in self._frozen_networks.values()
        )

    def _check_batch(self, x, y, x_name="x"):
        """Checks a batch and returns it as NumPy; builds the networks."""
        x = checks.check_images(x_name, x, self.input_range)
        if y is None and self.needs_labels:
            raise ValueError(
                f"{type(self).__name__} needs labels, and the data has none. "
                "Pass `y`, or a data set of `(x, y)` pairs. Received: y=None"
            )
        if not self.built:
            self._build_on(x[:1])
        if y is not None:
            y = checks.check_labels("y", y, len(x), self.num_classes)
        return x, y

    def _build_on(self, x):
        """Builds the networks by running them on one real image."""
        with backend.building_scope(self):
            x = ops.convert_to_tensor(x, dtype="float32")
            for name, network in self._networks().items():
                outputs = network(x)
                checks.check_classifier(name, x.shape, tuple(outputs.shape))
                checks.check_logits(name, ops.convert_to_numpy(outputs))
            self.build((None, *x.shape[1:]))

    def build(self, input_shape):
        self.num_classes = checks.output_shape(self.student, input_shape)[-1]

    def _build_if_known(self):
        """Builds at once if the networks show what they take and return."""
        networks = self._networks().values()
        if all(getattr(network, "inputs", None) for network in networks):
            self.build(self.student.input_shape)

    def _networks(self):
        """Returns the networks of the method by the name of their argument.

        `None` stands for a network that the constructor has yet to set.
        """
        return {"student": self.student}

    def _resolve_attack(self, attack, input_range):
        if attack is None:
            input_range = checks.check_input_range(
                (0.0, 1.0) if input_range is None else input_range
            )
            return self.published_attack(input_range), input_range
        if not isinstance(attack, Attack):
            raise TypeError(
                "Argument `attack` must be a `keras_adaad.attacks.Attack`, "
                "e.g. `keras_adaad.attacks.PGD(epsilon=8 / 255)`, or `None` "
                "for the published one. "
                f"Received: attack={attack!r} (of type {type(attack).__name__})"
            )
        _check_raises("attack", attack)
        if input_range is None:
            return attack, attack.input_range
        input_range = checks.check_input_range(input_range)
        if input_range != attack.input_range:
            raise ValueError(
                "Arguments `input_range` and `attack.input_range` differ. "
                "Give the range to the attack alone. "
                f"Received: input_range={input_range}, "
                f"attack.input_range={attack.input_range}"
            )
        return attack, input_range

    def _resolve_evaluation(self, attack):
        if attack == "pgd":
            return PGD(
                epsilon=self.attack.epsilon,
                steps=10,
                norm=self.attack.norm,
                input_range=self.input_range,
                seed=0,
            )
        if attack is not None and not isinstance(attack, Attack):
            raise TypeError(
                'Argument `evaluation_attack` must be "pgd", a '
                "`keras_adaad.attacks.Attack`, or `None` for no robust "
                f"evaluation. Received: evaluation_attack={attack!r}"
            )
        if attack is not None:
            _check_raises("evaluation_attack", attack)
        return attack

    # Saving.

    def save(self, *args, **kwargs):
        with alone():
            return super().save(*args, **kwargs)

    def save_weights(self, *args, **kwargs):
        # A step that failed because another process has died fails when it is
        # read: here, and not when half a backup is written over a whole one.
        ops.convert_to_numpy(self.seed_generator.state)
        with alone():
            return super().save_weights(*args, **kwargs)

    def save_own_variables(self, store):
        # Keras does not save seed generators, and a resumed run must go on
        # with the random starts that the uninterrupted one would draw.
        store["random_state"] = ops.convert_to_numpy(self.seed_generator.state)
        for variable in self._states:
            store[variable.name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        self.seed_generator.state.assign(store["random_state"])
        for variable in self._states:
            variable.assign(store[variable.name])

    def get_config(self):
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

    @classmethod
    def from_config(cls, config):
        config = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
        }
        return cls(**config)


class _Epoch(keras.callbacks.Callback):
    """Tells the model where in the training it is, and looks at the loss."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.epoch.assign(epoch)
        self.model.epochs.assign(self.epochs)

    def on_epoch_end(self, epoch, logs=None):
        # Before a callback that saves. One that stops on NaN need not raise.
        for name in ("loss", "val_loss"):
            if name in (logs or {}) and not self.model.stop_training:
                self.model._check_loss(name, logs[name])


def _check_raises(name, attack):
    if attack.needs_classifier:
        raise ValueError(
            f"Argument `{name}` must be an attack that raises any objective "
            "inside a compiled step, such as `PGD` or `APGD`. To evaluate "
            f"with {type(attack).__name__}, use "
            "`keras_adaad.callbacks.RobustEvaluation`. "
            f"Received: {name}={attack!r}"
        )


def _bind(function, args, kwargs):
    """Returns the arguments of a call by name."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    arguments = dict(bound.arguments)
    arguments.update(arguments.pop("kwargs", {}))
    return arguments
