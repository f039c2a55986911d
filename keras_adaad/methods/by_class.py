"""Values of each class, and the images of a batch."""

import keras
from keras import ops

from keras_adaad.losses import label_mask
from keras_adaad.training.state import TrainingState

# Values of `summed_epoch` between two epochs.
COMPLETE, CUT_SHORT = -1.0, -2.0


class SumsOfEpochs(TrainingState):
    """A training method that sums values over the images of each epoch.

    `summed_epoch` is the epoch that the sums belong to. Until the first batch
    of an epoch is in them, it says whether they are those of a complete epoch.
    """

    states = {"summed_epoch": 0.0}
    summed_epoch: keras.Variable

    def start_epoch(self, epoch: int, epochs: int) -> None:
        super().start_epoch(epoch, epochs)
        # Of an epoch that begins again, only a part is in the sums.
        cut_short = float(self.summed_epoch) in (epoch, CUT_SHORT)
        self.summed_epoch.assign(CUT_SHORT if cut_short else COMPLETE)

    def end_epoch(self) -> None:
        super().end_epoch()
        # `fit` may run one epoch at a time, each with the number 0.
        self.summed_epoch.assign(COMPLETE)

    def begins_epoch(self):
        """Returns whether no batch of the current epoch is in the sums."""
        return self.epoch != self.summed_epoch

    def follows_epoch(self):
        """Returns whether the sums are those of the whole epoch before."""
        whole = self.summed_epoch != CUT_SHORT
        return ops.logical_and(self.begins_epoch(), whole)


def of_label(values, y, logits):
    """Returns, for each image, the row of `values` of its class."""
    return ops.matmul(_one_hot(y, logits), values)


def summed(values, y, logits):
    """Returns, for each class, the sum of the rows of its images."""
    return ops.matmul(ops.transpose(_one_hot(y, logits)), values)


def _one_hot(y, logits):
    return ops.cast(label_mask(y, logits), "float32")
