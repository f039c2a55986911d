"""The state file of a ranking, from which a killed one resumes."""

import json
import os
import pathlib

import keras

from keras_adaad.attacks.digest import digest
from keras_adaad.evaluation import storage
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.teachers.result import TeacherResult

FORMAT = "keras_adaad.rank_teachers.1"


def identity_of(model):
    """Returns a digest of a model's layers and weights, without their names.

    Keras numbers the names, so the same code gives others in a new process.
    """
    layers = [(type(layer), _config(layer)) for layer in layers_within(model)]
    return digest([layers, model.weights])


def _config(layer):
    if isinstance(layer, keras.Model):
        return None  # That of a model repeats those of its layers.
    return {k: v for k, v in layer.get_config().items() if k != "name"}


class State:
    """Keeps the teachers that are measured. Without a path, it keeps nothing.

    The file belongs to one student, its images, the attack and the settings.
    Teachers are known by `identity_of`, so some may be added.
    """

    def __init__(self, path, task):
        self.path = path
        self._task = digest(task) if path is not None else None
        self._results = {}
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
            self._results = self._read()

    def get(self, identity):
        """Returns the result of a teacher, or `None`."""
        return self._results.get(identity)

    def add(self, identity, result):
        """Adds the result of a teacher to the file."""
        if self.path is None:
            return
        self._results[identity] = result
        teachers = {k: found.to_dict() for k, found in self._results.items()}
        content = {"format": FORMAT, "task": self._task, "teachers": teachers}
        storage.write(content, self.path)

    def _read(self):
        try:
            content = json.loads(self.path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("another format")
            task = content["task"]
            results = {
                identity: TeacherResult.from_dict(values)
                for identity, values in content["teachers"].items()
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
        return results
