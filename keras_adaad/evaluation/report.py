"""The report of a robustness evaluation."""

import dataclasses
from typing import Any
from typing import Self

import keras
import numpy as np

from keras_adaad._typing import ArrayLike
from keras_adaad._typing import Figure
from keras_adaad._typing import Logits
from keras_adaad._typing import PathLike
from keras_adaad.evaluation import comparison
from keras_adaad.evaluation import external
from keras_adaad.evaluation import fields
from keras_adaad.evaluation import plots
from keras_adaad.evaluation import storage
from keras_adaad.evaluation import text
from keras_adaad.evaluation.accuracies import Accuracies
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.pages import report_page
from keras_adaad.evaluation.threat_model import ThreatModel


@dataclasses.dataclass(eq=False, repr=False)
class RobustnessReport(Accuracies):
    """The results of a robustness evaluation, image by image.

    `print(report)` shows them. An accuracy is a fraction of all images: an
    image counts if it is classified correctly when clean and after every attack
    up to that point.

    Args:
        model_name: Name of the model.
        labels: Integers of shape `(num_images,)`.
        indices: Integers of the same shape: indices of the images in the
            user's arrays.
        clean: Booleans of the same shape: correct on the clean image.
        results: List of `AttackResult`, in the order of the attacks.
        threat_model: The `keras_adaad.evaluation.ThreatModel`: epsilon, norm
            and input range.
        seed: Seed of the evaluation.
        batch_size: Number of images per batch.
        num_classes: Number of classes.
        max_perturbation: Largest perturbation found, measured in the norm.
        flags: Dictionary from a name to a message, the reasons to doubt the
            result.
        environment: Dictionary of strings: backend, device, versions, date.
        seconds: Time of the whole evaluation.
        curve: Accuracy over epsilon, as `{"attack": name, "epsilons": list,
            "accuracy": list of fractions, "num_images": int}`, or `None`.
        class_names: List of names, or `None` to number the classes.
        images: Arrays `"clean"`, `"adversarial"`, `"clean_probabilities"` and
            `"adversarial_probabilities"`, or `None`. `"path_positions"` has
            the positions of a few fooled images, and `"path_probabilities"`
            the model's probabilities at 11 points from the clean image to the
            adversarial one, both included. Images are not saved by `save`.
        checked: Whether all reliability checks were run. If not, the absence
            of flags means nothing. Defaults to `False`.
        image_means: Floats of shape `(num_images,)`: the mean of each clean
            image, in units of the input range, or `None`. `compare` tells
            from them whether two reports are on the same images.

    Raises:
        ValueError: If there is no image, an array has the wrong length, or a
            value has the wrong type.

    Example:

    ```python
    print(report)
    report.save("student.json")
    report = RobustnessReport.load("student.json")
    print(report.compare(RobustnessReport.load("teacher.json")))
    ```
    """

    model_name: str
    labels: np.ndarray
    indices: np.ndarray
    clean: np.ndarray
    results: list[AttackResult]
    threat_model: ThreatModel
    seed: int
    batch_size: int
    num_classes: int
    max_perturbation: float
    flags: dict[str, str]
    environment: dict[str, str]
    seconds: float
    curve: dict[str, Any] | None = None
    class_names: list[str] | None = None
    images: dict[str, np.ndarray] | None = None
    checked: bool = False
    image_means: np.ndarray | None = None

    def __post_init__(self) -> None:
        arrays = ["labels", "indices", "clean", "results", "images"]
        arrays += ["image_means", "threat_model"]
        fields.make_plain(self, except_for=arrays)
        fields.check(
            self,
            model_name="a string",
            threat_model="a `ThreatModel`",
            seed="an integer",
            batch_size="an integer",
            num_classes="an integer",
            max_perturbation="a finite number",
            flags="a dictionary of strings",
            environment="a dictionary of strings",
            seconds="a finite number",
            curve="a curve, a dictionary of lists of one length, or `None`",
            class_names="a list of strings or `None`",
            checked="a bool",
        )
        self.labels = fields.integers("labels", self.labels)
        self.indices = fields.integers("indices", self.indices)
        self.clean = np.asarray(self.clean, bool)
        if self.image_means is not None:
            self.image_means = fields.numbers("image_means", self.image_means)
        fields.check_shapes(self)
        fields.check_classes(self)

    def __repr__(self) -> str:
        name, flags = type(self).__name__, ", ".join(self.flags) or "none"
        return (
            f"<{name} of {self.model_name!r} on {len(self.labels)} images, "
            f"{self.threat_model}: clean {100 * self.clean_accuracy:.2f} %, "
            f"robust {100 * self.robust_accuracy:.2f} %, flags: {flags}>"
        )

    def __str__(self) -> str:
        return text.render(self)

    def to_dict(self) -> dict[str, Any]:
        """Returns all but `images` as a dictionary that JSON can hold."""
        return storage.pack_report(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restores a report from `to_dict`, without its images.

        Raises:
            ValueError: If the dictionary has another format.
        """
        return storage.unpack_report(values, cls)

    def save(self, path: PathLike) -> None:
        """Writes the report to a JSON file atomically.

        Args:
            path: Where to write, e.g. `"student.json"`.
        """
        storage.write(self.to_dict(), path)

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Reads a report that `save` wrote, without its images.

        Args:
            path: The JSON file.

        Raises:
            ValueError: If the file is not such a report.
        """
        return storage.read(path, cls)

    def save_html(self, path: PathLike) -> None:
        """Writes the report as a page: one file that needs no network.

        It has the accuracies with their intervals, the flags, the accuracy
        over epsilon and of each class, all settings and versions, and
        examples of fooled images. A report that `load` read has no images.
        Needs Jinja2.

        Args:
            path: Where to write, e.g. `"student.html"`.

        Raises:
            ImportError: If Jinja2 is not installed.

        Example:

        ```python
        report.save_html("student.html")
        ```
        """
        report_page.save(self, path)

    def _repr_html_(self) -> str | None:
        return report_page.short(self)

    def compare(self, other: Self) -> comparison.Comparison:
        """Compares two models on the same images, image by image.

        Args:
            other: Report of the other model.

        Returns:
            A `Comparison`, which can be printed.

        Raises:
            ValueError: If the images or the threat models differ.
        """
        return comparison.compare(self, other)

    def with_adversarial(
        self,
        model: keras.Model | Logits,
        x: ArrayLike,
        x_adv: ArrayLike,
        *,
        source: str,
    ) -> Self:
        """Returns a report that counts adversarial images from elsewhere.

        They may be from another library, or from an attack written for this
        model. Those inside the ball and the input range are classified. Where
        one fools the model, the robust accuracy falls. It is then the best
        known accuracy. A flag says how many images do not count. The accuracy
        of AutoAttack stays beside the best known, as in RobustBench:
        `report.accuracy("AutoAttack (standard)")`, or `attacks_accuracy` for
        all attacks of the evaluation. The curve stays as it was measured.

        Args:
            model: The model of the report.
            x: The clean images that were attacked, of shape
                `(num_images, ...)`: `x[report.indices]` of what
                `evaluate_robustness` got.
            x_adv: An image for each of them, in the same order. Where there is
                no adversarial image, the clean one.
            source: Where the images are from: their name in the report.

        Returns:
            A new `RobustnessReport`. This one does not change.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If the model or the images are not those of the report,
                if no image is inside the ball and the range, or if the report
                has the name `source` already. A report from a file only knows
                the mean of each image, and whether the model is correct on it.
                Other images and models that agree with it there are not
                detected.

        Example:

        ```python
        x_adv = other_library.attack(model, x_test, y_test)
        best = report.with_adversarial(
            model, x_test, x_adv, source="another library"
        )
        print(best.robust_accuracy, best.attacks_accuracy)
        ```
        """
        return external.with_adversarial(self, model, x, x_adv, source)

    def plot(self, path: PathLike | None = None) -> Figure:
        """Draws the accuracies, and the accuracy over epsilon if measured.

        Args:
            path: Where to save the picture, or `None`. Defaults to `None`.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return plots.plot_accuracy(self, path)

    def plot_examples(
        self, path: PathLike | None = None, num_images: int = 6
    ) -> Figure:
        """Draws images on which an attack fooled the model.

        The first of each class is drawn, then the second of each, in the
        order of `indices`. They are not hand-picked.

        Args:
            path: Where to save the picture, or `None`. Defaults to `None`.
            num_images: Largest number of images. Defaults to `6`.

        Returns:
            A `matplotlib.figure.Figure` with three rows: clean, adversarial,
            and the perturbation magnified.

        Raises:
            ValueError: If the report has no images, or if none was fooled.
        """
        return plots.plot_examples(self, path, num_images)
