"""Infers the network in a checkpoint from its names and shapes."""

import inspect
import math
import re

import keras

from keras_adaad import models
from keras_adaad.models.network import to_be_loaded
from keras_adaad.zoo.conversion import normalization

# A few bytes would otherwise lead to a network that takes hours to build.
DEEPEST = 200

# Keys that identify a network.
_MARKS = {
    "init_conv.weight": "DMWideResNet",
    "conv_2d.weight": "DMPreActResNet18",
    "block1.layer.0.conv1.weight": "WideResNet",
    "layers.0.conv3.weight": "MobileNetV2",
    "layer1.0.conv3.weight": None,  # Bottlenecks: ResNet-50 and deeper.
    "layer1.0.conv1.weight": "ResNet or PreActResNet",
}
_NEEDED = {
    "DMWideResNet": ("mean", "std"),
    "DMPreActResNet18": ("mean", "std"),
    "PreActResNet18": ("out_shortcut",),
}
_NOT_IN_THE_FILE = {
    "mean": "DeepMind's networks normalise their input by constants that their "
    "files do not hold: on CIFAR-10 mean=(0.4914, 0.4822, 0.4465), "
    "std=(0.2471, 0.2435, 0.2616), on CIFAR-100 mean=(0.5071, 0.4865, "
    "0.4409), std=(0.2673, 0.2564, 0.2762)",
    "out_shortcut": "the variants of this network have the same weights; see "
    "`keras_adaad.models.PreActResNet18`",
}


def check(architecture):
    """Raises unless a builder has this name."""
    known = [name for name in vars(models) if name[0].isupper()]
    if architecture not in known:
        raise ValueError(
            f"Argument `architecture` must be one of {', '.join(known)}. "
            f"Received: architecture={architecture!r}"
        )


def build(architecture, arguments):
    """Builds a network, by its builder's name, to load weights into."""
    check(architecture)
    builder = getattr(models, architecture)
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            "Argument `arguments` must be what "
            f"`keras_adaad.models.{architecture}` takes and the checkpoint "
            f"does not tell. Received: {arguments or 'none'} ({error})"
        ) from error
    with to_be_loaded():
        return builder(**arguments)


def infer(arrays, architecture=None, **arguments):
    """Returns the name of a checkpoint's builder, and its arguments.

    Both are inferred where they are not given. Raises if the checkpoint holds
    no known network, or a required argument is neither in the file nor given.
    """
    if architecture is None:
        architecture = _architecture(arrays)
    sizes = _sizes(arrays, architecture, arguments.get("data_format"))
    found = {**sizes, **normalization(arrays)}
    arguments = {**found, **arguments}
    for argument in _NEEDED.get(architecture, ()):
        if argument not in arguments:
            hint = _NOT_IN_THE_FILE.get(argument, _NOT_IN_THE_FILE["mean"])
            raise ValueError(
                f"Argument `{argument}` must be given for {architecture}: "
                f"{hint}."
            )
    return architecture, arguments


def _architecture(arrays):
    marks = [mark for mark in _MARKS if mark in arrays]
    architecture = _MARKS[marks[0]] if marks else None
    if architecture is None:
        raise ValueError(
            "The checkpoint holds none of the networks of "
            "`keras_adaad.models`. "
            f"Received: {len(arrays)} arrays, {', '.join(list(arrays)[:5])}, "
            "..."
        )
    if architecture != "ResNet or PreActResNet":
        return architecture
    if "bn1.weight" not in arrays:
        return "PreActResNet18"
    blocks = tuple(_count(arrays, rf"layer{i}\.(\d+)\.") for i in (1, 2, 3, 4))
    depths = {
        (2, 2, 2, 2): "ResNet18",
        (3, 4, 6, 3): "ResNet34",
        (9, 9, 9, 0): "ResNet56",
    }
    if blocks not in depths:
        raise ValueError(
            "The checkpoint holds a ResNet with blocks other than those of "
            f"ResNet18, ResNet34 and ResNet56. Received: {blocks} blocks"
        )
    return depths[blocks]


def _sizes(arrays, architecture, data_format):
    sizes, features = {}, None
    for head in ("linear", "fc", "logits"):
        if f"{head}.weight" in arrays:
            num_classes, features = arrays[f"{head}.weight"].shape
            sizes["num_classes"] = num_classes
            if features < 64:
                raise ValueError(
                    "The checkpoint holds none of the networks of "
                    "`keras_adaad.models`, which have at least 64 features. "
                    f"Received: {head}.weight of shape "
                    f"{(num_classes, features)}"
                )
    if architecture in ("WideResNet", "DMWideResNet"):
        blocks, first = (
            r"block1\.layer\.(\d+)\.conv1\.weight",
            "block1.layer.0.conv1.weight",
        )
        if architecture == "DMWideResNet":
            blocks, first = (
                r"layer\.0\.block\.(\d+)\.conv_0\.weight",
                "layer.0.block.0.conv_0.weight",
            )
        if first in arrays:
            sizes["depth"] = 6 * _count(arrays, blocks) + 4
            if sizes["depth"] > DEEPEST:
                raise ValueError(
                    f"The checkpoint must have a {architecture} of at most "
                    f"{DEEPEST} layers. Received: {sizes['depth']} layers"
                )
            sizes["width"] = arrays[first].shape[0] // 16
            # Checked before building: one wide array in a small file would
            # otherwise lead to a network that fills the memory.
            widest = 9 * (64 * sizes["width"]) ** 2
            held = sum(array.size for array in arrays.values())
            if held < widest:
                raise ValueError(
                    f"The checkpoint has a {first} of shape "
                    f"{arrays[first].shape}. The {architecture} of that width "
                    f"has a layer of {widest:,} weights, and the whole "
                    f"checkpoint holds {held:,}."
                )
    if architecture == "PreActResNet18":
        sizes["bn_before_fc"] = "bn.weight" in arrays
        if features is None:
            raise ValueError(
                "The checkpoint has no last layer: a PreActResNet18 has an "
                "array `linear.weight`."
            )
        if features > 512:
            # Pooled over 4x4 windows; each covers 32x32 pixels of the image.
            sizes["pool_size"] = 4
            side = 32 * math.isqrt(features // 512)
            data_format = data_format or keras.config.image_data_format()
            sizes["input_shape"] = (
                (side, side, 3)
                if data_format == "channels_last"
                else (3, side, side)
            )
    return sizes


def _count(arrays, pattern):
    matches = (re.match(pattern, name) for name in arrays)
    return len({match[1] for match in matches if match})
