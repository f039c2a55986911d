"""A ranking of teachers in plain text, 80 columns wide."""

import textwrap

from keras_adaad.evaluation.statistics import wilson_interval
from keras_adaad.evaluation.text import wrap
from keras_adaad.teachers.bootstrap import RESAMPLES

# The largest share of images that the attack on a teacher may leave as it was.
UNMOVED = 0.05


def render(ranking):
    """Returns the text that `print(ranking)` shows."""
    rows = ranking.rows()
    threat_model = ranking.threat_model
    lines = [
        *wrap(
            f"Teachers for {ranking.student_name}: {ranking.num_images} "
            f"images, {threat_model}, warm-up of {ranking.warmup} steps"
        ),
        "",
        *_line(
            *("teacher", "transferable % [95 %]", "entropy"),
            *("clean %", "robust %", "radius"),
        ),
    ]
    for row in rows:
        low, high = row["transferable_interval"]
        share = f"{_percent(row['transferable'])} "
        share += f"[{_percent(low)}, {_percent(high)}]"
        lines += _line(
            row["name"],
            share,
            f"{row['entropy']:.3f}",
            _percent(row["clean_accuracy"]),
            _percent(row["robust_accuracy"]),
            _radius(row["search_radius"], ranking),
        )
    lines += ["", *_cost(ranking, rows), "", *wrap(ranking.certainty)]
    for name, message in ranking.flags.items():
        lines += wrap(f"FLAG {name}: {message}", subsequent_indent="  ")
    lines += ["", *wrap(_explanation()), "", *wrap(_provenance(ranking))]
    return "\n".join(lines)


def certainty(ranking):
    """Returns how sure the order is, in words."""
    shares = ranking.first_shares
    first = shares[ranking.best]
    sentences = [
        f"The {ranking.num_images} images were drawn anew {RESAMPLES:,} times, "
        f"with repetition. {ranking.best} is first in {100 * first:.0f} % of "
        "the draws, and the whole order is the same in "
        f"{100 * ranking.order_share:.0f} %."
    ]
    if first < 0.95:
        others = [
            name
            for name, share in shares.items()
            if share >= 0.05 and name != ranking.best
        ]
        tied = 1.0 - sum(shares.values())
        if tied >= 0.05:
            sentences.append(
                f"In {100 * tied:.0f} % of the draws, several teachers share "
                "the first place."
            )
        sentences.append(
            f"So these images do not decide between {ranking.best} and "
            f"{' and '.join(others) or 'the others'}. Measure more images "
            "(`num_images`, or `--images` on the command line)."
        )
    best, second = (result.transfers.sum() for result in ranking.results[:2])
    if best == second:
        sentences.append(
            "The shares of the first two are equal: only the entropy decides, "
            "which depends on the scale of the logits."
        )
    return " ".join(sentences)


def flags(ranking, result, row):
    """Returns the reasons against a teacher, or an empty string."""
    found = []
    unmoved = 1.0 - result.moved.mean()
    if unmoved > UNMOVED:
        found.append(
            "the attack on the teacher does not move it on "
            f"{_percent(unmoved)} % of the images. It has constant outputs or "
            "masked gradients: its share, accuracy and radius cannot be "
            "trusted."
        )
    low, _ = wilson_interval(int(result.clean.sum()), ranking.num_images)
    if ranking.has_labels and low <= 1.0 / ranking.num_classes:
        found.append(
            f"its clean accuracy of {_percent(row['clean_accuracy'])} % may be "
            f"no better than a guess among {ranking.num_classes} classes."
        )
    if row["search_radius"] < ranking.threat_model.epsilon:
        found.append(_too_small_radius(row, ranking.threat_model.epsilon))
    # A name and a colon stand before the first.
    later = [reason[0].upper() + reason[1:] for reason in found[1:]]
    return " ".join([*found[:1], *later])


def _too_small_radius(row, epsilon):
    return (
        "it keeps half of its correct classes only up to a radius of "
        f"{row['search_radius']:.3g}, and the attack searches up to "
        f"{epsilon:.3g}. A student of AdaAD, AdaIAD or SAAD may learn its "
        "mistakes."
    )


def _cost(ranking, rows):
    methods = list(ranking.passes)
    lines = _cost_line(
        "cost of a training step",
        "parameters",
        *(f"{method}, s" for method in methods),
    )
    for row in rows:
        seconds = [row["seconds"].get(method) for method in methods]
        lines += _cost_line(
            row["name"],
            f"{row['parameters']:,}",
            *("-" if value is None else f"{value:.3g}" for value in seconds),
        )
    passes = ", ".join(f"{m} {n}" for m, n in ranking.passes.items())
    return lines + wrap(
        f"Passes of the teacher per image: {passes}. The seconds are for "
        f"{ranking.batch_size} images; those of AdaAD are RSLAD's and those "
        "of the attack on the teacher."
    )


def _explanation():
    return (
        "transferable: share of the images on which the attack on the student "
        "moves the teacher as the attack on the teacher would. An "
        "image counts only if the attack on the teacher moves it at all. "
        "robust: under PGD-20. radius: in units of epsilon, up to which the "
        "teacher keeps half of its correct classes. If a teacher was trained "
        "on these images, its accuracies and its radius are too high. The "
        "intervals and the draws cover the choice of the images only, not the "
        "warm-up. "
        "The order holds for teachers whose accuracies are good enough: look "
        "at them."
    )


def _radius(radius, ranking):
    text = f"{radius / ranking.threat_model.epsilon:.2f}"
    return f">= {text}" if radius >= ranking.epsilons[-1] else text


def _percent(share):
    return "-" if share is None else f"{100 * share:.1f}"


def _line(name, share, entropy, clean, robust, radius):
    return _wrapped(
        name, f"{share:>22}{entropy:>9}{clean:>8}{robust:>9}{radius:>8}", 24
    )


def _cost_line(name, parameters, *seconds):
    values = "".join(f"{value:>12}" for value in (parameters, *seconds))
    return _wrapped(name, values, 24)


def _wrapped(name, values, width):
    """Returns the lines of a row; a long name takes several."""
    lines = textwrap.wrap(name, width, subsequent_indent="  ") or [""]
    lines[0] = f"{lines[0]:<{width}}{values}"
    return lines


def _provenance(ranking):
    facts = [f"{name} {value}" for name, value in ranking.environment.items()]
    return ", ".join(
        [*facts, f"seed {ranking.seed}", f"{ranking.seconds:.1f} s"]
    )
