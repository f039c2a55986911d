"""PreActResNet-18: BatchNorm and activation before each convolution."""

from collections.abc import Sequence

import keras

from keras_adaad.models.network import CIFAR10_MEAN
from keras_adaad.models.network import CIFAR10_STD
from keras_adaad.models.network import Network
from keras_adaad.models.network import trades_initializer


def PreActResNet18(
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    bn_before_fc: bool = True,
    out_shortcut: bool = True,
    pool_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_format: str | None = None,
    name: str = "preact_resnet18",
) -> keras.Model:
    """Builds the PreActResNet-18 of RobustBench, in its three variants.

    [He et al., ECCV 2016](https://arxiv.org/abs/1603.05027). `out_shortcut`
    changes the outputs but not the shapes of the weights, so it cannot be read
    from a checkpoint:

    | `bn_before_fc` | `out_shortcut` | used by |
    | --- | --- | --- |
    | `False` | `False` | Wong 2020, Andriushchenko 2020 |
    | `True` | `True` | Rice 2020, Addepalli 2021, SAAD's student |
    | `False` | `True` | the public `pytorch-cifar` code, DGAD |

    DGAD's code for Tiny-ImageNet pools over 4x4 windows. Images of 64x64 have
    four of them, which gives 2,048 features:
    `PreActResNet18((64, 64, 3), 200, bn_before_fc=False, pool_size=4)`.

    Args:
        bn_before_fc: Whether BatchNorm and ReLU precede the average pooling.
            Defaults to `True`.
        out_shortcut: Whether the 1x1 convolution of a shortcut takes the
            activated tensor; otherwise it takes the raw input of its block.
            Defaults to `True`.
        pool_size: Side of the average pooling windows. Defaults to `None`: the
            whole map, as in all variants at 32x32.
        input_shape, num_classes, mean, std, data_format, name: See
            `keras_adaad.models.ResNet18`.

    Returns:
        A `keras.Model` from images in [0, 1] to logits.
    """
    net = Network(input_shape, data_format, mean, std)
    x = net.conv(net.images(), 64, 3, 1, "conv1")
    for stage in range(4):
        for i in range(2):
            prefix = f"layer{stage + 1}.{i}."
            strides = 2 if stage > 0 and i == 0 else 1
            filters = 64 * 2**stage
            out = net.norm_act(x, prefix + "bn1")
            if strides != 1 or net.channels(x) != filters:
                x = out if out_shortcut else x
                x = net.conv(x, filters, 1, strides, prefix + "shortcut.0")
            out = net.conv(out, filters, 3, strides, prefix + "conv1")
            out = net.norm_act(out, prefix + "bn2")
            out = net.conv(out, filters, 3, 1, prefix + "conv2")
            x = net.add(out, x)
    if bn_before_fc:
        x = net.norm_act(x, "bn")
    return net.classifier(x, num_classes, "linear", name, pool_size=pool_size)


def DMPreActResNet18(
    input_shape: Sequence[int] | None = None,
    num_classes: int = 10,
    activation: str = "silu",
    mean: Sequence[float] | None = CIFAR10_MEAN,
    std: Sequence[float] | None = CIFAR10_STD,
    data_format: str | None = None,
    name: str = "dm_preact_resnet18",
) -> keras.Model:
    """Builds DeepMind's PreActResNet-18, the "R18" of Rebuffi and Rade.

    As [published](https://github.com/google-deepmind/deepmind-research/tree/master/adversarial_robustness):
    a shortcut is a 3x3 convolution of the raw input of its block, padding is
    Keras's "same", and the images are normalised inside the model. BatchNorm's
    momentum and the initialisers are those of the code that trains it
    (Rade & Moosavi-Dezfooli 2022, Wang et al. 2023).

    Args:
        activation: "silu" or "relu". Defaults to "silu".
        input_shape, num_classes, mean, std, data_format, name: See
            `keras_adaad.models.ResNet18`. `mean` and `std` default to those of
            CIFAR-10.

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
    x = net.conv(net.images(), 64, 3, 1, "conv_2d")
    for stage in range(4):
        for i in range(2):
            prefix = f"layer_{stage}.{i}."
            strides = 2 if stage > 0 and i == 0 else 1
            filters = 64 * 2**stage
            out = net.norm_act(x, prefix + "batchnorm_0")
            if strides != 1 or net.channels(x) != filters:
                x = net.conv(x, filters, 3, strides, prefix + "shortcut")
            out = net.conv(out, filters, 3, strides, prefix + "conv_2d_1")
            out = net.norm_act(out, prefix + "batchnorm_1")
            out = net.conv(out, filters, 3, 1, prefix + "conv_2d_2")
            x = net.add(out, x)
    x = net.norm_act(x, "batchnorm")
    return net.classifier(x, num_classes, "logits", name, zero_bias=True)
