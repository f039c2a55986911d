"""Per-sample losses, named after the space of their arguments."""

from keras_adaad.losses.cross_entropy import (
    binary_cross_entropy_from_logits as binary_cross_entropy_from_logits,
)
from keras_adaad.losses.cross_entropy import (
    cross_entropy_from_logits as cross_entropy_from_logits,
)
from keras_adaad.losses.cross_entropy import label_indices as label_indices
from keras_adaad.losses.cross_entropy import label_mask as label_mask
from keras_adaad.losses.entropy import (
    entropy_from_logits as entropy_from_logits,
)
from keras_adaad.losses.kl_divergence import (
    kl_divergence_from_logits as kl_divergence_from_logits,
)
from keras_adaad.losses.margin import dlr_from_logits as dlr_from_logits
from keras_adaad.losses.margin import margin_from_logits as margin_from_logits
from keras_adaad.losses.margin import (
    probability_margin_from_logits as probability_margin_from_logits,
)
from keras_adaad.losses.margin import (
    targeted_dlr_from_logits as targeted_dlr_from_logits,
)
from keras_adaad.losses.margin import (
    targeted_margin_from_logits as targeted_margin_from_logits,
)
from keras_adaad.losses.reduction import BatchMean as BatchMean
