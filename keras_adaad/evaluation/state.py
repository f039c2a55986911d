"""The state file of an evaluation, from which a killed one resumes."""

import json
import logging
import uuid
from typing import Any

import numpy as np

from keras_adaad import checks
from keras_adaad._typing import PathLike
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.frozen.digest import digest
from keras_adaad.writing import write_atomically

LOGGER = logging.getLogger("keras_adaad")

# The first version with the results of this one. It identifies an evaluation,
# for the digest does not cover the code of the package. A change that moves the
# results of an attack sets it to the coming version, which then refuses the
# files of earlier ones.
RESULTS_SINCE = "0.1.0"


def same_logits(first, second, tolerance):
    """Returns whether two arrays of logits are those of one network.

    They may differ by `tolerance`, a fraction of the largest of the second.
    """
    first, second = np.asarray(first), np.asarray(second)
    largest = np.abs(second).max(initial=0.0)
    return first.shape == second.shape and np.allclose(
        first, second, rtol=0.0, atol=tolerance * largest
    )


class State:
    """Keeps the results so far in a file, so that a killed evaluation resumes.

    If several processes use one file, the last one to begin owns it. The
    others go on without saving. If `path` is `None`, nothing is kept.
    """

    def __init__(self, path: PathLike | None) -> None:
        self.path: Any = path
        self._owner = uuid.uuid4().hex
        if path is not None:
            self.path = checks.check_file_path("state_path", path, "state.npz")

    def begin(
        self,
        task: list[Any],
        logits: np.ndarray,
        tolerance: float,
        x: np.ndarray,
    ) -> tuple[list[AttackResult], np.ndarray]:
        """Returns the earlier results and points, and takes over the file.

        `task` is the data that identifies an evaluation. The file of another
        one raises an error. The model's `logits` on the images may differ from
        those of the file by `tolerance`, a fraction of the largest logit.
        """
        results: list[AttackResult] = []
        x_adv = x.copy()
        if self.path is None:
            return results, x_adv
        self._task, self._logits = digest(task), logits
        if self.path.exists():
            results, x_adv = self._read(task, tolerance, x)
        self._write(results, x_adv, x)
        return results, x_adv

    def save(
        self, results: list[AttackResult], x_adv: np.ndarray, x: np.ndarray
    ) -> None:
        """Writes the file atomically, if this process still owns it."""
        if self.path is None:
            return
        if self._is_mine():
            self._write(results, x_adv, x)
        else:
            LOGGER.warning(
                "Another evaluation has taken `state_path=%s`. This one goes "
                "on, and no longer saves its results there.",
                self.path,
            )
            self.path = None

    def _is_mine(self):
        try:
            with open(self.path, "rb") as file, np.load(file) as content:
                return str(content["owner"]) == self._owner
        except FileNotFoundError:
            return True
        except Exception:  # The path now holds something else.
            return False

    def _read(self, wanted, tolerance, x):
        try:
            with open(self.path, "rb") as file, np.load(file) as arrays:
                content = {name: arrays[name] for name in arrays.files}
            task, logits = str(content["task"]), content["logits"]
            # The second is what files of earlier code have.
            known = task == self._task or task == digest(
                wanted, with_names=True
            )
            if known:
                results = [
                    AttackResult(
                        **values,
                        robust=content[f"robust_{k}"],
                        individual=content.get(f"individual_{k}"),
                        perturbations=content.get(f"perturbations_{k}"),
                    )
                    for k, values in enumerate(
                        json.loads(str(content["results"]))
                    )
                ]
                x_adv = x.copy()
                x_adv[content["rows"]] = content["x_adv"]
        except Exception as error:  # A damaged file can fail in many ways.
            raise ValueError(
                "Argument `state_path` must be a file that an evaluation "
                "wrote, or not exist yet. If it is damaged, delete it. "
                f"Received: state_path={str(self.path)!r} "
                f"({type(error).__name__}: {error})"
            ) from error
        if not known or not same_logits(logits, self._logits, tolerance):
            raise ValueError(
                "Argument `state_path` belongs to another evaluation: the "
                "model, its weights or its logits, the data, the attacks or "
                "the seed differ, or the file is of a version of keras_adaad "
                "with other results. Delete the file, or choose another path. "
                f"Received: state_path={str(self.path)!r}"
            )
        return results, x_adv

    def _write(self, results, x_adv, x):
        axes = tuple(range(1, x.ndim))
        rows = np.flatnonzero((x_adv != x).any(axes))
        content = {
            "owner": self._owner,
            "task": self._task,
            "logits": self._logits,
            "rows": rows,
            "x_adv": x_adv[rows],
        }
        saved = []
        for k, result in enumerate(results):
            values = dict(vars(result))
            content[f"robust_{k}"] = values.pop("robust")
            for name in ("individual", "perturbations"):
                array = values.pop(name)
                if array is not None:
                    content[f"{name}_{k}"] = array
            saved.append(values)
        content["results"] = json.dumps(saved)

        def write(part):
            with open(part, "wb") as file:
                np.savez(file, **content)

        write_atomically(self.path, write)
