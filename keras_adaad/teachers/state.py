"""The state file of a ranking, from which a killed one resumes."""

import dataclasses
import json
import os
import pathlib

import numpy as np

from keras_adaad.attacks.digest import digest
from keras_adaad.evaluation import storage
from keras_adaad.evaluation.state import same_logits
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.teachers.result import TeacherResult

FORMAT = "keras_adaad.rank_teachers.3"
# Logits of the same network may differ this much, of their largest value: in
# other batches or on another device, sums have another order.
TOLERANCE = 1e-3
# What holds names of layers in a configuration.
NAMES = ("name", "keras_history", "input_layers", "output_layers")


def identity_of(model):
    """Returns a digest of what a model computes: configurations and weights.

    The configuration of a model has its operations and their connections. Keras
    numbers the names, so the same code gives others in a new process. So each
    name is replaced by its order of appearance. For a layer without
    `get_config`, only the class and the weights count: two such models are told
    apart by their logits.
    """
    places: dict[str, int] = {}
    layers = [
        (type(part), _config(part, places)) for part in layers_within(model)
    ]
    return digest([layers, model.weights])


def _config(layer, places):
    try:
        config = layer.get_config()
    except Exception:  # Some layers have none. They may raise any error.
        config = None
    return _without_names(config, places)


def _without_names(value, places, key=None):
    """Replaces each name in a configuration by its order of appearance."""
    if key == "dtype":
        return value  # The name of a policy says what it is.
    if isinstance(value, dict):
        return {k: _without_names(v, places, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_names(v, places, key) for v in value]
    if key in NAMES and isinstance(value, str):
        return places.setdefault(value, len(places))
    return value


class State:
    """Keeps the results of measured teachers. Without a path, keeps nothing.

    The file belongs to one student, its images, the attack and the settings.
    More teachers can be added. A network is known by its `identity_of` and its
    logits on a few images: neither alone says what it computes.

    Args:
        path: The file, or `None`.
        task: What the results depend on besides the teachers.
        logits: The student's logits on a few images.
        device: Name of the device.
    """

    def __init__(self, path, task, logits, device):
        self.path = path
        self._device = device
        self._logits = logits
        self._task = digest(task) if path is not None else None
        self._entries = []
        if path is None:
            return
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                "Argument `state_path` must be a path, such as "
                f'"teachers.json". Received: state_path={path!r}'
            )
        self.path = pathlib.Path(path)
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise ValueError(
                "Argument `state_path` must be a file in a folder that "
                f"exists. Received: state_path={str(path)!r}"
            )
        if self.path.exists():
            self._entries = self._read()

    def get(self, identity, logits):
        """Returns the result of a teacher, or `None`.

        The seconds of another device are left out.
        """
        for entry in self._entries:
            if entry["identity"] == identity and same_logits(
                entry["logits"], logits, TOLERANCE
            ):
                if entry["device"] == self._device:
                    return entry["result"]
                return dataclasses.replace(entry["result"], seconds={})
        return None

    def add(self, identity, logits, result):
        """Adds the result of a teacher to the file."""
        if self.path is None:
            return
        if self.path.exists():
            self._entries = self._read()  # Another process may have added some.
        self._entries.append(
            {
                "identity": identity,
                "logits": np.asarray(logits).tolist(),
                "device": self._device,
                "result": result,
            }
        )
        content = {
            "format": FORMAT,
            "task": self._task,
            "logits": np.asarray(self._logits).tolist(),
            "teachers": [
                {**entry, "result": entry["result"].to_dict()}
                for entry in self._entries
            ],
        }
        storage.write(content, self.path)

    def _read(self):
        try:
            content = json.loads(self.path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("another format")
            task, logits = content["task"], content["logits"]
            entries = [
                {
                    "identity": entry["identity"],
                    "logits": entry["logits"],
                    "device": entry["device"],
                    "result": TeacherResult.from_dict(entry["result"]),
                }
                for entry in content["teachers"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "Argument `state_path` must be a file that `rank_teachers` "
                "wrote, or not exist yet. If it is damaged, delete it. "
                f"Received: state_path={str(self.path)!r} "
                f"({type(error).__name__}: {error})"
            ) from error
        if task != self._task or not same_logits(
            logits, self._logits, TOLERANCE
        ):
            raise ValueError(
                "Argument `state_path` belongs to another ranking: the "
                "student, the images, the attack or the settings differ. "
                "Delete the file, or choose another path. "
                f"Received: state_path={str(self.path)!r}"
            )
        return entries
