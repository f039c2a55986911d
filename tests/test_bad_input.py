"""Bad input: a clear error before any work, and nothing lost."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_adaad
from keras_adaad.attacks import FGSM
from keras_adaad.attacks import PGD
from tests import networks
from tests.parameters import once_except

NAN = float("nan")


def classifier(num_classes=10, shape=networks.SHAPE, activation=None):
    inputs = keras.Input(shape)
    x = layers.Flatten()(inputs)
    return keras.Model(
        inputs, layers.Dense(num_classes, activation=activation)(x)
    )


def short_pgdat():
    """Data is checked, and NaN noticed, whatever the number of steps."""
    attack = PGD(epsilon=0.1, steps=1, seed=0)
    return keras_adaad.PGDAT(
        classifier(), attack, evaluation_attack=PGD(epsilon=0.1, steps=1)
    )


def softmax_layer():
    inputs = keras.Input(networks.SHAPE)
    return keras.Model(inputs, layers.Softmax()(classifier()(inputs)))


def softmax_operation():
    inputs = keras.Input(networks.SHAPE)
    return keras.Model(inputs, keras.ops.softmax(classifier()(inputs)))


def softmax_passed_on():
    inputs = keras.Input(networks.SHAPE)
    pair = [softmax_layer()(inputs), classifier(activation="softmax")(inputs)]
    mean = layers.Reshape((10,))(layers.Average()(pair))
    return keras.Model(inputs, layers.Activation("linear")(mean))


def nested_softmax():
    inputs = keras.Input(networks.SHAPE)
    return keras.Model(inputs, classifier(activation="softmax")(inputs))


def sequential_sigmoid():
    return keras.Sequential(
        [
            keras.Input(networks.SHAPE),
            layers.Flatten(),
            layers.Dense(10),
            layers.Activation("sigmoid"),
        ]
    )


def two_inputs():
    inputs = [keras.Input(networks.SHAPE), keras.Input(networks.SHAPE)]
    x = layers.Flatten()(layers.Add()(inputs))
    return keras.Model(inputs, layers.Dense(10)(x))


def sharing_pair():
    teacher = classifier()
    student = keras.Model(teacher.inputs, teacher.outputs)
    return teacher, student


def adaad(**kwargs):
    return keras_adaad.AdaAD(classifier(), classifier(), **kwargs)


# name: (what is called, error, words that the message must hold)
CONSTRUCTORS = {
    "teacher is no model": (
        lambda: keras_adaad.AdaAD("teacher.keras", classifier()),
        TypeError,
        ["teacher", "keras.Model", "teacher.keras"],
    ),
    "student is no model": (
        lambda: keras_adaad.PGDAT(layers.Dense(3)),
        TypeError,
        ["student", "keras.Model"],
    ),
    "same model": (
        lambda: keras_adaad.AdaAD(*[classifier()] * 2),
        ValueError,
        ["teacher", "student", "same model"],
    ),
    "shared weights": (
        lambda: keras_adaad.AdaAD(*sharing_pair()),
        ValueError,
        ["share weights"],
    ),
    "classes differ": (
        lambda: keras_adaad.AdaAD(classifier(10), classifier(7)),
        ValueError,
        ["classes", "10", "7"],
    ),
    "inputs differ": (
        lambda: keras_adaad.AdaAD(classifier(), classifier(shape=(9, 9, 1))),
        ValueError,
        ["input shapes", "(None, 9, 9, 1)"],
    ),
    "two inputs": (
        lambda: keras_adaad.PGDAT(two_inputs()),
        ValueError,
        ["one input"],
    ),
    "one class": (
        lambda: keras_adaad.PGDAT(classifier(1)),
        ValueError,
        ["at least 2 classes"],
    ),
    "softmax activation": (
        lambda: keras_adaad.AdaAD(
            classifier(activation="softmax"), classifier()
        ),
        ValueError,
        ["teacher", "softmax", "logits", "from_logits=True"],
    ),
    "epsilon of the attack": (
        lambda: adaad(epsilon=8 / 255),
        TypeError,
        ["`epsilon`", "attack=keras_adaad.attacks.PGD(epsilon=...)"],
    ),
    "softmax that is passed on": (
        lambda: keras_adaad.AdaAD(softmax_passed_on(), classifier()),
        ValueError,
        ["teacher", "softmax"],
    ),
    "softmax layer": (
        lambda: keras_adaad.AdaAD(classifier(), softmax_layer()),
        ValueError,
        ["student", "softmax"],
    ),
    "softmax operation": (
        lambda: keras_adaad.PGDAT(softmax_operation()),
        ValueError,
        ["student", "softmax"],
    ),
    "nested softmax": (
        lambda: keras_adaad.PGDAT(nested_softmax()),
        ValueError,
        ["student", "softmax"],
    ),
    "sigmoid": (
        lambda: keras_adaad.PGDAT(sequential_sigmoid()),
        ValueError,
        ["student", "sigmoid"],
    ),
    "alpha too large": (
        lambda: adaad(alpha=1.5),
        ValueError,
        ["alpha", "1.5", "[0.0, 1.0]"],
    ),
    "alpha NaN": (lambda: adaad(alpha=NAN), ValueError, ["alpha", "nan"]),
    "alpha text": (lambda: adaad(alpha="1"), TypeError, ["alpha", "number"]),
    "temperature 0": (
        lambda: adaad(temperature=0),
        ValueError,
        ["temperature", "0.0"],
    ),
    "reduction": (
        lambda: adaad(reduction="sum"),
        ValueError,
        ["reduction", "batchmean", "mean", "sum"],
    ),
    "attack": (
        lambda: adaad(attack="pgd"),
        TypeError,
        ["attack", "PGD(epsilon=8 / 255)", "pgd"],
    ),
    "evaluation attack": (
        lambda: adaad(evaluation_attack="fgsm"),
        TypeError,
        ["evaluation_attack", "fgsm", "None"],
    ),
    "two ranges": (
        lambda: adaad(
            attack=PGD(epsilon=8, input_range=(0, 255)), input_range=(0, 1)
        ),
        ValueError,
        ["input_range", "255"],
    ),
    "epsilon negative": (
        lambda: PGD(epsilon=-0.1),
        ValueError,
        ["epsilon", "-0.1"],
    ),
    "epsilon NaN": (lambda: FGSM(epsilon=NAN), ValueError, ["epsilon", "nan"]),
    "epsilon infinite": (
        lambda: PGD(epsilon=float("inf")),
        ValueError,
        ["epsilon", "inf"],
    ),
    "epsilon text": (lambda: PGD(epsilon="8/255"), TypeError, ["epsilon"]),
    "step size negative": (
        lambda: PGD(epsilon=0.1, step_size=-1),
        ValueError,
        ["step_size", "-1"],
    ),
    "swapped": (
        lambda: PGD(epsilon=2 / 255, step_size=8 / 255),
        ValueError,
        ["step_size", "epsilon", "swapped"],
    ),
    "no steps": (
        lambda: PGD(epsilon=0.1, steps=0),
        ValueError,
        ["steps", "0", "at least 1"],
    ),
    "half a step": (
        lambda: PGD(epsilon=0.1, steps=2.5),
        TypeError,
        ["steps", "2.5", "integer"],
    ),
    "restarts": (
        lambda: PGD(epsilon=0.1, restarts=0),
        ValueError,
        ["restarts"],
    ),
    "norm": (
        lambda: PGD(epsilon=0.1, norm="l1"),
        ValueError,
        ["norm", "'l1'", "'linf'", "'l2'"],
    ),
    "start": (
        lambda: PGD(epsilon=0.1, start="gaussian"),
        ValueError,
        ["start", "gaussian", "uniform", "normal"],
    ),
    "loss": (
        lambda: PGD(epsilon=0.1, loss="hinge"),
        ValueError,
        ["loss", "hinge", "cross_entropy"],
    ),
    "seed": (lambda: PGD(epsilon=0.1, seed="a"), TypeError, ["seed"]),
    "range reversed": (
        lambda: PGD(epsilon=0.1, input_range=(1, 0)),
        ValueError,
        ["input_range", "(1, 0)", "low < high"],
    ),
    "range no pair": (
        lambda: adaad(input_range=1.0),
        TypeError,
        ["input_range", "1.0", "pair"],
    ),
}


def raises(call, error, words):
    with pytest.raises(error) as info:
        call()
    message = str(info.value)
    for word in words:
        assert word in message, message
    return message


@pytest.mark.once
@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_constructors(case):
    message = raises(*CONSTRUCTORS[case])
    assert "Received" in message


def test_arguments_are_keyword_only():
    with pytest.raises(TypeError):
        PGD(2 / 255, 8 / 255)


def test_step_size_above_epsilon_warns():
    with pytest.warns(UserWarning, match="step_size"):
        PGD(epsilon=0.1, step_size=0.15)


X = np.random.default_rng(0).uniform(size=(8, *networks.SHAPE))
X = X.astype("float32")
Y = np.arange(8)


def with_nan():
    x = X.copy()
    x[3, 2, 1] = np.nan
    return x


# name: (images, labels, error, words)
DATA = {
    "0 to 255": (255 * X, Y, ValueError, ["input_range", "254", "Rescale"]),
    "uint8": ((255 * X).astype("uint8"), Y, ValueError, ["uint8", "/ 255"]),
    "uint16": (
        *((65535 * X).astype("uint16"), Y, ValueError),
        ["uint16", "/ 65535", "(0, 65535)"],
    ),
    "NaN": (with_nan(), Y, ValueError, ["NaN"]),
    "infinite": (X / 0.0001 * np.inf, Y, ValueError, ["infinite"]),
    "text": (np.array([["a", "b"]]), Y, TypeError, ["numbers"]),
    "empty": (X[:0], Y[:0], ValueError, ["non-empty"]),
    "several inputs": ([X, X], Y, TypeError, ["one array"]),
    "no data": (None, None, TypeError, ["one array"]),
    "no labels": (X, None, ValueError, ["needs labels", "`y`"]),
    "labels too high": (X, Y + 5, ValueError, ["[0, 9]", "12"]),
    "labels negative": (X, Y - 1, ValueError, ["[0, 9]", "-1"]),
    "too few labels": (X, Y[:5], ValueError, ["(8,)", "(5,)"]),
    "wrong one-hot": (X, np.eye(8), ValueError, ["(8, 10)", "(8, 8)"]),
    "labels NaN": (X, Y + np.nan, ValueError, ["finite"]),
    "labels between": (X, Y + 0.5, ValueError, ["whole numbers", "0.5"]),
}
# A data set has batches, whatever is in them.
ONE_ARRAY = {"several inputs", "no data"}


def refused_by(method, arguments, error, words):
    trainer = short_pgdat()
    trainer.compile("sgd", metrics=["accuracy"])
    before = networks.snapshot(trainer)
    raises(lambda: getattr(trainer, method)(*arguments), error, words)
    networks.assert_same(before, networks.snapshot(trainer))


# NumPy checks arrays and the first batch of a data set, whatever the backend.
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
@pytest.mark.parametrize("case", once_except(DATA, "0 to 255", "no labels"))
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
def test_arrays(case, method):
    x, y, error, words = DATA[case]
    refused_by(method, (x, y), error, words)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    "case",
    once_except(sorted(DATA.keys() - ONE_ARRAY), "0 to 255", "no labels"),
)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
def test_data_sets(case, method):
    x, y, error, words = DATA[case]
    batch = x if y is None else (x, y)
    refused_by(method, (iter([batch]),), error, words[:1])


@pytest.mark.parametrize("case", ["0 to 255", "NaN", "no labels"])
def test_perturb_and_attack(case):
    x, y, error, words = DATA[case]
    trainer = short_pgdat()
    raises(lambda: trainer.perturb(x, y), error, words[:1])
    missing = ["`y`"] if case == "no labels" else words[:1]
    raises(lambda: FGSM(epsilon=0.1)(trainer.student, x, y), error, missing)


# name: what the second batch of a data set holds
LATER = {
    "0 to 255": (255 * X, Y),
    "NaN": (with_nan(), Y),
    "labels too high": (X, Y + 5),
    "labels negative": (X, Y - 1),
    "labels between": (X, Y + 0.5),
}


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.fixture(scope="module")
def as_made():
    """A function that returns one compiled trainer, always as it was made."""
    keras.utils.set_random_seed(0)
    trainer = short_pgdat()
    trainer.compile("sgd")
    start = networks.snapshot(trainer)

    def as_made():
        for variable, value in zip(trainer.variables, start, strict=True):
            variable.assign(value)
        return trainer

    return as_made


@pytest.mark.parametrize("case", LATER)
def test_later_batches(case, as_made, tmp_path):
    bad = Batches((X, Y.astype("float32")), LATER[case])
    good = Batches((X, Y), (X, Y))
    trainer = as_made()
    words = ["NaN", "input_range", "[0, 9]", "every batch"]
    path = tmp_path / "student.keras"
    save = keras_adaad.callbacks.StudentCheckpoint(path)
    raises(
        lambda: trainer.fit(bad, shuffle=False, callbacks=[save], verbose=0),
        ValueError,
        [*words, "loss=nan"],
    )
    assert not path.exists()
    if case != "NaN":  # A sample that is refused trains nothing.
        for value in trainer.student.get_weights():
            assert np.isfinite(value).all()
    trainer = as_made()
    raises(lambda: trainer.evaluate(bad, verbose=0), ValueError, words)
    raises(
        lambda: trainer.fit(good, validation_data=bad, verbose=0),
        ValueError,
        [*words, "val_loss=nan"],
    )
    # It is this batch that was bad, and no batch of the case before.
    as_made().fit(good, validation_data=good, verbose=0)


def test_who_stops_on_nan_sees_no_error(as_made):
    stop = keras.callbacks.TerminateOnNaN()
    bad = Batches((X, Y), (with_nan(), Y))
    history = (
        as_made()
        .fit(bad, epochs=2, shuffle=False, callbacks=[stop], verbose=0)
        .history
    )
    assert np.isnan(history["loss"]).tolist() == [True]


@pytest.mark.skipif(keras.config.backend() != "torch", reason="once is enough")
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_empty_data(method):
    trainer = short_pgdat()
    trainer.compile("sgd")
    words = ["`x`", "at least one batch"]
    call = getattr(trainer, method)
    raises(lambda: call(Batches()), ValueError, words)
    raises(lambda: call(iter([])), ValueError, words)
    raises(
        lambda: trainer.fit(X, Y, validation_data=Batches()),
        ValueError,
        ["`validation_data`", "at least one batch"],
    )


def test_list_of_labels(as_made):
    losses = []
    for y in (Y, Y.tolist()):
        keras.utils.set_random_seed(0)
        trainer = as_made()
        history = trainer.fit(X, y, validation_data=(X, y), verbose=0).history
        losses.append([history["loss"], history["val_loss"]])
        trainer.evaluate(X, y, verbose=0)
        trainer.train_on_batch(X, y)
    np.testing.assert_array_equal(*losses)


def test_validation_data_is_checked_before_training():
    trainer = short_pgdat()
    trainer.compile("sgd")
    before = networks.snapshot(trainer)
    raises(
        lambda: trainer.fit(X, Y, validation_data=(255 * X, Y)),
        ValueError,
        ["validation_data", "input_range"],
    )
    for labels, message in ((Y + 10, "class indices"), (None, "needs labels")):
        raises(
            lambda labels=labels: trainer.fit(
                X, Y, validation_data=(X, labels)
            ),
            ValueError,
            ["`validation_data`", message],
        )
    networks.assert_same(before, networks.snapshot(trainer))


def test_compile_takes_no_loss():
    distiller = adaad()
    distiller.compile("sgd", loss="mse")
    raises(
        lambda: distiller.fit(X, Y),
        ValueError,
        ["loss='mse'", "AdaAD", "without `loss`"],
    )


def test_fit_before_compile():
    with pytest.raises(ValueError, match="compile"):
        adaad().fit(X, Y)


def test_noise_of_another_shape():
    raises(
        lambda: adaad().perturb(X, noise=X[:3]),
        ValueError,
        ["noise", "(3, 8, 8, 1)", "(8, 8, 8, 1)"],
    )


@pytest.mark.once
def test_a_radius_in_other_units():
    attack = PGD(epsilon=8 / 255, input_range=(0, 255))
    with pytest.warns(UserWarning, match="`attack`.*half a step of 8-bit"):
        keras_adaad.PGDAT(networks.dense_net(), attack)
    attack = PGD(epsilon=8 / 255, norm="l2")
    with pytest.warns(UserWarning, match="`attack`.*L-infinity"):
        keras_adaad.PGDAT(networks.dense_net(), attack)
    with pytest.warns(UserWarning, match="`attack`.*half across"):
        keras_adaad.PGDAT(networks.dense_net(), PGD(epsilon=8.0))
    trainer = keras_adaad.PGDAT(
        networks.dense_net(), PGD(epsilon=8.0, input_range=(0, 255))
    )
    trainer.compile("sgd")
    raises(lambda: trainer.fit(X, Y), ValueError, ["scaled to [0, 1]"])


@pytest.mark.once
@pytest.mark.parametrize("method", [keras_adaad.TRADES, keras_adaad.DKL])
def test_an_attack_that_never_leaves_the_image(method):
    """The student's divergence from itself has no gradient there."""
    x, y = X[:8], Y[:8]
    for attack in (
        keras_adaad.attacks.FGSM(epsilon=0.1),
        PGD(epsilon=0.1, start=None),
    ):
        trainer = method(networks.dense_net(), attack)
        trainer.compile("sgd")
        raises(
            lambda trainer=trainer: trainer.fit(x, y, verbose=0),
            ValueError,
            [method.__name__, "start", "normal"],
        )
    trainer = method(networks.dense_net(), PGD(epsilon=0.1, steps=2))
    assert (trainer.perturb(x, y) != x).mean() > 0.5


@pytest.mark.once
def test_networks_that_were_teachers():
    """A distiller freezes its teacher, and a clone of it is frozen too."""
    teacher = networks.dense_net()
    keras_adaad.AdaAD(teacher, networks.dense_net())
    clone = keras.models.clone_model(teacher)
    for trainer in (
        keras_adaad.AdaAD(teacher, clone),
        keras_adaad.PGDAT(teacher),
        keras_adaad.PeerAiD(teacher, networks.dense_net()),
    ):
        trainer.compile("sgd")
        for call in (trainer.fit, trainer.train_on_batch):
            raises(
                lambda call=call: call(X[:8], Y[:8]),
                ValueError,
                ["can't be trained", "trainable = True"],
            )
    clone.trainable = True
    trainer = keras_adaad.AdaAD(teacher, clone)
    trainer.compile("sgd")
    trainer.fit(X[:8], verbose=0)


class Kept(keras_adaad.SampleWeighting):
    def weights(self, distiller, views, logits, y):
        return keras.ops.max(logits["clean"], axis=-1, keepdims=True)


class KeptLoss(keras_adaad.PGDAT):
    def outer_loss(self, views, logits, y):
        return super().outer_loss(views, logits, y)[:, None]


@pytest.mark.parametrize("where", ["weights", "loss"])
def test_a_loss_with_an_axis_too_many(where):
    """It would be weighted by the means of the weights."""
    attack = PGD(epsilon=0.1, steps=1)
    if where == "loss":
        trainer = KeptLoss(networks.dense_net(), attack)
    else:
        trainer = keras_adaad.RSLAD(
            *(networks.dense_net(), networks.dense_net(), attack),
            sample_weighting=Kept(),
        )
    trainer.compile("sgd")
    raises(
        lambda: trainer.train_on_batch(X[:8], Y[:8]),
        ValueError,
        ["one value per image", "(8, "],
    )


def test_attack_on_no_model():
    raises(
        lambda: FGSM(epsilon=0.1)(lambda x: x, X, Y),
        TypeError,
        ["model", "keras.Model"],
    )


def test_averaged_objective():
    def averaged(labels, logits):
        return keras.ops.mean(logits)

    raises(
        lambda: PGD(epsilon=0.1, loss=averaged)(classifier(), X, Y),
        ValueError,
        ["one value per sample"],
    )


def test_probabilities_of_an_unbuilt_model():
    class Probabilities(networks.Subclassed):
        def call(self, x, training=False):
            return keras.ops.softmax(super().call(x, training=training))

    trainer = keras_adaad.PGDAT(Probabilities(4))
    trainer.compile("sgd")
    raises(
        lambda: trainer.fit(X, Y),
        ValueError,
        ["student", "probabilities", "from_logits=True"],
    )


def test_probabilities_of_a_built_model():
    """Where the layers do not show it, the outputs do."""
    inputs = keras.Input(networks.SHAPE)
    outputs = layers.Rescaling(1.0)(softmax_layer()(inputs))
    trainer = keras_adaad.PGDAT(keras.Model(inputs, outputs))
    trainer.compile("sgd")
    raises(
        lambda: trainer.fit(X, Y),
        ValueError,
        ["student", "probabilities", "from_logits=True"],
    )


def test_classes_of_unbuilt_models_differ():
    distiller = keras_adaad.AdaAD(
        networks.Subclassed(4), networks.Subclassed(4, num_classes=7)
    )
    distiller.compile("sgd")
    raises(lambda: distiller.fit(X, Y), ValueError, ["classes", "7", "10"])


@pytest.mark.skipif(keras.config.backend() != "torch", reason="once is enough")
def test_unsupported_backend():
    script = (
        "import os; os.environ['KERAS_BACKEND'] = 'numpy'; import keras_adaad"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "ValueError" in result.stderr
    assert "KERAS_BACKEND='numpy'" in result.stderr
