"""A report in plain text, 80 columns wide."""

import textwrap

import numpy as np

from keras_adaad.evaluation.rows import rows_of
from keras_adaad.evaluation.statistics import wilson_interval


def render(report):
    """Returns the text that `print(report)` shows."""
    n = len(report.labels)
    lines = [
        *wrap(f"{report.model_name}: {n} images, {report.threat_model}"),
        "",
        *_row("attack", "images", "accuracy % [95 %]", "alone", "seconds"),
        *_row("clean", n, _percent(report, report.clean)),
    ]
    for row in rows_of(report):
        lines += _attack_row(report, row)
    if report.results:
        lines += _row(worst_case(report), n, _percent(report, report.robust))
        lines += _worst_class_row(report)
    lines += ["", *_remarks(report), "", *wrap(_provenance(report))]
    return "\n".join(lines)


def worst_case(*reports):
    """Returns the name of the accuracy after all attacks."""
    sources = any(report.sources for report in reports)
    return "best known" if sources else "worst case"


def median(report):
    """Returns the median perturbation in words, or `None`."""
    size = report.median_perturbation
    if size is None:
        return None
    return f"{size:.4g}" if np.isfinite(size) else "not found"


def doubts(report):
    """Returns a list of reasons to doubt a report, each a few words."""
    found = []
    if report.flags:
        found.append(f"flagged for {', '.join(report.flags)}")
    if not report.results:
        found.append("not attacked")
    elif not report.complete:
        found.append("not all attacks finished")
    if not report.checked:
        found.append("not all reliability checks were run")
    return found


def doubts_of_all(reports):
    """Returns the lines that name the reports to doubt, by their names."""
    lines = []
    for name, report in reports.items():
        if doubts(report):
            lines += wrap(f"{name}: {'; '.join(doubts(report))}.")
    return lines


def wrap(text, **kwargs):
    """Returns the lines of a paragraph."""
    # Names of attacks and packages are not broken at their hyphens.
    return textwrap.wrap(text, 80, break_on_hyphens=False, **kwargs)


def _attack_row(report, row):
    individual = row.individual
    return _row(
        f"  {row.title}" if row.part else row.title,
        row.attacked,
        _percent(report, row.robust),
        "-" if individual is None else _percent(report, individual, False),
        f"{row.seconds:.1f}",
    )


def _worst_class_row(report):
    worst = min(report.per_class(), key=lambda row: row["robust"])
    robust = report.robust[report.labels == worst["class"]]
    name = f"worst class: {worst['name']}"
    return _row(name, worst["n"], _percent(report, robust))


def _row(name, images="", accuracy="", alone="", seconds=""):
    """Returns the lines of a row of 80 columns; a long name takes several."""
    lines = textwrap.wrap(name, 32, subsequent_indent="    ") or [""]
    lines[0] = f"{lines[0]:<32}{images:>8}{accuracy:>24}{alone:>8}{seconds:>8}"
    return [line.rstrip() for line in lines]


def _percent(report, flags, interval=True):
    # A single image must be visible in the number.
    digits = 1 if len(report.labels) <= 1000 else 2
    text = f"{100 * flags.mean():.{digits}f}"
    if not interval:
        return text
    low, high = wilson_interval(flags.sum(), len(flags))
    return f"{text} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def _remarks(report):
    lines = [f"maximum perturbation {report.max_perturbation:.6g}"]
    if median(report):
        lines += wrap(
            f"median of the smallest perturbations {median(report)}: an upper "
            "bound, at which the model is wrong on half of the images"
        )
    for name, message in report.flags.items():
        lines += wrap(f"FLAG {name}: {message}", subsequent_indent="  ")
    if not report.results:
        lines += ["No attack was run."]
    elif all(r.parameters.get("attack") == "Square" for r in report.results):
        lines += wrap(
            "Only Square was run, which uses no gradient: attacks that use "
            "them may find more. Compare the accuracy with that of the Keras "
            "model under AutoAttack."
        )
    if not report.complete:
        lines += wrap(
            "The time budget ended this run: it is a quick look, not the "
            "full protocol."
        )
    if not report.checked:
        lines += wrap(
            "Not all reliability checks were run. An accuracy that is too "
            "high would not be noticed."
        )
    return lines + wrap(
        "Accuracy is after the attack and all above it; alone, after it "
        "only. Robust accuracy is an upper bound: a stronger attack can "
        "only lower it. The interval covers the sampling of the images "
        "only."
    )


def _provenance(report):
    facts = [f"{name} {value}" for name, value in report.environment.items()]
    facts += [f"seed {report.seed}", f"batch size {report.batch_size}"]
    return ", ".join([*facts, f"{report.seconds:.1f} s"])
