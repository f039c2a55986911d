"""What was measured of one teacher, image by image."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import Self

import numpy as np


@dataclasses.dataclass(eq=False)
class TeacherResult:
    """The measurements of one teacher, image by image.

    Args:
        name: Name of the teacher.
        parameters: Number of its parameters.
        moved: Booleans of shape `(num_images,)`: whether the attack on the
            teacher itself changed its outputs.
        transfers: Booleans of the same shape: which samples are transferable.
        entropy: Floats of the same shape: the entropy of the teacher on the
            student's adversarial image, in nats.
        clean: Booleans of the same shape: correct on the clean image. Without
            labels, the teacher's own class counts as correct.
        survived: Integers of the same shape: at how many of the radii of
            `TeacherRanking.epsilons` the teacher is still correct.
        seconds: Dict from the names of methods to the seconds of a training
            step.
    """

    name: str
    parameters: int
    moved: np.ndarray
    transfers: np.ndarray
    entropy: np.ndarray
    clean: np.ndarray
    survived: np.ndarray
    seconds: dict[str, float]

    def __post_init__(self) -> None:
        self.moved = np.asarray(self.moved, bool)
        self.transfers = np.asarray(self.transfers, bool)
        self.entropy = np.asarray(self.entropy, "float64")
        self.clean = np.asarray(self.clean, bool)
        self.survived = np.asarray(self.survived, "int64")
        arrays = [self.moved, self.transfers, self.entropy]
        arrays += [self.clean, self.survived]
        if len({array.shape for array in arrays}) != 1 or self.clean.ndim != 1:
            raise ValueError(
                "Arguments `moved`, `transfers`, `entropy`, `clean` and "
                "`survived` must have one value per image. Received: shapes "
                f"{', '.join(str(array.shape) for array in arrays)}"
            )

    def robust(self, num_radii: int) -> np.ndarray:
        """Returns which images are correct, of shape `(radii, num_images)`.

        The first row is that of the clean images, of radius 0.

        Args:
            num_radii: Number of radii, without 0.
        """
        radii = np.arange(num_radii)[:, None]
        return np.concatenate([self.clean[None], self.survived[None] > radii])

    def to_dict(self) -> dict[str, Any]:
        """Returns the measurements as a dictionary that JSON can hold."""
        values = vars(self)
        return {
            **values,
            "moved": self.moved.astype(int).tolist(),
            "transfers": self.transfers.astype(int).tolist(),
            "entropy": self.entropy.tolist(),
            "clean": self.clean.astype(int).tolist(),
            "survived": self.survived.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores the measurements from `to_dict`."""
        return cls(**values)
