"""Whatever the order of a user's calls, a report is that of the model.

Random networks go through random sequences of what users do. After each step
the clean accuracy of a report is that of the model's own call, the logits of
what stands for the model are the model's, and the robust accuracy is that of a
copy that nothing was kept for.
"""

import tempfile
import warnings

import hypothesis
import keras
import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import initialize
from hypothesis.stateful import invariant
from hypothesis.stateful import precondition
from hypothesis.stateful import rule
from keras import layers
from keras import ops

import keras_adaad
from keras_adaad.attacks import PGD
from keras_adaad.frozen import classifier
from keras_adaad.frozen import network as frozen
from keras_adaad.frozen.fingerprint import layers_within

SHAPE = (4, 4, 2)
CLASSES = 4
ATTACK = PGD(epsilon=0.1, steps=2, seed=0)
_generator = np.random.default_rng(0)
IMAGES = _generator.uniform(size=(12, *SHAPE)).astype("float32")

norm = layers.BatchNormalization
STAGES = {
    "conv": lambda: [layers.Conv2D(3, 3, padding="same"), norm()],
    "padded": lambda: [layers.ZeroPadding2D(1), layers.Conv2D(3, 2), norm()],
    "norm": lambda: [norm()],
    "relu": lambda: [layers.ReLU()],
    "dropout": lambda: [layers.Dropout(0.5, seed=1)],
    "block": lambda: [keras.Sequential([layers.Conv2D(3, 1), norm()])],
}


def build(names, sequential):
    stages = [
        *(layer for name in names for layer in STAGES[name]()),
        layers.Flatten(),
        layers.Dense(CLASSES),
    ]
    if sequential:
        return keras.Sequential([keras.Input(SHAPE), *stages])
    inputs = outputs = keras.Input(SHAPE)
    for stage in stages:
        outputs = stage(outputs)
    return keras.Model(inputs, outputs)


class AnyOrder(RuleBasedStateMachine):
    @initialize(
        names=st.lists(st.sampled_from(sorted(STAGES)), min_size=1, max_size=3),
        sequential=st.booleans(),
    )
    def make(self, names, sequential):
        keras.config.set_dtype_policy("float32")
        self.model = build(names, sequential)
        self.distiller = None
        self.plain = True
        self.set_weights(0)

    @rule(seed=st.integers(0, 9))
    def set_weights(self, seed):
        generator = np.random.default_rng(seed)
        for variable in self.model.weights:
            if keras.backend.is_float_dtype(variable.dtype):
                shape = tuple(variable.shape)
                variable.assign(
                    generator.uniform(0.1, 1.0, shape)
                    - (0.5 if len(shape) > 1 else 0.0)
                )

    @rule(place=st.integers(0, 5), trainable=st.booleans())
    def freeze(self, place, trainable):
        self.layer(place).trainable = trainable

    @rule(trainable=st.booleans())
    def freeze_all(self, trainable):
        self.model.trainable = trainable

    @precondition(
        lambda self: self.plain and isinstance(self.model, keras.Sequential)
    )
    @rule(activation=st.sampled_from(["relu", "tanh"]))
    def pop_and_add(self, activation):
        last = self.model.layers[-1]
        self.model.pop()
        self.model.add(layers.Activation(activation))
        self.model.add(layers.Dense(CLASSES))
        assert self.model.layers[-1] is not last

    @rule(
        place=st.integers(0, 5),
        activation=st.sampled_from(["linear", "relu", "tanh"]),
    )
    def change_activation(self, place, activation):
        layer = self.layer(place)
        if hasattr(layer, "activation"):
            layer.activation = keras.activations.get(activation)

    @precondition(lambda self: self.plain)
    @rule(
        place=st.integers(0, 5),
        policy=st.sampled_from(["mixed_bfloat16", "float32"]),
    )
    def change_dtype(self, place, policy):
        self.layer(place).dtype_policy = policy

    @precondition(lambda self: self.plain)
    @rule()
    def quantize(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.quantize("int8")
        self.plain = False

    @precondition(lambda self: self.plain)
    @rule()
    def enable_lora(self):
        for layer in layers_within(self.model):
            if hasattr(layer, "enable_lora") and not layer.lora_enabled:
                layer.enable_lora(1)
                layer.lora_kernel_b.assign(0.5 + layer.lora_kernel_b)

    @rule()
    def save_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(f"{folder}/model.keras")
            self.model = keras.models.load_model(f"{folder}/model.keras")

    @precondition(lambda self: not isinstance(self.model, keras.Sequential))
    @rule(mean=st.sampled_from([0.0, 0.4]))
    def normalize(self, mean):
        self.model = keras_adaad.models.with_normalization(
            self.model, [mean] * 2, [0.5] * 2
        )

    @rule()
    def build_distiller(self):
        self.distiller = keras_adaad.RSLAD(
            self.model, build(["conv"], False), ATTACK
        )

    @rule()
    def perturb(self):
        self.train_model().perturb(IMAGES, self.labels())

    @precondition(lambda self: self.plain)
    @rule()
    def fit_a_step(self):
        trainer = self.train_model()
        trainer.compile("sgd")
        if self.model.trainable_variables:
            trainer.fit(IMAGES, self.labels(), verbose=0)

    @invariant()
    def report_is_that_of_the_model(self):
        if not hasattr(self, "model"):
            return
        expected = self.logits()
        if not np.isfinite(expected).all():
            return self.set_weights(1)
        y = self.labels()
        report = self.report(y)
        margin = np.sort(expected, axis=-1)
        decided = margin[:, -1] - margin[:, -2] > 0.1 * np.abs(expected).max()
        right = expected.argmax(-1) == y
        np.testing.assert_array_equal(report.clean[decided], right[decided])
        assert "network" not in report.flags
        network = frozen.frozen_network(self.model)
        allowed = frozen.tolerance(self.model) * np.abs(expected).max()
        np.testing.assert_allclose(
            network.logits(ops.convert_to_tensor(IMAGES)),
            expected,
            rtol=0.0,
            atol=allowed,
        )
        # The same as with nothing kept.
        frozen._CHECKED.pop(self.model, None)
        classifier._CLASSIFIERS.pop(self.model, None)
        again = self.report(y)
        np.testing.assert_array_equal(
            report.results[-1].robust, again.results[-1].robust
        )

    def report(self, y):
        return keras_adaad.evaluate_robustness(
            self.model,
            IMAGES,
            y,
            [ATTACK],
            epsilon=0.1,
            reliability_checks=False,
            curve=False,
            verbose=0,
        )

    def train_model(self):
        return keras_adaad.PGDAT(self.model, ATTACK, evaluation_attack=None)

    def layer(self, place):
        return self.model.layers[place % len(self.model.layers)]

    def logits(self):
        outputs = self.model(ops.convert_to_tensor(IMAGES), training=False)
        outputs = ops.cast(ops.stop_gradient(outputs), "float32")
        return ops.convert_to_numpy(outputs)

    def labels(self):
        """Most of them what the model answers, so that accuracies tell."""
        y = self.logits().argmax(-1)
        y[::4] = (y[::4] + 1) % CLASSES
        return y


# Other sequences on each backend, and the same in every run. What they look for
# has little to do with the backend: most of them run on PyTorch, where others
# take a second to compile a report.
SEQUENCES = {"tensorflow": 2, "jax": 2, "torch": 6}
BACKEND = keras.backend.backend()
hypothesis.seed(sorted(SEQUENCES).index(BACKEND))(AnyOrder)
TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = hypothesis.settings(
    max_examples=SEQUENCES[BACKEND],
    stateful_step_count=8,
    deadline=None,
    # Shrinking a failure would take minutes.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
