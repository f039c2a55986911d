"""What `data.near_duplicates` finds on CIFAR-10, and what it misses.

    python -m benchmarks.near_duplicates cifar10.npz

The file holds `x_train` and `x_test` as uint8. The first table is the share of
altered copies of 2,000 test images that is found, for each alteration and
threshold. The second is the number of training images that are found. Those are
near-duplicates, which CIFAR-10 is known to have, and mistakes.
"""

import io
import sys

import numpy as np
from PIL import Image

from keras_adaad.data.near_duplicates import most_similar

THRESHOLDS = (0.90, 0.92, 0.94, 0.96, 0.98)
COPIES = 2000


def jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def shifted(image, down, right):
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="edge")
    return padded[4 - down : 36 - down, 4 - right : 36 - right]


def enlarged(image, border):
    inner = Image.fromarray(image[border:-border, border:-border])
    return np.asarray(inner.resize((32, 32), Image.Resampling.BILINEAR))


def pixels(values):
    return np.clip(np.round(values), 0, 255).astype("uint8")


RANDOM = np.random.default_rng(0)
ALTERATIONS = {
    "JPEG, quality 75": lambda image: jpeg(image, 75),
    "JPEG, quality 30": lambda image: jpeg(image, 30),
    "mirrored": lambda image: image[:, ::-1],
    "brighter by 20/255": lambda image: pixels(image + 20.0),
    "1.2 times as bright": lambda image: pixels(1.2 * image),
    "0.8 of the contrast": lambda image: pixels(0.8 * image + 25.6),
    "noise of 8/255": lambda image: pixels(
        image + RANDOM.normal(0.0, 8.0, image.shape)
    ),
    "shifted by 1 pixel": lambda image: shifted(image, 0, 1),
    "shifted by 1 and 1": lambda image: shifted(image, 1, 1),
    "shifted by 2 and 2": lambda image: shifted(image, 2, 2),
    "2 of 32 pixels cut off": lambda image: enlarged(image, 1),
    "4 of 32 pixels cut off": lambda image: enlarged(image, 2),
    "grey": lambda image: pixels(
        image.mean(axis=-1, keepdims=True) + np.zeros(3)
    ),
}


def main(path):
    with np.load(path) as file:
        x_train, x_test = file["x_train"], file["x_test"]
    rows = RANDOM.permutation(len(x_test))[:COPIES]
    print("| | " + " | ".join(f"{t:.2f}" for t in THRESHOLDS) + " |")
    print("| --- |" + " ---: |" * len(THRESHOLDS))
    for name, alter in ALTERATIONS.items():
        copies = np.stack([alter(image) for image in x_test[rows]])
        nearest, similarities = most_similar(copies, x_test)
        found = [
            np.mean((similarities >= threshold) & (nearest == rows))
            for threshold in THRESHOLDS
        ]
        print(f"| {name} | " + " | ".join(f"{s:.1%}" for s in found) + " |")
    nearest, similarities = most_similar(x_train, x_test)
    for threshold in THRESHOLDS:
        found = similarities >= threshold
        print(
            f"{threshold:.2f}: {sum(found)} of {len(x_train)} training images, "
            f"near {len(set(nearest[found]))} test images"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
