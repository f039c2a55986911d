"""The AutoAttack ensemble (Croce & Hein, ICML 2020)."""

from typing import Any

import keras
import numpy as np

from keras_adaad import checks
from keras_adaad.attacks.apgd import APGD
from keras_adaad.attacks.apgd import TargetedAPGD
from keras_adaad.attacks.attack import Attack
from keras_adaad.attacks.fab import FAB
from keras_adaad.attacks.search import Outcome
from keras_adaad.attacks.square import Square

# The published budgets. All other arguments are the defaults of the attacks.
_FIVE = {"restarts": 5}
_RANDOM = {"eot_steps": 20}
VERSIONS: dict[str, dict[str, tuple[type[Attack], dict[str, Any]]]] = {
    "standard": {
        "apgd-ce": (APGD, {}),
        "apgd-t": (TargetedAPGD, {}),
        "fab-t": (FAB, {}),
        "square": (Square, {}),
    },
    "plus": {
        "apgd-ce": (APGD, _FIVE),
        "apgd-dlr": (APGD, {"loss": "dlr", **_FIVE}),
        "fab": (FAB, {"targets": None, **_FIVE}),
        "square": (Square, {}),
        "apgd-t": (TargetedAPGD, {}),
        "fab-t": (FAB, {}),
    },
    "rand": {
        "apgd-ce": (APGD, _RANDOM),
        "apgd-dlr": (APGD, {"loss": "dlr", **_RANDOM}),
    },
}


@keras.saving.register_keras_serializable(package="keras_adaad")
class AutoAttack(Attack):
    """Runs several attacks in turn, each on the images not yet fooled.

    | version | attacks |
    |---|---|
    | `"standard"` | APGD on cross-entropy, targeted APGD, targeted FAB (100 steps; 9 targets), Square (5000 queries) |
    | `"plus"` | APGD on cross-entropy and on DLR and untargeted FAB (5 restarts each), Square, targeted APGD, targeted FAB |
    | `"rand"` | APGD on cross-entropy and on DLR, 20 gradients averaged per step, for randomised models |

    Each attack starts from the clean images. `keras_adaad.evaluate_robustness`
    also reports the accuracy, the contribution of each attack, and reasons to
    doubt the result.

    Args:
        version: `"standard"`, `"plus"` or `"rand"`. Defaults to `"standard"`.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Example:

    ```python
    attack = keras_adaad.attacks.AutoAttack(epsilon=8 / 255, seed=0)
    x_adv = attack(model, x_test, y_test)
    ```

    Reference:
        - [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690);
          `autoattack.py` of the authors' code.
    """  # noqa: E501  (a table)

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        version: str = "standard",
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        super().__init__(
            epsilon=epsilon, norm=norm, input_range=input_range, seed=seed
        )
        self.version = checks.check_choice("version", version, tuple(VERSIONS))

    def attacks(self) -> dict[str, Attack]:
        """Returns the attacks of the version, a dict from name to `Attack`."""
        common: dict[str, Any] = {
            "epsilon": self.epsilon,
            "norm": self.norm,
            "input_range": self.input_range,
            "seed": self.seed,
        }
        return {
            name: attack(**common, **arguments)
            for name, (attack, arguments) in VERSIONS[self.version].items()
        }

    def _run(self, classifier, x, y, *, rows=None, **options):
        rows = np.arange(len(x)) if rows is None else rows
        outcome = Outcome(x.copy(), np.zeros(len(x), bool))
        for attack in self.attacks().values():
            left = np.flatnonzero(~outcome.fooled)
            if len(left) == 0:
                break
            found = attack._run(
                classifier, x[left], y[left], rows=rows[left], **options
            )
            outcome.x_adv[left] = found.x_adv
            outcome.fooled[left] = found.fooled
            outcome.lost[left] |= found.lost
            if not found.complete:
                outcome.complete = False
                break
        outcome.lost &= ~outcome.fooled
        return outcome

    def _check_classes(self, num_classes):
        for attack in self.attacks().values():
            attack._check_classes(num_classes)
