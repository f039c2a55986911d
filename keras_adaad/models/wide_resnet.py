"""Wide residual networks, in the two forms used by robust teachers."""

from collections.abc import Sequence

import keras

from keras_adaad.models.network import CIFAR10_MEAN
from keras_adaad.models.network import CIFAR10_STD
from keras_adaad.models.network import Network
from keras_adaad.models.network import trades_initializer


def WideResNet(
    depth: int,
    width: int,
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    mean: Sequence[float] | str | None = None,
    std: Sequence[float] | None = None,
    data_format: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the wide ResNet of Madry, TRADES and most of RobustBench.

    [Zagoruyko & Komodakis, BMVC 2016](https://arxiv.org/abs/1605.07146), in
    the form of the [TRADES code](https://github.com/yaodongyu/TRADES).

    Args:
        depth: Number of layers, 4 more than a multiple of 6: 28, 34, 70.
        width: Factor on the 16, 32 and 64 filters of the three groups.
        input_shape, num_classes, mean, std, data_format, name: See
            `keras_adaad.models.ResNet18`. `mean="image"` standardises each
            image by its own mean and standard deviation. `name` defaults to
            e.g. "wide_resnet_34_20".

    Returns:
        A `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If `depth` or `width` is invalid.

    Example:

    ```python
    teacher = keras_adaad.models.WideResNet(34, 20)
    ```
    """
    net = Network(
        input_shape, data_format, mean, std, initializer=trades_initializer
    )
    return _wide_resnet(
        net,
        depth,
        width,
        num_classes,
        name or f"wide_resnet_{depth}_{width}",
        stem="conv1",
        block="block{group}.layer.{i}.",
        parts=("bn1", "conv1", "bn2", "conv2", "convShortcut"),
        head=("bn1", "fc"),
    )


def DMWideResNet(
    depth: int,
    width: int,
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    activation: str = "silu",
    mean: Sequence[float] | None = CIFAR10_MEAN,
    std: Sequence[float] | None = CIFAR10_STD,
    data_format: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds DeepMind's wide ResNet, of Gowal, Rebuffi, Wang and Bartoldson.

    As [published](https://github.com/google-deepmind/deepmind-research/tree/master/adversarial_robustness):
    `WideResNet` with SiLU, padding as Keras's "same", and the images normalised
    inside the model. BatchNorm's momentum and the initialisers are those of
    the code that trains it (Wang et al. 2023).

    Args:
        activation: "silu" or "relu". Defaults to "silu".
        depth, width: See `keras_adaad.models.WideResNet`.
        input_shape, num_classes, mean, std, data_format, name: See
            `keras_adaad.models.ResNet18`. `mean` and `std` default to those of
            CIFAR-10, and `name` to e.g. "dm_wide_resnet_28_10".

    Returns:
        A `keras.Model` from images in [0, 1] to logits.
    """
    net = Network(
        input_shape,
        data_format,
        mean,
        std,
        symmetric=False,
        momentum=0.99,
        initializer=trades_initializer,
        activation=activation,
    )
    return _wide_resnet(
        net,
        depth,
        width,
        num_classes,
        name or f"dm_wide_resnet_{depth}_{width}",
        stem="init_conv",
        block="layer.{group0}.block.{i}.",
        parts=("batchnorm_0", "conv_0", "batchnorm_1", "conv_1", "shortcut"),
        head=("batchnorm", "logits"),
    )


def _wide_resnet(
    net, depth, width, num_classes, name, *, stem, block, parts, head
):
    if not isinstance(depth, int) or depth < 10 or depth % 6 != 4:
        raise ValueError(
            "Argument `depth` must be 4 more than a multiple of 6: 10, 16, "
            f"28, 34, 70. Received: depth={depth!r}"
        )
    if not isinstance(width, int) or width < 1:
        raise ValueError(
            "Argument `width` must be a positive integer. "
            f"Received: width={width!r}"
        )
    norm1, conv1, norm2, conv2, shortcut = parts
    x = net.conv(net.images(), 16, 3, 1, stem)
    for group in range(3):
        filters = 16 * 2**group * width
        for i in range((depth - 4) // 6):
            prefix = block.format(group=group + 1, group0=group, i=i)
            strides = 2 if group > 0 and i == 0 else 1
            out = net.norm_act(x, prefix + norm1)
            if net.channels(x) != filters:
                x = net.conv(out, filters, 1, strides, prefix + shortcut)
            out = net.conv(out, filters, 3, strides, prefix + conv1)
            out = net.norm_act(out, prefix + norm2)
            out = net.conv(out, filters, 3, 1, prefix + conv2)
            x = net.add(out, x)
    x = net.norm_act(x, head[0])
    return net.classifier(x, num_classes, head[1], name, zero_bias=True)
