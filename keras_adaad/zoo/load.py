"""Loads a file of weights as a Keras model."""

import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_adaad._typing import PathLike
from keras_adaad.zoo import architecture as architectures
from keras_adaad.zoo import conversion
from keras_adaad.zoo import files
from keras_adaad.zoo import registry
from keras_adaad.zoo.download import address
from keras_adaad.zoo.download import download_entry
from keras_adaad.zoo.state_dict import state_dict


def load_robustbench(
    name: str,
    checkpoint: PathLike | None = None,
    dataset: str = "cifar10",
    threat_model: str = "Linf",
    download: bool = False,
    data_format: str | None = None,
) -> keras.Model:
    """Loads a model of RobustBench as a Keras model.

    The model takes images in [0, 1] and returns logits. If the published model
    normalises its input, the normalisation is part of this model. Once saved as
    `.keras`, it loads without this function, on any backend.

    Args:
        name: Id of the model, e.g. `"Chen2021LTD_WRN34_20"`; `list_models`
            returns them all.
        checkpoint: Path of its file: `.pt`, `.pth`, `.safetensors`, `.npz`,
            or DeepMind's `.npy`. No code in a file is ever executed, and
            PyTorch is not needed.
        dataset: "cifar10" or "cifar100". Defaults to "cifar10".
        threat_model: "Linf", "L2" or "corruptions". Defaults to "Linf".
        download: Whether to download the file from its published source if
            there is none at `checkpoint`. Defaults to `False`. Without
            `checkpoint`, it is kept in `~/.keras/keras_adaad`.
        data_format: "channels_last" or "channels_first". Defaults to that of
            `keras.config.image_data_format()`.

    Returns:
        A `keras.Model` from images of shape `(batch_size, 32, 32, 3)` to
        logits of shape `(batch_size, num_classes)`.

    Raises:
        ValueError: If the name is unknown, or the file is not of this model.
        FileNotFoundError: If there is no file and `download` is `False`.

    Example:

    ```python
    teacher = keras_adaad.zoo.load_robustbench(
        "Chen2021LTD_WRN34_20", checkpoint="Chen2021LTD_WRN34_20.pt"
    )
    teacher.save("teacher.keras")
    ```

    Reference:
        [Croce et al., NeurIPS 2021](https://arxiv.org/abs/2010.09670),
        [robustbench.github.io](https://robustbench.github.io)
    """
    entry = registry.entry(name, dataset, threat_model)
    path = fetch(entry, checkpoint, download)
    arrays, architecture, arguments = read_published(entry, path)
    if data_format is not None:
        arguments["data_format"] = data_format
    return convert(arrays, architecture, arguments)[0]


def load_checkpoint(
    checkpoint: PathLike,
    architecture: str | None = None,
    key: str | None = None,
    **arguments: Any,
) -> keras.Model:
    """Loads a PyTorch checkpoint of one of the field's networks.

    For files that are not in the registry, such as your own. Architecture,
    depth, width and number of classes are read from the file.

    Args:
        checkpoint: Path of the file, as in `load_robustbench`.
        architecture: Name of a builder in `keras_adaad.models`. Inferred from
            the names in the file by default.
        key: Name of the network to load, if the file holds several.
        **arguments: Arguments of the builder, such as `input_shape` or
            `data_format`. Those that no file holds are required:
            `out_shortcut` of `PreActResNet18`, `mean` and `std` of DeepMind's
            networks.

    Returns:
        A `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If the file holds no known network, or a required argument
            is missing.

    Example:

    ```python
    student = keras_adaad.zoo.load_checkpoint("resnet18.pth")
    ```
    """
    return convert(*read(checkpoint, architecture, key, arguments))[0]


def read_published(entry, path):
    """Returns a registry model's arrays, architecture and arguments."""
    # The registry knows what comes before the network.
    arrays = state_dict(files.read(path), entry["checkpoint_key"], True)
    return arrays, entry["architecture"], published_arguments(entry, arrays)


def read(path, architecture, key, arguments):
    """Returns a file's arrays, architecture and arguments."""
    arrays = state_dict(files.read(path), key, "mean" in arguments)
    return arrays, *architectures.infer(arrays, architecture, **arguments)


def convert(arrays, architecture, arguments):
    """Returns the Keras model and the `Conversion` of its keys."""
    model = architectures.build(architecture, arguments)
    return model, conversion.load_state_dict(model, arrays)


def fetch(entry, checkpoint=None, download=False):
    """Returns the path of a model's file, and downloads it if requested.

    Without `checkpoint`, the file is in the cache.
    """
    path = pathlib.Path(checkpoint or _cached(entry))
    if path.exists():
        return path
    if not download:
        raise FileNotFoundError(
            f"There is no file {str(path)!r}. Download {entry['id']} from "
            f"{address(entry)} and pass `checkpoint=` its path, or "
            "pass `download=True`."
        )
    download_entry(entry, path)
    return path


def published_arguments(entry, arrays):
    """Returns an entry's arguments; raises if its file has other statistics."""
    arguments = dict(entry["arguments"])
    held = conversion.normalization(arrays)
    if entry.get("normalization_from_file"):
        if not held:
            raise ValueError(
                f"The file of {entry['id']} must hold the mean and standard "
                "deviation that it normalises images with. Received: neither. "
                "Load it with `load_checkpoint(checkpoint, mean=..., std=...)` "
                "if you know them."
            )
        return {**arguments, **held}
    for name, values in held.items():
        expected = arguments.get(name)
        if expected is None or not np.allclose(values, expected, atol=1e-3):
            raise ValueError(
                f"The file normalises images with {name}={values}, the "
                f"published {entry['id']} with {name}={expected}. Load it "
                "with `load_checkpoint(checkpoint, mean=..., std=...)` if the "
                "file is right."
            )
    return arguments


def _cached(entry):
    home = os.environ.get("KERAS_HOME", os.path.expanduser("~/.keras"))
    folder = pathlib.Path(home, "keras_adaad", entry["dataset"])
    return folder / entry["threat_model"] / f"{entry['id']}.pt"
