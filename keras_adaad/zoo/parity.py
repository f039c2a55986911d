"""Compares the logits of a converted network with the published one's."""

import dataclasses
import importlib.util

import keras
import numpy as np

from keras_adaad import backend
from keras_adaad.zoo.pytorch_networks import published_logits

# Wrong padding changes logits by 1 to 15 %, but no class on a few images.
ABSOLUTE, RELATIVE = 1e-4, 1e-5


@dataclasses.dataclass
class Parity:
    """The difference of the logits on random images."""

    difference: float
    largest_logit: float
    same_class: float

    @property
    def passed(self):
        relative = self.difference / self.largest_logit
        return self.difference < ABSOLUTE and relative < RELATIVE

    def __str__(self):
        return (
            f"largest difference of a logit {self.difference:.1e} "
            f"(gate {ABSOLUTE:.0e}), relative to the largest logit "
            f"{self.difference / self.largest_logit:.1e} "
            f"(gate {RELATIVE:.0e}), same class on "
            f"{100 * self.same_class:.0f} % of the images: "
            f"{'passed' if self.passed else 'FAILED'}"
        )


def can_check():
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def check_parity(model, arrays, architecture, arguments):
    """Compares a model made from `arrays` with the published network."""
    shape = model.input_shape[1:]
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (8, *shape)).astype("float32")
    with backend.full_precision():
        found = model.predict(images, batch_size=8, verbose=0)
    data_format = arguments.get("data_format")
    data_format = data_format or keras.config.image_data_format()
    if data_format == "channels_last":
        images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    expected = published_logits(arrays, architecture, arguments, images)
    same = (found.argmax(-1) == expected.argmax(-1)).mean()
    difference = np.abs(found - expected).max()
    return Parity(float(difference), float(np.abs(expected).max()), float(same))
