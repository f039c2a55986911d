"""Reads the JSONs of the runs and the numbers in them."""

import json

import numpy as np

from keras_adaad import RobustnessReport
from keras_adaad.evaluation.statistics import wilson_interval

OURS = "AdaAD"


def load(study, folder, regime=""):
    """Returns the runs of a regime's arms and of their teachers, by seed."""
    shown = [arm for arm in study.arms if arm.regime in ("", regime)]
    teachers = [arm.teacher for arm in shown]
    runs = {}
    for arm in study.arms:
        if arm in shown or (arm.name, arm.regime) in teachers:
            found = {
                seed: json.loads(path.read_text())
                for seed, path in arm.runs_in(folder).items()
            }
            if found:
                runs[arm.name] = found
    return runs


def outcomes(study, result):
    """Returns which images are correct, by column of the table."""
    short = RobustnessReport.from_dict(result["reports"]["short"])
    whole = report_of(result)
    alone = [attack.individual for attack in short.results]
    flags = (short.clean, *alone, whole.robust)
    return dict(zip(study.columns, flags, strict=True))


def report_of(result, epoch="last"):
    """Returns the report of AutoAttack on the last or on the best epoch."""
    report = result["reports"]["autoattack"]
    if epoch == "best":
        report = result.get("best", report)
    return RobustnessReport.from_dict(report)


def cell(shares):
    percent = 100 * np.array(shares)
    text = f"{percent.mean():.1f}"
    return text if len(shares) == 1 else f"{text} ± {percent.std(ddof=1):.1f}"


def interval(flags):
    """Returns the 95 % interval of the mean over images, in percent."""
    values = 100 * np.mean(flags, axis=0)
    if not np.ptp(values):
        # All images alike: a standard deviation would be zero.
        count = len(values)
        right = round(values[0] / 100 * count)
        return tuple(100 * end for end in wilson_interval(right, count))
    margin = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return max(0.0, values.mean() - margin), values.mean() + margin
