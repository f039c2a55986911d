"""Each backend's seam, against finite differences and Keras itself."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_adaad import backend
from keras_adaad.losses import kl_divergence_from_logits
from tests import networks

BACKEND = keras.config.backend()


def test_input_gradient_is_that_of_finite_differences():
    teacher, student = networks.dense_net(), networks.dense_net()
    x = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype("float32")

    def objective(x):
        return kl_divergence_from_logits(teacher(x), student(x))

    gradient = ops.convert_to_numpy(
        backend.input_gradient(objective, ops.convert_to_tensor(x))
    )
    direction = np.random.default_rng(1).normal(size=x.shape)
    direction = direction.astype("float32")

    def along(step):
        values = objective(ops.convert_to_tensor(x + step * direction))
        return ops.convert_to_numpy(ops.stop_gradient(values))

    numeric = (along(1e-2) - along(-1e-2)) / 2e-2
    np.testing.assert_allclose(
        (gradient * direction).sum((1, 2, 3)), numeric, rtol=2e-2, atol=1e-3
    )


def test_input_gradient_touches_no_weight():
    model = networks.student_net()
    x = ops.ones((2, *networks.SHAPE))
    before = networks.snapshot(model)
    backend.input_gradient(lambda x: ops.sum(model(x), axis=-1), x)
    networks.assert_same(before, networks.snapshot(model))
    if BACKEND == "torch":
        assert all(v.value.grad is None for v in model.variables)


@pytest.mark.parametrize("compiled", [True, False])
def test_repeat(compiled):
    def five_times(x):
        return backend.repeat(5, lambda x: 2.0 * x + 1.0, x)

    if compiled:
        model = networks.dense_net()
        five_times = backend.compile_function(five_times, model)
    x = ops.convert_to_tensor(np.array([0.0, 1.0], "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(five_times(x)), [31, 63])


@pytest.mark.skipif(BACKEND != "jax", reason="the loop of accelerators")
def test_loop_equals_unrolled_steps(monkeypatch, batch):
    import keras_adaad

    pair = networks.teacher_net(), networks.student_net()
    attack = keras_adaad.attacks.PGD(epsilon=0.1, steps=4, start=None)
    unrolled = keras_adaad.AdaAD(*pair, attack).perturb(batch[0])
    monkeypatch.setattr("keras_adaad.backend.jax._on_cpu", lambda: False)
    looped = keras_adaad.AdaAD(*pair, attack).perturb(batch[0])
    assert (np.abs(unrolled - looped) < 1e-5).mean() > 0.999


@pytest.mark.parametrize(
    "data_format",
    # TensorFlow on CPU has channels_last only.
    ["channels_last", "channels_first"][: 1 if BACKEND == "tensorflow" else 2],
)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("strides", "dilation"),  # Keras has none that is strided and dilated.
    [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 1))],
)
@pytest.mark.parametrize("size", [(8, 8), (7, 6)])
@pytest.mark.parametrize("channels", [3, 128])
def test_conv2d_is_kerass(
    data_format, padding, strides, dilation, size, channels
):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *size, channels)).astype("float32")
    if data_format == "channels_first":
        x = x.transpose(0, 3, 1, 2)
    kernel = generator.normal(size=(3, 2, channels, 5)).astype("float32")
    bias = generator.normal(size=5).astype("float32")
    options = dict(
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation,
    )
    x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
    expected = ops.convert_to_numpy(ops.conv(x, kernel, **options))
    for shift in (None, bias):
        value = backend.conv2d(
            x,
            backend.lay_out_kernel(kernel),
            None if shift is None else ops.convert_to_tensor(shift),
            **options,
        )
        target = expected
        if shift is not None:
            last = data_format == "channels_last"
            target = expected + (bias if last else bias[:, None, None])
        np.testing.assert_allclose(
            ops.convert_to_numpy(value), target, rtol=1e-3, atol=1e-3
        )


def test_full_precision():
    """Without TF32, and then as it was, after an error too."""

    def precision():
        if BACKEND == "tensorflow":
            import tensorflow as tf

            return tf.config.experimental.tensor_float_32_execution_enabled()
        if BACKEND == "jax":
            import jax

            return jax.config.jax_default_matmul_precision
        import torch

        matmul = torch.get_float32_matmul_precision()
        return matmul, torch.backends.cudnn.allow_tf32

    full = {"tensorflow": False, "jax": "highest", "torch": ("highest", False)}
    before = precision()
    with pytest.raises(KeyError), backend.full_precision():
        assert precision() == full[BACKEND]
        raise KeyError
    assert precision() == before != full[BACKEND]
