"""A report and a training step use the model that they were given."""

import gc
import warnings
import weakref

import keras
import numpy as np
import pytest
from keras import layers

import keras_adaad
from keras_adaad.attacks import PGD
from keras_adaad.frozen import network as frozen
from keras_adaad.frozen.network import check_network
from keras_adaad.frozen.network import frozen_network
from tests import networks

# `pytest.warns` raises them again, without the module that they came from.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def report_on(model, x, y):
    return keras_adaad.evaluate_robustness(
        model,
        x,
        y,
        [PGD(epsilon=0.1, steps=2, seed=0)],
        epsilon=0.1,
        reliability_checks=False,
        curve=False,
        verbose=0,
    )


def accuracies(model, x, y):
    """Returns the clean and the robust accuracy of a report."""
    report = report_on(model, x, y)
    return report.clean.mean(), report.results[-1].robust.mean()


def true_accuracy(model, x, y):
    return (networks.logits(model, x).argmax(-1) == y).mean()


def network_and_data(batch, *stages):
    """A network, images, and labels that most of its own answers are."""
    x, _ = batch
    inputs = keras.Input(networks.SHAPE)
    outputs = inputs
    for stage in stages or (
        layers.Conv2D(6, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(10),
    ):
        outputs = stage(outputs)
    model = networks.randomized(keras.Model(inputs, outputs), seed=1)
    y = networks.logits(model, x).argmax(-1)
    y[::4] = (y[::4] + 1) % 10
    return model, x, y


def freeze(model):
    model.trainable = False


def freeze_some(model):
    model.layers[1].trainable = False


def build_distiller(model):
    keras_adaad.AdaAD(model, networks.student_net())


def enable_lora(model):
    for layer in (model.layers[1], model.layers[-1]):
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(0.2 + layer.lora_kernel_b)


def quantize(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.quantize("int8")


def change_activation(model):
    model.layers[1].activation = keras.activations.tanh


def change_epsilon(model):
    model.layers[2].epsilon = 0.5


def set_weights(model):
    model.set_weights([0.5 * np.abs(w) for w in model.get_weights()])


def change_dtype(model):
    model.layers[-1].dtype_policy = "mixed_bfloat16"


CHANGES = [
    *(freeze, freeze_some, build_distiller, enable_lora, quantize),
    *(change_activation, change_epsilon, set_weights, change_dtype),
]


@pytest.mark.parametrize("change", CHANGES)
def test_report_after_a_change(batch, change):
    """As before it where the logits are, and always that of a fresh copy."""
    model, x, y = network_and_data(batch)
    before = accuracies(model, x, y)
    assert before[1] < before[0] == 0.75
    change(model)
    clean, robust = accuracies(model, x, y)
    assert clean == pytest.approx(true_accuracy(model, x, y), abs=0.04)
    if change in (freeze, freeze_some, build_distiller):
        assert (clean, robust) == before
    assert (clean, robust) == fresh_accuracies(model, x, y)


def fresh_accuracies(model, x, y):
    """Returns the accuracies without anything that was kept for a model."""
    for kept in (frozen._CHECKED, keras_adaad.frozen.classifier._CLASSIFIERS):
        kept.pop(model, None)
    return accuracies(model, x, y)


def test_teacher_with_dropout_is_frozen(batch):
    """Its random state is not taken for a weight, whatever the order."""
    model, x, y = network_and_data(
        batch,
        layers.Conv2D(6, 3),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.Flatten(),
        layers.Dense(10),
    )
    before = accuracies(model, x, y)
    weights = model.get_weights()
    build_distiller(model)
    assert accuracies(model, x, y) == before
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_sequential_is_taken_apart(batch):
    x, y = batch
    model = keras.Sequential(
        [
            keras.Input(networks.SHAPE),
            layers.Conv2D(6, 3, padding="same"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    accuracies(model, x, y)
    last = model.layers[-1]
    model.pop()
    model.add(layers.Dense(10))
    networks.randomized(model, seed=3)
    assert model.layers[-1] is not last
    clean, _ = accuracies(model, x, y)
    assert clean == true_accuracy(model, x, y)
    np.testing.assert_allclose(
        check_network(model, x).logits(x),
        model.predict(x, verbose=0),
        rtol=1e-4,
        atol=1e-5,
    )


class Hidden(layers.Layer):
    """Computes with a number that is in no attribute of its own."""

    factor = [1.0]

    def call(self, x):
        return self.factor[0] * x


def hidden():
    Hidden.factor[0] = 1.0
    inputs = keras.Input(networks.SHAPE)
    x = Hidden()(layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def test_what_no_fingerprint_shows_is_found_on_images(batch):
    model, x = hidden(), batch[0]
    first = check_network(model, x)
    Hidden.factor[0] = -2.0
    assert first.is_valid()
    second = check_network(model, x)
    np.testing.assert_allclose(
        second.logits(x),
        model.predict_on_batch(x),
        rtol=1e-4,
        atol=1e-5,
    )
    distiller = keras_adaad.PGDAT(model)
    found = distiller.perturb(*batch)
    Hidden.factor[0] = 1.0
    assert np.abs(distiller.perturb(*batch) - found).max() > 1e-3


def test_a_graph_that_differs_is_not_used(batch, monkeypatch):
    """The model runs as it is; the warning and the report name the layer."""
    model, x, y = network_and_data(batch)
    conv, norm = model.layers[1:3]
    right = frozen.folding.fold

    def wrong(conv, batch_norm):
        return {k: 1.1 * v for k, v in right(conv, batch_norm).items()}

    monkeypatch.setattr(frozen.folding, "fold", wrong)
    with pytest.warns(UserWarning, match=f"at the layer '{norm.name}'"):
        network = check_network(model, x)
    assert network.graph is None
    np.testing.assert_allclose(
        network.logits(x), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )
    report = report_on(model, x, y)
    assert norm.name in report.flags["network"]
    assert report.clean.mean() == true_accuracy(model, x, y)
    assert accuracies(model, x, y) == accuracies(model, x, y)
    monkeypatch.undo()
    # A changed structure gets another chance.
    conv.trainable = False
    assert check_network(model, x).graph is not None
    assert "network" not in report_on(model, x, y).flags


def test_training_uses_no_graph_that_differs(batch, monkeypatch):
    teacher, x, _ = network_and_data(batch)
    student = networks.student_net()
    right = frozen.folding.fold
    distiller = keras_adaad.AdaAD(
        teacher, student, PGD(epsilon=0.1, steps=2, start=None)
    )
    expected = distiller.perturb(x)
    monkeypatch.setattr(
        frozen.folding,
        "fold",
        lambda *layers: {k: 0.0 * v for k, v in right(*layers).items()},
    )
    # Or the functions compiled before, which are right, would be kept.
    frozen._CHECKED.clear()
    with pytest.warns(UserWarning, match="differs from the model"):
        found = distiller.perturb(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_another_attack_after_a_fit(batch):
    """The compiled step is made anew, and trains on what the new one finds."""
    x, y = batch

    def losses(*epsilons):
        keras.utils.set_random_seed(0)
        trainer = keras_adaad.PGDAT(
            networks.dense_net(), evaluation_attack=None
        )
        trainer.compile(keras.optimizers.SGD(0.0))
        found = []
        for epsilon in epsilons:
            trainer.attack = PGD(epsilon=epsilon, steps=2, start=None)
            found += trainer.fit(x, y, verbose=0).history["loss"]
        return found

    weak, strong = losses(0.01, 0.3)
    assert losses(0.3) == [pytest.approx(strong)]
    assert strong > weak + 0.01


def test_another_attack_within_a_fit(batch):
    """A callback that sets one need not know of compiled functions."""
    weak, strong = (
        PGD(epsilon=epsilon, steps=2, start=None) for epsilon in (0.01, 0.3)
    )
    trainer = keras_adaad.PGDAT(networks.dense_net(), weak)
    trainer.compile(keras.optimizers.SGD(0.0))

    class Stronger(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.attack = strong if epoch else weak

    logs = trainer.fit(
        *batch,
        epochs=2,
        validation_data=batch,
        callbacks=[Stronger()],
        verbose=0,
    ).history
    assert logs["loss"][1] > logs["loss"][0] + 0.01
    # At the radius of the training.
    assert trainer.evaluation_attack.epsilon == strong.epsilon
    first, second = logs["val_robust_accuracy"]
    assert second < first


def test_another_attack_is_checked_like_the_first(batch):
    pixels = (0.0, 255.0)
    first = PGD(epsilon=8.0, steps=1, input_range=pixels)
    trainer = keras_adaad.PGDAT(networks.dense_net(), first)
    with pytest.raises(ValueError, match=r"`attack\.input_range` differ"):
        trainer.attack = PGD(epsilon=8 / 255)
    with pytest.raises(ValueError, match="`attack` must be an attack that"):
        trainer.attack = keras_adaad.attacks.Square(
            epsilon=8.0, input_range=pixels
        )
    with pytest.raises(TypeError, match="`attack` must be a"):
        trainer.attack = "fgsm"
    with pytest.warns(UserWarning, match="in the units of the images"):
        trainer.attack = PGD(epsilon=8 / 255, input_range=pixels)
    with pytest.raises(AttributeError, match="input_range"):
        trainer.input_range = (0.0, 1.0)
    assert trainer.input_range == pixels


def test_another_number_between_fits_and_within(batch):
    """TensorFlow and JAX compile it into the step."""

    def trainer():
        keras.utils.set_random_seed(0)
        trainer = keras_adaad.TRADES(
            networks.dense_net(),
            PGD(epsilon=0.1, steps=1, start="normal", seed=0),
            beta=0.0,
            evaluation_attack=None,
        )
        trainer.compile(keras.optimizers.SGD(0.0))
        return trainer

    class Warmup(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.beta = 100.0 * epoch

    first, second = (
        trainer()
        .fit(*batch, epochs=2, callbacks=[Warmup()], verbose=0)
        .history["loss"]
    )
    assert second > 1.05 * first
    later = trainer()
    later.fit(*batch, verbose=0)
    later.beta = 100.0
    (loss,) = later.fit(*batch, verbose=0).history["loss"]
    assert loss == pytest.approx(second, rel=0.05)


def test_the_evaluation_attack_follows_the_attack(batch, tmp_path):
    strong = PGD(epsilon=0.3, steps=2)
    trainer = keras_adaad.PGDAT(networks.dense_net())
    trainer.save(tmp_path / "trainer.keras")
    loaded = keras.models.load_model(tmp_path / "trainer.keras")
    for model in (trainer, loaded):
        before = model.evaluation_attack
        assert before is model.evaluation_attack
        assert before.epsilon == pytest.approx(8 / 255)
        model.attack = strong
        assert model.evaluation_attack.epsilon == 0.3
        assert model.evaluation_attack is model.evaluation_attack
    own = PGD(epsilon=0.2, steps=1)
    trainer.evaluation_attack = own
    trainer.attack = PGD(epsilon=0.1)
    assert trainer.evaluation_attack is own
    trainer.evaluation_attack = None
    assert trainer.evaluation_attack is None
    with pytest.raises(TypeError, match="`evaluation_attack`"):
        trainer.evaluation_attack = "apgd"


def test_an_unchecked_model_runs_as_it_is(batch):
    model, x, _ = network_and_data(batch)
    assert frozen_network(model).graph is None
    network = check_network(model, x)
    assert frozen_network(model) is network
    assert network.graph is not None
    model.layers[1].trainable = False
    assert frozen_network(model).graph is None


def test_a_network_without_change_is_kept(batch):
    """What Keras leaves behind in a model is no change."""
    model, x, y = network_and_data(batch)
    model.compile("sgd", "mse")
    network = check_network(model, x)
    model.fit(x, keras.ops.one_hot(y, 10), verbose=0)
    model.evaluate(x, keras.ops.one_hot(y, 10), verbose=0)
    model.predict(x, verbose=0)
    images = keras.Input(networks.SHAPE)
    keras.Model(images, model(images))
    model.compile("sgd", "mse")
    keras.models.clone_model(model)
    assert check_network(model, x) is network


def test_a_network_dies_with_its_model(batch):
    model, x, y = network_and_data(batch)
    accuracies(model, x, y)
    # Networks of other tests may still be waiting.
    gc.collect()
    count = len(frozen._CHECKED)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
    assert len(frozen._CHECKED) == count - 1


def test_a_model_that_is_random_by_itself(batch):
    generator = np.random.default_rng(0)

    class Random(layers.Layer):
        def call(self, x):
            return x * float(generator.uniform())

    inputs = keras.Input(networks.SHAPE)
    x = layers.Flatten()(Random()(inputs))
    model = keras.Model(inputs, layers.Dense(10)(x))
    with pytest.warns(UserWarning, match="same logits twice"):
        report = report_on(model, *batch)
    assert "random" in report.flags["network"]


def test_nan_logits_are_no_difference(batch):
    model, x, _ = network_and_data(batch)
    model.layers[-1].bias.assign([np.nan] * 10)
    assert check_network(model, x).difference is None
