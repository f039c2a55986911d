"""However an evaluation is asked for, its report is right, or it raises."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_adaad
from keras_adaad.attacks import APGD
from keras_adaad.attacks import FAB
from keras_adaad.attacks import FGSM
from keras_adaad.attacks import PGD
from keras_adaad.attacks import Square
from keras_adaad.attacks import TargetedAPGD
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.reliability import epsilon_of_another_range
from keras_adaad.evaluation.stages import plan
from keras_adaad.evaluation.threat_model import ThreatModel
from tests.oracles import attacks as oracles

EPSILON = 0.1
QUIET = {"reliability_checks": False, "curve": False, "verbose": 0}


def evaluate(model, x, y, attacks=("fgsm",), epsilon=EPSILON, **options):
    return keras_adaad.evaluate_robustness(
        model, x, y, list(attacks), epsilon, **{**QUIET, **options}
    )


@pytest.fixture
def model():
    return oracles.trained_pair()[0]


@pytest.fixture
def data():
    return oracles.trained_batch(24)


def same(*reports):
    for report in reports:
        np.testing.assert_array_equal(report.clean, reports[0].clean)
        np.testing.assert_array_equal(report.robust, reports[0].robust)


# Images and labels.


def test_labels_of_every_kind_are_the_same(model, data):
    x, y = data
    one_hot = np.eye(10)[y]
    kinds = [y, y.tolist(), y[:, None], y.astype("float64"), one_hot]
    kinds += [one_hot.astype(bool), 0.9 * one_hot + 0.01, y.astype("uint8")]
    kinds += [ops.convert_to_tensor(y), ops.convert_to_tensor(one_hot)]
    same(*(evaluate(model, x, labels) for labels in kinds))


def test_labels_that_name_no_class(model, data):
    x, y = data
    labels = np.eye(10)[y]
    labels[[2, 5]] = 0.0
    with pytest.raises(ValueError, match="`y` .*one-hot.* at 2, 5"):
        evaluate(model, x, labels)
    with pytest.raises(ValueError, match="`y` .*one-hot"):
        PGD(epsilon=EPSILON)(model, x, labels)


def test_images_of_every_kind_are_the_same(model, data):
    x, y = data
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    kinds = [x, strided, backwards, np.asfortranarray(x), x.astype("float64")]
    kinds += [ops.convert_to_tensor(x)]
    same(*(evaluate(model, images, y, ["pgd"]) for images in kinds))


def test_integers_are_images_of_their_range(data):
    x, y = data
    pixels = np.round(255 * x).astype("uint8")
    inputs = keras.Input(x.shape[1:])
    model = oracles.trained_pair()[0]
    in_bytes = keras.Model(inputs, model(inputs / 255.0))
    same(
        evaluate(model, pixels / 255.0, y, ["pgd"]),
        evaluate(
            in_bytes,
            pixels,
            y,
            ["pgd"],
            255 * EPSILON,
            input_range=(0, 255),
        ),
    )


def test_images_that_come_twice(model, data):
    x, y = data
    with pytest.raises(ValueError, match=r"each image once.*: 3 2 times"):
        evaluate(model, x, y, indices=[0, 3, 1, 3])
    same(evaluate(model, x, y), evaluate(model, x, y, batch_size=1000))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_outputs_of_lower_precision(model, data, dtype):
    x, y = data
    inputs = keras.Input(x.shape[1:])
    low = keras.Model(inputs, ops.cast(model(inputs), dtype))
    report = evaluate(low, x, y, ["fgsm"])
    assert 0.0 < report.robust_accuracy < report.clean_accuracy == 1.0
    square = Square(epsilon=EPSILON, queries=10, seed=0)

    def function(x):
        return low(ops.convert_to_tensor(x), training=False)

    found = evaluate(function, x, y, [square])
    assert found.robust_accuracy <= found.clean_accuracy == 1.0


@pytest.mark.parametrize("shape", [(1,), (3, 10)])
def test_outputs_that_are_no_logits_of_a_class(data, shape):
    class Shaped(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(int(np.prod(shape)))

        def call(self, x, training=False):
            return ops.reshape(
                self.dense(ops.reshape(x, (-1, 64))), (-1, *shape)
            )

        def compute_output_spec(self, x, training=False):
            return keras.KerasTensor((x.shape[0], *shape))

    with pytest.raises(ValueError, match="one output, logits of shape"):
        evaluate(Shaped(), *data, ["fgsm"])
    with pytest.raises(ValueError, match="one output, logits of shape"):
        APGD(epsilon=EPSILON)(Shaped(), *data)


# Attacks.


def test_attacks_of_one_name(model, data):
    class Clean(FGSM):
        pass

    attacks = [Clean(epsilon=EPSILON), "pgd", PGD(epsilon=EPSILON), "fgsm"]
    report = evaluate(model, *data, attacks)
    names = ["clean (2)", "pgd", "pgd (2)", "fgsm"]
    assert [result.name for result in report.results] == names
    assert report.accuracy("clean") == report.clean_accuracy
    assert report.accuracy("clean (2)") < report.clean_accuracy


@pytest.mark.once
def test_a_protocol_twice_is_two_protocols():
    attacks = ["autoattack", "pgd", "autoattack"]
    stages, _ = plan(attacks, ThreatModel(0.1), 10)
    groups = [stage.group for stage in stages]
    name = "AutoAttack (standard)"
    assert groups == [*4 * [name], None, *4 * [f"{name} (2)"]]
    assert [s.name for s in stages][-1] == "square (2)"


def test_an_attack_that_cannot_run_is_noticed_before_the_first():
    inputs = keras.Input((64,))
    model = keras.Model(inputs, layers.Dense(10)(inputs))
    x, y = np.zeros((4, 64), "float32"), np.arange(4)
    seen = []

    class Seen(PGD):
        def _run(self, *args, **options):
            seen.append(0)

    with pytest.raises(ValueError, match="Square needs images"):
        evaluate(model, x, y, [Seen(epsilon=EPSILON), "square"])
    assert not seen


def over_classes(labels, logits):
    """One value for each class, not for each image."""
    return ops.mean(logits, axis=0)


def without_slope(labels, logits):
    wrong = ops.cast(ops.argmax(logits, axis=-1), "int32") != labels
    return ops.cast(wrong, "float32") + 0.0 * ops.sum(logits, axis=-1)


def test_a_loss_of_the_wrong_axis(model, data):
    with pytest.raises(ValueError, match="one value per sample"):
        evaluate(model, *data, [PGD(epsilon=EPSILON, loss=over_classes)])


def test_a_loss_without_a_gradient_is_flagged(model, data):
    attack = PGD(epsilon=EPSILON, loss=without_slope, start=None)
    report = evaluate(model, *data, [attack], reliability_checks=True)
    assert report.robust_accuracy == 1.0
    assert (
        "100 % of the images for the loss of pgd" in (report.flags["gradients"])
    )


@pytest.mark.parametrize(
    "kind", [PGD, APGD, FAB, TargetedAPGD], ids=lambda kind: kind.__name__
)
def test_noise_of_nan_is_refused(model, data, kind):
    noise = np.full_like(data[0], np.nan)
    attack = kind(epsilon=EPSILON, steps=1)
    rounds = attack._rounds(10)
    with pytest.raises(ValueError, match="`noise` must hold finite"):
        attack(model, *data, noise=np.stack(rounds * [noise]))


# Epsilon.


@pytest.mark.once
@pytest.mark.parametrize(
    "epsilon, norm, input_range, word",
    [
        (8 / 255, "linf", (0.0, 255.0), "half a step"),
        (8 / 255, "linf", (0.0, 1.0), None),
        (0.5 / 255, "linf", (0.0, 1.0), None),
        (0.0, "linf", (0.0, 1.0), "no image was changed"),
        (8.0, "linf", (0.0, 255.0), None),
        (8.0, "linf", (0.0, 1.0), "half across"),
        (0.5, "linf", (-1.0, 1.0), None),
        (0.5, "l2", (0.0, 1.0), None),
        (128.0, "l2", (0.0, 1.0), "half across"),
        (8 / 255, "l2", (0.0, 255.0), "L-infinity"),
        (8 / 255, "l2", (0.0, 1.0), "L-infinity"),
        (0.1, "l2", (0.0, 1.0), None),
    ],
)
def test_epsilon_in_other_units(epsilon, norm, input_range, word):
    threat_model = ThreatModel(epsilon, norm, input_range)
    message = epsilon_of_another_range(threat_model, 3072)
    assert message is None if word is None else word in message


@pytest.mark.parametrize("checks", [True, False])
def test_epsilon_in_other_units_is_flagged(model, data, checks):
    report = evaluate(model, *data, epsilon=8.0, reliability_checks=checks)
    assert "epsilon" in report.flags and not report.reliable


@pytest.mark.once
def test_the_usual_epsilon_is_of_the_range():
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0, 255)):
        threat_model = ThreatModel.of(None, "linf", (low, high))
        assert threat_model.epsilon == pytest.approx(8 / 255 * (high - low))
        assert threat_model.input_range == (low, high)
    assert ThreatModel.of(0.5, "l2") == ThreatModel(0.5, "l2")


@pytest.mark.once
def test_an_l2_ball_needs_its_epsilon(model, data):
    with pytest.raises(ValueError, match="`epsilon` must be given.*l2"):
        keras_adaad.evaluate_robustness(model, *data, ["pgd"], norm="l2")


# Names, and the time.


def test_names_of_classes_of_every_kind(model, data):
    for names in (range(10), "0123456789", np.arange(10)):
        report = evaluate(model, *data, class_names=names)
        assert report.class_names == list("0123456789")
        assert "worst class" in str(report)


def test_what_was_stopped_is_not_saved(model, data, tmp_path, monkeypatch):
    """Stopped when all are fooled, it leaves nothing for the next attack."""
    path = tmp_path / "state.npz"
    attacks = [PGD(epsilon=0.9, step_size=0.5, steps=20), "fgsm"]
    monkeypatch.setattr(
        "keras_adaad.evaluation.stages.run_stage", stopped_after_all
    )
    first = evaluate(model, *data, attacks, 0.9, state_path=path)
    assert not first.complete and first.results[1].complete
    monkeypatch.undo()
    again = evaluate(model, *data, attacks, 0.9, state_path=path)
    assert again.complete


def stopped_after_all(task, stage, robust):
    first = stage.name == "pgd"
    none = np.zeros(len(task.x), bool)
    parameters = {"attack": type(stage.attack).__name__}
    result = AttackResult(
        stage.name, None, parameters, 0, 0.0, none, None, complete=not first
    )
    return result, task.x
