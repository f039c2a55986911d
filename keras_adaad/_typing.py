"""Names for the types in the signatures; they are not part of the API."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike
else:
    # The real one takes six lines in each signature that `help()` shows.
    ArrayLike = Any

PathLike = str | os.PathLike[str]
# Of any backend, or a NumPy array: Keras has no public type of its tensors.
Tensor = Any
# By name: views, the logits on them, or the state of a search.
Tensors = dict[str, Tensor]
# Class indices or one-hot labels, or `None` if the data has none.
Labels = Tensor | None
# From images to logits.
Logits = Callable[[Tensor], Tensor]
# From labels and logits to one value per sample.
Loss = Callable[[Tensor, Tensor], Tensor]
# From images to one value per sample, or to a tuple that starts with these.
Objective = Callable[[Tensor], Any]
# A `tf.data.Dataset` or a `keras.utils.PyDataset`.
DataSet = Any
# A `matplotlib.figure.Figure`; Matplotlib is optional.
Figure = Any


class RNG(Protocol):
    """A source of the random numbers of an attack."""

    def normal(self, shape: tuple[int, ...]) -> Tensor: ...

    def uniform(self, shape: tuple[int, ...]) -> Tensor: ...
