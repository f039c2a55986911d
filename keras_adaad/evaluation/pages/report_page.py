"""The page of a report, and its short form for notebooks."""

from keras_adaad.evaluation import text
from keras_adaad.evaluation.pages import charts
from keras_adaad.evaluation.pages import explorer
from keras_adaad.evaluation.pages import rendering


def save(report, path):
    """Implements `RobustnessReport.save_html`."""
    reports = {report.model_name: report}
    rendering.save(
        path,
        "report.html",
        **_headline(report),
        classes=charts.class_rows(report),
        curve=charts.curve_chart(reports),
        explorer=explorer.explore(reports),
    )


def short(report):
    """Implements `RobustnessReport._repr_html_`."""
    return rendering.short("report_short.html", **_headline(report))


def _headline(report):
    return {
        "report": report,
        "clean": charts.share(report.clean),
        "robust": charts.share(report.robust),
        "attacks_alone": f"{100 * report.attacks_accuracy:.2f}",
        "worst_case": text.worst_case(report),
        "median": text.median(report),
        "attacks": charts.attack_rows(report),
    }
