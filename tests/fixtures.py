"""Two devices for TensorFlow, one seed for every test, shared fixtures."""

import contextlib  # noqa: I001
import gc
import io
import pathlib
import runpy
import sys

import torch  # noqa: F401  Before TensorFlow, which clashes with it.
import hypothesis
import keras
import numpy as np
import pytest

# The same examples in every run: what fails on one machine fails on another.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    # Most graphs of the tests run a few times, and are not worth improving.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )


def pytest_collection_finish():
    """Has garbage collected less often, and not among the modules.

    Traced programs are millions of objects, and the collector would take a
    tenth of the time of the tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(autouse=True)
def _fresh_state():
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    tracer = sys.gettrace()
    yield
    # The published AutoAttack removes the one that measures coverage.
    sys.settrace(tracer)
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def two_devices():
    """The only `MirroredStrategy`.

    A second one would reuse the collective keys of the first, and would fail
    where the shapes differ.
    """
    if keras.config.backend() != "tensorflow":
        pytest.skip("tf.distribute")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy


@pytest.fixture(scope="session")
def run_example():
    """Runs `python examples/NAME.py`, here; returns what it printed.

    A process of its own takes ten seconds to import the frameworks.
    """
    examples = pathlib.Path(__file__).parents[1] / "examples"

    def run(name, *options):
        script = str(examples / f"{name}.py")
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
        ):
            patch.syspath_prepend(examples)
            patch.setattr(sys, "argv", [script, *map(str, options)])
            runpy.run_path(script, run_name="__main__")
        return printed.getvalue()

    return run


@pytest.fixture(scope="session")
def digits():
    """Real handwritten digits: (x, y), pixels in [0, 1], shape (8, 8, 1)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = (data.images / 16.0).astype("float32")[..., None]
    return x, data.target.astype("int32")


@pytest.fixture
def batch(digits):
    """Thirty-two digits."""
    x, y = digits
    return x[:32], y[:32]


@pytest.fixture
def noise(batch):
    """A start noise for `batch`, at the scale that AdaAD uses."""
    generator = np.random.default_rng(1)
    return 0.001 * generator.standard_normal(batch[0].shape, dtype="float32")
