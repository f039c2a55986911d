"""ResNet for CIFAR: a 3x3 stem of stride 1 and no max-pooling."""

from collections.abc import Sequence

import keras

from keras_adaad.models.network import Network
from keras_adaad.models.network import trades_initializer


def ResNet18(
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_format: str | None = None,
    name: str = "resnet18",
) -> keras.Model:
    """Builds ResNet-18 for CIFAR.

    [He et al., CVPR 2016](https://arxiv.org/abs/1512.03385), in the form of
    the public `pytorch-cifar` code that AdaAD, RSLAD and RobustBench use.

    Args:
        input_shape: Shape of an image, e.g. `(32, 32, 3)`. Defaults to 32x32
            RGB in the order of `data_format`.
        num_classes: Number of classes. Defaults to `10`.
        mean, std: One value per channel. The model subtracts `mean` from the
            images and divides by `std`. Defaults to `None`: no normalisation.
        data_format: "channels_last" or "channels_first". Defaults to that of
            `keras.config.image_data_format()`.
        name: Name of the model.

    Returns:
        A `keras.Model` from images of shape `(batch_size, *input_shape)` in
        [0, 1] to logits of shape `(batch_size, num_classes)`.

    Raises:
        ValueError: If the shape, number of classes or statistics are invalid.

    Example:

    ```python
    student = keras_adaad.models.ResNet18((32, 32, 3), num_classes=100)
    ```
    """
    net = Network(input_shape, data_format, mean, std)
    return _resnet(net, (2, 2, 2, 2), num_classes, name)


def ResNet34(
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_format: str | None = None,
    name: str = "resnet34",
) -> keras.Model:
    """Builds the ResNet-34 for CIFAR: `ResNet18` with 3, 4, 6 and 3 blocks.

    Args:
        input_shape, num_classes, mean, std, data_format, name: See
            `keras_adaad.models.ResNet18`.

    Returns:
        A `keras.Model` from images in [0, 1] to logits.
    """
    net = Network(input_shape, data_format, mean, std)
    return _resnet(net, (3, 4, 6, 3), num_classes, name)


def ResNet56(
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_format: str | None = None,
    name: str = "resnet56",
) -> keras.Model:
    """Builds the ResNet-56 of the paper's section on CIFAR.

    [He et al., CVPR 2016](https://arxiv.org/abs/1512.03385), in the form of
    the public `pytorch-cifar-models` code: three stages of nine blocks with
    16, 32 and 64 channels, and 1x1 convolutions as shortcuts where the number
    of channels changes. It is the clean teacher of B-MTARD.

    Args:
        input_shape, num_classes, mean, std, data_format, name: See
            `keras_adaad.models.ResNet18`.

    Returns:
        A `keras.Model` from images in [0, 1] to logits.
    """
    net = Network(
        input_shape, data_format, mean, std, initializer=trades_initializer
    )
    return _resnet(
        net,
        (9, 9, 9),
        num_classes,
        name,
        filters=16,
        shortcut="downsample",
        head="fc",
    )


def _resnet(
    net,
    blocks,
    num_classes,
    name,
    filters=64,
    shortcut="shortcut",
    head="linear",
):
    x = net.conv(net.images(), filters, 3, 1, "conv1")
    x = net.norm_act(x, "bn1")
    for stage, depth in enumerate(blocks):
        for i in range(depth):
            strides = 2 if stage > 0 and i == 0 else 1
            prefix = f"layer{stage + 1}.{i}."
            width = filters * 2**stage
            x = _block(net, x, width, strides, prefix, prefix + shortcut)
    return net.classifier(x, num_classes, head, name)


def _block(net, x, filters, strides, name, shortcut_name):
    shortcut = x
    if strides != 1 or net.channels(x) != filters:
        shortcut = net.conv(x, filters, 1, strides, shortcut_name + ".0")
        shortcut = net.norm(shortcut, shortcut_name + ".1")
    x = net.conv(x, filters, 3, strides, name + "conv1")
    x = net.norm_act(x, name + "bn1")
    x = net.conv(x, filters, 3, 1, name + "conv2")
    x = net.norm(x, name + "bn2")
    return net.act(net.add(x, shortcut))
