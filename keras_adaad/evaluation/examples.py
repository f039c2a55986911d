"""Images on which an attack fooled the model, to be looked at."""

import numpy as np

from keras_adaad.evaluation.statistics import softmax
from keras_adaad.frozen.function import NotFiniteError

NUM_EXAMPLES = 24
# From the clean image to the adversarial one, both included.
FRACTIONS = np.linspace(0.0, 1.0, 11)


def fooled_examples(report, num_images):
    """Returns positions of fooled images, the first of each class first."""
    fooled = report.clean & ~report.robust
    return _in_turn(fooled, report.labels, report.indices, num_images)


def measure_paths(task, findings):
    """Classifies points between clean and adversarial images, if in time.

    Returns arrays for `RobustnessReport.images`: `"path_positions"`, the
    positions of a few fooled images, and `"path_probabilities"` of shape
    `(num_examples, num_points, num_classes)`.
    """
    fooled = task.clean & ~findings.results[-1].robust
    rows = _in_turn(fooled, task.y, task.indices, NUM_EXAMPLES)
    if len(rows) == 0 or not findings.in_time:
        return {}
    x, x_adv = task.x[rows, None], findings.x_adv[rows, None]
    shares = FRACTIONS.reshape(-1, *[1] * (x.ndim - 2))
    points = ((1.0 - shares) * x + shares * x_adv).astype(x.dtype)
    try:
        logits = task.classifier.predict(
            points.reshape(-1, *x.shape[2:]), task.batch_size
        )
    except NotFiniteError:
        return {}
    if not np.isfinite(logits).all():
        return {}
    return {
        "path_positions": rows,
        "path_probabilities": softmax(logits).reshape(*points.shape[:2], -1),
    }


def unit_range(images, low, high):
    """Returns images with values from 0 to 1, or raises if none can be drawn.

    They are drawn as they are if of shape `(height, width)`, or if the last
    axis has 1 or 3 channels.
    """
    images = (np.asarray(images, "float64") - low) / (high - low)
    if images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3)):
        return images
    raise ValueError(
        "Images are drawn if they are of shape `(height, width)` or "
        "`(height, width, channels)` with 1 or 3 channels, last. "
        f"Received: images of shape {images.shape[1:]}"
    )


def magnification(delta):
    """Returns the whole factor by which all perturbations are magnified."""
    # One factor for all images, so that their sizes can be compared.
    return max(1, int(0.5 / max(np.abs(delta).max(), 1e-3) + 1e-6))


def _in_turn(fooled, labels, indices, num_images):
    fooled = np.flatnonzero(fooled)
    fooled = fooled[np.argsort(indices[fooled], kind="stable")]
    labels = labels[fooled]
    turn = [(labels[:i] == label).sum() for i, label in enumerate(labels)]
    return fooled[np.lexsort((labels, turn))][:num_images]
