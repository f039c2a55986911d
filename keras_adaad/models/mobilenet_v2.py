"""MobileNetV2 for CIFAR."""

from collections.abc import Sequence

import keras

from keras_adaad.models.network import Network

# Expansion, filters, blocks and stride of each stage.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def MobileNetV2(
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_format: str | None = None,
    name: str = "mobilenet_v2",
) -> keras.Model:
    """Builds MobileNetV2 for CIFAR.

    [Sandler et al., CVPR 2018](https://arxiv.org/abs/1801.04381), in the form
    of the public `pytorch-cifar` code. It differs from
    `keras.applications.MobileNetV2`: the strides of the stem and of the second
    stage are 1, activations are ReLU, and if a block of stride 1 changes the
    number of channels, its shortcut is a 1x1 convolution.

    Args:
        input_shape, num_classes, mean, std, data_format, name: See
            `keras_adaad.models.ResNet18`.

    Returns:
        A `keras.Model` from images in [0, 1] to logits.
    """
    net = Network(input_shape, data_format, mean, std)
    x = net.norm_act(net.conv(net.images(), 32, 3, 1, "conv1"), "bn1")
    block = 0
    for expansion, filters, depth, first_strides in _STAGES:
        for i in range(depth):
            strides = first_strides if i == 0 else 1
            x = _block(net, x, expansion, filters, strides, f"layers.{block}.")
            block += 1
    x = net.norm_act(net.conv(x, 1280, 1, 1, "conv2"), "bn2")
    return net.classifier(x, num_classes, "linear", name)


def _block(net, x, expansion, filters, strides, name):
    shortcut = x
    x = net.conv(x, expansion * net.channels(x), 1, 1, name + "conv1")
    x = net.norm_act(x, name + "bn1")
    x = net.depthwise_conv(x, 3, strides, name + "conv2")
    x = net.norm_act(x, name + "bn2")
    x = net.norm(net.conv(x, filters, 1, 1, name + "conv3"), name + "bn3")
    if strides != 1:
        return x
    if net.channels(shortcut) != filters:
        shortcut = net.conv(shortcut, filters, 1, 1, name + "shortcut.0")
        shortcut = net.norm(shortcut, name + "shortcut.1")
    return net.add(x, shortcut)
