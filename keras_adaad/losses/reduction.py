"""The two ways in which reference code averages a divergence."""

from keras_adaad import checks


def check_reduction(reduction):
    """Returns the argument `reduction`, or raises."""
    return checks.check_choice("reduction", reduction, ("batchmean", "mean"))


def over_classes(per_sample, reduction, num_classes):
    """Returns losses per sample, divided by the classes if it is `"mean"`.

    The mean over the batch follows in either case. So `"batchmean"` divides
    the sum by the batch size, and `"mean"` by the number of all entries.
    """
    return per_sample / num_classes if reduction == "mean" else per_sample
