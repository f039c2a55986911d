"""Values of each class, and the images of a batch."""

from keras import ops

from keras_adaad.losses import label_mask


def of_label(values, y, logits):
    """Returns, for each image, the row of `values` of its class."""
    return ops.matmul(_one_hot(y, logits), values)


def summed(values, y, logits):
    """Returns, for each class, the sum of the rows of its images."""
    return ops.matmul(ops.transpose(_one_hot(y, logits)), values)


def _one_hot(y, logits):
    return ops.cast(label_mask(y, logits), "float32")
