"""Attacks by the names used in the literature."""

import functools
from collections.abc import Callable

from keras_adaad import checks
from keras_adaad.attacks import Attack
from keras_adaad.attacks.apgd import APGD
from keras_adaad.attacks.apgd import TargetedAPGD
from keras_adaad.attacks.autoattack import AutoAttack
from keras_adaad.attacks.cw import CW
from keras_adaad.attacks.fab import FAB
from keras_adaad.attacks.fgsm import FGSM
from keras_adaad.attacks.fmn import FMN
from keras_adaad.attacks.pgd import PGD
from keras_adaad.attacks.square import Square


def _pgd_trades(epsilon, **arguments):
    # 0.003 for an epsilon of 8/255, and in proportion for others.
    step_size = 0.003 * epsilon / (8 / 255)
    return PGD(epsilon=epsilon, step_size=step_size, steps=20, **arguments)


def _without_seed(kind, seed=None, **arguments):
    return kind(**arguments)


PRESETS: dict[str, Callable[..., Attack]] = {
    "fgsm": functools.partial(_without_seed, FGSM),
    "pgd-10": functools.partial(PGD, steps=10),
    "pgd-20-sat": functools.partial(PGD, steps=20),
    "pgd-20-trades": _pgd_trades,
    "cw": CW,
    "cw-50x10": functools.partial(CW, steps=50, restarts=10),
    "apgd-ce": APGD,
    "apgd-dlr": functools.partial(APGD, loss="dlr"),
    "apgd-t": TargetedAPGD,
    "fab": functools.partial(FAB, targets=None),
    "fab-t": FAB,
    "fmn": functools.partial(_without_seed, FMN),
    "square": Square,
    "autoattack": AutoAttack,
    "autoattack-plus": functools.partial(AutoAttack, version="plus"),
    "autoattack-rand": functools.partial(AutoAttack, version="rand"),
}
PRESETS["pgd"] = PRESETS["pgd-20-sat"]


def get(
    name: str,
    *,
    epsilon: float,
    norm: str = "linf",
    input_range: tuple[float, float] = (0.0, 1.0),
    seed: int | None = None,
) -> Attack:
    """Returns an attack by its name in the literature.

    | name | attack |
    |---|---|
    | `"fgsm"` | one step of epsilon, no random start |
    | `"pgd-10"` | 10 steps of epsilon / 4, uniform start |
    | `"pgd-20-sat"`, `"pgd"` | 20 steps of epsilon / 4 (2/255 at 8/255) |
    | `"pgd-20-trades"` | 20 steps of 0.003 (at 8/255) |
    | `"cw"` | 30 steps of epsilon / 4 on the margin |
    | `"cw-50x10"` | 50 steps, 10 restarts |
    | `"apgd-ce"`, `"apgd-dlr"`, `"apgd-t"` | Auto-PGD, 100 steps |
    | `"fab"`, `"fab-t"` | FAB, untargeted or with 9 targets, 100 steps |
    | `"fmn"` | FMN, 100 steps |
    | `"square"` | Square, 5000 queries |
    | `"autoattack"`, `"autoattack-plus"`, `"autoattack-rand"` | AutoAttack |

    Step sizes are those published for an epsilon of 8/255. For any other
    epsilon they are scaled in proportion.

    Args:
        name: Name of the attack.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Returns:
        An `Attack`.

    Example:

    ```python
    attack = keras_adaad.attacks.get("pgd-20-trades", epsilon=8 / 255)
    ```
    """
    name = checks.check_choice("name", name, tuple(PRESETS))
    epsilon = checks.check_number("epsilon", epsilon)
    return PRESETS[name](
        epsilon=epsilon, norm=norm, input_range=input_range, seed=seed
    )
