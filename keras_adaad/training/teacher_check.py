"""The warnings of a teacher that guesses, or isn't robust where x* lies."""

import warnings

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad.frozen.network import frozen_network
from keras_adaad.losses import label_indices

# The compiled attack costs seconds, which a short training does not repay.
EPOCHS = 5
IMAGES = 64
# With fewer, half of them may be chance.
CORRECT = 8
# With fewer images, a useful teacher may happen to be wrong on most.
ENOUGH = 16


class TeacherCheck(keras.callbacks.Callback):
    """Compares the teacher's accuracy on x* and on clean images.

    After the first epoch, because the x* of an untrained student say little.

    Args:
        x: Clean images, an array of shape `(batch_size, ...)`.
        y: Their labels, or `None`. The teacher's classes of the clean images
            then count as correct.
        epochs: Number of epochs that `fit` runs.
    """

    def __init__(self, x, y, epochs):
        super().__init__()
        self.x = x[:IMAGES]
        self.y = None if y is None else y[:IMAGES]
        self.pending = epochs >= EPOCHS

    def on_epoch_end(self, epoch, logs=None):
        if self.pending and not is_distributed(self.model):
            clean, adversarial = correct(self.model, self.x, self.y)
            if self.y is not None and len(self.x) >= ENOUGH:
                warn_of_chance(clean, len(self.x), self.model.num_classes)
            if clean >= CORRECT and adversarial < clean / 2:
                warn(self.model.attack.epsilon, len(self.x), clean, adversarial)
        self.pending = False


def is_distributed(model):
    """Returns whether devices or processes share the model.

    They need not have the same images.
    """
    with backend.building_scope(model):
        replicas = backend.replica_count()
    distribution = keras.distribution.distribution()
    processes = backend.processes.count()
    return distribution is not None or max(replicas, processes) > 1


def correct(distiller, x, y):
    """Returns how many clean and how many adversarial images are correct."""
    teacher = frozen_network(distiller.teacher)
    clean, adversarial = (
        teacher.logits(backend.to_devices(images))
        for images in (x.astype("float32"), distiller._perturb(x, y))
    )
    labels = clean.argmax(axis=-1)
    if y is not None:
        labels = ops.convert_to_numpy(label_indices(y, clean))
    return [
        (logits.argmax(axis=-1) == labels).sum()
        for logits in (clean, adversarial)
    ]


def warn_of_chance(correct, images, num_classes):
    """Warns of a teacher that may be guessing."""
    share = 1.0 / num_classes
    deviation = (images * share * (1.0 - share)) ** 0.5
    if correct <= images * share + deviation:
        warnings.warn(
            f"The teacher classifies {correct} of {images} training images "
            f"correctly, which is no better than a guess among {num_classes} "
            "classes. The images are augmented as in the training. Check the "
            "teacher's preprocessing, that its classes have the order of the "
            "labels, and that crop and flip are not too much for the images.",
            stacklevel=2,
        )


def warn(epsilon, images, clean, adversarial):
    """Warns of an attack that searches further than the teacher is robust."""
    warnings.warn(
        f"Of {images} training images the teacher classifies {clean} "
        f"correctly, and only {adversarial} after the attack. The attack "
        "searches further than the teacher is robust, so the student learns "
        "the teacher's mistakes. Lower `attack.epsilon`, or use a teacher that "
        f"is robust at this one. Received: attack.epsilon={epsilon}",
        stacklevel=2,
    )
