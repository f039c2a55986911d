"""Fooled images of reports, embedded in a page with their confidences."""

import base64
import struct
import zlib
from typing import Any

import numpy as np

from keras_adaad.evaluation.examples import NUM_EXAMPLES
from keras_adaad.evaluation.examples import fooled_examples
from keras_adaad.evaluation.examples import magnification
from keras_adaad.evaluation.examples import unit_range

# Characters of all pictures in a page, so that it stays under 3 MB.
BUDGET = 2_000_000
# Pixels of the longer side. Of a larger image some pixels are left out.
SIDE = 256
NUM_CLASSES = 5
PICTURES = ("clean", "adversarial", "perturbation")


def explore(reports):
    """Returns the examples of reports, a dictionary by names of models.

    The template takes `"models"`. The script takes `"examples"`, without the
    clean images, which the page shows anyway.
    """
    models = [
        {"name": name, **_explore(report, BUDGET // len(reports))}
        for name, report in reports.items()
    ]
    examples: list[dict[str, Any]] = []
    for model in models:
        for example in model["examples"]:
            example["number"] = len(examples)
            position = example.pop("position")
            others = [
                f"{name} {_verdict(report, position)}"
                for name, report in reports.items()
                if name != model["name"]
            ]
            shared = {"model": model["name"], "factor": model["factor"]}
            examples.append({**example, **shared, "others": others})
            del examples[-1]["clean"]
    threat_model = next(iter(reports.values())).threat_model
    return {
        "models": models,
        "examples": examples,
        "threat_model": threat_model,
    }


def _explore(report, budget):
    """Returns what is shown of one report, or the reason why it is nothing."""
    fooled = report.clean & ~report.robust
    if report.images is None:
        return _nothing(
            "The images are missing: the JSON file of a report has none. Call "
            "save_html on the report that evaluate_robustness returned."
        )
    if not fooled.any():
        return _nothing("No attack fooled the model on any image.")
    try:
        pictures = _Pictures(report)
    except ValueError as error:
        return _nothing(str(error))
    examples: list[dict[str, Any]] = []
    for position, probabilities in _paths(report):
        if not np.isfinite(probabilities).all():
            continue
        drawn = pictures.of(position)
        budget -= sum(map(len, drawn.values()))
        if examples and budget < 0:
            break
        confidences = _confidences(report, position, probabilities)
        examples.append({**drawn, **confidences})
    return {
        "examples": examples,
        "num_fooled": int(fooled.sum()),
        "factor": pictures.factor,
        "stride": pictures.stride,
        "reason": None,
    }


def _nothing(reason):
    return {"examples": [], "reason": reason}


class _Pictures:
    """Draws the images of a report, all perturbations magnified alike."""

    def __init__(self, report):
        self.report = report
        clean, adversarial = self._images(fooled_examples(report, NUM_EXAMPLES))
        self.factor = magnification(adversarial - clean)
        self.stride = -(-max(clean.shape[1:3]) // SIDE)

    def of(self, position):
        """Returns the data URIs of an image by the names of its pictures."""
        clean, adversarial = (image[0] for image in self._images([position]))
        perturbation = 0.5 + self.factor * (adversarial - clean)
        images = (clean, adversarial, perturbation)
        return {
            name: _png(image[:: self.stride, :: self.stride])
            for name, image in zip(PICTURES, images, strict=True)
        }

    def _images(self, positions):
        low, high = self.report.threat_model.input_range
        return [
            unit_range(self.report.images[name][positions], low, high)
            for name in ("clean", "adversarial")
        ]


def _paths(report):
    """Yields positions with the probabilities from clean to adversarial."""
    images = report.images
    if "path_positions" in images:
        yield from zip(
            images["path_positions"], images["path_probabilities"], strict=True
        )
        return
    ends = ("clean_probabilities", "adversarial_probabilities")
    for position in fooled_examples(report, NUM_EXAMPLES):
        yield position, np.stack([images[name][position] for name in ends])


def _confidences(report, position, probabilities):
    """Returns the classes to show, and what the model says at each point."""
    label = int(report.labels[position])
    highest = probabilities.max(0)
    # The true class comes first.
    highest[label] = np.inf
    shown = np.argsort(-highest, kind="stable")[:NUM_CLASSES].tolist()
    predicted = probabilities.argmax(-1).tolist()
    clean, adversarial = (
        report.images[name][position] for name in ("clean", "adversarial")
    )
    size = report.threat_model.sizes((adversarial - clean)[None])[0]
    percent = 100.0 * probabilities[:, shown].astype("float64")
    shares = np.linspace(0.0, 1.0, len(probabilities))
    return {
        "position": position,
        "index": int(report.indices[position]),
        "label": report.class_name(label),
        "verdict": _verdict(report, position),
        "shares": shares.tolist(),
        "sizes": [f"{share * size:.3g}" for share in shares],
        "classes": [report.class_name(k) for k in shown],
        "more": probabilities.shape[1] > len(shown),
        "confidences": percent.round(1).tolist(),
        "predicted": [report.class_name(k) for k in predicted],
        # Their places among the classes that are shown.
        "places": [shown.index(k) if k in shown else -1 for k in predicted],
    }


def _verdict(report, position):
    """Returns what the attacks made of an image, in words."""
    if not report.clean[position]:
        return "is wrong on the clean image"
    for result in report.results:
        if not result.robust[position]:
            return f"was fooled by {result.name}"
    return "was fooled by no attack"


def _png(image):
    """Returns the data URI of an image with values from 0 to 1."""
    pixels = np.round(255 * np.clip(image, 0.0, 1.0)).astype("uint8")
    height, width = pixels.shape[:2]
    # Each row begins with the number of its filter; 0 is none.
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))
    color = 2 if pixels.ndim == 3 and pixels.shape[2] == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        content += struct.pack(">I", len(body)) + kind + body + checksum
    return "data:image/png;base64," + base64.b64encode(content).decode()
