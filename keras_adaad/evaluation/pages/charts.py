"""The numbers of a report, as the templates draw them."""

import dataclasses

import numpy as np

from keras_adaad.evaluation.curve import sampled
from keras_adaad.evaluation.rows import rows_of
from keras_adaad.evaluation.rows import titled
from keras_adaad.evaluation.same_task import attacks_of
from keras_adaad.evaluation.statistics import wilson_interval


@dataclasses.dataclass(frozen=True)
class Share:
    """An accuracy and its 95 % interval, in percent."""

    percent: float
    low: float
    high: float
    digits: int

    @classmethod
    def of(cls, right, num_images, digits=None):
        """Returns the share of `right` among `num_images`."""
        if digits is None:
            # A single image must be visible in the number.
            digits = 1 if num_images <= 1000 else 2
        interval = wilson_interval(right, num_images)
        low, high = (100 * bound for bound in interval)
        return cls(100 * right / num_images, low, high, digits)

    def __str__(self):
        return f"{self.percent:.{self.digits}f}"

    @property
    def interval(self):
        """The interval in words."""
        low, high = (f"{x:.{self.digits}f}" for x in (self.low, self.high))
        return f"{low} to {high}"


def share(flags):
    """Returns the `Share` of the images with the flag."""
    return Share.of(int(flags.sum()), len(flags))


def attack_rows(report):
    """Returns the bars of the waterfall, a group before its attacks."""
    return [
        {
            "name": row.title,
            "part": row.part,
            "attacked": row.attacked,
            "after": share(row.robust),
            "lost": share(row.before).percent - share(row.robust).percent,
            "fooled": int(row.before.sum() - row.robust.sum()),
            "alone": None if row.individual is None else share(row.individual),
            "seconds": row.seconds,
        }
        for row in rows_of(report)
    ]


def class_rows(report):
    """Returns the bars of the classes, the least robust first."""
    digits = share(report.clean).digits
    rows = []
    for label in np.unique(report.labels):
        chosen = report.labels == label
        clean, robust = (
            Share.of(int(flags[chosen].sum()), int(chosen.sum()), digits)
            for flags in (report.clean, report.robust)
        )
        rows.append(
            {
                "label": int(label),
                "name": report.class_name(label),
                "n": int(chosen.sum()),
                "clean": clean,
                "robust": robust,
                "lost": clean.percent - robust.percent,
            }
        )
    return sorted(rows, key=lambda row: row["robust"].percent)


def model_rows(reports):
    """Returns a bar for each model, with its clean and robust accuracy."""
    rows = []
    for name, report in reports.items():
        clean, robust = share(report.clean), share(report.robust)
        lost = clean.percent - robust.percent
        rows.append(
            {"name": name, "clean": clean, "robust": robust, "lost": lost}
        )
    return rows


def attack_table(reports):
    """Returns the names of the attacks, and a row of shares for each model.

    If the attacks differ, it returns `None`.
    """
    first, *others = reports.values()
    if any(attacks_of(other) != attacks_of(first) for other in others):
        return None
    rows = {
        model: [share(robust) for _, robust in titled(report)]
        for model, report in reports.items()
    }
    return {"names": [name for name, _ in titled(first)], "rows": rows}


def class_table(reports):
    """Returns a row for each class, with the robust accuracy of each model.

    The first model's least robust class comes first.
    """
    columns = [
        {row["label"]: row for row in class_rows(report)}
        for report in reports.values()
    ]
    lowests = [
        min(row["robust"].percent for row in column.values())
        for column in columns
    ]
    return [
        {
            "name": row["name"],
            "n": row["n"],
            "shares": [column[label]["robust"] for column in columns],
            "worst": [
                column[label]["robust"].percent == lowest
                for column, lowest in zip(columns, lowests, strict=True)
            ],
        }
        for label, row in columns[0].items()
    ]


def curve_chart(reports):
    """Returns the lines of the accuracy over epsilon, or `None`.

    `reports` is a dictionary from the name of a line to a report.
    """
    lines = {
        name: _points(report)
        for name, report in reports.items()
        if report.curve is not None
    }
    if not lines:
        return None
    curves = [r.curve for r in reports.values() if r.curve is not None]
    measured_by = [f"{c['attack']} on {c['num_images']} images" for c in curves]
    epsilon = next(iter(reports.values())).threat_model.epsilon
    measured = {point["epsilon"] for line in lines.values() for point in line}
    # Half the range, where the accuracy must be 0, would take all the width.
    near = [e for e in measured if e <= 4.001 * epsilon]
    end = max(near) if len(near) > 2 else max(measured)
    end = end or 1.0
    for line in lines.values():
        for point in line:
            point["x"] = 100 * point["epsilon"] / end
    return {
        "measured_by": ", ".join(dict.fromkeys(measured_by)),
        "lines": lines,
        "drawn": {
            name: [point for point in line if point["x"] <= 100]
            for name, line in lines.items()
        },
        "epsilon": 100 * epsilon / end,
        "ticks": [(25 * i, f"{0.25 * i * end:.3g}") for i in range(5)],
        "all_drawn": end == max(measured),
    }


def _points(report):
    curve, points = report.curve, {}
    num_images = curve["num_images"]
    rows = sampled(np.arange(len(report.clean)), num_images)
    points[0.0] = share(report.clean[rows])
    for epsilon, accuracy in zip(
        curve["epsilons"], curve["accuracy"], strict=True
    ):
        points[epsilon] = Share.of(round(accuracy * num_images), num_images)
    return [
        {"epsilon": epsilon, "share": points[epsilon]}
        for epsilon in sorted(points)
    ]
