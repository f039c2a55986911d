"""The robustness curve: accuracy over epsilon."""

import numpy as np

from keras_adaad.attacks import PGD


def robustness_curve(
    classifier, x, y, clean, *, epsilons, norm, input_range, seed, batch_size
):
    """Measures the accuracy under PGD-20 as epsilon grows.

    An image that is fooled in a small ball is fooled in every larger one, so
    only the others go on, and the curve never rises.

    Args:
        classifier: The `Classifier` of the model.
        x: Images.
        y: Class indices.
        clean: Booleans: which images are right without an attack.
        epsilons: Radii of the balls.
        norm: `"linf"` or `"l2"`.
        input_range: Pair `(low, high)` of the values a pixel can have.
        seed: Integer that decides the random starts.
        batch_size: Images per compiled call.

    Returns:
        A dict of `"attack"`, `"epsilons"`, `"accuracy"` and `"num_images"`.
    """
    robust = clean.copy()
    accuracy = []
    for epsilon in sorted(epsilons):
        left = np.flatnonzero(robust)
        if len(left) and epsilon > 0.0:
            attack = PGD(
                epsilon=epsilon, steps=20, norm=norm, input_range=input_range
            )
            outcome = attack._run(
                classifier,
                x[left],
                y[left],
                rows=left,
                seed=seed,
                batch_size=batch_size,
            )
            robust[left] = ~outcome.fooled
        accuracy.append(float(robust.mean()))
    return {
        "attack": "PGD-20",
        "epsilons": [float(epsilon) for epsilon in sorted(epsilons)],
        "accuracy": accuracy,
        "num_images": len(x),
    }


def default_epsilons(epsilon, norm, input_range, dimensions):
    """Returns multiples of epsilon, and one that reaches half the range.

    From there every image can be made gray, so the accuracy must be about 0.
    """
    largest = 0.5 * (input_range[1] - input_range[0])
    if norm == "l2":
        largest *= np.sqrt(dimensions)
    multiples = [factor * epsilon for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]
    return [e for e in multiples if e < largest] + [float(largest)]
