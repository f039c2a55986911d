"""Values of each class, and the images of a batch."""

import keras
from keras import ops

from keras_adaad.losses import label_mask
from keras_adaad.training.state import TrainingState


class SumsOfEpochs(TrainingState):
    """A training method that sums values over the images of each epoch.

    `summed_epoch` is the epoch that the sums belong to. While `begins_epoch` is
    true, the sums are those of the epoch before, which is complete.
    """

    states = {"summed_epoch": 0.0}
    summed_epoch: keras.Variable

    def start_epoch(self, epoch: int, epochs: int) -> None:
        super().start_epoch(epoch, epochs)
        # Also where `fit` runs one epoch at a time, each with the number 0.
        self.summed_epoch.assign(-1.0)

    def begins_epoch(self):
        """Returns whether no batch of the current epoch is in the sums."""
        return self.epoch != self.summed_epoch


def of_label(values, y, logits):
    """Returns, for each image, the row of `values` of its class."""
    return ops.matmul(_one_hot(y, logits), values)


def summed(values, y, logits):
    """Returns, for each class, the sum of the rows of its images."""
    return ops.matmul(ops.transpose(_one_hot(y, logits)), values)


def _one_hot(y, logits):
    return ops.cast(label_mask(y, logits), "float32")
