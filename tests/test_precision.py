"""Lower precision: the same attack, no vanished gradient, steps that train."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_adaad
from keras_adaad import backend
from keras_adaad.attacks import PGD
from keras_adaad.frozen.float16 import with_scaled_gradient
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.training.weight_perturbation import weight_offsets
from tests import networks

MAKES = (networks.teacher_net, networks.student_net)
# Of teacher and student.
POLICIES = [
    ("mixed_bfloat16", "float32"),
    ("mixed_bfloat16", "mixed_bfloat16"),
    ("mixed_float16", "mixed_float16"),
]


def build(make, policy, weights=None):
    keras.config.set_dtype_policy(policy)
    try:
        model = make()
    finally:
        keras.config.set_dtype_policy("float32")
    if weights is not None:
        model.set_weights(weights)
    return model


@pytest.fixture(scope="module")
def trained(digits):
    """Weights of a teacher and a student that know the digits."""
    x, y = digits
    keras.utils.set_random_seed(0)
    models = [make() for make in MAKES]
    inputs = keras.Input(networks.SHAPE)
    both = keras.Model(inputs, [model(inputs) for model in models])
    both.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    both.fit(x, [y, y], batch_size=128, epochs=4, verbose=0)
    return [model.get_weights() for model in models]


@pytest.fixture(scope="module")
def strength(trained, digits):
    """Returns KL(T(x*) || S(x*)) in float32 at the x* of a pair of policies."""
    x = digits[0]
    noise = np.random.default_rng(0).normal(scale=0.001, size=x.shape)

    def networks_of(policies):
        return [
            build(*arguments)
            for arguments in zip(MAKES, policies, trained, strict=True)
        ]

    judges = networks_of(("float32", "float32"))

    def strength(*policies):
        distiller = keras_adaad.AdaAD(
            *networks_of(policies), PGD(epsilon=0.1, step_size=0.04, steps=5)
        )
        x_adv = distiller.perturb(x, noise=noise)
        return ops.convert_to_numpy(measure(x_adv)).mean()

    measure = backend.compile_function(divergence(logits_function, *judges))
    strength.of_float32 = strength("float32", "float32")
    return strength


@pytest.mark.parametrize("policies", POLICIES)
def test_strength_is_that_of_float32(strength, policies):
    assert strength.of_float32 > 1.0
    assert strength(*policies) == pytest.approx(strength.of_float32, rel=0.02)


def pair(policy, size=1.0, bias=0.0):
    """Returns a teacher, and a student whose logits are a tenth larger."""
    models = []
    for factor in (size, 1.1 * size):
        keras.utils.set_random_seed(0)
        models.append(build(networks.teacher_net, policy))
        layer = models[-1].get_layer("logits")
        layer.kernel.assign(factor * ops.convert_to_tensor(layer.kernel))
        layer.bias.assign([bias] + 9 * [0.0])
    return models


def divergence(logits_of, teacher, student):
    return lambda x: kl_divergence_from_logits(
        logits_of(teacher)(x), logits_of(student)(x)
    )


def margin(logits_of, model):
    def values(x):
        logits = logits_of(model)(x)
        return logits[:, 0] - logits[:, 1]

    return values


def by_keras(model):
    return lambda x: ops.cast(model(x, training=False), "float32")


def gradient(objective, x):
    compiled = backend.compile_function(
        lambda x: backend.input_gradient(objective, x)
    )
    return ops.convert_to_numpy(compiled(x))


def test_gradient_does_not_vanish(batch):
    # Both are certain of class 0, as saturated networks are.
    half, full = pair("mixed_float16", bias=18.0), pair("float32", bias=18.0)
    expected = gradient(divergence(logits_function, *full), batch[0])
    assert (expected != 0.0).all()
    plain = gradient(divergence(by_keras, *half), batch[0])
    assert (plain == 0.0).mean() > 0.5
    found = gradient(divergence(logits_function, *half), batch[0])
    assert found.dtype == np.float32
    assert (np.sign(found) == np.sign(expected)).mean() > 0.95
    # The value too, not the sign alone.
    assert distance(found, expected) < 0.2


@pytest.mark.parametrize("size", [0.01, 1e4])
def test_gradient_has_its_value_at_any_size(batch, size):
    (half, _), (full, _) = pair("mixed_float16", size), pair("float32", size)
    found = gradient(margin(logits_function, half), batch[0])
    expected = gradient(margin(logits_function, full), batch[0])
    assert np.isfinite(found).all()
    assert distance(found, expected) < 0.1


def test_every_column_of_a_jacobian_has_its_value(batch):
    def jacobian(policy):
        logits = logits_function(pair(policy)[0])
        compiled = backend.compile_function(
            lambda x: backend.input_jacobian(lambda x: (logits(x), ()), x)[2]
        )
        return ops.convert_to_numpy(compiled(batch[0]))

    found, expected = jacobian("mixed_float16"), jacobian("float32")
    for column in range(10):
        assert distance(found[:, column], expected[:, column]) < 0.1


def test_overflow_keeps_its_sign(batch):
    # Small activations under large weights, beyond any scaling.
    model = build(overflowing, "mixed_float16")
    twin = build(overflowing, "float32", model.get_weights())
    found = gradient(margin(logits_function, model), batch[0])
    expected = gradient(margin(logits_function, twin), batch[0])
    # It did overflow: every pixel of an image has the same largest number.
    assert np.isfinite(found).all() and len(np.unique(np.abs(found[0]))) == 1
    assert (np.sign(found) == np.sign(expected)).mean() > 0.95


def overflowing():
    inputs = keras.Input(networks.SHAPE)
    x = keras.layers.Rescaling(1e-4)(keras.layers.Flatten()(inputs))
    layer = keras.layers.Dense(10, kernel_initializer=wide, use_bias=False)
    return keras.Model(inputs, layer(x))


def wide(shape, dtype=None):
    values = np.random.default_rng(0).normal(scale=1e4, size=shape)
    return ops.convert_to_tensor(values, dtype)


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_gradient_through_a_batch_has_its_value(batch):
    """In training mode, where an image's gradient is in those of all others."""
    x = batch[0]
    sizes = np.logspace(-4, 0, len(x), dtype="float32")

    def values(policy, scaled):
        model = pair(policy)[0]
        trainable = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]

        def run(x):
            return model.stateless_call(trainable, others, x, training=True)[0]

        def values(x):
            logits = scaled(run, x)
            margin = logits[:, 0] - logits[:, 1]
            return ops.convert_to_tensor(sizes) * margin

        return values

    scaled = functools.partial(with_scaled_gradient, training=True)
    found = gradient(values("mixed_float16", scaled), x)
    expected = gradient(values("float32", lambda run, x: run(x)), x)
    # Of most images: where a rounding turns a ReLU on or off, it is not.
    assert np.median([*map(distance, found, expected)]) < 0.02


def test_attack_in_training_mode_moves(batch):
    x, y = batch[0], np.zeros(32, "int32")

    def direction(policy):
        # It is certain of the label.
        student = pair(policy, bias=18.0)[1]
        method = keras_adaad.ARD(
            networks.teacher_net(),
            student,
            PGD(epsilon=0.1, steps=1, start=None),
            reference_passes=True,
        )
        return np.sign(method.perturb(x, y) - x)

    expected = direction("float32")
    moves = expected != 0.0
    assert moves.mean() > 0.4
    assert (direction("mixed_float16") == expected)[moves].mean() > 0.95


@pytest.mark.filterwarnings("ignore:The teacher classifies")  # Untrained.
@pytest.mark.parametrize("policies", [POLICIES[0], POLICIES[2]])
def test_fit_evaluate_save(batch, tmp_path, policies):
    x, y = batch
    attack = PGD(epsilon=0.1, steps=1)
    distiller = keras_adaad.AdaAD(
        *(
            build(make, policy)
            for make, policy in zip(MAKES, policies, strict=True)
        ),
        attack,
        evaluation_attack=attack,
    )
    distiller.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"]
    )
    history = distiller.fit(x, y, batch_size=16, epochs=6, verbose=0).history
    assert np.isfinite(list(history.values())).all()
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    distiller.save(tmp_path / "distiller.keras")
    restored = keras.saving.load_model(tmp_path / "distiller.keras")
    assert type(restored.optimizer) is type(distiller.optimizer)
    networks.assert_same(
        networks.snapshot(distiller), networks.snapshot(restored)
    )
    assert np.isfinite(restored.evaluate(x, y, batch_size=16, verbose=0)).all()


def test_step_with_infinite_gradients_is_skipped(batch):
    student = build(networks.student_net, "mixed_float16")
    distiller = keras_adaad.AdaAD(
        networks.teacher_net(), student, PGD(epsilon=0.1, steps=1)
    )
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**40
    )
    distiller.compile(optimizer)
    before = student.get_layer("conv0").get_weights()
    distiller.train_on_batch(*batch)
    networks.assert_same(before, student.get_layer("conv0").get_weights())
    assert float(optimizer.dynamic_scale) == 2.0**39
    # Keras halves the scale until the gradients are finite.
    for _ in range(40):
        distiller.train_on_batch(*batch)
    assert (before[0] != student.get_layer("conv0").get_weights()[0]).all()
    assert all(np.isfinite(w).all() for w in student.get_weights())


def test_weight_perturbation_is_that_of_float32(batch):
    x = ops.convert_to_tensor(batch[0])

    def offsets(policy):
        # Both are certain of class 0: the gradients are small.
        trainer = keras_adaad.AdaAD(
            *pair(policy, bias=18.0), weight_perturbation=0.02, alpha=0.5
        )
        views = {"clean": x, "adversarial": 0.9 * x}
        found = weight_offsets(trainer, (views, None))
        return [ops.convert_to_numpy(o) for o in found if o is not None]

    expected = offsets("float32")
    assert len(expected) == 3
    for half, full in zip(offsets("mixed_float16"), expected, strict=True):
        assert distance(half, full) < 0.2


def test_weight_without_a_finite_gradient_is_not_perturbed(batch):
    def steep():
        # Small logits of large activations: no scaling knows of these.
        inputs = keras.Input(networks.SHAPE)
        x = keras.layers.Rescaling(1e4)(keras.layers.Flatten()(inputs))
        initializer = keras.initializers.RandomNormal(stddev=1e-6)
        layer = keras.layers.Dense(10, kernel_initializer=initializer)
        return keras.Model(inputs, layer(x))

    student = build(steep, "mixed_float16")
    trainer = keras_adaad.PGDAT(
        student, PGD(epsilon=0.1, steps=1), weight_perturbation=0.1
    )
    trainer.compile("sgd")
    before = student.get_weights()
    trainer.train_on_batch(*batch)
    # Nor is the step taken, whose gradient is infinite too.
    networks.assert_same(before, student.get_weights())


def test_loaded_student_has_its_loss_scaled(tmp_path):
    student = build(networks.student_net, "mixed_float16")
    student.save(tmp_path / "student.keras")
    # Keras restores the policies of the layers, not that of the model.
    student = keras.saving.load_model(tmp_path / "student.keras")
    distiller = keras_adaad.AdaAD(networks.teacher_net(), student)
    distiller.compile("sgd")
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)


def test_the_loss_of_a_float16_peer_is_scaled():
    """As that of a student is: small gradients would vanish."""
    peer = build(networks.student_net, "mixed_float16")
    trainer = keras_adaad.PeerAiD(peer, networks.student_net())
    trainer.compile("sgd")
    kind = keras.optimizers.LossScaleOptimizer
    assert isinstance(trainer.optimizer, kind)
    plain = keras_adaad.PeerAiD(networks.teacher_net(), networks.student_net())
    plain.compile("sgd")
    assert not isinstance(plain.optimizer, kind)
