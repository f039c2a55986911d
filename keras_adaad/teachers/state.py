"""The state file of a ranking, from which a killed one resumes."""

import dataclasses
import json
import os
import pathlib

from keras_adaad.attacks.digest import digest
from keras_adaad.evaluation import storage
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.teachers.result import TeacherResult

FORMAT = "keras_adaad.rank_teachers.2"
# What holds names of layers in a configuration.
NAMES = ("name", "keras_history", "input_layers", "output_layers")


def identity_of(model):
    """Returns a digest of what a model computes: configurations and weights.

    The configuration of a model has its operations and their connections. Keras
    numbers the names, so the same code gives others in a new process. So each
    name is replaced by its order of appearance. For a layer without
    `get_config`, only the class and the weights count.
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
    Teachers are identified by `identity_of`, so more can be added.
    """

    def __init__(self, path, task, device):
        self.path = path
        self._device = device
        self._task = digest(task) if path is not None else None
        self._results = {}
        self._devices = {}
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
            self._results, self._devices = self._read()

    def get(self, identity):
        """Returns the result of a teacher, or `None`.

        The seconds of another device are left out.
        """
        found = self._results.get(identity)
        if found is None or self._devices[identity] == self._device:
            return found
        return dataclasses.replace(found, seconds={})

    def add(self, identity, result):
        """Adds the result of a teacher to the file."""
        if self.path is None:
            return
        self._results[identity] = result
        self._devices[identity] = self._device
        teachers = {
            key: {"device": self._devices[key], **found.to_dict()}
            for key, found in self._results.items()
        }
        content = {"format": FORMAT, "task": self._task, "teachers": teachers}
        storage.write(content, self.path)

    def _read(self):
        try:
            content = json.loads(self.path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("another format")
            task = content["task"]
            teachers = content["teachers"]
            devices = {k: v.pop("device") for k, v in teachers.items()}
            results = {
                k: TeacherResult.from_dict(v) for k, v in teachers.items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "Argument `state_path` must be a file that `rank_teachers` "
                "wrote, or not exist yet. If it is damaged, delete it. "
                f"Received: state_path={str(self.path)!r} "
                f"({type(error).__name__}: {error})"
            ) from error
        if task != self._task:
            raise ValueError(
                "Argument `state_path` belongs to another ranking: the "
                "student, the images, the attack or the settings differ. "
                "Delete the file, or choose another path. "
                f"Received: state_path={str(self.path)!r}"
            )
        return results, devices
