"""The report of `rank_teachers`."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any
from typing import Self

import numpy as np

from keras_adaad._typing import Figure
from keras_adaad._typing import PathLike
from keras_adaad.evaluation import storage
from keras_adaad.evaluation.fields import plain
from keras_adaad.evaluation.statistics import wilson_interval
from keras_adaad.evaluation.threat_model import ThreatModel
from keras_adaad.teachers import bootstrap
from keras_adaad.teachers import plots
from keras_adaad.teachers import text
from keras_adaad.teachers.result import TeacherResult

FORMAT = "keras_adaad.TeacherRanking.1"


@dataclasses.dataclass(eq=False, repr=False)
class TeacherRanking:
    """Teachers ranked by how well they suit one student.

    `print(ranking)` shows them. The share of transferable samples decides the
    order, and the mean entropy decides between equal shares. The intervals are
    95 % intervals: Wilson's for a share, and for a radius a bootstrap over
    2,000 resamples of the images.

    Args:
        results: List of `TeacherResult`s, in any order. The attribute has the
            best teacher first.
        student_name: Name of the student.
        threat_model: The `keras_adaad.evaluation.ThreatModel` of the attack.
        epsilons: List of the radii at which the accuracy was measured.
        passes: Dict from the names of methods to the forward passes of the
            teacher for an image in a training step. A gradient counts as one.
        num_classes: Number of classes.
        has_labels: Whether the images had labels. Without labels, there are no
            accuracies.
        warmup: Number of training steps of the student.
        batch_size: Number of images in a training step.
        seed: Seed of the ranking.
        environment: Dictionary of strings: backend, device, versions, date.
        seconds: Time of the whole call.

    Raises:
        ValueError: If there are fewer than two results, or if they are not of
            the same images and radii.

    Example:

    ```python
    print(ranking.best, ranking.certainty)
    for row in ranking.rows():
        print(row["name"], row["transferable"], row["transferable_interval"])
    ranking.save("ranking.json")
    ```
    """

    results: list[TeacherResult]
    student_name: str
    threat_model: ThreatModel
    epsilons: list[float]
    passes: dict[str, int]
    num_classes: int
    has_labels: bool
    warmup: int
    batch_size: int
    seed: int
    environment: dict[str, str]
    seconds: float

    def __post_init__(self) -> None:
        lengths = {len(result.clean) for result in self.results}
        if len(self.results) < 2 or len(lengths) != 1:
            raise ValueError(
                "Argument `results` must be of at least two teachers on the "
                f"same images. Received: {len(self.results)} teachers, on "
                f"{sorted(lengths)} images"
            )
        (order,) = bootstrap.orders(*self._means(np.ones((1, *lengths))))
        self.results = [self.results[place] for place in order]

    @property
    def num_images(self) -> int:
        """Number of images that were measured."""
        return len(self.results[0].clean)

    @property
    def best(self) -> str:
        """Name of the first teacher."""
        return self.results[0].name

    @property
    def first_shares(self) -> dict[str, float]:
        """Share of the resamples in which each teacher is first, by name.

        Where two share the first place, neither is first.
        """
        orders, decided = self._resampled
        return {
            result.name: float((decided[:, 0] & (orders[:, 0] == place)).mean())
            for place, result in enumerate(self.results)
        }

    @property
    def order_share(self) -> float:
        """The share of the resamples in which the whole order is the same.

        A resample in which two teachers have equal shares counts as a different
        order.
        """
        orders, decided = self._resampled
        same = orders == np.arange(len(self.results))
        return float((same.all(-1) & decided.all(-1)).mean())

    @property
    def certainty(self) -> str:
        """How sure the order is, in words."""
        return text.certainty(self)

    @property
    def flags(self) -> dict[str, str]:
        """Reasons against teachers, by name."""
        found = {
            result.name: text.flags(self, result, self._row(result))
            for result in self.results
        }
        return {name: reasons for name, reasons in found.items() if reasons}

    def rows(self) -> list[dict[str, Any]]:
        """Computes what the table shows, the best teacher first.

        Returns:
            A list of dictionaries with the keys `"name"`, `"parameters"`,
            `"transferable"` (the share) and `"transferable_interval"`,
            `"entropy"` (the mean, in nats), `"clean_accuracy"`,
            `"robust_accuracy"` (under PGD-20 at the attack's epsilon),
            `"accuracy"` (at radius 0 and at each of `epsilons`),
            `"search_radius"` and `"search_radius_interval"`, and `"seconds"`
            of a training step, a dictionary by method. Accuracies are
            fractions, and `None` without labels.

            The search radius is the largest at which the accuracy of the
            teacher, under PGD-20 on itself, is still half of its clean
            accuracy. Between two measured radii it is interpolated. If the
            attack of the training searches further than this radius, the
            student of `AdaAD`, `AdaIAD` or `SAAD` learns the teacher's
            mistakes.
        """
        return [self._row(result) for result in self.results]

    def __repr__(self) -> str:
        order = ", ".join(result.name for result in self.results)
        return (
            f"<{type(self).__name__} for {self.student_name!r} on "
            f"{self.num_images} images: {order}>"
        )

    def __str__(self) -> str:
        return text.render(self)

    def plot(self, path: PathLike | None = None) -> Figure:
        """Draws the transferable shares, and the accuracies over epsilon.

        Args:
            path: Where to save the picture, or `None`. Defaults to `None`.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return plots.plot_ranking(self, path)

    def to_dict(self) -> dict[str, Any]:
        """Returns the ranking as a dictionary that JSON can hold."""
        names = [field.name for field in dataclasses.fields(self)]
        values = {name: getattr(self, name) for name in names}
        values["results"] = [result.to_dict() for result in self.results]
        values["threat_model"] = dataclasses.asdict(self.threat_model)
        return {
            "format": FORMAT,
            # For human readers only.
            "order": [result.name for result in self.results],
            **plain(values),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores a ranking from `to_dict`.

        Raises:
            ValueError: If the dictionary has another format.
        """
        try:
            values = dict(values)
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            del values["order"]
            values["threat_model"] = ThreatModel(**values["threat_model"])
            values["results"] = [
                TeacherResult.from_dict(result) for result in values["results"]
            ]
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "Argument `values` must be what `TeacherRanking.to_dict` "
                f'returns, of the format "{FORMAT}". Received something else: '
                f"{type(error).__name__}: {error}"
            ) from error

    def save(self, path: PathLike) -> None:
        """Writes the ranking to a JSON file atomically.

        Args:
            path: Where to write, e.g. `"ranking.json"`.
        """
        storage.write(self.to_dict(), path)

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Reads a ranking that `save` wrote.

        Args:
            path: The JSON file.

        Raises:
            ValueError: If the file is not such a ranking.
        """
        return storage.read(path, cls)

    @functools.cached_property
    def _weights(self):
        return bootstrap.weights(self.num_images)

    @functools.cached_property
    def _resampled(self):
        """The order in each resample, and which places the shares decide."""
        transfers, entropy = self._means(self._weights)
        orders = bootstrap.orders(transfers, entropy)
        return orders, bootstrap.decided(transfers, orders)

    def _means(self, weights):
        """Returns shares and entropies, each of shape `(rows, teachers)`."""
        weights = weights / weights.sum(-1, keepdims=True)
        values = ("transfers", "entropy")
        return [
            weights @ np.stack([getattr(r, name) for r in self.results], -1)
            for name in values
        ]

    def _row(self, result):
        robust = result.robust(len(self.epsilons))
        accuracy = robust.mean(-1)
        at_epsilon = 1 + self.epsilons.index(self.threat_model.epsilon)
        radii = [0.0, *self.epsilons]
        resampled = self._weights @ robust.T
        known = self.has_labels
        return {
            "name": result.name,
            "parameters": result.parameters,
            "transferable": float(result.transfers.mean()),
            "transferable_interval": wilson_interval(
                int(result.transfers.sum()), self.num_images
            ),
            "entropy": float(result.entropy.mean()),
            "clean_accuracy": float(accuracy[0]) if known else None,
            "robust_accuracy": float(accuracy[at_epsilon]) if known else None,
            "accuracy": accuracy.tolist() if known else None,
            "search_radius": float(search_radius(accuracy, radii)),
            "search_radius_interval": bootstrap.interval(
                search_radius(resampled, radii)
            ),
            "seconds": result.seconds,
        }


def search_radius(accuracy, radii):
    """Returns where an accuracy falls below half of its first value.

    Args:
        accuracy: Array of shape `(..., radii)` that does not rise along its
            last axis.
        radii: List of the radii, from 0.
    """
    accuracy, radii = np.asarray(accuracy), np.asarray(radii)
    half = accuracy[..., 0] / 2
    below = accuracy < half[..., None]
    after = np.maximum(below.argmax(-1), 1)
    left, right = (
        np.take_along_axis(accuracy, place[..., None], -1)[..., 0]
        for place in (after - 1, after)
    )
    fall = np.where(left > right, left - right, 1.0)
    inside = radii[after] - radii[after - 1]
    crossing = radii[after - 1] + inside * (left - half) / fall
    reached = np.where(below.any(-1), crossing, radii[-1])
    return np.where(accuracy[..., 0] > 0.0, reached, 0.0)
