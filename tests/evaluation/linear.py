"""A linear classifier, whose smallest perturbations have a formula."""

import functools

import keras
import numpy as np

SHAPE = (8, 8, 1)
CLASSES = 4


@functools.cache
def model():
    inputs = keras.Input(SHAPE)
    head = keras.layers.Dense(CLASSES)
    outputs = head(keras.layers.Flatten()(inputs))
    network = keras.Model(inputs, outputs, name="linear")
    generator = np.random.default_rng(0)
    kernel = generator.normal(0.0, 1 / 8, (64, CLASSES))
    # Grey is of no class.
    kernel -= kernel.mean(0)
    head.set_weights([kernel, np.zeros(CLASSES)])
    return network


@functools.cache
def data():
    """Returns 24 images and their labels, two of which are wrong.

    None is so near to a boundary that rounding decides. No perturbation of
    interest leaves the range.
    """
    x = np.random.default_rng(33).uniform(0.2, 0.8, (24, *SHAPE))
    x = x.astype("float32")
    y = (x.reshape(24, -1) @ model().get_weights()[0]).argmax(-1)
    y[:2] = (y[:2] + 1) % CLASSES
    return x, y


def nearest(norm="linf"):
    """Returns the distances to the boundary, and the points there.

    The distance to the class `k` is `(z_y - z_k) / |w_y - w_k|_q`, with the
    dual norm. The points are a thousandth beyond the boundary.
    """
    (x, y), kernel = data(), model().get_weights()[0].astype("float64")
    z = x.reshape(len(x), -1) @ kernel
    margins = z[np.arange(len(x)), y][:, None] - z
    slopes = kernel.T[None] - kernel.T[y][:, None]
    if norm == "linf":
        dual, ways = np.abs(slopes).sum(-1), np.sign(slopes)
    else:
        dual = np.linalg.norm(slopes, axis=-1)
        ways = slopes / np.maximum(dual, 1e-12)[..., None]
    distances = margins / np.maximum(dual, 1e-12)
    distances[np.arange(len(x)), y] = np.inf
    k = distances.argmin(-1)
    rows = np.arange(len(x))
    size = np.maximum(distances[rows, k], 0.0)
    points = x + 1.001 * (size[:, None] * ways[rows, k]).reshape(x.shape)
    return size, points.astype("float32")


def middle(sizes):
    """Returns a radius in the widest gap between the sizes in the middle."""
    ordered = np.sort(sizes)[8:17]
    k = np.diff(ordered).argmax()
    return float(ordered[k : k + 2].mean())
