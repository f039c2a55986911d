"""Layers that the networks of this field share, configured as published.

Layers carry the names of the published PyTorch modules, with "__" in place of
".", which Keras does not allow: the weights of `layer1.0.conv1` belong to the
layer `layer1__0__conv1`.
"""

import contextlib
import contextvars
import math

import keras
import numpy as np
from keras import layers
from keras import ops

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


_TO_BE_LOADED = contextvars.ContextVar("to_be_loaded", default=False)


@contextlib.contextmanager
def to_be_loaded():
    """Scope for networks whose weights will be loaded: initializes to zero.

    Zeros take no time and no memory.
    """
    token = _TO_BE_LOADED.set(True)
    try:
        yield
    finally:
        _TO_BE_LOADED.reset(token)


class Network:
    """Builds one network, layer by layer.

    Args:
        input_shape, data_format, mean, std: See `ResNet18`. `mean="image"`
            takes both statistics from each image.
        symmetric: Whether a 3x3 convolution of stride 2 is padded by one pixel
            on each side, as by PyTorch's `padding=1`. Otherwise the padding is
            Keras's "same", which at even sizes pads the end only.
        momentum: Momentum of BatchNorm, as Keras defines it.
        initializer: Function `(fan_in, fan_out) -> initializer` for the
            kernels of the convolutions.
        activation: Name of the activation.
    """

    def __init__(
        self,
        input_shape,
        data_format,
        mean=None,
        std=None,
        *,
        symmetric=True,
        momentum=0.9,
        initializer=None,
        activation="relu",
    ):
        self.data_format = data_format or keras.config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                'Argument `data_format` must be "channels_last" or '
                f'"channels_first". Received: data_format={data_format!r}'
            )
        self.axis = -1 if self.data_format == "channels_last" else 1
        self.symmetric = symmetric
        self.momentum = momentum
        self.initializer = initializer or pytorch_initializer
        if _TO_BE_LOADED.get():
            self.initializer = lambda fan_in, fan_out: "zeros"
        self.activation = activation
        self.inputs = keras.Input(_image_shape(input_shape, self.axis))
        if mean != "image" and (mean is not None or std is not None):
            check_statistics(mean, std, self.channels(self.inputs))
        self.mean, self.std = mean, std

    def images(self):
        """Returns the input, normalised if the network has statistics."""
        if self.mean is None:
            return self.inputs
        if self.mean == "image":
            return _standardized(self.inputs)
        return layers.Normalization(
            axis=self.axis,
            mean=list(self.mean),
            variance=[s**2 for s in self.std],
            name="normalization",
        )(self.inputs)

    def conv(self, x, filters, size, strides, name):
        """Applies a convolution without bias."""
        fan_in = size * size * x.shape[self.axis]
        x, padding = self._pad(x, size, strides)
        return layers.Conv2D(
            filters,
            size,
            strides,
            padding,
            use_bias=False,
            kernel_initializer=self.initializer(fan_in, size * size * filters),
            data_format=self.data_format,
            name=_keras_name(name),
        )(x)

    def depthwise_conv(self, x, size, strides, name):
        """Applies a depthwise convolution without bias."""
        x, padding = self._pad(x, size, strides)
        return layers.DepthwiseConv2D(
            size,
            strides,
            padding,
            use_bias=False,
            depthwise_initializer=self.initializer(size * size, None),
            data_format=self.data_format,
            name=_keras_name(name),
        )(x)

    def norm(self, x, name):
        """Applies BatchNorm, with PyTorch's epsilon."""
        return layers.BatchNormalization(
            axis=self.axis,
            momentum=self.momentum,
            epsilon=1e-5,
            name=_keras_name(name),
        )(x)

    def act(self, x):
        return layers.Activation(self.activation)(x)

    def norm_act(self, x, name):
        return self.act(self.norm(x, name))

    def add(self, x, y):
        return layers.Add()([x, y])

    def channels(self, x):
        return x.shape[self.axis]

    def classifier(
        self, x, num_classes, layer, name, zero_bias=False, pool_size=None
    ):
        """Adds average pooling and the logits, and returns the model."""
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(
                "Argument `num_classes` must be an integer of at least 2. "
                f"Received: num_classes={num_classes!r}"
            )
        x = self._pool(x, pool_size)
        fan_in = x.shape[-1]
        outputs = layers.Dense(
            num_classes,
            kernel_initializer=pytorch_initializer(fan_in, num_classes),
            bias_initializer="zeros"
            if zero_bias
            else pytorch_initializer(fan_in, num_classes),
            name=_keras_name(layer),
        )(x)
        return keras.Model(self.inputs, outputs, name=name)

    def _pool(self, x, size):
        data_format = self.data_format
        if size is None:
            return layers.GlobalAveragePooling2D(data_format=data_format)(x)
        x = layers.AveragePooling2D(size, data_format=data_format)(x)
        if data_format == "channels_last":
            # In the order of PyTorch's `view`: channel by channel.
            x = layers.Permute((3, 1, 2))(x)
        return layers.Reshape((-1,))(x)

    def _pad(self, x, size, strides):
        if size == 1 or strides == 1 or not self.symmetric:
            return x, "same"
        # At stride 2, windows reach the padding at the end at odd sizes only.
        rows, columns = x.shape[1:3] if self.axis == -1 else x.shape[2:4]
        padding = ((1, rows % 2), (1, columns % 2))
        pad = layers.ZeroPadding2D(padding, data_format=self.data_format)
        return pad(x), "valid"


def pytorch_initializer(fan_in, fan_out):
    """Returns PyTorch's default: U(-b, b) with `b = 1 / sqrt(fan_in)`."""
    bound = 1.0 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-bound, bound)


def trades_initializer(fan_in, fan_out):
    """Returns N(0, sqrt(2 / fan_out)), as in the TRADES code."""
    return keras.initializers.RandomNormal(stddev=math.sqrt(2.0 / fan_out))


def _keras_name(name):
    return name.replace(".", "__")


def _image_shape(input_shape, axis):
    if input_shape is None:
        input_shape = (32, 32, 3) if axis == -1 else (3, 32, 32)
    if (
        not isinstance(input_shape, (tuple, list))
        or len(input_shape) != 3
        or not all(isinstance(size, int) and size > 0 for size in input_shape)
    ):
        raise ValueError(
            "Argument `input_shape` must be the shape of an image, three "
            "positive integers, such as `(32, 32, 3)`. "
            f"Received: input_shape={input_shape!r}"
        )
    return tuple(input_shape)


def check_statistics(mean, std, channels):
    """Raises unless `mean` and `std` fit images with `channels` channels."""
    for argument, values in (("mean", mean), ("std", std)):
        known = isinstance(values, (tuple, list, np.ndarray))
        if not known or np.shape(values) != (channels,):
            raise ValueError(
                "Arguments `mean` and `std` must both hold one value per "
                f"channel, {channels} here. Received: {argument}={values!r}"
            )
        if not np.isfinite(values).all():
            raise ValueError(
                f"Argument `{argument}` must hold finite numbers. "
                f"Received: {argument}={values!r}"
            )
    if min(std) <= 0:
        raise ValueError(
            f"Argument `std` must be positive. Received: std={std!r}"
        )


def _standardized(x):
    """Standardises each image by its mean and (unbiased) deviation."""
    size = math.prod(x.shape[1:])
    x = x - ops.mean(x, axis=(1, 2, 3), keepdims=True)
    square = ops.sum(ops.square(x), axis=(1, 2, 3), keepdims=True)
    return x / ops.maximum(ops.sqrt(square / (size - 1)), size**-0.5)
