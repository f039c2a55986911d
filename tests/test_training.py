"""`fit`, `evaluate` and `predict`, in every way Keras users call them."""

import keras
import numpy as np
import pytest
import torch
from keras import ops

import keras_adaad
from keras_adaad.attacks import PGD
from tests import networks

BACKEND = keras.config.backend()


def adaad(**kwargs):
    kwargs.setdefault("attack", PGD(epsilon=0.1, steps=2, seed=0))
    return keras_adaad.AdaAD(
        networks.teacher_net(), networks.student_net(), **kwargs
    )


class Images(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return self.x[16 * i : 16 * i + 16], self.y[16 * i : 16 * i + 16]


def generator(x, y):
    yield x[:16], y[:16]
    yield x[16:], y[16:]


def tf_data(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(16)


def torch_data(x, y):
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return torch.utils.data.DataLoader(data, batch_size=16)


SOURCES = {
    "numpy": lambda x, y: dict(x=x, y=y, batch_size=16, shuffle=False),
    "float64": lambda x, y: dict(
        x=x.astype("float64"), y=y, batch_size=16, shuffle=False
    ),
    "tensor": lambda x, y: dict(
        x=ops.convert_to_tensor(x),
        y=ops.convert_to_tensor(y),
        batch_size=16,
        shuffle=False,
    ),
    "tf.data": lambda x, y: dict(x=tf_data(x, y), shuffle=False),
    "DataLoader": lambda x, y: dict(x=torch_data(x, y), shuffle=False),
    "PyDataset": lambda x, y: dict(x=Images(x, y), shuffle=False),
    "generator": lambda x, y: dict(
        x=generator(x, y), steps_per_epoch=2, shuffle=False
    ),
}


def weights_after(distiller, data, **compile_options):
    distiller.compile(keras.optimizers.SGD(0.1), **compile_options)
    distiller.fit(verbose=0, **data)
    return distiller.student.get_weights()


@pytest.fixture(scope="module")
def train():
    """Trains one distiller, always from the same start."""
    keras.utils.set_random_seed(0)
    distiller = adaad()
    distiller.compile(keras.optimizers.SGD(0.1))
    start = networks.snapshot(distiller)

    def train(data):
        for variable, value in zip(distiller.variables, start, strict=True):
            variable.assign(value)
        distiller.fit(verbose=0, **data)
        return distiller.student.get_weights()

    return train


@pytest.fixture(scope="module")
def trained(digits, train):
    """The weights after an epoch on arrays."""
    x, y = digits
    return train(SOURCES["numpy"](x[:32], y[:32]))


@pytest.mark.parametrize("source", SOURCES)
def test_every_data_source_trains_the_same(batch, source, train, trained):
    weights = train(SOURCES[source](*batch))
    for a, b in zip(weights, trained, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


MODES = {
    "run_eagerly": dict(run_eagerly=True),
    "no jit": dict(jit_compile=False),
    "steps_per_execution": dict(steps_per_execution=2),
}
if BACKEND != "torch":
    # Under torch it compiles the attack alone: see test_torch_compile.
    MODES["jit"] = dict(jit_compile=True)
else:
    del MODES["steps_per_execution"]  # Keras 3.15 has it not under torch.


# XLA draws other random numbers than TensorFlow from the same seed.
FIXED_START = PGD(epsilon=0.1, steps=2, start=None)


@pytest.fixture(scope="module")
def trained_from_a_fixed_start(digits):
    """The same, of an attack that draws nothing."""
    keras.utils.set_random_seed(0)
    x, y = digits
    data = SOURCES["numpy"](x[:32], y[:32])
    return weights_after(adaad(attack=FIXED_START), data)


@pytest.mark.parametrize("mode", MODES)
def test_eager_and_compiled_agree(batch, mode, trained_from_a_fixed_start):
    data = SOURCES["numpy"](*batch)
    weights = weights_after(adaad(attack=FIXED_START), data, **MODES[mode])
    for a, b in zip(weights, trained_from_a_fixed_start, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["run_eagerly", "no jit"])
def test_eager_and_compiled_perturb_agree(batch, mode):
    distiller = adaad()
    expected = distiller.perturb(batch[0])
    distiller.compile(**MODES[mode])
    x_adv = distiller.perturb(batch[0])
    assert (np.abs(x_adv - expected) < 1e-5).mean() >= 0.995


def convolutions():
    """Without random initial statistics, on which rounding has an effect."""
    inputs = keras.Input(networks.SHAPE)
    x = inputs
    for strides in (1, 2):
        x = keras.layers.Conv2D(8, 3, strides, "same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile")
@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of itself.
def test_torch_compile(batch):
    attack = PGD(epsilon=0.1, steps=1, start=None)
    distillers = [
        keras_adaad.AdaAD(convolutions(), convolutions(), attack)
        for _ in range(2)
    ]
    for network in ("teacher", "student"):
        first, second = (getattr(d, network) for d in distillers)
        second.set_weights(first.get_weights())
    eager, compiled = distillers
    x, y = batch
    expected = weights_after(eager, dict(x=x, y=y, batch_size=32))
    weights = weights_after(
        compiled, dict(x=x, y=y, batch_size=32), jit_compile=True
    )
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_accumulated_batches_equal_the_whole(batch):
    x, y = batch
    attack = PGD(epsilon=0.1, steps=2, start=None)
    results = []
    for accumulate, batch_size in ((None, 32), (2, 16)):
        keras.utils.set_random_seed(0)
        distiller = keras_adaad.AdaAD(
            networks.dense_net(), networks.dense_net(), attack
        )
        optimizer = keras.optimizers.SGD(
            0.1, gradient_accumulation_steps=accumulate
        )
        distiller.compile(optimizer)
        distiller.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0)
        results.append(distiller.student.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(batch, policy):
    teacher = networks.teacher_net()  # A float32 teacher.
    keras.config.set_dtype_policy(policy)
    student = networks.student_net()
    distiller = keras_adaad.AdaAD(
        teacher, student, PGD(epsilon=0.1, steps=2, seed=0)
    )
    distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    is_scaled = isinstance(
        distiller.optimizer, keras.optimizers.LossScaleOptimizer
    )
    assert is_scaled == (policy == "mixed_float16")
    x_adv = distiller.perturb(batch[0])
    assert x_adv.dtype == np.float32
    assert 0.09 < np.abs(x_adv - batch[0]).max() <= 0.1 + 1e-6
    before = student.get_weights()
    history = distiller.fit(*batch, batch_size=16, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert any(
        (a != b).any()
        for a, b in zip(before, student.get_weights(), strict=True)
    )


@pytest.fixture(scope="module")
def measured(digits):
    """A distiller with a metric, and the logs of its only epoch."""
    keras.utils.set_random_seed(0)
    data = tuple(array[:32] for array in digits)
    distiller = adaad()
    distiller.compile(metrics=["accuracy"])
    fit = distiller.fit(*data, validation_data=data, verbose=0)
    return distiller, fit.history


def test_logs(batch, measured):
    x, y = batch
    distiller, history = measured
    assert set(history) == {
        "loss",
        "accuracy",
        "adversarial_accuracy",
        "val_loss",
        "val_accuracy",
        "val_robust_accuracy",
    }
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy", "robust_accuracy"}
    assert distiller.evaluate(x, y, verbose=0) == pytest.approx(
        [logs["loss"], logs["accuracy"], logs["robust_accuracy"]]
    )
    # What they say is true.
    logits = distiller.predict(x, verbose=0)
    assert logs["accuracy"] == pytest.approx((logits.argmax(-1) == y).mean())
    attack = distiller.evaluation_attack
    assert (attack.epsilon, attack.steps) == (0.1, 10)
    x_adv = attack(distiller.student, x, y)
    robust = (distiller.predict(x_adv, verbose=0).argmax(-1) == y).mean()
    assert logs["robust_accuracy"] == pytest.approx(robust, abs=0.07)
    assert logs["robust_accuracy"] <= logs["accuracy"]


def test_adversarial_accuracy_is_measured_on_the_training_views(batch):
    x, y = batch
    distiller = adaad(attack=PGD(epsilon=0.3, steps=3, seed=0))
    x_adv = distiller.perturb(x)
    student = distiller.student
    weights = student.get_weights()
    student(ops.convert_to_tensor(x), training=True)
    logits = student(ops.convert_to_tensor(x_adv), training=True)
    expected = (ops.convert_to_numpy(logits).argmax(-1) == y).mean()
    student.set_weights(weights)
    distiller.compile()
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert logs["adversarial_accuracy"] == pytest.approx(expected, abs=0.04)


def test_no_evaluation_attack(batch):
    x, y = batch
    distiller = adaad(evaluation_attack=None)
    distiller.compile(metrics=["accuracy"])
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy"}


def test_evaluate_moves_nothing(batch, measured):
    distiller, _ = measured
    before = networks.snapshot(distiller)
    logs = distiller.evaluate(*batch, verbose=0)
    assert distiller.evaluate(*batch, verbose=0) == logs
    networks.assert_same(before, networks.snapshot(distiller))


def test_validation_does_not_change_training(batch, train, trained):
    data = {**SOURCES["numpy"](*batch), "validation_data": batch}
    weights = train(data)
    for a, b in zip(weights, trained, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_perturb_moves_nothing_and_sees_the_next_step(batch):
    x, _ = batch
    keras.utils.set_random_seed(0)
    distiller = adaad(attack=PGD(epsilon=0.1, steps=2, seed=3))
    before = networks.snapshot(distiller)
    first = distiller.perturb(x)
    networks.assert_same(before, networks.snapshot(distiller))
    np.testing.assert_array_equal(first, distiller.perturb(x))
    keras.utils.set_random_seed(0)
    again = adaad(attack=PGD(epsilon=0.1, steps=2, seed=3))
    np.testing.assert_array_equal(first, again.perturb(x))
    distiller.compile("sgd")
    distiller.train_on_batch(x)
    assert np.abs(first - distiller.perturb(x)).max() > 1e-3


@pytest.mark.parametrize("method", ["AdaAD", "PGDAT"])
def test_attack_moves_no_state_even_of_stubborn_layers(batch, method):
    """A layer that is random in inference mode too keeps its state."""

    class Stubborn(keras.layers.Dropout):
        def call(self, x, training=False):
            return super().call(x, training=True)

    inputs = keras.Input(networks.SHAPE)
    x = keras.layers.BatchNormalization()(inputs)
    x = Stubborn(0.5)(keras.layers.Flatten()(x))
    student = keras.Model(inputs, keras.layers.Dense(10)(x))
    attack = keras_adaad.attacks.PGD(epsilon=0.1, steps=2)
    if method == "AdaAD":
        distiller = keras_adaad.AdaAD(networks.teacher_net(), student, attack)
    else:
        distiller = keras_adaad.PGDAT(student, attack)
    before = networks.snapshot(distiller)
    distiller.perturb(*batch)
    networks.assert_same(before, networks.snapshot(distiller))


def test_sample_weight_of_zero_trains_nothing(batch):
    x, y = batch
    distiller = adaad()
    student = distiller.student
    before = [ops.convert_to_numpy(v) for v in student.trainable_variables]
    data = dict(x=x, y=y, sample_weight=np.zeros(32), batch_size=16)
    weights_after(distiller, data)
    for v, start in zip(student.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(v), start)


def test_weight_two_counts_twice(batch):
    x, y = batch
    distiller = adaad(evaluation_attack=None)
    distiller.compile()
    one, two = (
        distiller.evaluate(x, y, sample_weight=np.full(32, w), verbose=0)
        for w in (1.0, 2.0)
    )
    assert two == pytest.approx(2 * one, rel=1e-5)


@pytest.mark.parametrize("kind", ["int", "column", "one_hot"])
def test_labels_of_every_form(batch, kind):
    x, y = batch
    labels = {"int": y, "column": y[:, None]}.get(kind)
    if labels is None:
        labels = np.eye(10, dtype="float32")[y]
    keras.utils.set_random_seed(0)
    trainer = keras_adaad.PGDAT(
        networks.student_net(), PGD(epsilon=0.1, steps=2, seed=0)
    )
    trainer.compile("sgd", metrics=["accuracy"])
    logs = trainer.evaluate(x, labels, verbose=0, return_dict=True)
    logits = trainer.predict(x, verbose=0)
    assert logs["accuracy"] == pytest.approx((logits.argmax(-1) == y).mean())
    history = trainer.fit(x, labels, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_unlabelled_training_with_labelled_validation(batch):
    x, y = batch
    distiller = adaad()
    distiller.compile(metrics=["accuracy"])
    history = distiller.fit(
        x, validation_data=(x, y), epochs=2, verbose=0
    ).history
    assert set(history) == {
        "loss",
        "val_loss",
        "val_accuracy",
        "val_robust_accuracy",
    }


def test_unbuilt_subclassed_networks(batch):
    distiller = keras_adaad.AdaAD(
        networks.Subclassed(12, "teacher"),
        networks.Subclassed(8, "student"),
        PGD(epsilon=0.1, steps=2, seed=0),
    )
    assert not distiller.built
    distiller.compile(metrics=["accuracy"])
    history = distiller.fit(*batch, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert distiller.predict(batch[0], verbose=0).shape == (32, 10)


def test_student_whose_call_does_not_name_training(batch):
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten = keras.layers.Flatten()
            self.norm = keras.layers.BatchNormalization()
            self.dense = keras.layers.Dense(10)

        def call(self, x):
            return self.dense(self.norm(self.flatten(x)))

    distiller = keras_adaad.AdaAD(networks.teacher_net(), Plain())
    distiller.compile("sgd", metrics=["accuracy"])
    distiller.fit(*batch, verbose=0)
    moved = ops.convert_to_numpy(distiller.student.norm.moving_mean)
    assert np.abs(moved).max() > 0  # It did train in training mode,
    before = networks.snapshot(distiller.student)
    distiller.perturb(batch[0])  # and the attack in inference mode.
    networks.assert_same(before, networks.snapshot(distiller.student))


def test_unbuilt_sequential(batch, tmp_path):
    student = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    distiller = keras_adaad.AdaAD(networks.teacher_net(), student)
    distiller.compile("sgd", metrics=["accuracy"])
    history = distiller.fit(*batch, validation_split=0.5, verbose=0).history
    assert np.isfinite(history["val_loss"]).all()
    distiller.save(tmp_path / "distiller.keras")
    restored = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_allclose(
        restored.predict(batch[0], verbose=0),
        distiller.predict(batch[0], verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )


def test_penalties_of_the_student_count_once(batch):
    x, y = batch
    inputs = keras.Input(networks.SHAPE)
    h = keras.layers.Flatten()(inputs)
    outputs = keras.layers.Dense(10, kernel_regularizer="l2")(h)
    student = keras.Model(inputs, outputs)
    distiller = keras_adaad.AdaAD(
        networks.teacher_net(), student, evaluation_attack=None
    )
    distiller.compile()
    penalty = float(ops.convert_to_numpy(ops.sum(student.losses[0])))
    assert penalty > 0
    total = distiller.evaluate(x, y, verbose=0)
    student.layers[-1].kernel_regularizer = None
    student.layers[-1].kernel.regularizer = None
    distiller.compile()
    assert total - distiller.evaluate(x, y, verbose=0) == pytest.approx(
        penalty, rel=1e-4
    )


class Penalised(keras.layers.Layer):
    """Adds to the loss, by `add_loss` and by an activity regularizer."""

    def __init__(self):
        super().__init__(activity_regularizer=lambda x: ops.sum(x**2))

    def call(self, x):
        self.add_loss(ops.mean(ops.abs(x)))
        return x


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_penalties_of_every_run_are_in_the_loss(batch, run_eagerly):
    x, y = batch
    inputs = keras.Input(networks.SHAPE)
    h = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    distiller = keras_adaad.AdaAD(
        networks.dense_net(),
        keras.Model(inputs, Penalised()(h)),
        PGD(epsilon=0.2, steps=2, start=None),
        alpha=0.7,
        evaluation_attack=None,
    )
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)

    def logits(network, x):
        return ops.convert_to_numpy(network(ops.convert_to_tensor(x)))

    def kl(x):
        t, s = (
            z - np.log(np.exp(z).sum(-1, keepdims=True))
            for z in (
                logits(network, x)
                for network in (distiller.teacher, distiller.student)
            )
        )
        return (np.exp(t) * (t - s)).sum(-1).mean()

    def penalty(x):
        z = logits(distiller.student, x)
        return (z**2).sum() / len(z) + np.abs(z).mean()

    x_adv = distiller.perturb(x)
    expected = 0.7 * kl(x_adv) + 0.3 * kl(x) + penalty(x_adv) + penalty(x)
    assert abs(penalty(x_adv) - penalty(x)) > 1e-3 * expected
    for _ in range(2):  # A step forgets the penalties of the one before.
        logs = distiller.train_on_batch(x, y, return_dict=True)
        assert float(logs["loss"]) == pytest.approx(expected, rel=1e-4)
    # Evaluation without an attack runs the student once.
    loss = distiller.evaluate(x, verbose=0)
    assert loss == pytest.approx(kl(x) + penalty(x), rel=1e-4)


@pytest.mark.skipif(BACKEND != "torch", reason="once is enough")
def test_list_of_callbacks(batch):
    seen = []
    mine = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    callbacks = keras.callbacks.CallbackList([mine])
    distiller = adaad()
    distiller.compile()
    for _ in range(2):
        history = distiller.fit(
            *batch, epochs=2, callbacks=callbacks, verbose=0
        )
        assert len(history.history["loss"]) == 2
        assert float(ops.convert_to_numpy(distiller.epoch)) == 1.0
    assert seen == [0, 1, 0, 1]
    assert callbacks.callbacks == [mine]


@pytest.mark.once
def test_a_fit_after_a_resumed_one_begins_with_its_first_epoch(batch, tmp_path):
    def stage(trainer, epochs, name=None):
        callbacks = []
        if name:
            callbacks = [
                keras.callbacks.BackupAndRestore(
                    tmp_path / name, delete_checkpoint=False
                )
            ]
        return trainer.fit(
            *batch, epochs=epochs, callbacks=callbacks, verbose=0
        ).epoch

    def trainer():
        trainer = keras_adaad.PGDAT(
            networks.dense_net(), PGD(epsilon=0.1, steps=1)
        )
        trainer.compile("sgd")
        return trainer

    assert stage(trainer(), 3, "first") == [0, 1, 2]
    resumed = trainer()
    assert stage(resumed, 5, "first") == [3, 4]
    assert stage(resumed, 2, "second") == [0, 1]
    assert stage(resumed, 2) == [0, 1]


def test_memory_is_flat(batch):
    """Steps 100 to 400 leave less than 4 MiB, 14 kB each."""
    import psutil

    process, resident = psutil.Process(), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            if step in (99, 399):
                resident.append(process.memory_info().rss)

    x, y = (np.concatenate([a] * 100) for a in batch)
    distiller = adaad()
    distiller.compile(metrics=["accuracy"])
    distiller.fit(x, y, batch_size=8, verbose=0, callbacks=[Watch()])
    assert resident[1] - resident[0] < 2**22
