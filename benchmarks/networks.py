"""The networks of the benchmarks and of the parity tests, in Keras.

Each has a twin in `benchmarks/reference.py` with the same layer names and the
same padding: symmetric at stride 2, as PyTorch pads.
"""

import math

import keras
from keras import layers


def conv_net(
    widths, input_shape=(28, 28, 1), num_classes=10, name=None, strides=None
):
    """Builds convolution-BatchNorm-ReLU blocks, stride 2 after the first."""
    strides = strides or [1] + [2] * (len(widths) - 1)
    inputs = keras.Input(input_shape)
    x = inputs
    for i, (width, stride) in enumerate(zip(widths, strides, strict=True)):
        x = _conv_bn(x, width, 3, stride, f"conv{i}", f"bn{i}")
        x = layers.ReLU()(x)
    return _classifier(inputs, x, num_classes, name)


def resnet(
    widths=(64, 128, 256, 512),
    blocks=(2, 2, 2, 2),
    input_shape=(32, 32, 3),
    num_classes=10,
    name=None,
):
    """Builds the CIFAR ResNet (ResNet-18 by default)."""
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(_conv_bn(inputs, widths[0], 3, 1, "conv", "bn"))
    for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _residual(x, width, stride, f"s{stage}b{block}_")
    return _classifier(inputs, x, num_classes, name)


def multiplications(model):
    """Returns the multiplications of conv and dense layers per forward pass."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, (layers.Conv2D, layers.Dense)):
            _, *sizes, filters = layer.output.shape
            per_output = layer.kernel.shape[:-1]
            total += math.prod(sizes) * filters * math.prod(per_output)
    return total


def _residual(x, width, stride, prefix):
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = _conv_bn(
            x, width, 1, stride, prefix + "conv_s", prefix + "bn_s"
        )
    x = _conv_bn(x, width, 3, stride, prefix + "conv1", prefix + "bn1")
    x = layers.ReLU()(x)
    x = _conv_bn(x, width, 3, 1, prefix + "conv2", prefix + "bn2")
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _conv_bn(x, width, kernel, stride, conv_name, bn_name):
    padding = "same"
    if stride == 2 and kernel == 3:
        x, padding = layers.ZeroPadding2D(1)(x), "valid"
    x = layers.Conv2D(
        width, kernel, stride, padding, use_bias=False, name=conv_name
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=bn_name)(
        x
    )


def _classifier(inputs, x, num_classes, name):
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(num_classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)
