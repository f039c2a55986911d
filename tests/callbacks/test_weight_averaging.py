"""The averaged student: its weights, its statistics, its files."""

import keras
import numpy as np
import pytest
import torch

import keras_adaad
from benchmarks import reference
from keras_adaad.callbacks import StochasticWeightAveraging
from tests import networks

ATTACK = keras_adaad.attacks.PGD(epsilon=0.1, steps=1, seed=0)


def make_distiller(optimizer=None):
    keras.utils.set_random_seed(0)
    distiller = keras_adaad.AdaAD(
        networks.teacher_net(),
        networks.student_net(),
        ATTACK,
        evaluation_attack=None,
    )
    distiller.compile(optimizer or keras.optimizers.SGD(0.1))
    return distiller


@pytest.fixture(scope="module")
def as_made():
    """A function that returns one distiller, always as it was made.

    What is compiled for it stays.
    """
    distiller = make_distiller()
    start = networks.snapshot(distiller)

    def as_made():
        for variable, value in zip(distiller.variables, start, strict=True):
            variable.assign(value)
        return distiller

    return as_made


class Record(keras.callbacks.Callback):
    """Keeps the student's weights at the end of each epoch."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.student.get_weights())


def torch_statistics(student, x, batch_size):
    """BatchNorm's statistics as PyTorch re-estimates them."""
    module = reference.ConvNet((8, 12))
    with torch.no_grad():
        reference.copy_weights(student, module)
    # A hook, because the variance is the biased one in Keras.
    counts = {}
    for name in ("bn0", "bn1"):
        layer = getattr(module, name)
        layer.register_forward_hook(
            lambda layer, inputs, _, name=name: counts.update(
                {name: inputs[0].numel() // inputs[0].shape[1]}
            )
        )
    images = torch.tensor(np.transpose(x, (0, 3, 1, 2)).copy())
    torch.optim.swa_utils.update_bn(images.split(batch_size), module)
    statistics = {}
    for name, count in counts.items():
        layer = getattr(module, name)
        variance = layer.running_var * (count - 1) / count
        statistics[name] = (layer.running_mean.numpy(), variance.numpy())
    return statistics


class Batches(keras.utils.PyDataset):
    """Batches of 16 images and labels."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 16

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        return self.x[rows], self.y[rows]


def fit(distiller, batch, *callbacks, **arguments):
    return distiller.fit(
        *batch,
        batch_size=16,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        **arguments,
    )


def test_average_and_statistics(batch, as_made, tmp_path):
    path = tmp_path / "averaged.keras"
    averaging = StochasticWeightAveraging(Batches(*batch), 1, path)
    distiller, record = as_made(), Record()
    fit(distiller, batch, averaging, record, epochs=4)

    student = averaging.student
    for place, weight in enumerate(student.weights):
        if weight.trainable:
            mean = np.mean([w[place] for w in record.weights[1:]], axis=0)
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(weight), mean, rtol=1e-5, atol=1e-6
            )
    statistics = torch_statistics(student, batch[0], 16)
    for name, (mean, variance) in statistics.items():
        layer = student.get_layer(name)
        for ours, theirs in (
            (layer.moving_mean, mean),
            (layer.moving_variance, variance),
        ):
            ours = keras.ops.convert_to_numpy(ours)
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert layer.momentum == 0.9

    saved = keras.models.load_model(path)
    np.testing.assert_array_equal(
        saved.predict(batch[0], verbose=0),
        student.predict(batch[0], verbose=0),
    )
    # Two states: that of the last epoch, and the one before.
    assert len(list(tmp_path.iterdir())) == 3

    # Training is the same without it.
    alone, plain = as_made(), Record()
    fit(alone, batch, plain, epochs=4)
    networks.assert_same(plain.weights[-1], record.weights[-1])


def test_batch_norms_at_any_depth(batch, tmp_path):
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norms = [keras.layers.BatchNormalization()]

        def call(self, x, training=False):
            return self.norms[0](x, training=training)

    class Net(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = Block()
            self.second = keras.Sequential([keras.layers.BatchNormalization()])
            self.flatten = keras.layers.Flatten()
            self.dense = keras.layers.Dense(10)

        def call(self, x, training=False):
            x = self.first(x, training=training)
            x = self.second(x, training=training)
            return self.dense(self.flatten(x))

    # As with no distiller: a plain model in a plain fit.
    model = Net()
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    path = tmp_path / "averaged.keras"
    averaging = StochasticWeightAveraging(batch[0], 0, path)
    fit(model, batch, averaging, epochs=1)
    mean = keras.ops.convert_to_numpy(
        averaging.student.first.norms[0].moving_mean
    )
    np.testing.assert_allclose(mean, [batch[0].mean()], rtol=1e-4)
    mean = averaging.student.second.layers[0].moving_mean
    beta = averaging.student.first.norms[0].beta
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(mean),
        keras.ops.convert_to_numpy(beta),
        atol=1e-5,
    )


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_resumes(batch, as_made, tmp_path):
    """Stopped when the average of an epoch is on disk, its backup not yet."""

    def run(distiller, folder, *stop):
        folder.mkdir(exist_ok=True)
        averaging = StochasticWeightAveraging(
            batch[0], 1, folder / "averaged.keras"
        )
        backup = keras.callbacks.BackupAndRestore(folder / "backup")
        fit(distiller, batch, *(averaging, *stop, backup), epochs=4)
        return averaging.student.get_weights()

    whole = run(as_made(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(make_distiller(), tmp_path / "broken", Stop())
    resumed = run(make_distiller(), tmp_path / "broken")
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_exponential_average_of_keras(batch, as_made, tmp_path):
    """The one that the docstring points to, with one step in each epoch."""
    x, y = batch
    options = {"batch_size": len(x), "epochs": 2, "shuffle": False}
    plain, record = as_made(), Record()
    plain.fit(x, y, callbacks=[record], verbose=0, **options)

    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.25)
    distiller = make_distiller(optimizer=optimizer)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    save = keras_adaad.callbacks.StudentCheckpoint(tmp_path / "student.keras")
    history = distiller.fit(
        *batch,
        validation_data=batch,
        callbacks=[swap, save],
        verbose=0,
        **options,
    )
    saved = keras.models.load_model(tmp_path / "student.keras")
    networks.assert_same(saved.get_weights(), distiller.student.get_weights())
    assert np.isfinite(history.history["val_loss"]).all()
    for variable, after, *steps in zip(
        distiller.student.weights,
        distiller.student.get_weights(),
        *record.weights,
        strict=True,
    ):
        if variable.trainable:
            expected = 0.25 * steps[0] + 0.75 * steps[1]
            np.testing.assert_allclose(after, expected, atol=1e-5)
            assert not np.allclose(after, steps[1], atol=1e-5)


@pytest.mark.filterwarnings("ignore:The teacher classifies")  # Untrained.
def test_the_average_stays_when_the_training_stops(batch):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    distiller = make_distiller(optimizer=optimizer)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    logs = distiller.fit(
        *batch,
        epochs=5,
        validation_data=batch,
        callbacks=[swap, Stop()],
        verbose=0,
    ).history
    assert len(logs["val_loss"]) == 2
    after = distiller.evaluate(*batch, return_dict=True, verbose=0)
    assert after["loss"] == pytest.approx(logs["val_loss"][-1], rel=1e-4)


@pytest.mark.once
def test_what_is_validated_is_saved(batch, tmp_path):
    save = keras_adaad.callbacks.StudentCheckpoint(tmp_path / "student.keras")
    swap = keras.callbacks.SwapEMAWeights
    distiller = make_distiller(keras.optimizers.SGD(0.1, use_ema=True))
    stop = keras.callbacks.EarlyStopping(
        "val_robust_accuracy", mode="max", restore_best_weights=True
    )
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    for callbacks in (
        [swap(), save],
        [save, swap(swap_on_epoch=True)],
        [swap(), stop],
        [swap(swap_on_epoch=True), backup],
    ):
        with pytest.raises(ValueError, match="`callbacks` .*swap_on_epoch"):
            distiller.fit(*batch, callbacks=callbacks, verbose=0)
    other = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras", "loss")
    distiller.fit(*batch, callbacks=[swap(), other], verbose=0)


@pytest.mark.once
def test_bad_input(batch, tmp_path):
    x, _ = batch
    with pytest.raises(ValueError, match=r"must end in `\.keras`"):
        StochasticWeightAveraging(x, 1, tmp_path / "averaged.h5")
    with pytest.raises(ValueError, match="`start_epoch` must be at least 0"):
        StochasticWeightAveraging(x, -1, "averaged.keras")
    with pytest.raises(ValueError, match="gone through more than once"):
        StochasticWeightAveraging(iter([x]), 1, "averaged.keras")
    averaging = StochasticWeightAveraging(x, 1, tmp_path / "averaged.keras")
    with pytest.raises(ValueError, match="the epochs before is missing"):
        fit(make_distiller(), batch, averaging, initial_epoch=2, epochs=3)
