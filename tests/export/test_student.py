"""What is written is the student, or nothing is written."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_adaad
from keras_adaad.export import export_student
from keras_adaad.export import load_exported
from keras_adaad.export.samples import of_other_size
from keras_adaad.export.student import check_same
from tests import networks

pytest.importorskip("ai_edge_litert", reason="needs the extra `edge`")
pytest.importorskip("onnxruntime", reason="needs the extra `edge`")

FILES = ("student.onnx", "student.tflite", "student")
on_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="elsewhere each file takes a process that starts TensorFlow",
)
elsewhere = pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="of a process of TensorFlow"
)
# Keras 3.16 compiles this convolution, as a call that tf2onnx does not know.
not_to_onnx = pytest.mark.xfail(
    not keras.__version__.startswith("3.15."),
    reason="tf2onnx and a `channels_first` convolution of Keras 3.16",
    raises=RuntimeError,
)


def with_tensors(student):
    """A student behind layers that hold tensors beside their variables."""
    generator = np.random.default_rng(0)
    adapted = layers.Normalization()
    adapted.adapt(generator.uniform(2.0, 5.0, (64, *student.input_shape[1:])))
    inputs = keras.Input(student.input_shape[1:])
    x = adapted(3.0 + inputs)
    # Few values and many: TensorFlow makes a difference between them.
    for shape in ((1,), (1, *student.input_shape[1:], 4)):
        held = generator.uniform(0.1, 0.3, shape).astype("float32")
        x = x + ops.mean(ops.convert_to_tensor(held))
    return keras_adaad.models.with_normalization(
        keras.Model(inputs, student(x)), (0.3,), (0.5,)
    )


def augmenting():
    return keras.Sequential(
        [
            keras.Input(networks.SHAPE),
            layers.RandomFlip(),
            layers.RandomRotation(0.2),
            layers.RandomTranslation(0.2, 0.2),
            layers.RandomZoom(0.2),
            layers.GaussianNoise(0.3),
            networks.student_net(),
        ]
    )


def of_integers():
    inputs = keras.Input(networks.SHAPE, dtype="uint8")
    x = layers.Rescaling(1 / 255)(inputs)
    return keras.Model(inputs, networks.student_net()(x))


def channels_first():
    options = {"data_format": "channels_first"}
    inputs = keras.Input((3, 12, 12))
    x = layers.Conv2D(6, 3, 2, "same", **options)(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.DepthwiseConv2D(3, **options)(x)
    x = layers.MaxPooling2D(**options)(x)
    x = layers.Flatten(**options)(x)
    return keras.Model(inputs, layers.Dense(4)(x))


def predict_or_skip(student, x):
    """Returns the logits, unless TensorFlow cannot compute them here."""
    try:
        return student.predict(x, verbose=0)
    except Exception as error:
        if "only supports the NHWC tensor format on the CPU" in str(error):
            pytest.skip("this processor has no channels_first convolution")
        raise


def mobile():
    """What MobileNetV2 is made of: TensorFlow's fusion of it is fragile."""
    inputs = keras.Input((12, 12, 3))
    x = layers.ZeroPadding2D(1)(inputs)
    x = layers.DepthwiseConv2D(3, strides=2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    outputs = layers.Dense(4)(layers.Flatten()(x))
    return networks.randomized(keras.Model(inputs, outputs), seed=0)


def with_lora():
    student = networks.student_net()
    generator = np.random.default_rng(0)
    for layer in student.layers:
        if isinstance(layer, (layers.Conv2D, layers.Dense)):
            layer.enable_lora(2)
            for weight in (layer.lora_kernel_a, layer.lora_kernel_b):
                weight.assign(generator.normal(0.0, 0.5, weight.shape))
    return student


def subclassed():
    student = networks.Subclassed(4)
    student(np.zeros((5, *networks.SHAPE), "float32"))
    return student


def of_any_size():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4)(x))


def called_sequential():
    """Its `input_shape` has the batch size of its first call."""
    student = keras.Sequential(
        [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(4)]
    )
    student(np.zeros((5, *networks.SHAPE), "float32"))
    return student


def quantized(mode="int8"):
    student = networks.student_net()
    dense = student.layers[-1]
    student.quantize(mode, filters=lambda layer: layer is dense)
    return student


@on_tensorflow
@pytest.mark.parametrize(
    "make, files",
    [
        (lambda: with_tensors(networks.student_net()), FILES),
        (augmenting, FILES[::2]),
        (of_integers, FILES[:2]),
        (mobile, FILES[:2]),
        pytest.param(channels_first, FILES[:2], marks=not_to_onnx),
        (with_lora, FILES[:1]),
        (subclassed, FILES[:1]),
        (of_any_size, FILES[:2]),
        (called_sequential, FILES[:1]),
        (quantized, FILES[::2]),
        (lambda: quantized("int4"), FILES[:1]),
    ],
)
def test_the_file_is_the_student(make, files, tmp_path):
    student = make()
    shape = getattr(student, "input_shape", (None, *networks.SHAPE))
    # No image of those that the export itself compares.
    generator = np.random.default_rng(7)
    x = generator.uniform(size=[6, *(size or 24 for size in shape[1:])])
    options = {}
    if make is of_integers:
        options, x = {"input_range": (0, 255)}, np.round(255 * x)
    x = x.astype("float32")
    weights = networks.snapshot(student)
    expected = predict_or_skip(student, x)
    for name in files:
        path = tmp_path / name
        assert export_student(student, path, **options) == path
        logits = load_exported(path)(x)
        np.testing.assert_allclose(
            logits, expected, atol=1e-4 * np.abs(expected).max()
        )
    networks.assert_same(weights, networks.snapshot(student))
    assert {path.name for path in tmp_path.iterdir()} == set(files)


@on_tensorflow
def test_the_onnx_file_has_one_input_and_one_output(tmp_path):
    import onnxruntime

    student = with_tensors(networks.student_net())
    path = export_student(student, tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(path)
    assert [tensor.name for tensor in session.get_inputs()] == ["images"]
    assert [tensor.name for tensor in session.get_outputs()] == ["logits"]


def test_a_student_in_lower_precision(tmp_path, batch):
    """The file has its weights, which are float32, and computes with them.

    What its `Normalization` has adapted to goes along.
    """
    keras.config.set_dtype_policy("mixed_bfloat16")
    student = with_tensors(networks.student_net())
    expected = student.predict(batch[0], verbose=0)
    name = "student.onnx"
    if keras.config.backend() == "tensorflow":
        name = "student.tflite"
    logits = load_exported(export_student(student, tmp_path / name))(batch[0])
    np.testing.assert_allclose(
        logits, expected, atol=0.05 * np.abs(expected).max()
    )


# What is refused, and what is then there.


@keras.saving.register_keras_serializable(package="tests")
class Random(layers.Layer):
    """Random in inference mode."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, x):
        noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        return x + noise


def random_student():
    inputs = keras.Input(networks.SHAPE)
    return keras.Model(inputs, networks.student_net()(Random()(inputs)))


def of_four_images():
    inputs = keras.Input(batch_shape=(4, *networks.SHAPE))
    return keras.Model(inputs, layers.Dense(4)(ops.reshape(inputs, (4, -1))))


def of_one_image():
    inputs = keras.Input(batch_shape=(1, *networks.SHAPE))
    return keras.Model(inputs, layers.Dense(4)(ops.reshape(inputs, (1, -1))))


def recurrent():
    inputs = keras.Input((8, 8))
    return keras.Model(inputs, layers.Dense(4)(layers.LSTM(5)(inputs)))


@on_tensorflow
@pytest.mark.parametrize(
    "make, name, message",
    [
        (random_student, "student", "does not compute what.*random"),
        (random_student, "student.onnx", "does not run.*operation"),
        (of_four_images, "student", "does not run.*batch size is fixed"),
        (of_four_images, "student.onnx", "does not run.*batch size is fixed"),
        (of_one_image, "student", "does not run.*batch size is fixed"),
        # LiteRT has no lists: the converter takes TensorFlow's for them.
        (recurrent, "student.tflite", "does not run.*operation.*Flex"),
        (lambda: quantized("float8"), "student.onnx", "float8"),
    ],
)
def test_no_file_that_is_another_network(make, name, message, tmp_path):
    path = tmp_path / name
    if path.suffix:
        path.write_text("the file before")
    with pytest.raises(RuntimeError, match=re.compile(message, re.DOTALL)):
        export_student(make(), path)
    # What was there is as it was, and nothing is left beside it.
    assert list(tmp_path.iterdir()) == ([path] if path.suffix else [])
    if path.suffix:
        assert path.read_text() == "the file before"


@pytest.mark.once
@pytest.mark.parametrize(
    "found, tolerance, message",
    [
        (lambda x: 1.01 * x, 0.02, None),
        (lambda x: 1.01 * x, 1e-4, "apart"),
        (lambda x: -x, 0.5, "apart"),
        (lambda x: np.where(x > 4.0, np.nan, x), 0.5, "nan apart"),
        (lambda x: x[:, :-1], 0.5, "shape"),
        (lambda x: np.repeat(x, 2, axis=0), 0.5, "shape"),
    ],
)
@pytest.mark.parametrize("which, size", [(0, 3), (1, 1), (1, 2)])
def test_the_comparison(found, tolerance, message, which, size, tmp_path):
    expected = np.arange(-6.0, 6.0).reshape(3, 4)[::-1]
    if size == 2:  # Of one image, two are another size.
        expected = expected[:1]
    logits = [expected, of_other_size(expected)]
    assert len(logits[which]) == size
    logits[which] = found(logits[which])
    arguments = expected, logits, tolerance, tmp_path / "student.onnx"
    if message is None:
        check_same(*arguments)
    else:
        message = re.compile(f"a batch of {size}.*{message}", re.DOTALL)
        with pytest.raises(RuntimeError, match=message):
            check_same(*arguments)


def not_finite():
    student = networks.student_net()
    student.layers[-1].bias.assign(np.full(10, np.nan))
    return student


def distiller():
    return keras_adaad.AdaAD(networks.teacher_net(), networks.student_net())


@keras.saving.register_keras_serializable(package="tests")
class Small(keras.Model):
    """A subclassed model that can be made anew."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = layers.Flatten()
        self.dense = layers.Dense(4, dtype="mixed_bfloat16")

    def call(self, x):
        return self.dense(self.flatten(x))


def subclassed_in_lower_precision():
    student = Small()
    student(IMAGES)
    return student


def several_inputs():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    return keras.Model(inputs, layers.Dense(3)(layers.Add()(inputs)))


IMAGES = np.full((2, *networks.SHAPE), 0.5, "float32")


@pytest.mark.parametrize(
    "make, name, options, message",
    [
        (networks.student_net, "student.pb", {}, "tflite.*student.pb"),
        (networks.student_net, "none/a.onnx", {}, "folder that exists.*none"),
        (lambda: networks.Subclassed(4), "a.onnx", {}, "student.*built"),
        (several_inputs, "a.onnx", {}, "student.*one input"),
        (distiller, "a.onnx", {}, "distiller.student.*AdaAD"),
        (not_finite, "a.onnx", {}, "student.*80 values that are not finite"),
        (quantized, "a.tflite", {}, "calibration_images"),
        (subclassed_in_lower_precision, "a.onnx", {}, "Small.*float32"),
        (
            networks.student_net,
            "a.onnx",
            {"calibration_images": IMAGES},
            "calibration_images.*onnx",
        ),
        *(
            (networks.student_net, "a.tflite", {name: images}, message)
            for name in ("images", "calibration_images")
            for images, message in (
                (IMAGES[:0], f"{name}.*non-empty"),
                (IMAGES * np.nan, f"{name}.*NaN"),
                (IMAGES * 255, f"{name}.*outside `input_range`"),
                ((IMAGES * 255).astype("uint8"), f"{name}.*integers"),
                (IMAGES[:, :4], rf"{name}.*\(8, 8, 1\).*\(2, 4, 8, 1\)"),
            )
        ),
        (
            networks.student_net,
            "a.tflite",
            {"input_range": (1, 0)},
            "input_range",
        ),
    ],
)
def test_what_is_refused(make, name, options, message, tmp_path):
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        export_student(make(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_no_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match="student"):
        export_student("student.keras", tmp_path / "student.onnx")


def test_what_is_in_the_way(tmp_path):
    student = networks.student_net()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.json").write_text("mine")
    with pytest.raises(ValueError, match=r"mine.*results\.json"):
        export_student(student, tmp_path / "mine")
    # Not even beside what looks like a SavedModel.
    (tmp_path / "mine" / "saved_model.pb").write_text("mine")
    with pytest.raises(ValueError, match=r"mine.*results\.json"):
        export_student(student, tmp_path / "mine")
    assert len(list((tmp_path / "mine").iterdir())) == 2
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file.*which is a file"):
        export_student(student, tmp_path / "file")
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(ValueError, match="a.onnx.*which is a folder"):
        export_student(student, tmp_path / "a.onnx")


@on_tensorflow
def test_replaces_what_it_wrote_before(tmp_path, batch):
    """With the weights of now, in the same process."""
    (tmp_path / "student").mkdir()
    student = networks.student_net()
    for _ in range(2):
        for weight in student.trainable_weights:
            weight.assign(1.1 * weight)
        expected = student.predict(batch[0], verbose=0)
        for name in FILES[::2]:
            export_student(student, tmp_path / name)
            np.testing.assert_allclose(
                load_exported(tmp_path / name)(batch[0]), expected, atol=1e-4
            )


@on_tensorflow
def test_calibration_images_unlike_images(tmp_path, batch):
    """Ranges of nearly black images: what is brighter is cut off."""
    student, path = networks.student_net(), tmp_path / "student.tflite"
    x = batch[0]
    with pytest.raises(RuntimeError, match="range may be too small"):
        export_student(student, path, 0.01 * x, images=x)
    assert not path.exists()
    export_student(student, path, x, images=x)
    assert path.exists()


@keras.saving.register_keras_serializable(package="tests")
class Doubled(layers.Layer):
    def call(self, x):
        return 2.0 * x


@elsewhere
def test_layers_of_ones_own_need_tensorflow_here(tmp_path):
    inputs = keras.Input((4,))
    student = keras.Model(inputs, Doubled()(layers.Dense(3)(inputs)))
    with pytest.raises(RuntimeError, match="layers of your own"):
        export_student(student, tmp_path / "student.onnx")
    # What cannot be saved at all takes no process.
    with pytest.raises(RuntimeError, match="layers of your own"):
        export_student(subclassed(), tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())
