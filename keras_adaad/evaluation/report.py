"""What an evaluation found: to read, keep, compare and draw."""

import dataclasses
import json
import math
import os
import textwrap
from typing import NamedTuple

import numpy as np

from keras_adaad.evaluation import plots
from keras_adaad.evaluation.statistics import mcnemar
from keras_adaad.evaluation.statistics import wilson_interval

FORMAT = "keras_adaad.RobustnessReport.1"


@dataclasses.dataclass(eq=False)
class AttackResult:
    """What one attack did to the model.

    Args:
        name: Name of the attack, e.g. `"apgd-ce"`.
        group: Name of the protocol that the attack is a part of, e.g.
            `"AutoAttack (standard)"`, or `None`. The group counts as run when
            all results that name it are `complete`: an attack that the time
            budget left out needs a result too, with `complete=False`.
        parameters: Class name and every parameter of the attack. What JSON
            does not know is kept as its name or `repr`.
        attacked: Number of images it was run on.
        seconds: Time it took.
        robust: Booleans of shape `(num_images,)`: still right after this
            attack and all before it.
        individual: Booleans of the same shape: right under this attack alone.
            `None` if it saw only what earlier attacks had left.
        complete: `False` if the time budget stopped it. Defaults to `True`.
    """

    name: str
    group: str | None
    parameters: dict
    attacked: int
    seconds: float
    robust: np.ndarray
    individual: np.ndarray | None
    complete: bool = True

    def __post_init__(self):
        _make_plain(self, except_for=("robust", "individual"))
        self.robust = np.asarray(self.robust, bool)
        if self.individual is not None:
            self.individual = np.asarray(self.individual, bool)


@dataclasses.dataclass(eq=False)
class RobustnessReport:
    """What an evaluation found, image by image. `print` it.

    Accuracies are fractions, over all images, of those that are right when
    clean and after every attack so far.

    Args:
        model_name: Name of the model.
        labels: Integers of shape `(num_images,)`.
        indices: Integers of the same shape: which samples of the user's
            arrays.
        clean: Booleans of the same shape: right on the clean image.
        results: List of `AttackResult`, in the order of the attacks.
        epsilon: Radius of the ball, in the units of the model's input.
        norm: `"linf"` or `"l2"`.
        input_range: Pair `(low, high)` of the values a pixel can have.
        seed: Seed of the evaluation.
        batch_size: Number of images per batch.
        num_classes: Number of classes.
        max_perturbation: Largest perturbation found, measured in the norm.
        flags: Dictionary from a name to a message, the reasons not to believe
            the number.
        environment: Dictionary of strings: backend, device, versions, date.
        seconds: Time of the whole evaluation.
        curve: Accuracy over epsilon, as `{"attack": name, "epsilons": list,
            "accuracy": list of fractions, "num_images": int}`, or `None`.
        class_names: List of names, or `None` to number the classes.
        images: Arrays `"clean"`, `"adversarial"`, `"clean_probabilities"` and
            `"adversarial_probabilities"`, or `None`. They are not saved.

    Raises:
        ValueError: If there is no image, or an array has another length.

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
    epsilon: float
    norm: str
    input_range: tuple
    seed: int
    batch_size: int
    num_classes: int
    max_perturbation: float
    flags: dict
    environment: dict
    seconds: float
    curve: dict | None = None
    class_names: list | None = None
    images: dict | None = None

    def __post_init__(self):
        arrays = ("labels", "indices", "clean", "results", "images")
        _make_plain(self, except_for=arrays)
        self.input_range = tuple(self.input_range)
        self.labels = np.asarray(self.labels, "int64")
        self.indices = np.asarray(self.indices, "int64")
        self.clean = np.asarray(self.clean, bool)
        self._check_shapes()

    def _check_shapes(self):
        arrays = {name: getattr(self, name) for name in ("labels", "indices")}
        for i, result in enumerate(self.results):
            arrays[f"results[{i}].robust"] = result.robust
            if result.individual is not None:
                arrays[f"results[{i}].individual"] = result.individual
        if self.clean.ndim != 1 or len(self.clean) == 0:
            raise ValueError(
                "Argument `clean` must have one value per image, of at least "
                f"one image. Received: shape {self.clean.shape}"
            )
        for name, array in arrays.items():
            if array.shape != self.clean.shape:
                raise ValueError(
                    f"Argument `{name}` must have one value per image, shape "
                    f"{self.clean.shape}. Received: shape {array.shape}"
                )

    @property
    def robust(self):
        """Booleans of shape `(num_images,)`: no attack fooled the model."""
        return np.logical_and.reduce(
            [self.clean, *(result.robust for result in self.results)]
        )

    @property
    def clean_accuracy(self):
        """Accuracy on the clean images."""
        return float(self.clean.mean())

    @property
    def robust_accuracy(self):
        """Accuracy in the worst case over all attacks: an upper bound."""
        return float(self.robust.mean())

    @property
    def complete(self):
        """Whether the time budget let every attack finish."""
        return all(result.complete for result in self.results)

    @property
    def reliable(self):
        """Whether attacks were run, all finished, and nothing was flagged."""
        return bool(self.results) and self.complete and not self.flags

    @property
    def threat_model(self):
        """The ball, in words."""
        epsilon = _epsilon_text(self.epsilon, self.input_range)
        return f"epsilon {epsilon}, {self.norm}"

    def stages(self):
        """Lists what the tables and plots have a column for.

        Returns:
            A list of pairs `(name, robust)`: the name of an attack or of a
            group, and the booleans after it and all before it. What the time
            budget stopped is named `"incomplete: "` and its attacks.
        """
        return [(_title(group), group[-1].robust) for group in self._groups()]

    def accuracy(self, name):
        """Computes the accuracy after an attack and all before it.

        Args:
            name: Name of an attack or of a complete group, or `"clean"`. Of
                several attacks of one name, the last counts.

        Returns:
            A fraction.

        Raises:
            ValueError: If nothing of that name was run to its end.
        """
        return float(self._after(name).mean())

    def confidence_interval(self, name=None, confidence=0.95):
        """Computes the Wilson interval of an accuracy.

        It covers the sampling of the images only, not what a stronger attack
        would find.

        Args:
            name: As for `accuracy`, or `None` for the worst case over all
                attacks. Defaults to `None`.
            confidence: Defaults to `0.95`.

        Returns:
            The pair `(low, high)`, fractions.
        """
        flags = self.robust if name is None else self._after(name)
        return _interval(flags, confidence)

    def per_class(self):
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

    def class_name(self, label):
        """Returns the name of a class, its number if it has none."""
        return str(self.class_names[label] if self.class_names else label)

    def __str__(self):
        n = len(self.labels)
        lines = [
            *_wrap(f"{self.model_name}: {n} images, {self.threat_model}"),
            "",
            *_row("attack", "images", "accuracy % [95 %]", "alone", "seconds"),
            *_row("clean", n, self._percent(self.clean)),
        ]
        for group in self._groups():
            lines += self._group_rows(group)
        if self.results:
            worst = min(self.per_class(), key=lambda row: row["robust"])
            chosen = self.labels == worst["class"]
            lines += _row("worst case", n, self._percent(self.robust))
            lines += _row(
                f"worst class: {worst['name']}",
                worst["n"],
                self._percent(self.robust[chosen]),
            )
        lines += ["", *self._remarks(), "", *_wrap(self._provenance())]
        return "\n".join(lines)

    def to_dict(self):
        """Returns all but `images` as a dictionary that JSON can hold."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "images"
        }
        values["clean"] = _to_bits(self.clean)
        values["results"] = [
            {
                **vars(result),
                "robust": _to_bits(result.robust),
                "individual": _to_bits(result.individual),
            }
            for result in self.results
        ]
        return {
            "format": FORMAT,
            # For whoever reads the file; `from_dict` computes them anew.
            "clean_accuracy": self.clean_accuracy,
            "robust_accuracy": self.robust_accuracy,
            **_plain(values),
        }

    @classmethod
    def from_dict(cls, values):
        """Returns the report that `to_dict` was called on, without images."""
        try:
            values = dict(values)
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            del values["clean_accuracy"], values["robust_accuracy"]
            values["clean"] = _from_bits(values["clean"])
            values["results"] = [
                AttackResult(
                    **{
                        **result,
                        "robust": _from_bits(result["robust"]),
                        "individual": _from_bits(result["individual"]),
                    }
                )
                for result in values["results"]
            ]
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "Argument `values` must be what `RobustnessReport.to_dict` "
                f'returns, of the format "{FORMAT}". Received something else: '
                f"{type(error).__name__}: {error}"
            ) from error

    def save(self, path):
        """Writes the report to a JSON file, all of it or none.

        Args:
            path: Where to write, e.g. `"student.json"`.
        """
        text = json.dumps(self.to_dict(), indent=1)
        temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.remove(temporary)
            raise

    @classmethod
    def load(cls, path):
        """Reads a report that `save` wrote, without its images.

        Args:
            path: The JSON file.

        Raises:
            ValueError: If the file is not such a report.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls.from_dict(json.load(file))
        except ValueError as error:
            raise ValueError(
                "Argument `path` must be a file that `RobustnessReport.save` "
                f"wrote. Save the report again. Received: path={path!r}"
            ) from error

    def compare(self, other):
        """Compares two models on the same images, image by image.

        Args:
            other: Report of the other model.

        Returns:
            A `Comparison`; `print` it.

        Raises:
            ValueError: If the images or the threat models differ.
        """
        _check_same_task("other", self, other)
        return Comparison(
            task=f"{len(self.labels)} images, {self.threat_model}",
            first=self.model_name,
            second=other.model_name,
            clean=_paired(self.clean, other.clean),
            robust=_paired(self.robust, other.robust),
            same_attacks=self.complete and _attacks(self) == _attacks(other),
        )

    def plot(self, path=None):
        """Draws the accuracies, and the accuracy over epsilon if measured.

        Args:
            path: Where to save the picture, or `None`. Defaults to `None`.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        return plots.plot_accuracy(self, path)

    def plot_examples(self, path=None, num_images=6):
        """Draws images that an attack fooled the model on.

        The first of each class is drawn, then the second of each, in the
        order of `indices`: not the best looking ones.

        Args:
            path: Where to save the picture, or `None`. Defaults to `None`.
            num_images: Largest number of images. Defaults to `6`.

        Returns:
            A `matplotlib.figure.Figure` with three rows: clean, adversarial,
            and the perturbation magnified.

        Raises:
            ValueError: If the report has no images, or none was fooled.
        """
        return plots.plot_examples(self, path, num_images)

    def _groups(self):
        groups = {}
        for i, result in enumerate(self.results):
            groups.setdefault(result.group or i, []).append(result)
        return list(groups.values())

    def _after(self, name):
        flags = {"clean": self.clean}
        for result in self.results:
            flags[result.name] = result.robust
        flags.update(self.stages())
        if name not in flags:
            raise ValueError(
                "Argument `name` must be an attack, or a group whose attacks "
                f"are all complete: {', '.join(map(repr, flags))}. "
                f"Received: name={name!r}"
            )
        return flags[name]

    def _group_rows(self, group):
        alone = None
        if all(result.individual is not None for result in group):
            alone = np.logical_and.reduce([r.individual for r in group])
        rows = _row(
            _title(group),
            max(result.attacked for result in group),
            self._percent(group[-1].robust),
            self._percent(alone, interval=False),
            f"{sum(result.seconds for result in group):.1f}",
        )
        if group[0].group:
            for result in group:
                mark = "" if result.complete else " (incomplete)"
                rows += _row(
                    f"  {result.name}{mark}",
                    result.attacked,
                    self._percent(result.robust),
                    self._percent(result.individual, interval=False),
                    f"{result.seconds:.1f}",
                )
        return rows

    def _percent(self, flags, interval=True):
        if flags is None:
            return "-"
        # One image has to show.
        digits = 1 if len(self.labels) <= 1000 else 2
        text = f"{100 * flags.mean():.{digits}f}"
        if not interval:
            return text
        low, high = (100 * bound for bound in _interval(flags))
        return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"

    def _remarks(self):
        lines = [f"maximum perturbation {self.max_perturbation:.6g}"]
        for name, message in self.flags.items():
            lines += _wrap(f"FLAG {name}: {message}", subsequent_indent="  ")
        if not self.results:
            lines += ["No attack was run."]
        if not self.complete:
            lines += _wrap(
                "The time budget ended this run: it is a quick look, not the "
                "full protocol."
            )
        return lines + _wrap(
            "Accuracy is after the attack and all above it; alone, after it "
            "only. Robust accuracy is an upper bound: a stronger attack can "
            "only lower it. The interval covers the sampling of the images "
            "only."
        )

    def _provenance(self):
        facts = [f"{name} {value}" for name, value in self.environment.items()]
        facts += [f"seed {self.seed}", f"batch size {self.batch_size}"]
        return ", ".join([*facts, f"{self.seconds:.1f} s"])


class PairedAccuracy(NamedTuple):
    """Accuracies of two models on the same images, as fractions."""

    first: float
    second: float
    only_first: int
    only_second: int
    p_value: float

    @property
    def difference(self):
        """First minus second, in points."""
        return 100 * (self.first - self.second)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `RobustnessReport.compare` returns.

    Args:
        task: The images and the threat model, in words.
        first: Name of the model whose `compare` was called.
        second: Name of the other model.
        clean: `PairedAccuracy` on the clean images.
        robust: The same in the worst case over all attacks.
        same_attacks: Whether both met the same attacks, to the end.
    """

    task: str
    first: str
    second: str
    clean: PairedAccuracy
    robust: PairedAccuracy
    same_attacks: bool

    def __str__(self):
        row = "{:<12}{:>10}{:>10}{:>10}{:>14}{:>14}{:>10}".format
        lines = [
            *_wrap(f"{self.first} (1) against {self.second} (2): {self.task}"),
            "",
            row("", "1", "2", "points", "only 1 right", "only 2 right", "p"),
        ]
        for name, pair in (("clean", self.clean), ("worst case", self.robust)):
            lines.append(
                row(
                    name,
                    f"{100 * pair.first:.2f}",
                    f"{100 * pair.second:.2f}",
                    f"{pair.difference:+.2f}",
                    pair.only_first,
                    pair.only_second,
                    f"{pair.p_value:.2g}",
                )
            )
        lines += ["", "Accuracy in %. p: exact two-sided McNemar test."]
        if not self.same_attacks:
            lines += _wrap(
                "The attacks differ or were not all completed: the model that "
                "met the weaker ones looks better than it is."
            )
        return "\n".join(lines)


def robustness_table(reports):
    """Formats reports as one table, e.g. of a teacher and its student.

    Args:
        reports: Dictionary from the name of a model to its
            `RobustnessReport`. Of two, the last row is the gap: the first
            minus the second, in points.

    Returns:
        A string.

    Raises:
        ValueError: If the reports differ in the images, the threat model or
            the attacks.

    Example:

    ```python
    print(robustness_table({"teacher": teacher, "student": student}))
    ```
    """
    if not reports:
        raise ValueError(
            "Argument `reports` must have at least one report. "
            f"Received: reports={reports!r}"
        )
    first = next(iter(reports.values()))
    columns = ["clean", *(name for name, _ in first.stages()), "worst case"]
    table = []
    for name, report in reports.items():
        _check_same_task(f"reports[{name!r}]", first, report)
        names = ["clean", *(name for name, _ in report.stages()), "worst case"]
        if names != columns:
            raise ValueError(
                f"Argument `reports[{name!r}]` must have the same attacks as "
                "the first report. Evaluate both with the same attacks, to "
                f"their end. Received: {names[1:-1]} and {columns[1:-1]}"
            )
        flags = [report.clean, *(f for _, f in report.stages()), report.robust]
        table.append(100 * np.mean(flags, axis=1))
    rows = [
        (name, [f"{value:.2f}" for value in values])
        for name, values in zip(reports, table, strict=True)
    ]
    if len(table) == 2:
        rows.append(("gap", [f"{gap:+.2f}" for gap in table[0] - table[1]]))
    return "\n".join(
        [f"accuracy (%), {len(first.labels)} images, {first.threat_model}", ""]
        + _columns(columns, rows)
    )


def _columns(headings, rows):
    """Returns the lines of a table whose long headings are broken."""
    headings = [textwrap.wrap(heading, 10) for heading in headings]
    height = max(map(len, headings))
    headings = [[""] * (height - len(lines)) + lines for lines in headings]
    rows = [("", line) for line in zip(*headings, strict=True)] + rows
    width = max(len(name) for name, _ in rows)
    return [
        f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells)
        for name, cells in rows
    ]


def _title(group):
    if all(result.complete for result in group):
        return group[0].group or group[0].name
    # A part of a protocol must not pass for the protocol.
    return "incomplete: " + ", ".join(result.name for result in group)


def _row(name, images="", accuracy="", alone="", seconds=""):
    """Returns the lines of a row of 80 columns; a long name takes several."""
    lines = textwrap.wrap(name, 32, subsequent_indent="    ") or [""]
    lines[0] = f"{lines[0]:<32}{images:>8}{accuracy:>24}{alone:>8}{seconds:>8}"
    return [line.rstrip() for line in lines]


def _wrap(text, **kwargs):
    # Names of attacks and packages are not broken at their hyphens.
    return textwrap.wrap(text, 80, break_on_hyphens=False, **kwargs)


def _epsilon_text(epsilon, input_range):
    width = input_range[1] - input_range[0]
    steps = 255 * epsilon / width
    if not 0 < round(steps) < 255 or not math.isclose(
        steps, round(steps), rel_tol=1e-5
    ):
        return f"{epsilon:.4g}"
    of_range = "" if width == 1 else " of the range"
    return f"{epsilon:.4g} ({round(steps)}/255{of_range})"


def _interval(flags, confidence=0.95):
    return wilson_interval(int(flags.sum()), len(flags), confidence)


def _paired(first, second):
    return PairedAccuracy(
        float(first.mean()), float(second.mean()), *mcnemar(first, second)
    )


def _attacks(report):
    return [
        (result.name, result.group, result.parameters, result.complete)
        for result in report.results
    ]


def _check_same_task(name, first, second):
    if not (
        np.array_equal(first.labels, second.labels)
        and np.array_equal(first.indices, second.indices)
    ):
        raise ValueError(
            f"Argument `{name}` must be a report on the same images: pairs of "
            "different images cannot be compared. Evaluate both models on the "
            f"same samples. Received: {len(first.labels)} and "
            f"{len(second.labels)} images with different labels or indices"
        )
    if (
        first.norm != second.norm
        or first.input_range != second.input_range
        or not math.isclose(first.epsilon, second.epsilon, rel_tol=1e-6)
    ):
        raise ValueError(
            f"Argument `{name}` must be a report of the same threat model. "
            "Evaluate both models with the same `epsilon`, `norm` and "
            f"`input_range`. Received: {first.threat_model}, "
            f"{first.input_range} and {second.threat_model}, "
            f"{second.input_range}"
        )


def _make_plain(record, except_for):
    """Replaces NumPy numbers and tuples by what JSON gives back."""
    for field in dataclasses.fields(record):
        if field.name not in except_for:
            value = getattr(record, field.name)
            setattr(record, field.name, _plain(value))


def _plain(value):
    return json.loads(json.dumps(value, default=_plain_leaf))


def _plain_leaf(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    return getattr(value, "__qualname__", repr(value))


def _to_bits(flags):
    return None if flags is None else "".join(np.where(flags, "1", "0"))


def _from_bits(bits):
    if bits is None:
        return None
    if not set(bits) <= {"0", "1"}:
        raise ValueError("flags must be strings of 0 and 1")
    return np.array([bit == "1" for bit in bits], bool)
