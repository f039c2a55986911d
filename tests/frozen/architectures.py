"""Small networks of many kinds, as functions that make them."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_adaad
from tests import networks
from tests.frozen import test_folding

SHAPE = (8, 8, 3)
CLASSES = 5


def net(*stages, shape=SHAPE, head=True):
    """Returns a model that applies the stages one after another."""
    inputs = keras.Input(shape)
    x = inputs
    for stage in stages:
        x = stage(x)
    if head:
        x = x if len(x.shape) == 2 else layers.Flatten()(x)
        x = layers.Dense(CLASSES)(x)
    return keras.Model(inputs, x)


def conv(filters=4, **options):
    options = {"padding": "same", "bias_initializer": "normal", **options}
    return layers.Conv2D(filters, 3, **options)


def norm(**options):
    return layers.BatchNormalization(**options)


def rows(x):
    """An image as a sequence of its rows."""
    return layers.Reshape((8, 24))(x)


def squeeze_and_excite(x):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
    return layers.Multiply()([x, gate])


def inception(x):
    y = norm()(conv(4)(x))
    z = norm()(layers.Conv2D(3, 1)(layers.MaxPooling2D(2, 1, "same")(x)))
    return layers.Concatenate()([y, z, layers.AveragePooling2D(1)(x)])


def residual(x):
    return layers.Add()([x, norm()(conv(x.shape[-1])(layers.ReLU()(x)))])


def transformer(x):
    x = layers.Reshape((16, -1))(layers.Conv2D(8, 2, 2)(x))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    return layers.GlobalAveragePooling1D()(x)


class Standardized(layers.Conv2D):
    """A convolution with another kernel than `Conv2D` has."""

    def call(self, x):
        kernel = self.kernel - ops.mean(self.kernel, axis=(0, 1, 2))
        x = ops.conv(x, kernel, self.strides, self.padding)
        return x + self.bias


class Doubled(layers.BatchNormalization):
    def call(self, x, training=False, mask=None):
        return 2.0 * super().call(x, training=training)


class Shifted(layers.Layer):
    """A layer with state that is no variable."""

    def __init__(self, shift, **kwargs):
        super().__init__(**kwargs)
        self.shift = np.asarray(shift, "float32")

    def call(self, x):
        return x + ops.convert_to_tensor(self.shift)

    def get_config(self):
        return {**super().get_config(), "shift": self.shift.tolist()}


class OwnCall(keras.Model):
    """A Functional model that does not compute its graph."""

    def call(self, x, training=False, mask=None):
        return -super().call(x, training=training)


def own_call():
    inputs = keras.Input(SHAPE)
    x = layers.Flatten()(norm()(conv()(inputs)))
    return OwnCall(inputs, layers.Dense(CLASSES)(x))


def patched():
    model = net(conv(), norm(), layers.ReLU())
    layer = model.layers[1]
    layer.call = lambda x: 3.0 * ops.conv(x, layer.kernel, padding="same")
    return model


def sequential(*stages, inputs=True):
    first = [keras.Input(SHAPE)] if inputs else []
    model = keras.Sequential(
        [*first, *stages, layers.Flatten(), layers.Dense(CLASSES)]
    )
    model.build((None, *SHAPE))
    return model


def called_twice():
    inner = net(conv(3), norm(), layers.ReLU(), head=False)
    return net(inner, inner)


def within_another():
    """Layers that are in the graph of a second model too."""
    model = net(conv(), norm(), layers.ReLU())
    features = keras.Model(model.input, model.layers[2].output)
    keras.Model(model.input, layers.ReLU()(model.layers[1].output))
    return net(features)


def two_outputs():
    inputs = keras.Input(SHAPE)
    x = norm()(conv()(inputs))
    inner = keras.Model(inputs, [x, layers.GlobalAveragePooling2D()(x)])
    images = keras.Input(SHAPE)
    features, pooled = inner(images)
    x = layers.Concatenate()([layers.Flatten()(features), pooled])
    return keras.Model(images, layers.Dense(CLASSES)(x))


def adapted():
    layer = layers.Normalization()
    generator = np.random.default_rng(0)
    layer.adapt(generator.uniform(size=(16, *SHAPE)).astype("float32"))
    return net(layer, conv(), norm())


def quantized(mode, *stages):
    model = net(*stages, layers.Flatten(), layers.Dense(16, "relu"))
    with warnings.catch_warnings():
        # Each layer that can't be quantized.
        warnings.simplefilter("ignore", UserWarning)
        model.quantize(mode)
    return model


def lora(*stages):
    model = net(*stages)
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2)
            layer.lora_kernel_b.assign(0.3 + layer.lora_kernel_b)
    return model


def masked(x):
    x = layers.Masking(0.0)(layers.Reshape((8, 24))(layers.ReLU()(x)))
    return layers.LSTM(4)(layers.Dropout(0.5)(layers.Activation("relu")(x)))


def mixed(policy, *stages):
    keras.config.set_dtype_policy(policy)
    try:
        return net(*stages)
    finally:
        keras.config.set_dtype_policy("float32")


def classified(backbone):
    """A classifier on a backbone of KerasHub."""
    inputs = keras.Input(backbone.input_shape[1:])
    x = backbone(inputs)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def hub():
    """Returns the models of KerasHub."""
    reason = "needs the extra `hub`"
    return pytest.importorskip("keras_hub", reason=reason).models


def resnet(version):
    return classified(
        hub().ResNetBackbone(
            [64],
            [3],
            [64],
            [1],
            [1],
            block_type="basic_block",
            use_pre_activation=version == 2,
            image_shape=(16, 16, 3),
        )
    )


def rematerialized():
    with keras.RematScope(mode="full"):
        stages = conv(), layers.ReLU()
    # Keras's own call fails under JAX with BatchNorm in the scope.
    return net(*stages, conv(), norm())


def application(make, **options):
    return make(
        input_shape=(32, 32, 3),
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
        **options,
    )


ARCHITECTURES = {
    **{make.__name__: make for make in test_folding.MODELS},
    "activation-before-norm": lambda: net(conv(activation="relu"), norm()),
    "adapted-normalization": adapted,
    "alpha-dropout": lambda: net(conv(), layers.AlphaDropout(0.5), norm()),
    "attention": lambda: net(transformer),
    "augmentation": lambda: net(
        layers.RandomFlip(), layers.RandomTranslation(0.2, 0.2), conv(), norm()
    ),
    "bfloat16": lambda: mixed("mixed_bfloat16", conv(), norm(), layers.ReLU()),
    "bidirectional": lambda: net(rows, layers.Bidirectional(layers.GRU(3))),
    "called-twice": called_twice,
    "conv-1d": lambda: net(rows, layers.Conv1D(4, 3), norm()),
    "conv-3d": lambda: net(
        layers.Reshape((8, 8, 3, 1)), layers.Conv3D(3, 2), norm()
    ),
    "conv-lstm": lambda: net(
        layers.Reshape((2, 4, 8, 3)), layers.ConvLSTM2D(3, 2), norm()
    ),
    "conv-transpose": lambda: net(layers.Conv2DTranspose(3, 2, 2), norm()),
    "cropped": lambda: net(
        layers.Cropping2D(1), conv(), norm(), layers.UpSampling2D()
    ),
    "dense-norm": lambda: net(layers.Flatten(), layers.Dense(8), norm()),
    "depthwise-1d": lambda: net(rows, layers.DepthwiseConv1D(3), norm()),
    "depthwise-rectangular": lambda: net(
        layers.DepthwiseConv2D((2, 3), 1, depth_multiplier=2), norm()
    ),
    "dilated": lambda: net(conv(dilation_rate=2), norm()),
    "einsum": lambda: net(rows, layers.EinsumDense("abc,cd->abd", (8, 6))),
    "flattened": lambda: net(layers.Flatten()),
    "float16": lambda: mixed("mixed_float16", conv(), norm(), layers.ReLU()),
    "group-norm": lambda: net(conv(), layers.GroupNormalization(2)),
    "group-query": lambda: net(
        rows, lambda x: layers.GroupQueryAttention(4, 2, 1)(x, x)
    ),
    "grouped": lambda: net(conv(6, groups=3), norm()),
    "hub-densenet": lambda: classified(
        hub().DenseNetBackbone([1, 1], growth_rate=4, image_shape=(16, 16, 3))
    ),
    "hub-mit": lambda: classified(
        hub().MiTBackbone(
            [1, 1],
            2,
            [1, 1],
            [2, 1],
            0.1,
            [7, 3],
            [4, 2],
            image_shape=(32, 32, 3),
            hidden_dims=[8, 8],
        )
    ),
    "hub-resnet-v1": lambda: resnet(1),
    "hub-resnet-v2": lambda: resnet(2),
    "hub-vgg": lambda: classified(
        hub().VGGBackbone([1, 1], [4, 8], (16, 16, 3))
    ),
    "hub-vit": lambda: classified(
        hub().ViTBackbone((16, 16, 3), (8, 8), 1, 2, 8, 16)
    ),
    "inception": lambda: net(inception, residual),
    "int4": lambda: quantized("int4", conv(), norm(), layers.ReLU()),
    "int8": lambda: quantized("int8", conv(), norm(), layers.ReLU()),
    "int8-dense": lambda: quantized("int8"),
    "float8": lambda: quantized("float8", conv(), norm()),
    "lambda": lambda: net(conv(), norm(), layers.Lambda(lambda x: x * 2.0)),
    "layer-norm": lambda: net(conv(), layers.LayerNormalization()),
    "lora-conv": lambda: lora(conv(), norm(), layers.ReLU()),
    "lora-dense": lambda: lora(layers.Flatten(), layers.Dense(8), norm()),
    "lstm": lambda: net(rows, layers.LSTM(4, return_sequences=True), norm()),
    "masked": lambda: net(masked),
    "mixed-dtypes": lambda: net(
        conv(dtype="mixed_bfloat16"), norm(dtype="float32"), layers.ReLU()
    ),
    "mobile-net": lambda: application(keras.applications.MobileNet, alpha=0.25),
    "mobile-net-v3": lambda: application(
        keras.applications.MobileNetV3Small, alpha=0.75, minimalistic=True
    ),
    "no-center": lambda: net(conv(), norm(center=False), layers.ReLU()),
    "no-scale": lambda: net(conv(use_bias=False), norm(scale=False)),
    "noise": lambda: net(layers.GaussianNoise(0.5), conv(), norm()),
    "norm-axis-1": lambda: net(conv(), norm(axis=1)),
    "norm-first": lambda: net(norm(), layers.ReLU(), conv(), norm()),
    "operations": lambda: net(
        conv(), norm(), ops.relu, lambda x: ops.mean(x, axis=(1, 2)) * 2.0
    ),
    "own-call": own_call,
    "patched": patched,
    "pointwise": lambda: net(layers.Conv2D(4, 1, use_bias=False), norm()),
    "pooled": lambda: net(
        conv(), norm(), layers.AveragePooling2D(2), layers.GlobalMaxPooling2D()
    ),
    "preactivation": lambda: keras_adaad.models.WideResNet(
        10, 1, (8, 8, 3), CLASSES
    ),
    "prelu": lambda: net(conv(), norm(), layers.PReLU(), layers.ELU()),
    "rematerialized": rematerialized,
    "rescaled": lambda: net(layers.Rescaling(2.0, -1.0), conv(), norm()),
    "resized": lambda: net(layers.Resizing(6, 6), conv(), norm()),
    "rnn-stack": lambda: net(
        rows, layers.RNN([layers.LSTMCell(3), layers.GRUCell(3)])
    ),
    "separable": lambda: net(layers.SeparableConv2D(4, 3), norm()),
    "sequential-late": lambda: sequential(conv(), norm(), inputs=False),
    "sequential-nested": lambda: sequential(
        keras.Sequential([conv(), norm(), layers.ReLU()]), conv(), norm()
    ),
    "shared-with-another": within_another,
    "shifted": lambda: net(Shifted([0.1, 0.2, 0.3]), conv(), norm()),
    "spatial-dropout": lambda: net(conv(), layers.SpatialDropout2D(0.5)),
    "spectral": lambda: net(layers.SpectralNormalization(conv()), norm()),
    "squeeze-and-excite": lambda: net(conv(), norm(), squeeze_and_excite),
    "strided": lambda: net(conv(strides=(2, 1), padding="valid"), norm()),
    "subclassed": lambda: networks.Subclassed(4, num_classes=CLASSES),
    "subclassed-conv": lambda: net(Standardized(4, 3), norm()),
    "subclassed-norm": lambda: net(conv(), Doubled(), layers.ReLU()),
    "time-distributed": lambda: net(
        rows, layers.TimeDistributed(layers.Dense(3)), norm()
    ),
    "two-outputs": two_outputs,
    "unit-norm": lambda: net(conv(), layers.UnitNormalization(), norm()),
    "weighted-constraint": lambda: net(
        conv(kernel_constraint="non_neg", kernel_regularizer="l2"), norm()
    ),
}
if keras.config.backend() != "tensorflow":
    # TensorFlow has no such convolution on a CPU.
    ARCHITECTURES["channels-first"] = lambda: net(
        conv(data_format="channels_first"),
        norm(axis=1),
        layers.ZeroPadding2D(1, data_format="channels_first"),
        conv(data_format="channels_first", padding="valid"),
        norm(axis=1),
        shape=(3, 8, 8),
    )
if keras.config.backend() != "jax":
    # JAX has float64 only if asked for it at the start.
    ARCHITECTURES["float64"] = lambda: net(
        conv(dtype="float64"), norm(dtype="float64")
    )
