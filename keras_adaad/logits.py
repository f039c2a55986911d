"""Deprecated: `logits_function` is `keras_adaad.logits_function` now."""

import warnings

from keras_adaad.frozen.logits import logits_function as logits_function

warnings.warn(
    "The module `keras_adaad.logits` goes with version 0.4. Use "
    "`keras_adaad.logits_function`.",
    DeprecationWarning,
    stacklevel=2,
)
