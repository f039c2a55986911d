"""The state file of a ranking, from which a killed one resumes."""

import dataclasses
import json
import logging
from typing import Any

import numpy as np

from keras_adaad import checks
from keras_adaad.evaluation import storage
from keras_adaad.evaluation.state import same_logits
from keras_adaad.frozen.digest import digest
from keras_adaad.teachers.result import TeacherResult

LOGGER = logging.getLogger("keras_adaad")

FORMAT = "keras_adaad.rank_teachers.3"
# Logits of the same network may differ this much, of their largest value: in
# other batches or on another device, sums have another order.
TOLERANCE = 1e-3


class State:
    """Keeps the results of measured teachers. Without a path, keeps nothing.

    The file belongs to one student, its images, the attack and the settings.
    More teachers can be added. A network is known by its digest and its logits
    on a few images: neither alone says what it computes.

    Args:
        path: The file, or `None`.
        task: What the results depend on besides the teachers.
        logits: The student's logits on a few images.
        device: Name of the device.
    """

    def __init__(self, path, task, logits, device):
        self.path: Any = path
        self._device = device
        self._logits = logits
        self._task = digest(task) if path is not None else None
        self._entries = []
        if path is None:
            return
        self.path = checks.check_file_path("state_path", path, "teachers.json")
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
        try:
            if self.path.exists():  # Another process may have added some.
                self._entries = self._read()
        except ValueError:
            LOGGER.warning(
                "Another ranking has taken `state_path=%s`. This one goes on, "
                "and no longer saves its results there.",
                self.path,
            )
            self.path = None
            return
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
