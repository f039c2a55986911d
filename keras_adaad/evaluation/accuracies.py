"""The numbers that follow from the verdicts of a report."""

from typing import Any

import numpy as np

from keras_adaad.evaluation import perturbations
from keras_adaad.evaluation import rows
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.statistics import wilson_interval
from keras_adaad.evaluation.threat_model import ThreatModel


class Accuracies:
    """The numbers of a `RobustnessReport`, computed from its fields."""

    labels: np.ndarray
    clean: np.ndarray
    results: list[AttackResult]
    threat_model: ThreatModel
    flags: dict[str, str]
    class_names: list[str] | None
    checked: bool

    @property
    def robust(self) -> np.ndarray:
        """Booleans of shape `(num_images,)`: no attack fooled the model."""
        return np.logical_and.reduce(
            [self.clean, *(result.robust for result in self.results)]
        )

    @property
    def clean_accuracy(self) -> float:
        """Accuracy on the clean images."""
        return float(self.clean.mean())

    @property
    def robust_accuracy(self) -> float:
        """Accuracy in the worst case over all attacks: an upper bound."""
        return float(self.robust.mean())

    @property
    def attacks_accuracy(self) -> float:
        """Accuracy in the worst case over the attacks of the evaluation.

        It leaves out the images of `with_adversarial`. If there are some,
        `robust_accuracy` is the best known accuracy.
        """
        own = [result.robust for result in self.results if not result.external]
        return float(np.logical_and.reduce([self.clean, *own]).mean())

    @property
    def sources(self) -> list[str]:
        """Names of the sources that `with_adversarial` added."""
        return [result.name for result in self.results if result.external]

    @property
    def complete(self) -> bool:
        """Whether every attack finished within the time budget."""
        return all(result.complete for result in self.results)

    @property
    def reliable(self) -> bool:
        """Whether attacks and checks ran to their end, and flagged nothing."""
        return (
            bool(self.results)
            and self.complete
            and self.checked
            and not self.flags
        )

    @property
    def smallest_perturbations(self) -> np.ndarray:
        """Floats of shape `(num_images,)`: sizes of adversarial perturbations.

        For each image, the smallest that any attack found: 0 if the model
        misclassifies the clean image, infinite if none was found. It is an
        upper bound.
        """
        return perturbations.smallest(
            self.clean, self.results, self.threat_model.epsilon
        )

    @property
    def median_perturbation(self) -> float | None:
        """Median over the images of the smallest perturbation: an upper bound.

        Perturbations of this size fool the model on half of the images.

        Only minimum-norm attacks (`FMN` and `FAB`) look for small
        perturbations. `None` if none of them ran on every image that is
        correct when clean. An image counts as infinite if they found no
        perturbation, or if another attack found a smaller one. The median is
        infinite unless more than half of the sizes are finite.
        """
        if not perturbations.of_minimum_norm(self.clean, self.results):
            return None
        return float(np.median(self._searched_perturbations))

    @property
    def _searched_perturbations(self):
        return perturbations.searched(
            self.clean, self.results, self.threat_model.epsilon
        )

    def stages(self) -> list[tuple[str, np.ndarray]]:
        """Lists the columns of tables and plots.

        Returns:
            A list of pairs `(name, robust)`: the name of an attack or of a
            group, and which images are correct after it and all before it. If
            the time budget stopped it, the name is `"incomplete: "` followed by
            its attacks.
        """
        return [
            (rows.name(group), group[-1].robust) for group in rows.groups(self)
        ]

    def accuracy(self, name: str) -> float:
        """Computes the accuracy after an attack and all before it.

        Args:
            name: Name of an attack or a group that is complete, or
                `"clean"`. If several attacks have the name, the last counts.

        Returns:
            A fraction.

        Raises:
            ValueError: If no complete attack and no complete group has that
                name.
        """
        return float(self._after(name).mean())

    def confidence_interval(
        self, name: str | None = None, confidence: float = 0.95
    ) -> tuple[float, float]:
        """Computes the Wilson interval of an accuracy.

        It covers only the sampling of the images, not what a stronger attack
        would find.

        Args:
            name: As for `accuracy`, or `None` for the worst case over all
                attacks. Defaults to `None`.
            confidence: Confidence level. Defaults to `0.95`.

        Returns:
            The pair `(low, high)`, fractions.
        """
        flags = self.robust if name is None else self._after(name)
        return _interval(flags, confidence)

    def per_class(self) -> list[dict[str, Any]]:
        """Computes the accuracies of each class that has images.

        Returns:
            A list of dictionaries with the keys `"class"`, `"name"`, `"n"`,
            `"clean"`, `"clean_interval"`, `"robust"` and `"robust_interval"`.
        """
        rows = []
        for label in np.unique(self.labels):
            chosen = self.labels == label
            clean, robust = self.clean[chosen], self.robust[chosen]
            rows.append(
                {
                    "class": int(label),
                    "name": self.class_name(label),
                    "n": int(chosen.sum()),
                    "clean": float(clean.mean()),
                    "clean_interval": _interval(clean),
                    "robust": float(robust.mean()),
                    "robust_interval": _interval(robust),
                }
            )
        return rows

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or its number if it has none."""
        return str(self.class_names[label] if self.class_names else label)

    def _after(self, name):
        flags = {"clean": self.clean}
        for result in self.results:
            if result.complete:
                flags[result.name] = result.robust
        flags.update(self.stages())
        if name not in flags:
            raise ValueError(
                "Argument `name` must be a complete attack, or a group whose "
                f"attacks are all complete: {', '.join(map(repr, flags))}. "
                f"Received: name={name!r}"
            )
        return flags[name]


def _interval(flags, confidence=0.95):
    return wilson_interval(int(flags.sum()), len(flags), confidence)
