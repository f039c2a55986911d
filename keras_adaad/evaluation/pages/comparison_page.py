"""The page of a comparison of models, and its short form for notebooks."""

from keras_adaad.evaluation import text
from keras_adaad.evaluation.pages import charts
from keras_adaad.evaluation.pages import explorer
from keras_adaad.evaluation.pages import rendering


def save(reports, pairs, path):
    """Writes the page of reports by name, and of the first with each other."""
    rendering.save(
        path,
        "comparison.html",
        **_headline(pairs),
        reports=reports,
        models=charts.model_rows(reports),
        attacks=charts.attack_table(reports),
        classes=charts.class_table(reports),
        curve=charts.curve_chart(reports),
        explorer=explorer.explore(reports),
    )


def short(reports, pairs):
    """Returns the short form, or `None` where Jinja2 is missing."""
    return rendering.short(
        "comparison_short.html",
        **_headline(pairs),
        doubts=text.doubts_of_all(reports),
    )


def _headline(pairs):
    return {
        "task": pairs[0].task,
        "pairs": pairs,
        "same_attacks": all(pair.same_attacks for pair in pairs),
    }
